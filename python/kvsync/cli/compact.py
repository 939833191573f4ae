"""`kvsync compact`: merge the log of a storage."""

from kvsync import api
from kvsync.cli.exitcodes import DONE
from kvsync.cli.options import Location, WaitSeconds
from kvsync.cli.output import Output, counted
from kvsync.cli.sync import PLAIN
from kvsync.cli.targets import opened
from kvsync.storages import redact

__all__ = ["compact"]


def compact(
    storage: Location,
    /,
    *,
    wait_seconds: WaitSeconds = 10.0,
    output: Output = PLAIN,
) -> int:
    """Merge the log of a storage into one segment, and remove what is no longer needed.

    Every run keeps the log small by itself. Use this only to shrink it at once.
    """
    with opened(storage) as one:
        merged, removed = api.compact(one, wait_seconds=wait_seconds)
        name = redact(one.name)
    output.result({"storage": name, "merged": merged, "removed": removed})
    output.say(f"{name}: {counted(merged, 'segment')} merged, {counted(removed, 'index object')} removed")
    return DONE
