"""What a replica knows of every origin's history: chains of points, and changes that are known ahead of them.

The last point of a chain is how far a history is known: it stands for the entry of a version vector. A change that is
known *ahead* of it, since recovery found it applied, carries the point of its giver that proves it.

Every transition returns a new value and reads nothing but its arguments.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from functools import cached_property, partial
from heapq import heappop, heappush
from itertools import groupby, pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from kvsync.native import Cover
from kvsync.replica.points import (
    OTHER_COUNT,
    OWN_COUNT,
    Chain,
    Point,
    branch_name,
    extended,
    has_point,
    least_at,
    merged,
    thinned,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from kvsync.types import Change

__all__ = ["History", "Rename", "Renames", "VectorException"]


class VectorException(NamedTuple):
    """Changes that are known ahead of the chain of their origin: every stamp from `first` to `last`.

    `point` is the least one of the giver's chain at or after them.
    """

    origin: int
    first: int
    last: int
    point: Point


class Rename(NamedTuple):
    """Logged changes, those of `origin` with stamps from `first` to `last`, that get another origin: `name`."""

    origin: int
    first: int
    last: int
    name: int

    def holds(self, change: Change) -> bool:
        """Whether a change gets the name."""
        return self.origin == change.origin and self.first <= change.stamp <= self.last


class Renames:
    """Renames, none of which reaches into another, so that a change's name is found, not searched."""

    def __init__(self, renames: Iterable[Rename]) -> None:
        self._sorted = sorted(renames)

    def reach(self, origin: int, stamp: int) -> bool:
        """Whether a change of an origin, up to a stamp, may get another name."""
        at = bisect_left(self._sorted, (origin, stamp + 1))
        return at > 0 and self._sorted[at - 1].origin == origin

    def named(self, change: Change) -> Change:
        """Return a change with the origin that it gets."""
        at = bisect_left(self._sorted, (change.origin, change.stamp + 1))
        rename = self._sorted[at - 1] if at else None
        return change._replace(origin=rename.name) if rename is not None and rename.holds(change) else change


@dataclass(frozen=True)
class History:
    """What is known of every origin's history.

    Attributes:
        chains: {origin: chain}, ascending by origin.
        exceptions: ascending by origin and stamp; none reaches into another, nor into the chain of its origin.
    """

    chains: Mapping[int, Chain] = field(default_factory=dict)
    exceptions: tuple[VectorException, ...] = ()

    @cached_property
    def cover(self) -> Cover:
        """The same as a version vector with exceptions, without what proves it."""
        vector = {origin: chain[-1].stamp for origin, chain in self.chains.items()}
        return Cover(vector, [(span.origin, span.first, span.last) for span in self.exceptions])

    @cached_property
    def entries(self) -> dict[int, Point]:
        """How far each history is known."""
        return {origin: chain[-1] for origin, chain in self.chains.items()}

    def says_same(self, other: History) -> bool:
        """Whether both know the same; the older points that prove it may differ."""
        return self.entries == other.entries and self.exceptions == other.exceptions

    def point_at(self, origin: int, stamp: int) -> Point | None:
        """Return the least point that proves a known change, or None for one that is not known."""
        span = next(self._reaching(origin, stamp, stamp), None)
        if span is not None:
            return span.point
        return least_at(self.chains.get(origin, ()), stamp)

    def committed(self, origin: int, stamp: int, mark: int) -> History:
        """Take in changes of a replica's own up to `stamp`: its history gets a point."""
        chain = extended(self.chains.get(origin, ()), stamp, mark)
        return History(dict(sorted({**self.chains, origin: chain}.items())), self.exceptions)

    def with_exceptions(self, spans: Iterable[VectorException]) -> History:
        """Take in changes that are known ahead of the chain of their origin."""
        fresh = [
            span._replace(first=first, last=last)
            for span in spans
            for first, last in _left(span, self._known_within(span))
        ]
        return History(self.chains, _joined([*self.exceptions, *fresh])) if fresh else self

    def _known_within(self, span: VectorException) -> list[tuple[int, int]]:
        """Return which stamps of a span are known already, as ranges."""
        reached = self.reaches(span.origin)
        known = [(0, reached)] if reached >= span.first else []
        known += [(other.first, other.last) for other in self._reaching(span.origin, span.first, span.last)]
        return known

    def _reaching(self, origin: int, first: int, last: int) -> Iterator[VectorException]:
        """Yield the exceptions that reach into a range of stamps; they are found, not searched."""
        # The last one that begins before the range may reach into it.
        start = max(0, bisect_left(self.exceptions, (origin, first), key=lambda each: each[:2]) - 1)
        for at in range(start, len(self.exceptions)):
            other = self.exceptions[at]
            if (other.origin, other.first) > (origin, last):
                break
            if other.origin == origin and other.last >= first:
                yield other

    def merged(self, other: History) -> History:
        """Take in what another replica knows: of each history the greater point, and all points of both."""
        chains = dict(self.chains)
        for origin, chain in other.chains.items():
            own = chains.get(origin)
            chains[origin] = chain if own is None else merged(own, chain)
        return History(dict(sorted(chains.items()))).with_exceptions([*self.exceptions, *other.exceptions])

    def without(self, origins: Collection[int]) -> History:
        """Forget the histories of some origins."""
        if not origins:
            return self
        return History(
            {origin: chain for origin, chain in self.chains.items() if origin not in origins}, self.exceptions
        )

    def restricted(self, origins: Collection[int], stamp_min: int) -> History:
        """Return the part that proves changes of some origins, with stamps from `stamp_min` on."""
        chains = {
            origin: chain[bisect_left(chain, stamp_min, key=attrgetter("stamp")) :]
            for origin, chain in self.chains.items()
            if origin in origins
        }
        spans = tuple(span for span in self.exceptions if span.origin in origins)
        return History({origin: chain for origin, chain in chains.items() if chain}, spans)

    def thinned(self, own: int, stood_at: Callable[[int], Collection[Point | None]]) -> History:
        """Drop older points; `stood_at` gives the points of an origin at which known replicas stand."""
        chains = {
            origin: thinned(chain, OWN_COUNT if origin == own else OTHER_COUNT, partial(stood_at, origin))
            for origin, chain in self.chains.items()
        }
        return History(chains, self.exceptions) if chains != self.chains else self

    def branched(self, origin: int, proven: Point | None) -> tuple[History, Rename]:
        """Make what lies after the last `proven` point (None: everything) a history of its own, under a new name."""
        entry = self.chains[origin][-1]
        name = branch_name(origin, entry)
        floor = proven.stamp if proven is not None else -1
        kept = tuple(point for point in self.chains[origin] if point.stamp <= floor)
        chains = {**self.chains, origin: kept, name: self.chains.get(name, (entry,))}
        known = {each: chain for each, chain in sorted(chains.items()) if chain}
        return History(known, self.exceptions), Rename(origin, floor + 1, entry.stamp, name)

    def settled(self, by: History) -> tuple[History, tuple[Rename, ...]]:
        """Hold the changes ahead against a history that reaches them: it proves them, or they are of another life.

        Those that are not proven get a name of their own, and stay ahead. Those that our own history proves are no
        longer ahead of it.
        """
        spans: list[VectorException] = []
        renames: list[Rename] = []
        for span in self.exceptions:
            unproven = by.unproven(span)
            if not unproven:
                is_known = by is self and self.reaches(span.origin) >= span.last
                spans += [] if is_known else [span]
                continue
            name = branch_name(span.origin, span.point)
            renames += [Rename(span.origin, first, last, name) for first, last in unproven]
            spans += [span._replace(origin=name, first=first, last=last) for first, last in unproven]
            spans += [span._replace(first=first, last=last) for first, last in _left(span, unproven)]
        if not renames and len(spans) == len(self.exceptions):
            return self, ()
        return History(self.chains).with_exceptions(spans), tuple(renames)

    def reaches(self, origin: int) -> int:
        """Return the stamp up to which an origin's history is known; -1 where it is not known at all."""
        chain = self.chains.get(origin)
        return chain[-1].stamp if chain else -1

    def unproven(self, span: VectorException) -> list[tuple[int, int]]:
        """Return the stamps of an exception, as ranges, that this history knows and cannot prove to be the same."""
        if has_point(self.chains.get(span.origin, ()), span.point):
            return []
        reached = min(self.reaches(span.origin), span.last)
        ranges = [(span.first, reached)] if reached >= span.first else []
        for other in self._reaching(span.origin, span.first, span.last):
            first, last = max(span.first, other.first, reached + 1), min(span.last, other.last)
            if other.point != span.point and first <= last:
                ranges.append((first, last))
        return ranges


def _left(span: VectorException, taken: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the stamps of an exception that are not in the ranges `taken`, which ascend and do not overlap."""
    first = span.first
    for start, stop in taken:
        if first < start:
            yield first, start - 1
        first = stop + 1
    if first <= span.last:
        yield first, span.last


def _joined(spans: Iterable[VectorException]) -> tuple[VectorException, ...]:
    """Return spans in order, those joined that touch and have one point; a stamp in several of them gets the least.

    So it makes no difference in which order histories are merged, or how often.
    """
    joined: list[VectorException] = []
    for origin, each in groupby(sorted(spans), key=attrgetter("origin")):
        later = deque(each)
        bounds = sorted({bound for span in later for bound in (span.first, span.last + 1)})
        reaching: list[tuple[Point, int]] = []  # a heap of the points of the spans so far, and where each ends
        for first, after in pairwise(bounds):
            while later and later[0].first == first:
                span = later.popleft()
                heappush(reaching, (span.point, span.last))
            while reaching and reaching[0][1] < first:
                heappop(reaching)
            if not reaching:
                continue
            point = reaching[0][0]
            is_joined = joined and joined[-1] == (origin, joined[-1].first, first - 1, point)
            start = joined.pop().first if is_joined else first
            joined.append(VectorException(origin, start, after - 1, point))
    return tuple(joined)
