"""`kvsync restore`: put back a value that lost a conflict."""

from typing import Annotated

from kvsync import losers
from kvsync.cli.exitcodes import DONE
from kvsync.cli.json_fields import lost_fields, stamp_time
from kvsync.cli.options import FromId, Location, Option, WaitSeconds
from kvsync.cli.output import Output, counted
from kvsync.cli.sync import PLAIN
from kvsync.cli.targets import opened
from kvsync.storages import redact

__all__ = ["restore"]


def restore(
    storage: Location,
    key: Annotated[str, Option(help="Its key.")],
    /,
    *,
    from_: FromId = None,
    wait_seconds: WaitSeconds = 10.0,
    output: Output = PLAIN,
) -> int:
    """Put a value that lost a conflict back at its key, as a change that the next sync moves.

    STORAGE is the one that keeps the value: the message of the conflict and
    `kvsync lost` name it. The value that it replaces is kept, too, so restoring
    again undoes this. If nothing was there, delete the key to undo it.
    """
    with opened(storage) as one:
        value = losers.restore(one, key, from_id=from_, wait_seconds=wait_seconds)
        name = redact(one.name)
    output.result({"storage": name, "restored": lost_fields(value)})
    time = stamp_time(value.stamp) or "an unknown time"
    output.say(f"{name}: {key!r} has its value of {time} again ({counted(len(value.value), 'byte')})")
    output.say("  the next sync moves it; what it replaced, if anything, is kept too (`kvsync lost`)")
    return DONE
