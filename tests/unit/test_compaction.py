"""Which segments are merged: few stay, each change is rewritten seldom, and who is a little behind reads little."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import pytest

from kvsync.index.compaction import (
    FANOUT,
    INLINE_BYTES_MAX,
    SMALL_LOG_BYTES_MAX,
    TAIL_BYTES_MAX,
    TAIL_BYTES_MIN,
    TAIL_GROWTH,
    merges,
    overflow,
    tail_bytes_max,
)
from kvsync.index.manifest import SegmentEntry


def entry(count: int, size: int | None = None, *, inline: bool = False) -> SegmentEntry:
    size = count * 60 if size is None else size
    return SegmentEntry(f"segment/{count}", (), count, (), 0, size, 0, bytes(size) if inline else None)


@dataclass
class Log:
    """Segments by count only, merged as the rules say."""

    entries: list[SegmentEntry]
    rewritten: int = 0
    most: int = 0

    def append(self, count: int) -> None:
        self.entries.append(entry(count))
        while (span := merges(self.entries)) is not None:
            start, stop = span
            total = sum(e.length for e in self.entries[start:stop])
            self.rewritten += total
            self.entries[start:stop] = [entry(total)]
        self.most = max(self.most, len(self.entries))


def test_few_segments_are_left_alone() -> None:
    for count in range(2 * FANOUT):
        assert merges([entry(1)] * count) is None
    assert merges([entry(1)] * (2 * FANOUT)) == (0, FANOUT)


def test_the_oldest_of_a_tier_are_merged() -> None:
    entries = [entry(1000), *[entry(1)] * (2 * FANOUT)]
    assert merges(entries) == (1, 1 + FANOUT)


@pytest.mark.parametrize("sizes", ["ones", "hundreds", "mixed", "rising", "falling"])
def test_segments_grow_with_the_logarithm(sizes: str) -> None:
    chance = random.Random(sizes)
    log = Log([])
    total = 0
    for i in range(4000):
        count = {
            "ones": 1,
            "hundreds": 100,
            "mixed": int(chance.paretovariate(0.7)) % 5000 + 1,
            "rising": i + 1,
            "falling": 4000 - i,
        }[sizes]
        total += count
        log.append(count)
    tiers = math.log(total, FANOUT) + 1
    assert sum(e.length for e in log.entries) == total
    assert log.most <= 2 * FANOUT * tiers
    assert log.rewritten <= total * tiers


@pytest.mark.parametrize("base", [0, 100_000])
def test_who_is_a_little_behind_reads_little(base: int) -> None:
    """For every d, the segments with the last d changes hold O(d) changes together."""
    log = Log([entry(base)] if base else [])
    for runs in range(1, 3000):
        log.append(1)
        if runs % 97:
            continue
        for behind in (1, 5, 20, 100, 500, runs):
            if behind > runs:
                continue
            read = newest = 0
            for e in reversed(log.entries):
                if newest >= behind:
                    break
                newest += e.length
                read += e.length
            assert read <= 6 * behind + 2 * FANOUT


def test_a_small_segment_below_a_large_one_is_merged_in_the_end() -> None:
    log = Log([entry(1), entry(5000)])
    for _ in range(40):
        log.append(5000)
    assert log.entries[0].length > 1


def test_overflow_moves_the_oldest_inline_segments_out() -> None:
    size = INLINE_BYTES_MAX
    fits = [entry(1, size, inline=True)] * (TAIL_BYTES_MAX // size)
    assert overflow(fits) is None
    assert overflow([]) is None
    over = [entry(1000), *fits, entry(1, size, inline=True)]
    span = overflow(over)
    assert span is not None
    start, stop = span
    assert start == 1
    left = sum(e.size for e in over[stop:] if e.inline is not None)
    assert left <= TAIL_BYTES_MAX // 2
    assert stop < len(over)


@pytest.mark.parametrize("seed", range(20))
def test_merging_ends(seed: int) -> None:
    """Any list of segments comes to rest, with every change still there."""
    chance = random.Random(seed)
    entries = [entry(chance.choice([0, 1, 3, 50, 10_000])) for _ in range(chance.randrange(200))]
    total = sum(e.length for e in entries)
    for _ in range(1000):
        span = merges(entries)
        if span is None:
            break
        start, stop = span
        assert 0 <= start < stop <= len(entries)
        entries[start:stop] = [entry(sum(e.length for e in entries[start:stop]))]
    assert merges(entries) is None
    assert sum(e.length for e in entries) == total


def test_inline_segments_take_a_few_times_the_newest() -> None:
    old = entry(1000)
    assert tail_bytes_max([old, entry(1, 10)]) == TAIL_BYTES_MIN
    assert tail_bytes_max([old, entry(1, TAIL_BYTES_MIN)]) == TAIL_GROWTH * TAIL_BYTES_MIN
    for size in (INLINE_BYTES_MAX, 1 << 30):
        assert tail_bytes_max([old, entry(1, size)]) == TAIL_BYTES_MAX
    # Large ones stay as long as what is new is large; the first small one moves them out.
    large = [old, *[entry(1, 3000, inline=True)] * 4]
    assert overflow(large) is None
    assert overflow([*large, entry(1, 100, inline=True)]) == (1, 5)


def test_a_small_log_stays_in_the_manifest_as_a_whole() -> None:
    small = [entry(1, 100, inline=True)] * (SMALL_LOG_BYTES_MAX // 100)
    assert overflow(small) is None
    assert overflow([*small, entry(1, 100, inline=True)]) is not None
    assert overflow([entry(1000), *small]) is not None


def test_overflow_leaves_the_newest_segment() -> None:
    """Whoever reads the manifest next needs it."""
    chance = random.Random(3)
    for _ in range(2000):
        entries = [
            entry(1, chance.randint(1, INLINE_BYTES_MAX), inline=chance.random() < 0.8)
            for _ in range(chance.randrange(1, 12))
        ]
        if (span := overflow(entries)) is not None:
            start, stop = span
            assert entries[start].inline is not None
            newest = max(i for i, each in enumerate(entries) if each.inline is not None)
            assert stop <= newest or newest < len(entries) - 1
            left = sum(each.size for each in entries[stop:] if each.inline is not None)
            assert left <= tail_bytes_max(entries) // 2
