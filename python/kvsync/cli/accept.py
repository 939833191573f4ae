"""`kvsync accept`: make what is there the newest, where the newest value is missing for ever."""

from collections.abc import Sequence
from typing import Annotated

from kvsync import absence, checks
from kvsync.cli.confirm import confirmed
from kvsync.cli.exitcodes import DONE, FAILED
from kvsync.cli.json_fields import change_fields
from kvsync.cli.options import Location, Option, WaitSeconds, flag
from kvsync.cli.output import Output, counted, first_of
from kvsync.cli.sync import PLAIN
from kvsync.cli.targets import opened
from kvsync.errors import UsageError
from kvsync.storages import redact
from kvsync.storages.contract import Storage
from kvsync.types import Change

__all__ = ["accept"]


def accept(
    storage: Location,
    keys: Annotated[tuple[str, ...], Option(help="Keys that are missing there.", show_default=False)] = (),
    /,
    *,
    all_: Annotated[bool, flag(name="--all", help="Accept all keys that are missing there.")] = False,
    yes: Annotated[bool, flag(help="Do not ask for confirmation.")] = False,
    wait_seconds: WaitSeconds = 10.0,
    output: Output = PLAIN,
) -> int:
    """Make what is there the newest, where the newest value is missing for ever.

    Use it only if no storage holds that value any more: the only one that did
    is gone, or was restored from a backup. What is there now, a value or
    nothing, becomes a change that the next sync moves; a storage that holds
    the missing value after all loses it. Asks first; without a terminal, --yes
    is required.
    """
    if bool(keys) == all_:
        message = "accept needs keys or --all, and not both"
        raise UsageError(message)
    with opened(storage) as one:
        name = redact(one.name)
        if not yes and not _is_meant(one, name, keys):
            output.warn(f"{name}: nothing was accepted")
            return FAILED
        changes = absence.accept(one, None if all_ else keys, wait_seconds=wait_seconds)
    output.result({"storage": name, "accepted": [change_fields(change) for change in changes]})
    output.say(f"{name}: what is there is the newest now, at {counted(len(changes), 'key')}")
    output.say_all(first_of(map(_line, changes), len(changes)))
    return DONE


def _line(change: Change) -> str:
    return f"  {change.key!r}: {'nothing' if change.deletes else counted(change.size, 'byte')}"


def _is_meant(storage: Storage, name: str, keys: Sequence[str]) -> bool:
    """Ask on the terminal, if there is something to ask about.

    Raises:
        UsageError: there is no terminal.
    """
    missing = checks.status(storage).missing
    lines = [f"  {key!r}: {redact(reason)}" for key, reason in missing.items() if not keys or key in keys]
    question = "Does no storage hold these values any more?"
    otherwise = "pass --yes if no storage holds the missing values any more"
    return not lines or confirmed(name, [f"{name}:", *first_of(lines, len(lines))], question, otherwise=otherwise)
