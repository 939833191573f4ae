"""Conflicts, as lines and as commands that bring a losing value back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.cli.json_fields import order_text
from kvsync.cli.output import first_of
from kvsync.index.lost import LOST_PREFIX, LostValue
from kvsync.storages import redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvsync.types import Conflict

__all__ = ["conflict_lines", "places_of_losers", "restore_commands"]


def conflict_lines(
    conflicts: Sequence[Conflict], source: str, target: str, policy: str, *, planned: bool = False
) -> Iterator[str]:
    """Yield a line on each of the first conflicts: who wins, and how to get the other value back."""
    lines = (_line(each, source, target, planned=planned) + order_text(each, policy) for each in conflicts)
    yield from first_of(lines, len(conflicts))


def restore_commands(conflict: Conflict, source: str, target: str) -> list[str]:
    """Return the commands that put the losing values of a conflict back."""
    return [f"{_restore(conflict, storage)} --from {lost_id}" for storage, lost_id in _lost(conflict, source, target)]


def places_of_losers(conflict: Conflict, source: str, target: str) -> list[str]:
    """Return the storages that keep losing values of a conflict, as words of a command."""
    import shlex  # noqa: PLC0415 - most runs have no conflicts

    return [shlex.quote(redact(storage)) for storage, _ in _lost(conflict, source, target)]


def _line(conflict: Conflict, source: str, target: str, *, planned: bool) -> str:
    return f"  conflict   {conflict.key!r}: the {conflict.winner} wins; {_loser(conflict, source, target, planned)}"


def _loser(conflict: Conflict, source: str, target: str, planned: bool) -> str:  # noqa: FBT001 - it is passed on
    losing = conflict.target if conflict.winner == "source" else conflict.source
    would = "would be" if planned else "is"
    if losing.deletes:
        return "the other side had deleted it"
    if conflict.kept_as is not None:
        return f"the other value {would} kept as key {conflict.kept_as!r}"
    if planned:
        return "the other value would be kept"
    commands = [_restore(conflict, storage) for storage, _ in _lost(conflict, source, target)]
    if not commands and conflict.lost_as:
        return "the other value cannot be read now, and is kept as soon as it can be"
    if not commands:
        return "the other value was not kept"
    return f"the other value is kept, and `{' or '.join(commands)}` puts it back"


def _restore(conflict: Conflict, storage: str) -> str:
    import shlex  # noqa: PLC0415 - most runs have no conflicts

    key = shlex.quote(conflict.key)
    dashes = "-- " if conflict.key.startswith("-") else ""
    return f"kvsync restore {dashes}{shlex.quote(redact(storage))} {key}"


def _lost(conflict: Conflict, source: str, target: str) -> Iterator[tuple[str, str]]:
    """Yield where each losing value is kept: the storage, and the id there."""
    if not any(name.startswith(LOST_PREFIX) for name in conflict.lost_as):
        return
    for side, change, storage in (("source", conflict.source, source), ("target", conflict.target, target)):
        if conflict.winner != side and not change.deletes:
            yield storage, LostValue.of(change, b"").id
