"""Conditional writes and deletes, and batches cut to the size of a command.

The token of a value is its BLAKE3, which a server cannot compute, and the time when it expires. So the current value is
read, and its BLAKE3 compared here. Then a script compares the current value with the one that was read, and the time
with the token's, and writes, atomically. That is exact no matter who else writes, and needs no repetition.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from kvsync.native import digest_values
from kvsync.storages.expiry import parts_of
from kvsync.storages.redis.values import Held

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.storages.redis.values import Values

__all__ = ["COMMAND_COUNT", "delete_if", "pieces", "write_if"]

COMMAND_COUNT = 1024
COMMAND_BYTES = 4 << 20
"""The most keys of a command, and the most bytes of its values, unless it has only one value."""


class _Compared(NamedTuple):
    """Positions whose value is the expected one, those values, and the positions whose value is not."""

    same: list[int]
    olds: Held
    others: list[int]


def write_if(
    current: Values,
    names: Sequence[bytes],
    values: Sequence[bytes],
    expires: Sequence[int],
    expect: Sequence[bytes | None],
) -> list[int]:
    """Write where the current value has the expected token (None: is absent); return the positions of the others.

    Raises:
        StorageError: the server cannot be written.
    """
    changed: list[int] = []
    for start, stop in pieces([len(value) for value in values]):
        new = [i for i in range(start, stop) if expect[i] is None]
        old = [i for i in range(start, stop) if expect[i] is not None]
        if new:
            refused = current.create([names[i] for i in new], [values[i] for i in new], [expires[i] for i in new])
            changed += [new[i] for i in refused]
        same, olds, others = _compare(current, names, expect, old)
        changed += others
        if same:
            new_values, new_expires = [values[i] for i in same], [expires[i] for i in same]
            refused = current.replace([names[i] for i in same], olds, new_values, new_expires)
            changed += [same[i] for i in refused]
    return sorted(changed)


def delete_if(current: Values, names: Sequence[bytes], expect: Sequence[bytes | None]) -> list[int]:
    """Delete where the current value has the expected token; return the positions where it has another.

    Raises:
        StorageError: the server cannot be written.
    """
    changed: list[int] = []
    new = [i for i, token in enumerate(expect) if token is None]
    if new:
        present = current.present([names[i] for i in new])
        changed += [i for i, is_there in zip(new, present, strict=True) if is_there]
    old = [i for i, token in enumerate(expect) if token is not None]
    for start in range(0, len(old), COMMAND_COUNT):
        same, olds, others = _compare(current, names, expect, old[start : start + COMMAND_COUNT], absent_is_fine=True)
        changed += others
        if same:
            changed += [same[i] for i in current.drop_if([names[i] for i in same], olds)]
    return sorted(changed)


def pieces(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Cut a batch so that each piece fits in a command.

    >>> pieces([1, 1, 9 << 20, 1])
    [(0, 2), (2, 3), (3, 4)]
    """
    count = len(sizes)
    if sum(sizes) <= COMMAND_BYTES:
        return [(start, min(start + COMMAND_COUNT, count)) for start in range(0, count, COMMAND_COUNT)]
    cut, start, before = [], 0, 0
    for i, total in enumerate(accumulate(sizes)):
        if i > start and (i - start >= COMMAND_COUNT or total - before > COMMAND_BYTES):
            cut.append((start, i))
            start, before = i, total - sizes[i]
    return [*cut, (start, count)]


def _compare(
    current: Values,
    names: Sequence[bytes],
    expect: Sequence[bytes | None],
    positions: Sequence[int],
    *,
    absent_is_fine: bool = False,
) -> _Compared:
    if not positions:
        return _Compared([], Held([], []), [])
    found = dict(zip(positions, current.get([names[i] for i in positions]), strict=True))
    held = {i: value for i, value in found.items() if isinstance(value, bytes)}
    digests = dict(zip(held, digest_values(list(held.values())), strict=True))
    wanted = {i: parts_of(expect[i] or b"") for i in positions}
    same = [i for i in held if digests[i] == wanted[i][0]]
    known = set(same)
    others = [i for i, value in found.items() if i not in known and not (absent_is_fine and value is None)]
    return _Compared(same, Held([held[i] for i in same], [wanted[i][1] for i in same]), others)
