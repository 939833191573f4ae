"""`kvsync unlock`: take the lease of a storage away from a dead holder."""

import sys
from typing import Annotated

from kvsync import api
from kvsync.cli.exitcodes import DONE, FAILED
from kvsync.cli.options import Location, flag
from kvsync.cli.output import Output, OutputClosedError, write_line
from kvsync.cli.status import lease_line
from kvsync.cli.sync import PLAIN
from kvsync.cli.targets import opened
from kvsync.errors import IndexDamagedError, UsageError
from kvsync.lease import LeaseState
from kvsync.run.holder import read_lease
from kvsync.storages import redact
from kvsync.storages.contract import Storage

__all__ = ["unlock"]


def unlock(
    storage: Location,
    /,
    *,
    yes: Annotated[bool, flag(help="Do not ask for confirmation.")] = False,
    output: Output = PLAIN,
) -> int:
    """Take the lease of a storage away from a holder that is dead.

    If the holder is alive after all, its run fails, but it loses no data.
    Asks for confirmation; without a terminal, --yes is required.
    """
    with opened(storage) as one:
        name = redact(one.name)
        holder = _holder(one)
        if holder is not None and not yes and not _confirmed(name, holder):
            output.warn(f"{name}: not unlocked")
            return FAILED
        unlocked = api.unlock(one) if holder is not None else False
    output.result({"storage": name, "unlocked": unlocked, "holder": holder if unlocked else None})
    output.say(f"{name}: {'unlocked' if unlocked else 'not locked'}")
    return DONE


def _holder(storage: Storage) -> str | None:
    """Return who holds the lease, or None if nobody does."""
    try:
        record = read_lease(storage)
    except IndexDamagedError:
        return "held by somebody unknown: the lease is damaged"
    if record is None or record.state is not LeaseState.HELD:
        return None
    return lease_line(record)


def _confirmed(name: str, holder: str) -> bool:
    """Ask on the terminal.

    Raises:
        UsageError: there is no terminal.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        message = f"cannot ask for confirmation without a terminal: {holder}; pass --yes if that holder is dead"
        raise UsageError(message, storage=name)
    try:
        write_line(sys.stderr, f"{name}: {holder}")
        sys.stderr.write("Is that holder dead, and may its lease be taken? [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in {"y", "yes"}
    except BrokenPipeError as error:
        raise OutputClosedError from error
