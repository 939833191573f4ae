"""Checkpoints of a replica's own history: the stamps at which its manifests stood.

Checkpoints are numbered from 1. The newest are all kept; of older ones, every other one goes each time they are twice
as old, so their number grows with the logarithm of the history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = ["EXACT_COUNT", "Checkpoints", "certain_below", "extended"]

Checkpoints: TypeAlias = "tuple[tuple[int, int], ...]"
"""(number, stamp), ascending."""

EXACT_COUNT: Final = 32
"""How many of the newest checkpoints are all kept; of older ones, about four each time they are twice as old."""


def extended(checkpoints: Checkpoints, stamp: int, met: Collection[int] = ()) -> Checkpoints:
    """Return `checkpoints` with one more, thinned out; the same where `stamp` is not beyond them.

    Those whose stamps are in `met` stay: peers are known to know this replica up to there.

    >>> extended(((1, 10), (2, 20)), 30)
    ((1, 10), (2, 20), (3, 30))
    """
    number, last = checkpoints[-1] if checkpoints else (0, 0)
    if stamp <= last:
        return checkpoints
    newest = number + 1
    exact = next((i for i, (number, _) in enumerate(checkpoints) if newest - number < EXACT_COUNT), len(checkpoints))
    older = [point for point in checkpoints[:exact] if point[1] in met or _is_kept(newest - point[0], point[0])]
    return (*older, *checkpoints[exact:], (newest, stamp))


def certain_below(checkpoints: Checkpoints, claimed: int) -> int | None:
    """Return the stamp of the last kept checkpoint before `claimed` (0: none), or None where `claimed` is one itself.

    >>> certain_below(((1, 10), (2, 20)), 20), certain_below(((1, 10), (2, 20)), 15), certain_below((), 5)
    (None, 10, 0)
    """
    stamps: Sequence[int] = [stamp for _, stamp in checkpoints]
    if claimed in stamps:
        return None
    return max((stamp for stamp in stamps if stamp < claimed), default=0)


def _is_kept(age: int, number: int) -> bool:
    """Whether an older checkpoint is kept: its number is divisible by a power of two that grows with its age."""
    return number % (1 << ((age // 4).bit_length() - 1)) == 0
