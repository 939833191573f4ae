"""Read the values that logged changes name, as far as they are still what is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.native import digest_values

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvsync.run.side import Side
    from kvsync.types import Change, Unreadable

__all__ = ["READ_COUNT", "values_of"]

READ_COUNT = 64
"""Values read at a time."""


def values_of(side: Side, changes: Sequence[Change]) -> Iterator[tuple[Change, bytes | Unreadable | None]]:
    """Yield each change with the value that it names; None where another one or nothing is stored."""
    for start in range(0, len(changes), READ_COUNT):
        batch = changes[start : start + READ_COUNT]
        values = _read_pending(side, [change.key for change in batch])
        digests = iter(digest_values([value for value in values if isinstance(value, bytes)]))
        for change, value in zip(batch, values, strict=True):
            if isinstance(value, bytes) and next(digests) != change.digest:
                yield change, None
            else:
                yield change, value


def _read_pending(side: Side, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
    """Return values as they are, or in a preview as this run's changes would have made them."""
    values = side.storage.read(keys)
    if side.pending:
        values = [side.pending.get(key, value) for key, value in zip(keys, values, strict=True)]
    return values
