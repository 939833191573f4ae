"""Many small values, dict to dict and SQLite to SQLite, beside a bare copy of the same values.

The bare copy makes the calls that any program has to make, through the same adapters in batches of the same
size, and nothing more: it keeps no index, takes no lease and checks nothing.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

import kvsync
import workload
from kvsync import Put
from measure import FULL, Line, Report, Timing, in_turn_prepared
from workload import Make

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvsync.storages import Storage

KEYS = 1_000_000 if FULL else 20_000
SMALL_KEYS = 100_000 if FULL else 10_000
ROUNDS = {"dict": 3, "sqlite": 2 if FULL else 3}
SMALL = 100
SMALL_ROUNDS = 15
MICROSECONDS_BAR = 1.0
COPY_BAR = 1.3
SMALL_BAR = 2.0


@pytest.fixture(params=["dict", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    """Return which storage is on both sides."""
    return str(request.param)


@pytest.fixture
def make(kind: str) -> Iterator[Make]:
    """Give a maker of new storages of that kind."""
    if kind == "dict":
        yield workload.new_dict
        return
    with workload.databases() as databases:
        yield databases


def tell(report: Report, kind: str, work: str, timings: dict[str, Timing], keys: int, bar: float | None) -> None:
    """Report how one work compares with its bare copy, by the measure that the storage has its bar in."""
    ours, bare = timings["ours"].best, timings["bare copy"].best
    on_dict = kind == "dict"
    add = partial(report_line, report, f"{kind}, {work}")
    add("time", ours, "s", None, timings)
    add("bare copy", bare, "s", None, {})
    add("a key, on top of the bare copy", 1e6 * (ours - bare) / keys, "us", bar if on_dict else None, {})
    add("ours / bare copy", ours / bare, "x", None if on_dict else bar, {})
    for name, timing in timings.items():
        if name.startswith("ours,"):
            add(f"{name} / bare copy", timing.best / bare, "x", None, {})


def report_line(
    report: Report,
    work: str,
    what: str,
    value: float,
    unit: str,
    bar: float | None,
    timings: dict[str, Timing],
) -> None:
    """Report one figure."""
    detail = {name: {"best": timing.best, "median": timing.median} for name, timing in timings.items()}
    report.add(Line("bulk", work, what, value, unit, bar, detail=detail))


# -------------------------------------------------------------------------------------------- first sync


def synced(make: Make, changes: list[Put], values: dict[str, bytes] | None) -> Callable[[], object]:
    """Return a first sync of a new pair of storages; `values` are stored in the source before."""
    source, target = make(), make()
    if values is not None:
        workload.fill(source, values)
    return partial(kvsync.sync, source, target, changes=changes)


def copied(make: Make, values: dict[str, bytes], *, stored: bool) -> Callable[[], object]:
    """Return what a program without kvsync does instead."""
    source, target = make(), make()
    if stored:
        workload.fill(source, values)

    def work() -> None:
        if not stored:
            workload.fill(source, values)
        workload.copy(source, target, list(values))

    return work


def check_first(make: Make, changes: list[Put], values: dict[str, bytes], *, stored: bool) -> None:
    """See that one sync leaves both sides with all values, and a second has nothing to do."""
    source, target = make(), make()
    if stored:
        workload.fill(source, values)
    result = kvsync.sync(source, target, changes=changes)
    assert (result.pushed, result.pulled) == (len(values), 0)
    expected = list(values.values())
    assert workload.contents(source, list(values)) == expected
    assert workload.contents(target, list(values)) == expected
    again = kvsync.sync(source, target)
    assert (again.pushed, again.pulled) == (0, 0)


@pytest.mark.parametrize("stored", [False, True], ids=["given", "stored"])
def test_first_sync(report: Report, kind: str, make: Make, *, stored: bool) -> None:
    """Time the first sync, with the values given in the call, or stored in the source already.

    Values stored already have to be read once more for their digests; that is shown, and has no bar.
    """
    values = workload.values(KEYS)
    changes = [Put(key) for key in values] if stored else workload.puts(values)
    check_first(make, changes, values, stored=stored)
    timings = in_turn_prepared(
        {
            "ours": partial(synced, make, changes, values if stored else None),
            "bare copy": partial(copied, make, values, stored=stored),
        },
        ROUNDS[kind],
    )
    bar = MICROSECONDS_BAR if kind == "dict" else COPY_BAR
    work = f"first sync of {KEYS:,}, values {'stored already' if stored else 'given'}"
    tell(report, kind, work, timings, KEYS, bar if FULL and not stored else None)


# ------------------------------------------------------------------------------------------------ re-sync


class Pair:
    """Two storages that were equal, in which each round changes some keys on each side."""

    def __init__(self, make: Make, keys: int, changed: int) -> None:
        self.values = workload.values(keys)
        self.source, self.target = make(), make()
        kvsync.sync(self.source, self.target, changes=workload.puts(self.values))
        self.bare_source, self.bare_target = make(), make()
        workload.fill(self.bare_source, self.values)
        workload.fill(self.bare_target, self.values)
        self.changed = changed
        self.round = 0

    def change(self) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Return new values for each side."""
        self.round += 1
        return (
            workload.picked(self.values, self.changed, part=2 * self.round, salt=f"source {self.round}"),
            workload.picked(self.values, self.changed, part=2 * self.round + 1, salt=f"target {self.round}"),
        )

    def resync(self) -> Callable[[], object]:
        """Commit changes on each side and return the sync of both."""
        on_source, on_target = self.change()
        kvsync.commit(self.source, workload.puts(on_source))
        kvsync.commit(self.target, workload.puts(on_target))
        return self.run

    def run(self) -> None:
        """Sync, and see that all of it was done."""
        result = kvsync.sync(self.source, self.target)
        assert (result.pushed, result.pulled) == (self.changed, self.changed)

    def recopy(self) -> Callable[[], object]:
        """Write changes on each side and return the bare copy of just those."""
        on_source, on_target = self.change()
        workload.fill(self.bare_source, on_source)
        workload.fill(self.bare_target, on_target)
        sources, targets = list(on_source), list(on_target)

        def work() -> None:
            workload.copy(self.bare_source, self.bare_target, sources)
            workload.copy(self.bare_target, self.bare_source, targets)

        return work

    def check(self) -> None:
        """See that a round of ours and of the bare copy leaves equal sides."""
        for prepare, one, two in (
            (self.resync, self.source, self.target),
            (self.recopy, self.bare_source, self.bare_target),
        ):
            prepare()()
            assert equal(one, two, list(self.values))


def equal(one: Storage, two: Storage, keys: list[str]) -> bool:
    """Tell whether two storages hold the same values."""
    return workload.contents(one, keys) == workload.contents(two, keys)


def test_resync(report: Report, kind: str, make: Make) -> None:
    """Time a sync after 1 % changed on each side."""
    changed = KEYS // 100
    pair = Pair(make, KEYS, changed)
    pair.check()
    timings = in_turn_prepared({"ours": pair.resync, "bare copy": pair.recopy}, 5)
    bar = MICROSECONDS_BAR if kind == "dict" else COPY_BAR
    tell(report, kind, f"{KEYS:,} keys, 1 % changed on each", timings, 2 * changed, bar if FULL else None)


def test_small_resync_of_sqlite(report: Report) -> None:
    """Time a sync of 100 changes on each side, whose bare copy is two durable transactions."""
    with workload.databases() as make:
        pair = Pair(make, SMALL_KEYS, SMALL)
        pair.check()
        timings = in_turn_prepared({"ours": pair.resync, "bare copy": pair.recopy}, SMALL_ROUNDS)
    work = f"{SMALL_KEYS:,} keys, {SMALL} changed on each"
    tell(report, "sqlite", work, timings, 2 * SMALL, SMALL_BAR if FULL else None)
