"""`kvsync compact`: merge a storage's log."""

from typing import Annotated

from cyclopts import Parameter

from kvsync import api
from kvsync.cli.exitcodes import DONE
from kvsync.cli.options import Place
from kvsync.cli.output import Output, counted
from kvsync.cli.sync import PLAIN
from kvsync.cli.targets import opened
from kvsync.storages import redact

__all__ = ["compact"]


def compact(
    storage: Place,
    /,
    *,
    wait_seconds: Annotated[float, Parameter(help="How long to wait for a lease that is taken.")] = 10.0,
    output: Output = PLAIN,
) -> int:
    """Merge a storage's log into one segment, and remove what is not needed any more.

    Runs compact by themselves as they go: this is for a log that shall be small now.
    """
    with opened(storage) as one:
        merged, removed = api.compact(one, wait_seconds=wait_seconds)
        name = redact(one.name)
    output.result({"storage": name, "merged": merged, "removed": removed})
    output.say(f"{name}: {counted(merged, 'segment')} merged, {counted(removed, 'index object')} removed")
    return DONE
