"""What a run moved to one side: the columns of the run, read when somebody asks for keys or changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.native import Segment
from kvsync.types import Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Moved"]

ROWS_COUNT = 4096
"""How many changes become objects at a time."""


class Moved:
    """The changes that one side got, ascending by key.

    They stay in the columns of the run as long as somebody holds its result: about 40 bytes for each besides the key.
    No object of Python is made of a change before it is asked for.

    Args:
        changes: what was moved.
        value_bytes: the size of the values that were moved; None means all values of `changes`.
    """

    __slots__ = ("_changes", "value_bytes")

    def __init__(self, changes: Segment | Iterable[Change] = (), value_bytes: int | None = None) -> None:
        self._changes = changes if isinstance(changes, Segment) else Segment.from_rows(list(changes))
        self.value_bytes = self._changes.value_bytes if value_bytes is None else value_bytes

    def __len__(self) -> int:
        """Return the number of changes."""
        return len(self._changes)

    def __iter__(self) -> Iterator[Change]:
        """Yield the changes, ascending by key."""
        for start in range(0, len(self._changes), ROWS_COUNT):
            yield from map(Change._make, self._changes.rows(start, start + ROWS_COUNT))

    @property
    def deletes(self) -> int:
        """How many of the changes are deletes."""
        return self._changes.tombstones

    def __reduce__(self) -> tuple[object, ...]:
        """Let a result be copied and pickled, as any plain value."""
        return Moved, (list(self), self.value_bytes)

    def __repr__(self) -> str:
        """Return how many changes there are."""
        return f"Moved({len(self)})"
