"""Which adjacent segments to merge, so that a log stays short and a peer that is a little behind reads little.

Size-tiered: a segment's tier is the logarithm of its count to the base `FANOUT`. Once a tier has `2 * FANOUT`
segments, its oldest `FANOUT` become one. The newest `FANOUT` stay apart, so that a merged segment always
has newer changes of about its own number after it: who is d changes behind reads O(d), not the merged whole.
Each change is rewritten once a tier; the number of segments grows with the logarithm of the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.index.manifest import SegmentEntry

__all__ = ["INLINE_BYTES_MAX", "merges", "overflow", "tail_bytes_max"]

FANOUT_BITS = 2
FANOUT = 1 << FANOUT_BITS

INLINE_BYTES_MAX = 16 << 10
"""A new segment up to this size lives in the manifest, which is read anyway."""

TAIL_BYTES_MIN = 4 << 10
TAIL_BYTES_MAX = 2 * INLINE_BYTES_MAX
TAIL_GROWTH = 4
"""Inline segments are written again in each run, so together they may take a few times the newest of them: then what a
run writes depends on what it changes. Less would move segments out in nearly every run, which takes requests."""

SMALL_LOG_BYTES_MAX = 16 << 10
"""A log of up to this size lives in the manifest as a whole: all of it is at hand, in any process."""


def merges(entries: Sequence[SegmentEntry]) -> tuple[int, int] | None:
    """Return the next run (start, stop) of `entries`, oldest to newest, that should become one segment, or None."""
    stop = start = len(entries)
    if stop < 2 * FANOUT:
        return None
    bound = 0  # the first count that is of a higher tier
    for i in range(stop - 1, -1, -1):
        # An old small segment below a large newer one counts as large, or it would stay for ever.
        length = entries[i].length
        if length >= bound:
            if stop - start >= 2 * FANOUT:
                return start, start + FANOUT
            if i + 1 < 2 * FANOUT:
                return None
            bound, stop = FANOUT << _tier(length) * FANOUT_BITS, i + 1
        start = i
    return (start, start + FANOUT) if stop - start >= 2 * FANOUT else None


def tail_bytes_max(entries: Sequence[SegmentEntry]) -> int:
    """Return how much of the manifest inline segments may fill together."""
    is_small = all(entry.inline is not None for entry in entries)
    least = SMALL_LOG_BYTES_MAX if is_small else TAIL_BYTES_MIN
    return min(max(TAIL_GROWTH * entries[-1].size, least), TAIL_BYTES_MAX)


def overflow(entries: Sequence[SegmentEntry]) -> tuple[int, int] | None:
    """Return the oldest inline segments to move out of the manifest as one, or None while they fit.

    The newest stays.
    """
    inside = [0 if entry.inline is None else entry.size for entry in entries]
    total = sum(inside)
    if total <= TAIL_BYTES_MIN or total <= (most := tail_bytes_max(entries)):
        return None
    start = stop = next(i for i, size in enumerate(inside) if size)
    while total > most // 2:
        total -= inside[stop]
        stop += 1
    return start, stop


def _tier(count: int) -> int:
    """Return the logarithm of `count` to the base FANOUT, rounded down."""
    return (max(count, 1).bit_length() - 1) // FANOUT_BITS
