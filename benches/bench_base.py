"""A large log in blocks: what of it is read where two are compared in full, and what small runs write.

Two replicas of one history differ in a few keys. Where version vectors cannot be relied on, as after a restore, all of
both logs is compared. The blocks that differ are read; whole segments would be read whole.
"""

from __future__ import annotations

import random
import statistics
from functools import partial
from typing import TYPE_CHECKING

import kvsync
import workload
from kvsync import Put
from kvsync.environment import Environment
from kvsync.native import Cover, Segment, delta
from kvsync.replica.log import Log
from kvsync.replica.session import session
from kvsync.run.delta import calculate
from kvsync.run.lock import opened
from kvsync.run.pull import pull
from kvsync.storages.mapping import MappingStorage
from kvsync.testing import CountingStorage
from measure import FULL, Line, Report, in_turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.native import Delta

KEYS = 1_000_000 if FULL else 50_000
DIFFERENT = 100
ROUNDS = 15
READ_BAR = 3e6
RANGES_BAR = 120
TIME_BAR = 20.0
RUNS = 1_000 if FULL else 50
MEAN_BAR = 0.25e6
WORST_BAR = 8e6
START_MS = 1_790_000_000_000
NOTHING = Cover(), Cover()


def keys(count: int, chance: random.Random) -> list[str]:
    """Return keys of 20 to 40 bytes, ascending."""
    numbers = sorted(chance.sample(range(10**12), count))
    return [f"user/{number:012d}/" + "x" * (2 + number % 21) for number in numbers]


def log_changes(data: dict[str, bytes], names: Sequence[str], stamp: int, chance: random.Random) -> None:
    """Log new values of some keys, with consecutive stamps; the values themselves are not stored."""
    log = Log.read(MappingStorage(data), Environment())
    origin = log.manifest.replica
    rows = [(key, origin, stamp + number, 0, 100, chance.randbytes(32), 0) for number, key in enumerate(names)]
    segment = Segment.from_rows(rows)
    log.write(segment, log.manifest.knowledge.commit(segment, replica=origin, mark=stamp))


def pair() -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return two logs of one history, each of which has gone on with half of the differences."""
    chance = random.Random(20)
    names = keys(KEYS, chance)
    one: dict[str, bytes] = {}
    log_changes(one, names, START_MS << 16, chance)
    other = dict(one)
    for number, data in enumerate((one, other), 1):
        changed = sorted(chance.sample(names, DIFFERENT // 2))
        log_changes(data, changed, START_MS + number * 1000 << 16, chance)
    return one, other


def compared(storages: Sequence[CountingStorage]) -> Delta:
    """Pull and compare as a run does where a history is in doubt, in a process that knows neither storage."""
    session.clear()
    doubted = opened(storages, Environment())._replace(in_doubt=True)
    return calculate(doubted, pull(doubted))


def test_full_comparison(report: Report) -> None:
    """Compare two logs in full, beside the same logs as whole segments."""
    logs = pair()
    storages = [CountingStorage(MappingStorage(data)) for data in logs]
    found = compared(storages)
    read = [storage.object_bytes["load"] + storage.object_bytes["load_ranges"] for storage in storages]
    ranges = [storage.keys["load_ranges"] for storage in storages]
    whole = [Segment.merge(Log.read(storage, Environment(), dry=True).all_segments()) for storage in storages]
    expected = delta(whole[:1], whole[1:], *NOTHING)
    assert found.conflicts == expected.conflicts
    assert len(found.conflicts) + len(found.to_a) + len(found.to_b) >= DIFFERENT - 5
    name = "segment/0000000000000001-0"
    objects = [segment.encode(name) for segment in whole]

    def plain() -> Delta:
        decoded = Segment.decode_all([(data, name) for data in objects])
        return delta(decoded[:1], decoded[1:], *NOTHING)

    times = in_turn({"blocks": partial(compared, storages), "whole": plain}, ROUNDS)
    add = partial(Line, "base", f"one history, {KEYS:,} keys, {DIFFERENT} differ")
    report.add(add("index bytes read, a side", max(read), "bytes", READ_BAR))
    report.add(add("the same of whole segments", max(map(len, objects)), "bytes"))
    report.add(add("ranges, a side", max(ranges), "ranges", RANGES_BAR))
    report.add(add("time, dict to dict", 1e3 * times["blocks"].best, "ms", TIME_BAR))
    report.add(add("the processor's time", 1e3 * times["blocks"].cpu, "ms"))
    report.add(add("whole segments, processor's time", 1e3 * times["whole"].cpu, "ms"))


def test_what_scattered_changes_write(report: Report) -> None:
    """Weigh what runs store of the log, each of which changes some keys anywhere; the mean has all that is merged."""
    chance = random.Random(21)
    names = keys(KEYS, chance)
    source, target = workload.new_dict(), workload.new_dict()
    kvsync.sync(source, target, changes=[Put(key, b"0") for key in names])
    stored: list[float] = []
    for run in range(RUNS):
        changes = [Put(key, b"%d" % run) for key in chance.sample(names, DIFFERENT)]
        result = kvsync.sync(source, target, changes=changes)
        stored.append(max(counter["store_bytes"] for counter in result.operations.values()))
    add = partial(Line, "base", f"{RUNS:,} runs of {DIFFERENT} scattered changes in {KEYS:,}")
    report.add(add("index bytes that a side stores, mean", statistics.fmean(stored), "bytes", MEAN_BAR))
    report.add(add("the same, worst run", max(stored), "bytes", WORST_BAR))
    report.add(add("the same, median", statistics.median(stored), "bytes"))
    assert Log.read(source, Environment(), dry=True).all_layers().base is not None
