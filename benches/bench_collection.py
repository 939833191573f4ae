"""Deletes do not pile up: what the index weighs once they are collected, and a pair through three years of runs."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from functools import partial

import kvsync
from kvsync import Delete, Put
from kvsync.environment import Environment
from kvsync.replica.log import Log
from kvsync.storages.mapping import MappingStorage
from measure import FULL, Line, Report

DELETES = 1_000_000 if FULL else 20_000
LIVE = 100_000 if FULL else 5_000
RUNS = 10_000 if FULL else 1_000
PARTS = 10
DAY_SECONDS = 86_400.0
YEARS = 3
SIZE_BAR = 1.05
GROWTH_BAR = 1.25
START = 1_700_000_000.0


@dataclass
class Clock:
    """Time that passes only when told to."""

    now: float = START
    environment: Environment = field(init=False)

    def __post_init__(self) -> None:
        self.environment = Environment(
            clock=lambda: self.now,
            monotonic=lambda: self.now,
            sleep=lambda _: None,
            random=random.Random(1),
        )


def index_bytes(storage: dict[str, bytes]) -> int:
    """Return how many bytes the log takes: the manifest, and the segments that it lists outside of it."""
    manifest = Log.read(MappingStorage(storage), Environment(), dry=True).manifest
    apart = sum(entry.size for entry in manifest.segments if entry.inline is None)
    return len(storage[".kvsync/manifest"]) + apart


def after_deletes(deletes: int) -> int:
    """Return the size of an index once some deletes are collected that all replicas have."""
    clock = Clock()
    a: dict[str, bytes] = {}
    b: dict[str, bytes] = {}
    sync = partial(kvsync.sync, environment=clock.environment)
    sync(a, b, [Put(f"live/{i:07}", b"%d" % i) for i in range(LIVE)])
    sync(a, b, [Put(f"gone/{i:07}", b"%d" % i) for i in range(deletes)])
    sync(a, b, [Delete(f"gone/{i:07}") for i in range(deletes)])
    for week in range(8):
        clock.now += 7 * DAY_SECONDS
        sync(a, b, [Put("week", b"%d" % week)])
        sync(b, a, [Put("week", b"%d again" % week)])
    assert not [change for change in kvsync.log(a) if change.deletes]
    kvsync.compact(a, environment=clock.environment)
    return index_bytes(a)


def test_collected_deletes_weigh_nothing(report: Report) -> None:
    """An index that forgot its deletes is as large as one that never had them."""
    never, with_deletes = after_deletes(0), after_deletes(DELETES)
    case = f"{DELETES:,} deletes, {LIVE:,} values left"
    report.add(Line("collection", case, "index / one that never had them", with_deletes / never, "x", SIZE_BAR))


def test_three_years_of_deletes(report: Report) -> None:
    """A pair with steady deletes: neither size nor time grows with its age."""
    clock, chance = Clock(), random.Random(2)
    a: dict[str, bytes] = {}
    b: dict[str, bytes] = {}
    keys: list[str] = []
    sizes, times = [], []
    for part in range(PARTS):
        spent = 0.0
        for run in range(RUNS // PARTS):
            clock.now += YEARS * 365 * DAY_SECONDS / RUNS
            new = [f"{part}/{run}/{i}" for i in range(5)]
            gone = [keys.pop(chance.randrange(len(keys))) for _ in range(5)] if len(keys) > 500 else []
            keys += new
            changes: list[Put | Delete] = [*(Put(key, b"1") for key in new), *map(Delete, gone)]
            source, target = chance.choice(((a, b), (b, a)))
            started = time.perf_counter()
            kvsync.sync(source, target, changes, environment=clock.environment)
            spent += time.perf_counter() - started
        sizes.append(index_bytes(a))
        times.append(spent / (RUNS // PARTS))
    case = f"{RUNS:,} runs in {YEARS} years"
    add = partial(Line, "collection", case)
    for number, (size, seconds) in enumerate(zip(sizes, times, strict=True), 1):
        report.add(add(f"index after part {number} of {PARTS}", size / 1000, "kB"))
        report.add(add(f"a run in part {number}", seconds * 1000, "ms"))
    half = PARTS // 2
    report.add(add("index, at most: second half / first", max(sizes[half:]) / max(sizes[:half]), "x", GROWTH_BAR))
    report.add(add("time, at least: second half / first", min(times[half:]) / min(times[1:half]), "x", GROWTH_BAR))
