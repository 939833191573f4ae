"""What a sync costs depends on what changed, not on how much there is.

100 changes among a thousand keys and among a million: the same operations, about the same bytes and time.
"""

from __future__ import annotations

import random
import statistics
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import kvsync
import workload
from kvsync import Put
from measure import FULL, Line, Report, Timing, in_turn_prepared
from workload import Make, WeighedStorage

if TYPE_CHECKING:
    from collections.abc import Callable

FEW = 1_000
MANY = 1_000_000 if FULL else 50_000
CHANGES = 100
ROUNDS = 9
SQLITE_ROUNDS = 60  # a disk's moods outlast a few rounds
BYTES_BAR = 1.3
TIME_BAR = 1.5
GROWTH_BAR = 1.0
TINY_RUNS = 1_000 if FULL else 100
TINY_CHANGES = 10
TINY_VALUE_BYTES = 60
TINY_BAR = 16_000


@dataclass(frozen=True)
class Cost:
    """What the index cost in one run."""

    operations: dict[str, Counter[str]]
    index_bytes: int


class Pair:
    """Two storages in sync, whose source changes 100 keys before each run."""

    def __init__(self, make: Make, keys: int) -> None:
        self.values = workload.values(keys)
        self.source, self.target = make(), make()
        kvsync.sync(self.source, self.target, changes=workload.puts(self.values))
        self.bare_source, self.bare_target = make(), make()
        workload.fill(self.bare_source, self.values)
        workload.fill(self.bare_target, self.values)
        self.round = 0

    def changes(self) -> dict[str, bytes]:
        """Return new values for 100 keys; every tenth round comes back to the same ones."""
        self.round += 1
        return workload.picked(self.values, CHANGES, part=self.round, salt=str(self.round))

    def sync(self) -> Callable[[], object]:
        """Return the run that commits and pushes 100 changes."""
        return partial(kvsync.sync, self.source, self.target, changes=workload.puts(self.changes()))

    def copy(self) -> Callable[[], object]:
        """Return what a program without kvsync does for the same 100 changes."""
        changes = self.changes()

        def work() -> None:
            workload.fill(self.bare_source, changes)
            workload.copy(self.bare_source, self.bare_target, list(changes))

        return work

    def cost(self) -> Cost:
        """Run once over storages that weigh what they are asked for."""
        source, target = WeighedStorage(self.source), WeighedStorage(self.target)
        result = kvsync.sync(source, target, changes=workload.puts(self.changes()))
        assert (result.pushed, result.pulled) == (CHANGES, 0)
        assert workload.contents(self.source, list(self.values)) == workload.contents(self.target, list(self.values))
        return Cost(result.operations, source.index_bytes + target.index_bytes)


def counts(cost: Cost) -> dict[str, Counter[str]]:
    """Return how often each operation was called; bytes, which are counted beside them, are not calls."""
    return {
        side: Counter({name: times for name, times in counter.items() if not name.endswith("_bytes")})
        for side, counter in cost.operations.items()
    }


def test_operations_and_bytes(report: Report) -> None:
    """Compare what is asked of the storages, run by run, from the first after the initial copy on."""
    few, many = Pair(workload.new_dict, FEW), Pair(workload.new_dict, MANY)
    costs = [(few.cost(), many.cost()) for _ in range(ROUNDS)]
    work = f"dict, {CHANGES} changes in {FEW:,} and in {MANY:,}"
    differing = sum(counts(small) != counts(large) for small, large in costs)
    add = partial(Line, "flat", work)
    calls = sum(sum(counter.values()) for counter in counts(costs[0][1]).values())
    report.add(add("calls of the first run", calls, "calls"))
    report.add(add(f"runs of {ROUNDS} that differ in calls", differing, "runs", 0))
    ratios = [large.index_bytes / small.index_bytes for small, large in costs]
    report.add(add("index bytes, worst run", max(ratios), "x", BYTES_BAR))
    report.add(add("index bytes of a run", costs[0][1].index_bytes, "bytes"))


def test_what_tiny_runs_store(report: Report) -> None:
    """Weigh the index objects that runs of ten small values store, both sides together."""
    chance = random.Random(1)
    keys = [f"user/{i:08d}/state" for i in range(20_000)]
    source, target = workload.new_dict(), workload.new_dict()
    kvsync.sync(source, target, changes=[Put(key, chance.randbytes(TINY_VALUE_BYTES)) for key in keys])
    stored: list[int] = []
    for _ in range(TINY_RUNS):
        changes = [Put(key, chance.randbytes(TINY_VALUE_BYTES)) for key in chance.sample(keys, TINY_CHANGES)]
        result = kvsync.sync(source, target, changes=changes)
        stored.append(sum(counter["store_bytes"] for counter in result.operations.values()))
    add = partial(Line, "flat", f"dict, {TINY_RUNS:,} runs of {TINY_CHANGES} values of {TINY_VALUE_BYTES} bytes")
    report.add(add("index bytes that a run stores, median", statistics.median(stored), "bytes", TINY_BAR))
    report.add(add("the same, mean, with what is merged", statistics.fmean(stored), "bytes"))


def timings(few: Pair, many: Pair, rounds: int) -> dict[str, Timing]:
    """Time ours and the bare copy on both sizes in turn."""
    makers = {"few": few.sync, "many": many.sync, "few, bare": few.copy, "many, bare": many.copy}
    return in_turn_prepared(makers, rounds)


def test_time_on_dict(report: Report) -> None:
    """Compare the time of runs over dicts."""
    found = timings(Pair(workload.new_dict, FEW), Pair(workload.new_dict, MANY), 3 * ROUNDS)
    add = partial(Line, "flat", f"dict, {CHANGES} changes in {FEW:,} and in {MANY:,}")
    growth = found["many"].best / found["few"].best
    report.add(add("time of a run among many", 1e3 * found["many"].best, "ms"))
    report.add(add("time, many / few", growth, "x", TIME_BAR))
    report.add(add("time, many / few, median", found["many"].median / found["few"].median, "x"))


def test_time_on_sqlite(report: Report) -> None:
    """Compare how the time of runs over SQLite grows with how the bare copy's grows."""
    with workload.databases() as make:
        found = timings(Pair(make, FEW), Pair(make, MANY), SQLITE_ROUNDS)
    add = partial(Line, "flat", f"sqlite, {CHANGES} changes in {FEW:,} and in {MANY:,}")
    ours = found["many"].best / found["few"].best
    bare = found["many, bare"].best / found["few, bare"].best
    report.add(add("time of a run among many", 1e3 * found["many"].best, "ms"))
    report.add(add("time, many / few", ours, "x"))
    report.add(add("the bare copy's, many / few", bare, "x"))
    report.add(add("our growth / the bare copy's", ours / bare, "x", GROWTH_BAR))
    medians = {name: timing.median for name, timing in found.items()}
    ours = medians["many"] / medians["few"]
    bare = medians["many, bare"] / medians["few, bare"]
    report.add(add("our growth / the bare copy's, median", ours / bare, "x"))
