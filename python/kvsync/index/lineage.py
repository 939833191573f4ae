"""The points of a replica's own history: the stamps at which its manifests stood, so that a forked history shows.

Whoever met this replica knows it up to one of its points. A claim that is none tells of a life that this storage does
not remember: it was restored from a backup, or is a copy, and was written to before it met anybody. Since its newest
stamp is later than what is claimed, the version vectors alone do not show it.

A point has a number, counted from 1. The newest are all kept; of older ones, every other one goes each time they are
twice as old, so their number grows with the logarithm of the history. A claim may therefore also be of a point that
was dropped. What lies between the last kept point before it and the claim is then compared, which is about as much as
happened since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = ["Points", "certain_below", "extended"]

Points: TypeAlias = "tuple[tuple[int, int], ...]"
"""(number, stamp), ascending."""

EXACT_COUNT: Final = 32
"""How many of the newest points are all kept; of older ones, about four each time they are twice as old."""


def extended(points: Points, stamp: int, met: Collection[int] = ()) -> Points:
    """Return `points` with one more, thinned out; the same where `stamp` is not beyond them.

    Those whose stamps are in `met` stay: it is up to there that peers are known to know this replica.

    >>> extended(((1, 10), (2, 20)), 30)
    ((1, 10), (2, 20), (3, 30))
    """
    number, last = points[-1] if points else (0, 0)
    if stamp <= last:
        return points
    newest = number + 1
    exact = next((i for i, (number, _) in enumerate(points) if newest - number < EXACT_COUNT), len(points))
    older = [point for point in points[:exact] if point[1] in met or _kept(newest - point[0], point[0])]
    return (*older, *points[exact:], (newest, stamp))


def certain_below(points: Points, claimed: int) -> int | None:
    """Return the last kept point before `claimed` (0: none), or None where `claimed` is a point itself.

    >>> certain_below(((1, 10), (2, 20)), 20), certain_below(((1, 10), (2, 20)), 15), certain_below((), 5)
    (None, 10, 0)
    """
    stamps: Sequence[int] = [stamp for _, stamp in points]
    if claimed in stamps:
        return None
    return max((stamp for stamp in stamps if stamp < claimed), default=0)


def _kept(age: int, number: int) -> bool:
    """Whether an older point is kept: its number is divisible by a power of two that grows with its age."""
    return number % (1 << ((age // 4).bit_length() - 1)) == 0
