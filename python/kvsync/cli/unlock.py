"""`kvsync unlock`: take the lease of a storage away from a dead holder."""

from typing import Annotated, NamedTuple

from kvsync import api
from kvsync.cli.confirm import confirmed
from kvsync.cli.exitcodes import DONE, FAILED, LOCKED
from kvsync.cli.options import Location, flag
from kvsync.cli.output import Output
from kvsync.cli.status import lease_line
from kvsync.cli.sync import PLAIN
from kvsync.cli.targets import opened
from kvsync.environment import Environment
from kvsync.errors import IndexDamagedError
from kvsync.lease import LeaseState
from kvsync.process import Presence, presence
from kvsync.run.holder import is_at_work, read_lease
from kvsync.storages import redact
from kvsync.storages.contract import Storage

__all__ = ["unlock"]


class Holder(NamedTuple):
    """Who holds a lease, as text for people, and what is known here of that process; None where the lease is damaged.

    A holder that runs on this machine is `at_work` until its lease expires.
    """

    text: str
    process: Presence | None = None
    at_work: bool = False


def unlock(
    storage: Location,
    /,
    *,
    yes: Annotated[bool, flag(help="Do not ask for confirmation.")] = False,
    force: Annotated[bool, flag(help="Take the lease even from a process that runs on this machine.")] = False,
    output: Output = PLAIN,
) -> int:
    """Take the lease of a storage away from a holder that is dead.

    Says whether the holder has ended, runs on this machine, or is elsewhere.
    A holder that runs here keeps its lease, except with --force: then its run
    fails, but it loses no data. Where the holder cannot be seen from here, asks
    for confirmation; without a terminal, --yes is required.
    """
    with opened(storage) as one:
        name = redact(one.name)
        holder = _holder(one)
        code = DONE if holder is None or force else _refused(name, holder, output, yes=yes)
        unlocked = holder is not None and code == DONE and api.unlock(one, force=force)
    output.result(
        {
            "storage": name,
            "unlocked": unlocked,
            "holder": None if holder is None else holder.text,
            "process": None if holder is None or holder.process is None else holder.process.value,
        }
    )
    if code == DONE:
        output.say(f"{name}: {'unlocked' if unlocked else 'not locked'}")
        if unlocked and holder is not None:
            output.say(f"  it was {holder.text}")
    return code


def _refused(name: str, holder: Holder, output: Output, *, yes: bool) -> int:
    """Return the exit code for a lease that is left to its holder; `DONE` where it may be taken."""
    if holder.at_work:
        output.warn(f"{name}: not unlocked: {holder.text}; stop that process, or pass --force")
        return LOCKED
    if holder.process is Presence.GONE or yes or _is_dead(name, holder.text):
        return DONE
    output.warn(f"{name}: not unlocked")
    return FAILED


def _holder(storage: Storage) -> Holder | None:
    """Return who holds the lease, or None if nobody does."""
    try:
        record = read_lease(storage)
    except IndexDamagedError:
        return Holder("held by somebody unknown: the lease is damaged")
    if record is None or record.state is not LeaseState.HELD:
        return None
    return Holder(lease_line(record), presence(record.process), is_at_work(record, Environment()))


def _is_dead(name: str, holder: str) -> bool:
    """Ask on the terminal.

    Raises:
        UsageError: there is no terminal.
    """
    question = "Is that holder dead, and may its lease be taken?"
    return confirmed(name, [f"{name}: {holder}"], question, otherwise=f"{holder}; pass --yes if that holder is dead")
