"""`kvsync forget`: wait no longer for a storage that does not come back."""

from typing import Annotated

from kvsync import absence
from kvsync.cli.exitcodes import DONE
from kvsync.cli.options import Location, Option, WaitSeconds
from kvsync.cli.output import Output
from kvsync.cli.sync import PLAIN
from kvsync.cli.targets import opened
from kvsync.storages import redact

__all__ = ["forget"]


def forget(
    storage: Location,
    peer: Annotated[str, Option(help="Its id, as `kvsync peers` shows it, the beginning of it, or its name.")],
    /,
    *,
    wait_seconds: WaitSeconds = 10.0,
    output: Output = PLAIN,
) -> int:
    """Wait no longer for a storage that does not come back.

    Deletes stay logged until all peers are known to have them. STORAGE stops
    waiting for PEER, and tells the other storages. If PEER comes back all the
    same, it goes on as a new storage, and values of it that may have been
    deleted meanwhile are kept and told.
    """
    with opened(storage) as one:
        forgotten = absence.forget(one, peer, wait_seconds=wait_seconds)
        name = redact(one.name)
    output.result({"storage": name, "forgotten": forgotten})
    output.say(f"{name}: {forgotten} is forgotten")
    output.say("  the next sync that writes drops the old deletes that waited for it alone, and tells the other side")
    output.say("  if it comes back, it goes on as a new storage; what it holds and may have been deleted is told")
    return DONE
