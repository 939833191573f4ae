"""One process with many pairs, and one run with many conflicts: what must not grow with their number."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import kvsync
import workload
from kvsync import Put
from measure import FULL, Line, Report, in_turn_prepared

if TYPE_CHECKING:
    from collections.abc import Callable

FEW, MANY = 8, 200
PAIRS_BAR = 1.3
ROUNDS = 15 if FULL else 3
RUNS = 400
"""Runs timed together, the same number over few pairs and over many."""

CONFLICTS = 5_000 if FULL else 500
CONFLICT_ROUNDS = 7 if FULL else 2
CONFLICT_BAR = 15.0
DICT_CONFLICTS = 50_000 if FULL else 2_000
DICT_CONFLICT_BAR = 8.0


class Pairs:
    """Many pairs of dicts in sync, used in turn."""

    def __init__(self, count: int) -> None:
        self.pairs: list[tuple[dict[str, bytes], dict[str, bytes]]] = [({}, {}) for _ in range(count)]
        for one, two in self.pairs:
            kvsync.sync(one, two, changes=workload.puts(workload.values(100)))
        self.serial = 0

    def idle(self) -> Callable[[], object]:
        """Return runs with nothing to do."""

        def work() -> None:
            for i in range(RUNS):
                kvsync.sync(*self.pairs[i % len(self.pairs)])

        return work

    def changed(self) -> Callable[[], object]:
        """Return runs that push one change each."""
        self.serial += 1

        def work() -> None:
            for i in range(RUNS):
                put = Put(f"user/{i % 100:08d}/state", b"%d of %d" % (i, self.serial))
                kvsync.sync(*self.pairs[i % len(self.pairs)], changes=[put])

        return work


def test_many_pairs_in_one_process(report: Report) -> None:
    """Compare a run among 8 pairs with one among 200: what a process remembers must hold them all."""
    few, many = Pairs(FEW), Pairs(MANY)
    makers = {
        "idle, few": few.idle,
        "idle, many": many.idle,
        "changed, few": few.changed,
        "changed, many": many.changed,
    }
    found = in_turn_prepared(makers, ROUNDS)
    add = partial(Line, "process", f"{MANY} pairs of dicts, beside {FEW}")
    for kind, what in (("idle", "nothing to do"), ("changed", "one change")):
        few_of, many_of = found[f"{kind}, few"], found[f"{kind}, many"]
        report.add(add(f"{what}, many / few", many_of.best / few_of.best, "x", PAIRS_BAR))
        report.add(add(f"{what}, many / few, median", many_of.median / few_of.median, "x"))
        report.add(add(f"{what}, a run among many", 1e6 * many_of.best / RUNS, "us"))


def test_many_conflicts_on_sqlite(report: Report) -> None:
    """Compare conflicts decided and losers kept with plain puts of as many keys by a bare client."""
    with workload.databases() as make:
        store = workload.values(CONFLICTS)
        serial = iter(range(10**6))

        def conflicts() -> Callable[[], object]:
            source, target = make(), make()
            kvsync.sync(source, target, changes=workload.puts(store))
            for side, storage in enumerate((source, target)):
                fresh = workload.values(CONFLICTS, salt=f"{next(serial)} {side}")
                kvsync.commit(storage, workload.puts(fresh))

            def work() -> None:
                result = kvsync.sync(source, target)
                assert len(result.conflicts) == CONFLICTS
                assert all(conflict.lost_as for conflict in result.conflicts)

            return work

        def bare() -> Callable[[], object]:
            storage = make()
            workload.fill(storage, store)
            return partial(workload.fill, storage, workload.values(CONFLICTS, salt=str(next(serial))))

        found = in_turn_prepared({"ours": conflicts, "bare": bare}, CONFLICT_ROUNDS)
    add = partial(Line, "process", f"sqlite, {CONFLICTS:,} conflicts, losers kept")
    report.add(add("a conflict / a plain put", found["ours"].best / found["bare"].best, "x", CONFLICT_BAR))
    report.add(add("median", found["ours"].median / found["bare"].median, "x"))
    report.add(add("a conflict", 1e6 * found["ours"].best / CONFLICTS, "us"))


def test_many_conflicts_on_dicts(report: Report) -> None:
    """Compare a run of conflicts, losers kept, with one of as many given puts."""
    store = workload.values(DICT_CONFLICTS)
    serial = iter(range(10**6))

    def pair() -> tuple[dict[str, bytes], dict[str, bytes]]:
        source: dict[str, bytes] = {}
        target: dict[str, bytes] = {}
        kvsync.sync(source, target, changes=workload.puts(store))
        return source, target

    def fresh() -> list[Put]:
        return workload.puts(workload.values(DICT_CONFLICTS, salt=str(next(serial))))

    def conflicts() -> Callable[[], kvsync.SyncResult]:
        source, target = pair()
        kvsync.commit(source, fresh())
        kvsync.commit(target, fresh())
        return partial(kvsync.sync, source, target)

    def puts() -> Callable[[], object]:
        return partial(kvsync.sync, *pair(), changes=fresh())

    assert len(conflicts()().conflicts) == DICT_CONFLICTS
    found = in_turn_prepared({"ours": conflicts, "puts": puts}, CONFLICT_ROUNDS)
    add = partial(Line, "process", f"dict, {DICT_CONFLICTS:,} conflicts, losers kept")
    bar = DICT_CONFLICT_BAR if FULL else None
    report.add(add("a conflict / a given put", found["ours"].best / found["puts"].best, "x", bar))
    report.add(add("median", found["ours"].median / found["puts"].median, "x"))
    report.add(add("a conflict", 1e6 * found["ours"].best / DICT_CONFLICTS, "us"))
