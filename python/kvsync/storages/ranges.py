"""Parts of an index object, read without the rest where the storage can do that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvsync.storages.contract import has_ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kvsync.storages.contract import Storage

__all__ = ["read_ranges"]

GAP_BYTES_MAX: Final = 16 << 10
"""Ranges with a smaller gap are read as one: a request costs more than these bytes."""

SPAN_BYTES_MAX: Final = 8 << 20
"""Joined ranges have at most so many bytes together."""


def read_ranges(storage: Storage, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes] | None:
    """Return the bytes of ranges of an index object, each given as (offset, length); None where it is absent.

    A range is cut at the end of the object.
    """
    if not has_ranges(storage):
        there = storage.load(name)
        return None if there is None else [there.data[offset : offset + length] for offset, length in ranges]
    spans = list(_joined(sorted(ranges)))
    read = storage.load_ranges(name, spans)
    if read is None:
        return None
    if spans == list(ranges):
        return read
    found = dict(_cut(spans, read, sorted(ranges)))
    return [found[wanted] for wanted in ranges]


def _joined(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield ascending ranges as spans, those joined that are near each other."""
    start = stop = -1
    for offset, length in ranges:
        is_near = start >= 0 and offset - stop <= GAP_BYTES_MAX and offset + length - start <= SPAN_BYTES_MAX
        if not is_near and start >= 0:
            yield start, stop - start
        start = start if is_near else offset
        stop = max(stop, offset + length) if is_near else offset + length
    if start >= 0:
        yield start, stop - start


def _cut(
    spans: Sequence[tuple[int, int]], read: Sequence[bytes], ranges: Iterable[tuple[int, int]]
) -> Iterator[tuple[tuple[int, int], bytes]]:
    """Yield each of some ascending ranges with its part of the spans that were read."""
    place = 0
    for offset, length in ranges:
        while offset + length > sum(spans[place]):
            place += 1
        at = offset - spans[place][0]
        yield (offset, length), read[place][at : at + length]
