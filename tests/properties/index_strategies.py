"""What the property tests draw: keys, changes, segments, covers and histories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from hypothesis import strategies as st

import reference
from kvsync import _core
from kvsync.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

U64_MAX = 2**64 - 1
DIGESTS = (b"\x01" * 32, b"\x02" * 32, bytes(31) + b"\x01")
Vector: TypeAlias = dict[int, int]


def is_reserved(key: str) -> bool:
    """Tell whether a key is kvsync's own, so that no segment is made with it."""
    try:
        _core.check_key(key)
    except UsageError:
        return True
    return False


# U+FFFF sorts before U+10000 in UTF-8 and after it in UTF-16; the first two are one letter in NFC and NFD.
any_keys = st.one_of(
    st.sampled_from(["a", "a/b", "a\0", "\u00e9", "e\u0301", "\uffff", "\U00010000", "\U0010ffff", "b"]),
    st.text(max_size=12),
    st.text(alphabet="ab", min_size=1, max_size=300),
)
keys = any_keys.filter(lambda key: not is_reserved(key))
origins = st.one_of(st.integers(1, 4), st.sampled_from([255, 256, U64_MAX]), st.integers(1, U64_MAX))
stamps = st.one_of(
    st.integers(0, 5),
    st.sampled_from([255, 256, 2**16, 2**32 - 1, 2**32, U64_MAX]),
    st.integers(1_700_000_000_000 << 16, 1_700_000_001_000 << 16),
    st.integers(0, U64_MAX),
)
sizes = st.one_of(st.integers(0, 300), st.sampled_from([2**16, 2**32, U64_MAX]))
times = st.one_of(st.integers(1, 3), st.sampled_from([255, 256, 2**32, U64_MAX]), st.integers(1, 1_900_000_000_000))
any_times = st.one_of(st.just(0), times)
digests = st.one_of(st.sampled_from(DIGESTS), st.binary(min_size=32, max_size=32))
flags = st.integers(0, 7)
stored = st.dictionaries(keys, st.one_of(st.none(), st.binary(max_size=50)), max_size=8)
notes = st.one_of(st.just(b""), st.binary(max_size=300))
names = st.one_of(st.just("segment/0000000000000001-0"), st.text(max_size=40))


def row(key: str, origin: int, stamp: int, flag: int, size: int, digest: bytes, expires: int) -> reference.Row:
    """Return a row that obeys the rule about tombstones."""
    if flag & reference.TOMBSTONE:
        size, digest, expires = 0, reference.NO_DIGEST, 0
    return (key, origin, stamp, flag, size, digest, expires)


def segments_of(
    make: Callable[..., reference.Row], *parts: st.SearchStrategy[Any], times: st.SearchStrategy[int], max_size: int
) -> st.SearchStrategy[reference.Segment]:
    """Draw segments of made changes: in most none of the values expires, in others some do, or all."""

    def draw(expires: st.SearchStrategy[int]) -> st.SearchStrategy[reference.Segment]:
        changes = st.builds(make, *parts, expires)
        return st.lists(changes, unique_by=lambda row: row[0], max_size=max_size).map(sorted)

    never = st.just(0)
    return st.sampled_from([never, never, st.one_of(never, times), times]).flatmap(draw)


rows = st.builds(row, keys, origins, stamps, flags, sizes, digests, any_times)
segments = segments_of(row, keys, origins, stamps, flags, sizes, digests, times=times, max_size=12)


def change(key: str, origin: int, stamp: int, flag: int, which: int, expires: int) -> reference.Row:
    """Return a change of a small world, where equal order means the same change."""
    decided = reference.DECISION if (origin + stamp) % 3 == 0 else 0
    inexact = reference.INEXACT if (origin + stamp) % 4 == 1 else 0
    return row(key, origin, stamp, flag | decided | inexact, 10 * which, DIGESTS[which], expires)


# A small world, so that keys, stamps and digests meet again and again.
small_stamps = st.integers(1, 9)
small_origins = st.integers(1, 3)
small_keys = st.sampled_from(["a", "a/b", "b", "\u00e9", "\uffff", "\U00010000"])
small_times = st.integers(1, 2)
small_segments = segments_of(
    change,
    small_keys,
    small_origins,
    small_stamps,
    st.integers(0, 1),
    st.integers(0, 2),
    times=small_times,
    max_size=6,
)
# What only a faulty replica makes: changes with the same origin and stamp that differ in all else.
faulty_segments = segments_of(
    row,
    small_keys,
    st.just(1),
    st.integers(1, 2),
    flags,
    st.integers(0, 2),
    st.sampled_from(DIGESTS[:2]),
    times=small_times,
    max_size=6,
)
logs = st.lists(small_segments, min_size=1, max_size=4)

vectors = st.dictionaries(small_origins, small_stamps, max_size=3)


def span(origin: int, first: int, length: int) -> reference.Span:
    """Return a span of stamps."""
    return (origin, first, min(first + length, U64_MAX))


spans = st.builds(span, small_origins, st.integers(1, 12), st.integers(0, 3))
covers = st.tuples(vectors, st.lists(spans, max_size=4))
wide_spans = st.builds(span, origins, stamps, st.integers(0, 300))
wide_covers = st.tuples(st.dictionaries(origins, stamps, max_size=4), st.lists(wide_spans, max_size=5))

# Token and digest: any token, the digest itself, or none of both, since the key is gone.
entries = st.one_of(
    st.tuples(st.binary(max_size=5), digests), digests.map(lambda digest: (digest, digest)), st.just((b"", None))
)
listings = st.dictionaries(keys, entries, max_size=10).map(lambda seen: dict(sorted(seen.items())))
