"""Points: where a replica's history stood, each with a mark that no other life of that replica has.

A storage that is put back from a backup, or copied and used on, leads a second life under one replica id: stamps alone
cannot tell the two apart. So each write that logs changes of a replica's own draws 64 random bits, the mark. A *point*
is such a write: its number, the stamp that the history had reached, and the mark. The points of one life are a *chain*:
whoever knows a replica up to one point, and finds that point in somebody else's chain, has proof that both know the
same life.

Chains are thinned out as they grow. By numbers, not by positions, so that two replicas that thin apart keep points in
common.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from kvsync.native import digest_values

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = [
    "OTHER_COUNT",
    "OWN_COUNT",
    "Chain",
    "Point",
    "ascends",
    "branch_name",
    "common",
    "extended",
    "has_point",
    "is_branch",
    "least_at",
    "merged",
    "thinned",
]

OWN_COUNT: Final = 32
"""How many of the newest points of a replica's own history are all kept."""

OTHER_COUNT: Final = 8
"""How many of the newest points of any other history are all kept."""

THIN_EVERY: Final = 8
"""A chain may have so many points more than it has to, so that not every run looks at all of them."""

BRANCH_BIT: Final = 1 << 63
"""Names of branches have this bit; ids of replicas do not."""


class Point(NamedTuple):
    """A write that logged changes of a replica's own.

    Attributes:
        number: counts them, from 1.
        stamp: the greatest stamp of the replica's own changes then.
        mark: 64 random bits, drawn by that write.
    """

    number: int
    stamp: int
    mark: int

    @property
    def rank(self) -> tuple[int, int]:
        """What points of different lives are ordered by."""
        return self.stamp, self.mark


Chain: TypeAlias = "tuple[Point, ...]"
"""Some points of one life, ascending, at least one; the last says how far it is known."""


def extended(chain: Chain, stamp: int, mark: int) -> Chain:
    """Return a chain with one more point; the same where the stamp is not beyond it.

    >>> extended((Point(1, 10, 7),), 20, 9)
    (Point(number=1, stamp=10, mark=7), Point(number=2, stamp=20, mark=9))
    """
    number, last, _ = chain[-1] if chain else (0, 0, 0)
    return (*chain, Point(number + 1, stamp, mark)) if stamp > last else chain


def merged(one: Chain, other: Chain) -> Chain:
    """Return the points of two chains of one life, of which one has the other's last point.

    Where their older points contradict each other somebody forged some, so only those that both have stay as proof.

    >>> merged((Point(1, 10, 7), Point(3, 30, 9)), (Point(2, 20, 8), Point(3, 30, 9)))
    (Point(number=1, stamp=10, mark=7), Point(number=2, stamp=20, mark=8), Point(number=3, stamp=30, mark=9))
    """
    points = {*one, *other}
    for whole in (one, other):
        if len(whole) == len(points):  # it has all of them
            return whole
    chain = tuple(sorted(points))
    if ascends(chain):
        return chain
    return tuple(sorted({*one} & {*other} | {max(one[-1], other[-1], key=lambda point: point.rank)}))


def ascends(chain: Chain) -> bool:
    """Whether points can be of one life: their numbers and stamps both ascend."""
    return all(one.number < other.number and one.stamp < other.stamp for one, other in pairwise(chain))


def common(one: Chain, other: Chain) -> Point | None:
    """Return the greatest point of both chains, or None where they share none."""
    return max(set(one) & set(other), default=None)


def least_at(chain: Chain, stamp: int) -> Point | None:
    """Return the least point that has a stamp at or after `stamp`, or None where the chain ends before."""
    at = bisect_left(chain, stamp, key=lambda point: point.stamp)
    return chain[at] if at < len(chain) else None


def has_point(chain: Chain, point: Point) -> bool:
    """Whether a point is one of a chain."""
    at = bisect_left(chain, point)
    return at < len(chain) and chain[at] == point


def thinned(chain: Chain, count: int, stood_at: Callable[[], Collection[Point | None]] = tuple) -> Chain:
    """Return a chain with fewer of its older points.

    The newest `count` stay, and those at which a known replica stands. Of others, every other one goes each time they
    are twice as old, so their number grows with the logarithm of the history. That is done each time the newest point
    passes a multiple of `THIN_EVERY`.
    """
    if len(chain) <= count or chain[-1].number // THIN_EVERY == chain[-2].number // THIN_EVERY:
        return chain
    newest = chain[-1].number
    at = bisect_left(chain, newest - count + 1, key=itemgetter(0))
    if at == 0:
        return chain
    met = stood_at()
    older = [point for point in chain[:at] if point in met or _is_kept(newest - point[0], point[0])]
    return (*older, *chain[at:])


def _is_kept(age: int, number: int) -> bool:
    """Whether an older point is kept: its number is divisible by a power of two that grows with its age."""
    return number % (1 << (age // 4).bit_length()) == 0


def branch_name(origin: int, point: Point) -> int:
    """Return the name of a branch: of what somebody knows of an origin up to `point`, and cannot prove.

    All who know that life up to there choose the same name, and no replica has it as its id.
    """
    words = b"".join(number.to_bytes(8, "little") for number in (origin, *point))
    return int.from_bytes(digest_values([words])[0][:8], "little") | BRANCH_BIT


def is_branch(origin: int) -> bool:
    """Whether an origin is a branch, not a replica."""
    return origin >= BRANCH_BIT
