"""Keys that a run leaves behind: those that one side cannot hold, and those that cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.cli.exitcodes import DONE, FAILED
from kvsync.cli.output import counted, first_of
from kvsync.storages import redact
from kvsync.storages.wording import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence, Sized

    from kvsync.cli.output import Output
    from kvsync.result import MissingKey, UnreadableKey

__all__ = ["left_behind", "left_lines"]


def left_lines(missing: Sequence[MissingKey], unreadable: Sequence[UnreadableKey]) -> Iterator[str]:
    """Yield a line on each of the first keys that are left behind, with the reason."""
    yield from first_of((_line("missing", entry) for entry in missing), len(missing))
    yield from first_of((_line("unreadable", entry) for entry in unreadable), len(unreadable))


def _line(title: str, entry: MissingKey | UnreadableKey) -> str:
    return f"  {title:<10} {shown(entry.key)} in the {entry.side}: {redact(entry.reason)}"


def left_behind(output: Output, missing: Sized, unreadable: Sized, *, planned: bool = False) -> int:
    """Warn of keys that are left behind, or in a plan would be; return the exit code.

    A run that leaves keys behind has not made the storages equal, whatever else it did.
    """
    if missing and planned:
        output.warn(f"{counted(len(missing), 'key')} could not be moved by an earlier run, and a run would try again")
    elif missing:
        output.warn(f"{counted(len(missing), 'key')} could not be moved; the next run tries again")
    if unreadable:
        output.warn(f"{counted(len(unreadable), 'key')} could not be read; the next run looks again")
    return FAILED if missing or unreadable else DONE
