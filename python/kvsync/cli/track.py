"""`kvsync track`: have a database note which keys are changed."""

from kvsync import tracking
from kvsync.cli.exitcodes import DONE
from kvsync.cli.options import Location
from kvsync.cli.output import Output
from kvsync.cli.sync import PLAIN
from kvsync.cli.targets import opened
from kvsync.storages import redact

__all__ = ["track"]


def track(storage: Location, /, *, output: Output = PLAIN) -> int:
    """Have the database of a table note which keys are changed, and when.

    Scans look at these keys alone, so they take as long for a million rows
    as for a thousand. Works with tables of SQLite and PostgreSQL, where it
    makes a journal table and triggers. The next scan looks at everything.
    """
    with opened(storage) as one:
        is_new = tracking.track(one)
        name = redact(one.name)
    output.result({"storage": name, "tracked": True, "changed": is_new})
    output.say(f"{name}: tracked{'' if is_new else ' already'}")
    return DONE
