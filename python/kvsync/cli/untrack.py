"""`kvsync untrack`: note changes of a table no more."""

from kvsync import tracking
from kvsync.cli.exitcodes import DONE
from kvsync.cli.options import Location
from kvsync.cli.output import Output
from kvsync.cli.sync import PLAIN
from kvsync.cli.targets import opened
from kvsync.storages import redact

__all__ = ["untrack"]


def untrack(storage: Location, /, *, output: Output = PLAIN) -> int:
    """Remove the journal and the triggers that `kvsync track` made.

    Scans look at everything again.
    """
    with opened(storage) as one:
        was_tracked = tracking.untrack(one)
        name = redact(one.name)
    output.result({"storage": name, "tracked": False, "changed": was_tracked})
    output.say(f"{name}: {'not tracked any more' if was_tracked else 'was not tracked'}")
    return DONE
