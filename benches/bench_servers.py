"""Redis, PostgreSQL, LMDB and SQLite beside a bare copy of the same values, in the client library's best way.

Both sides are places on one server, or in one folder. A bare copy does what a program without kvsync would: it knows
what to copy, and keeps no index, takes no lease, checks nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial

import pytest

import kvsync
import workload
from kvsync import Put
from measure import FULL, Line, Report, Timing, in_turn_prepared
from rivals import Make, Place, places

KEYS = 100_000 if FULL else 10_000
CHANGES = 1_000
VALUE_BYTES = 200
ROUNDS = 15 if FULL else 2
CHANGE_ROUNDS = 101 if FULL else 5
WARM_UP_ROUNDS = 20 if FULL else 1
"""How many rounds of changes go before those that count.

A database that was just filled has room at its end, and the first changes land there side by side; how fast that is
differs from round to round by more than what we add. Then changes go where others were, as they do ever after.
"""

FIRST_BAR = 1.25
CHANGES_BAR = 1.5

KINDS = ["sqlite", "lmdb", "redis", "postgres"]
OTHER = {"sqlite": "bare copy in one transaction", "postgres": "bare copy by plain COPY"}

Work = Callable[[], object]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Return which storage is on both sides."""
    return str(request.param)


@pytest.fixture
def make(kind: str) -> Iterator[Make]:
    """Give a maker of new places of that kind."""
    with places(kind) as make:
        yield make


@pytest.fixture
def other(kind: str) -> Iterator[Make | None]:
    """Give a maker of the same with the second bare way, where there is one."""
    if kind not in OTHER:
        yield None
        return
    with places(kind, other=True) as make:
        yield make


def values(count: int, salt: str = "") -> dict[str, bytes]:
    """Return `count` values of 200 bytes by key; another salt gives other values."""
    chance = random.Random(f"servers{salt}")
    block = chance.randbytes(1 << 16)
    rest = VALUE_BYTES - 8
    found = {}
    for i in range(count):
        at = chance.randrange(len(block) - rest)
        found[f"user/{i:08d}/state"] = i.to_bytes(8, "little") + block[at : at + rest]
    return found


def tell(report: Report, work: str, timings: dict[str, Timing], bar: float, *, alike: bool) -> None:
    """Report how ours compares with the bare copies.

    Where all rounds are `alike`, the best one counts. Where each finds what the last one left, and some merge the log,
    it has to hold in the middle one, too.
    """
    detail = {name: {"best": timing.best, "median": timing.median} for name, timing in timings.items()}
    ours, bare = timings["ours"], timings["bare copy"]

    def add(what: str, value: float, unit: str = "x", bar: float | None = None) -> None:
        report.add(Line("servers", work, what, value, unit, bar if FULL else None, detail=detail))

    add("time", 1e3 * ours.best, "ms")
    add("ours / bare copy", ours.best / bare.best, "x", bar)
    add("the same of medians", ours.median / bare.median, "x", None if alike else bar)
    add("the same of our processor time", ours.cpu / bare.cpu)
    for name, timing in timings.items():
        if name not in {"ours", "bare copy"}:
            add(f"ours / {name}", ours.best / timing.best)


# ---------------------------------------------------------------------------------------------- first sync


class First:
    """A first sync, and its bare copy, of values that the call gives, or that were stored and committed before."""

    def __init__(self, store: dict[str, bytes], *, stored: bool) -> None:
        self.values = store
        self.stored = stored
        self.changes = [] if stored else workload.puts(store)
        self.places: list[Place] = []

    def sync(self, make: Make) -> Work:
        """Return a first sync of a new pair of places."""
        source, target = self._pair(make)
        if self.stored:
            workload.fill(source.storage, self.values)
            kvsync.commit(source.storage, [Put(key) for key in self.values])
        return partial(self._sync, source, target)

    def copy(self, make: Make) -> Work:
        """Return what a program without kvsync does instead."""
        source, target = self._pair(make)
        if self.stored:
            source.bare.write(self.values)
        return partial(self._copy, source, target)

    def check(self, make: Make) -> None:
        """See that either leaves both places with all values, and that a second sync has nothing to do."""
        self.sync(make)()
        source, target = self.places
        keys, expected = list(self.values), list(self.values.values())
        assert workload.contents(source.storage, keys) == workload.contents(target.storage, keys) == expected
        again = kvsync.sync(source.storage, target.storage)
        assert (again.pushed, again.pulled) == (0, 0)
        self.copy(make)()
        source, target = self.places
        assert source.bare.read(keys) == target.bare.read(keys) == self.values

    def _pair(self, make: Make) -> tuple[Place, Place]:
        for place in self.places:
            place.close()
        self.places = [source, target] = [make(), make()]
        return source, target

    def _sync(self, source: Place, target: Place) -> None:
        result = kvsync.sync(source.storage, target.storage, changes=self.changes)
        assert (result.pushed, result.pulled) == (len(self.values), 0)

    def _copy(self, source: Place, target: Place) -> None:
        if self.stored:
            target.bare.write(source.bare.read(list(self.values)))
        else:
            source.bare.write(self.values)
            target.bare.write(self.values)


@pytest.mark.parametrize("stored", [False, True], ids=["given", "stored"])
def test_first_sync(report: Report, kind: str, make: Make, other: Make | None, *, stored: bool) -> None:
    """Time the first sync, with the values given in the call, or stored in the source and committed before."""
    first = First(values(KEYS), stored=stored)
    first.check(make)
    makers = {"ours": partial(first.sync, make), "bare copy": partial(first.copy, make)}
    if other is not None:
        makers[OTHER[kind]] = partial(first.copy, other)
    timings = in_turn_prepared(makers, ROUNDS)
    tell(report, f"{kind}, first, {KEYS:,} {'stored' if stored else 'given'}", timings, FIRST_BAR, alike=True)


# ------------------------------------------------------------------------------------------------- changes


class Pair:
    """Two pairs of places that were equal, one for each implementation, in which each round changes some keys.

    Args:
        make: makes a place.
        on_source: how many keys change on the source in a round.
        on_target: how many on the target.
        given: they are given in the call; otherwise they are stored and committed before.
    """

    def __init__(self, make: Make, on_source: int, on_target: int, *, given: bool) -> None:
        self.values = values(KEYS)
        self.counts = on_source, on_target
        self.given = given
        self.ours = make(), make()
        kvsync.sync(self.ours[0].storage, self.ours[1].storage, changes=workload.puts(self.values))
        self.bare = make(), make()
        for place in self.bare:
            place.bare.write(self.values)
        self.round = 0

    def change(self) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Return new values for each side, spread evenly over the keys."""
        self.round += 1
        keys = list(self.values)
        step = len(keys) // sum(self.counts)
        fresh = values(sum(self.counts), salt=str(self.round)).values()
        changed = list(zip(keys[self.round % step :: step], fresh, strict=True))
        return dict(changed[: self.counts[0]]), dict(changed[self.counts[0] :])

    def sync(self) -> Work:
        """Return the sync of this round's changes."""
        changed = self.change()
        if self.given:
            return partial(self._sync, workload.puts(changed[0]))
        for place, some in zip(self.ours, changed, strict=True):
            if some:
                kvsync.commit(place.storage, workload.puts(some))
        return partial(self._sync, [])

    def copy(self) -> Work:
        """Return the bare copy of this round's changes."""
        changed = self.change()
        if not self.given:
            for place, some in zip(self.bare, changed, strict=True):
                if some:
                    place.bare.write(some)
        return partial(self._copy, *changed)

    def check(self) -> None:
        """See that a round of either leaves equal places."""
        keys, before = list(self.values), list(self.values.values())
        self.sync()()
        one, two = (workload.contents(place.storage, keys) for place in self.ours)
        assert one == two != before
        self.copy()()
        three, four = (place.bare.read(keys) for place in self.bare)
        assert three == four != self.values

    def _sync(self, changes: list[Put]) -> None:
        source, target = self.ours
        result = kvsync.sync(source.storage, target.storage, changes=changes)
        assert (result.pushed, result.pulled) == self.counts

    def _copy(self, on_source: dict[str, bytes], on_target: dict[str, bytes]) -> None:
        source, target = self.bare
        if self.given:
            source.bare.write(on_source)
            target.bare.write(on_source)
            return
        if on_source:
            target.bare.write(source.bare.read(list(on_source)))
        if on_target:
            source.bare.write(target.bare.read(list(on_target)))


CASES = {
    "500 on each": (CHANGES // 2, CHANGES // 2, False),
    "1,000 one way": (CHANGES, 0, False),
    "1,000 given": (CHANGES, 0, True),
}


@pytest.mark.parametrize("case", CASES)
def test_changes(report: Report, kind: str, make: Make, case: str) -> None:
    """Time a sync of 1,000 changes: on both sides or on one, stored and committed before, or given in the call."""
    on_source, on_target, given = CASES[case]
    pair = Pair(make, on_source, on_target, given=given)
    pair.check()
    makers = {"ours": pair.sync, "bare copy": pair.copy}
    in_turn_prepared(makers, WARM_UP_ROUNDS)
    timings = in_turn_prepared(makers, CHANGE_ROUNDS)
    tell(report, f"{kind}, {case} of {KEYS:,}", timings, CHANGES_BAR, alike=False)
