"""The pure-Python reference and the native core agree on every output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import index_strategies as some
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

import reference
from kvsync import _core
from kvsync.errors import IndexDamagedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


def native(rows: Sequence[reference.Row]) -> _core.Segment:
    """Return the core's segment of some rows."""
    return _core.Segment.from_rows(rows)


def rows_of(segment: _core.Segment) -> reference.Segment:
    """Return all rows of the core's segment."""
    return segment.rows(0, len(segment))


def native_cover(cover: tuple[some.Vector, list[reference.Span]]) -> _core.Cover:
    """Return the core's cover of a drawn vector and spans."""
    return _core.Cover(*cover)


def same_cover(found: _core.Cover, expected: reference.Cover) -> bool:
    """Tell whether the core's cover is what the reference says, in the same normal form."""
    return found.vector == expected.vector and tuple(found.exceptions) == expected.exceptions


# ------------------------------------------------------------------------------------ envelope, segment


@given(kind=st.integers(1, 5), body=st.binary(max_size=300), compress=st.booleans())
def test_envelopes_open_on_the_other_side(*, kind: int, body: bytes, compress: bool) -> None:
    ours, theirs = _core.seal(kind, body, compress), reference.seal(kind, body, compress=compress)
    assert compress or ours == theirs
    assert reference.unseal(kind, ours) == body == _core.unseal(kind, theirs)
    assert _core.checksum(ours) == int.from_bytes(ours[16:24], "little")


@given(some.segments, some.names, some.notes)
def test_a_segment_has_one_encoding(rows: reference.Segment, name: str, note: bytes) -> None:
    assert native(rows).encode(name) == reference.encode_segment(rows, name)
    assert native(rows).encode(name, note=note) == reference.encode_segment(rows, name, note)


@given(rows=some.segments, name=some.names, note=some.notes, compress=st.booleans())
def test_segments_are_read_by_the_other_side(
    *, rows: reference.Segment, name: str, note: bytes, compress: bool
) -> None:
    assert reference.decode_noted(native(rows).encode(name, compress, note), name) == (rows, note)
    read = _core.Segment.decode(reference.encode_segment(rows, name, note, compress=compress), name)
    assert (rows_of(read), read.note) == (rows, note)
    assert native(rows).note == b""


@given(some.segments, some.names, some.names)
def test_a_segment_knows_its_name(rows: reference.Segment, name: str, other: str) -> None:
    data = reference.encode_segment(rows, name)
    if name == other:
        assert rows_of(_core.Segment.decode(data, other)) == rows
    else:
        with pytest.raises(IndexDamagedError):
            _core.Segment.decode(data, other)


@given(some.segments)
def test_a_segment_tells_its_figures(rows: reference.Segment) -> None:
    segment = native(rows)
    assert len(segment) == len(rows)
    assert segment.maxima == reference.maxima(rows)
    assert segment.stamp_max == max((row[2] for row in rows), default=0)
    assert segment.tombstones == sum(row[3] & reference.TOMBSTONE for row in rows)
    assert segment.value_bytes == min(sum(row[4] for row in rows), some.U64_MAX)
    read = _core.Segment.decode(segment.encode("name"), "name")
    assert (read.maxima, read.stamp_max) == (segment.maxima, segment.stamp_max)
    assert (read.tombstones, read.value_bytes) == (segment.tombstones, segment.value_bytes)
    assert read.expiring == segment.expiring == sum(row[6] > 0 for row in rows)


@given(st.lists(some.rows, max_size=12))
def test_rows_come_in_any_order(rows: reference.Segment) -> None:
    assert rows_of(native(rows)) == reference.merge([[row] for row in rows])


@given(some.stored, some.origins, st.integers(0, 2**60), st.sampled_from([0, _core.DECISION]), st.data())
def test_a_segment_of_values(
    stored: dict[str, bytes | None], origin: int, stamp: int, flags: int, data: st.DataObject
) -> None:
    times = {key: data.draw(some.any_times) if value is not None else 0 for key, value in stored.items()}
    given = data.draw(st.booleans())
    expected = [
        (key, origin, stamp + step, flags, len(value), blake3(value).digest(), times[key] if given else 0)
        if value is not None
        else (key, origin, stamp + step, flags | reference.TOMBSTONE, 0, reference.NO_DIGEST, 0)
        for step, (key, value) in enumerate(sorted(stored.items()))
    ]
    expires = list(times.values()) if given else None
    segment = _core.Segment.from_values(list(stored), list(stored.values()), origin, stamp, flags, expires)
    assert rows_of(segment) == expected
    assert segment.encode("s") == reference.encode_segment(expected, "s")
    if not flags:
        assert rows_of(_core.Given(list(stored), list(stored.values()), origin, stamp, expires).segment) == expected
    puts = [stored[key] for key in segment.puts(0, len(segment))]
    assert segment.mismatches(0, len(segment), puts) == []
    wrong = [value + b"!" if value else None for value in puts if value is not None]
    assert segment.mismatches(0, len(segment), wrong) == list(range(len(wrong)))


@given(
    st.lists(st.tuples(some.keys, st.one_of(st.none(), st.binary(max_size=40)))),
    st.booleans(),
    st.booleans(),
    st.integers(1, 5),
    st.integers(0, 100),
)
def test_what_was_given_comes_apart_in_the_order_of_its_segment(
    pairs: list[tuple[str, bytes | None]], ascending: bool, lasting: bool, count_max: int, bytes_max: int
) -> None:
    pairs = sorted(dict(pairs).items()) if ascending else pairs
    keys, values = [key for key, _ in pairs], [value for _, value in pairs]
    times = [place + 1 if value is not None else 0 for place, value in enumerate(values)]
    kept = _core.Given(keys, values, 7, 1000, None if lasting else times)
    batches = kept.batches(count_max, bytes_max)
    parts = [kept.part(start, stop) for start, stop in batches]  # before there is a digest
    segment = kept.segment
    assert kept.segment is segment
    assert len(kept) == len(segment)
    assert batches == segment.batches(count_max, bytes_max)
    value_of, time_of = dict(pairs), dict(zip(keys, times, strict=True))
    for (start, stop), (puts, written, expires, deletes) in zip(batches, parts, strict=True):
        assert (puts, deletes) == (segment.puts(start, stop), segment.deletes(start, stop))
        assert written == [value_of[key] for key in puts]
        assert expires == (None if lasting else [time_of[key] for key in puts])
        assert kept.puts(segment, start, stop) == (puts, written)
    assert kept.part(len(kept), len(kept) + 1) == ([], [], None if lasting else [], [])


ASKED = st.tuples(st.sampled_from(["a", "b"]), st.booleans(), st.sampled_from([None, b"", b"note"]))


@given(some.segments, st.lists(ASKED, max_size=5))
def test_an_object_is_the_one_asked_for_whatever_was_asked_for_before(
    rows: reference.Segment, asked: list[tuple[str, bool, bytes | None]]
) -> None:
    segment = native(rows)
    for name, compress, note in asked:
        assert segment.encode(name, compress, note) == native(rows).encode(name, compress, note)


@given(some.segments, st.integers(1, 5), st.one_of(st.integers(0, 500), st.integers(0, 2**63)))
def test_batches_are_as_large_as_they_may_be(rows: reference.Segment, count_max: int, bytes_max: int) -> None:
    batches = native(rows).batches(count_max, bytes_max)
    assert [start for start, _ in batches] == [0, *(stop for _, stop in batches[:-1])] if batches else not rows
    assert not batches or batches[-1][1] == len(rows)
    for start, stop in batches:
        weight = sum(row[4] for row in rows[start:stop])
        assert stop - start == 1 or (stop - start <= count_max and weight <= bytes_max)
        more = weight + rows[stop][4] if stop < len(rows) else 0
        assert stop == len(rows) or stop - start == count_max or more > bytes_max


@given(some.segments, st.data())
def test_find_and_without_select_by_key(rows: reference.Segment, data: st.DataObject) -> None:
    known = st.sampled_from([row[0] for row in rows]) if rows else some.keys
    wanted = data.draw(st.lists(st.one_of(known, some.keys), max_size=6, unique=True))
    by_key = {row[0]: row for row in rows}
    assert native(rows).find(wanted) == [by_key.get(key) for key in wanted]
    assert rows_of(native(rows).without(wanted)) == [row for row in rows if row[0] not in wanted]


@given(some.segments, st.data())
def test_puts_and_deletes_share_out_the_keys(rows: reference.Segment, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    part, segment = rows[start:stop], native(rows)
    assert segment.rows(start, stop) == part
    assert segment.puts(start, stop) == [row[0] for row in part if not row[3] & reference.TOMBSTONE]
    assert segment.deletes(start, stop) == [row[0] for row in part if row[3] & reference.TOMBSTONE]
    assert segment.expires(start, stop) == [row[6] for row in part if not row[3] & reference.TOMBSTONE]


@given(some.segments, some.any_times)
def test_expired_values_are_found_by_time(rows: reference.Segment, now: int) -> None:
    assert native(rows).expired(now) == [row[0] for row in rows if 0 < row[6] <= now]


VALUES = ["a", "b"], [b"1", None], 7, 1000


@pytest.mark.parametrize("expires", [[], [9], [9, 0, 0], [9, 9], [0, 1], [-1, 0], [2**64, 0], [None, 0], ["9", 0]])
def test_expiries_are_one_for_each_value_and_0_for_a_delete(expires: list[int]) -> None:
    for make in (_core.Segment.from_values, _core.Given):
        with pytest.raises(UsageError, match="expir"):
            make(*VALUES, expires=expires)


def test_a_row_of_a_delete_has_no_expiry() -> None:
    gone = ("a", 7, 1000, reference.TOMBSTONE, 0, reference.NO_DIGEST)
    assert rows_of(native([(*gone, 0)])) == [(*gone, 0)]
    with pytest.raises(UsageError, match="expires"):
        native([(*gone, 1)])


def test_the_same_value_with_another_expiry_is_not_there() -> None:
    mine = native([("a", 7, 1001, 0, 3, b"\x01" * 32, 5000), ("b", 7, 1002, 0, 3, b"\x01" * 32, 0)])
    theirs = native([("a", 9, 1000, 0, 3, b"\x01" * 32, 0), ("b", 9, 1003, 0, 3, b"\x01" * 32, 5000)])
    found = _core.delta([mine], [theirs], _core.Cover(), _core.Cover())
    assert found.conflicts == list(zip(rows_of(mine), rows_of(theirs), strict=True))
    assert not any(map(len, (found.to_a, found.to_b, found.log_a, found.log_b)))


# ------------------------------------------------------------------------------------------- merge, delta


@given(some.logs)
def test_merge_keeps_the_newest_change_of_a_key(log: list[reference.Segment]) -> None:
    expected = reference.merge(log)
    assert rows_of(_core.Segment.merge([native(rows) for rows in log])) == expected
    assert _core.newest_digest([native(rows) for rows in log]) == reference.newest_digest(log)


@given(st.lists(some.segments, max_size=4))
def test_merge_of_anything(log: list[reference.Segment]) -> None:
    assert rows_of(_core.Segment.merge([native(rows) for rows in log])) == reference.merge(log)


@given(st.lists(some.faulty_segments, max_size=4), st.lists(some.faulty_segments, max_size=3))
def test_changes_of_one_name_that_differ(a: list[reference.Segment], b: list[reference.Segment]) -> None:
    assert rows_of(_core.Segment.merge([native(rows) for rows in a])) == reference.merge(a)
    assert _core.newest_digest([native(rows) for rows in a]) == reference.newest_digest(a)
    check_delta(a, b, ({}, []), ({}, []))


@given(some.segments)
def test_newest_digest_of_anything(rows: reference.Segment) -> None:
    assert _core.newest_digest([native(rows)]) == reference.newest_digest([rows])


RENAMES = st.tuples(some.small_origins, some.small_stamps, some.small_stamps, st.integers(1, 5)).map(
    lambda span: (span[0], *sorted(span[1:3]), span[3])
)


@given(some.small_segments, st.lists(RENAMES, max_size=4))
def test_renamed_changes_have_another_origin_and_are_otherwise_the_same(
    rows: reference.Segment, spans: list[tuple[int, int, int, int]]
) -> None:
    found = native(rows).renamed(spans)
    assert rows_of(found) == reference.renamed(rows, spans)
    assert found.encode("s") == reference.encode_segment(reference.renamed(rows, spans), "s")
    assert _core.newest_digest([found]) == _core.newest_digest([native(rows)])


@given(
    some.small_segments,
    st.dictionaries(some.small_origins, some.small_stamps),
    st.integers(0, 3),
    st.lists(some.small_keys, max_size=2),
)
def test_what_leaves_nothing_is_collected(
    rows: reference.Segment, limits: dict[int, int], expired_ms: int, keep: list[str]
) -> None:
    found, floor = native(rows).collected(limits, expired_ms, keep)
    assert (rows_of(found), floor) == reference.collected(rows, limits, expired_ms, keep)
    assert _core.newest_digest([found]) == _core.newest_digest([native(rows)])
    stamps: dict[int, set[int]] = {}
    for row in filter(reference.passing, rows):
        stamps.setdefault(row[1], set()).add(row[2])
    assert native(rows).passing == {origin: min(some) for origin, some in sorted(stamps.items())}


@given(some.segments, some.origins, st.integers(1, some.U64_MAX))
def test_the_digest_tells_nothing_of_who_made_a_value_and_of_what_does_not_stay(
    rows: reference.Segment, origin: int, now: int
) -> None:
    stay = [row for row in rows if not row[3] & reference.TOMBSTONE and not row[6]]
    assert _core.newest_digest([native(rows)]) == _core.newest_digest([native(stay)])
    others = [(key, origin, stamp, 0, size, digest, 0) for key, _, stamp, _, size, digest, _ in stay]
    assert _core.newest_digest([native(others)]) == _core.newest_digest([native(stay)])
    for at, (key, _, stamp, flags, size, digest, _) in enumerate(stay):
        gone = [*stay[:at], *stay[at + 1 :]]
        later = [*stay[:at], (key, origin, stamp ^ now, flags, size, digest, 0), *stay[at + 1 :]]
        for other in (gone, later):
            assert _core.newest_digest([native(other)]) != _core.newest_digest([native(stay)])


def check_delta(
    a: list[reference.Segment],
    b: list[reference.Segment],
    cover_a: tuple[some.Vector, list[reference.Span]],
    cover_b: tuple[some.Vector, list[reference.Span]],
) -> None:
    """Compare every output of both deltas."""
    expected = reference.delta(a, b, reference.Cover.of(*cover_a), reference.Cover.of(*cover_b))
    found = _core.delta(
        [native(rows) for rows in a],
        [native(rows) for rows in b],
        native_cover(cover_a),
        native_cover(cover_b),
    )
    assert rows_of(found.to_a) == expected.to_a
    assert rows_of(found.to_b) == expected.to_b
    assert rows_of(found.log_a) == expected.log_a
    assert rows_of(found.log_b) == expected.log_b
    assert found.conflicts == expected.conflicts


@given(some.logs, some.logs, some.covers, some.covers)
def test_delta(
    a: list[reference.Segment],
    b: list[reference.Segment],
    cover_a: tuple[some.Vector, list[reference.Span]],
    cover_b: tuple[some.Vector, list[reference.Span]],
) -> None:
    check_delta(a, b, cover_a, cover_b)


@given(st.lists(some.segments, max_size=3), st.lists(some.segments, max_size=3), some.wide_covers)
def test_delta_of_wide_numbers(
    a: list[reference.Segment],
    b: list[reference.Segment],
    cover: tuple[some.Vector, list[reference.Span]],
) -> None:
    check_delta(a, b, cover, ({}, []))
    check_delta(a, b, ({}, []), cover)


@given(some.logs, some.logs, some.covers, some.covers)
def test_delta_does_not_depend_on_who_is_a(
    a: list[reference.Segment],
    b: list[reference.Segment],
    cover_a: tuple[some.Vector, list[reference.Span]],
    cover_b: tuple[some.Vector, list[reference.Span]],
) -> None:
    logs = [native(rows) for rows in a], [native(rows) for rows in b]
    covers = native_cover(cover_a), native_cover(cover_b)
    one = _core.delta(*logs, *covers)
    two = _core.delta(*logs[::-1], *covers[::-1])
    assert rows_of(one.to_a) == rows_of(two.to_b)
    assert rows_of(one.log_b) == rows_of(two.log_a)
    assert one.conflicts == [pair[::-1] for pair in two.conflicts]


def test_a_forged_key_never_leaves_an_index() -> None:
    forged = reference.encode_segment([(".kvsync/manifest", 7, 1000, 0, 3, b"\x01" * 32, 0)], "forged")
    segment = _core.Segment.decode(forged, "forged")
    assert len(segment) == 1
    with pytest.raises(IndexDamagedError):
        _core.delta([segment], [], _core.Cover(), _core.Cover())


# -------------------------------------------------------------------------------------------------- cover


@given(st.one_of(some.covers, some.wide_covers))
def test_a_cover_has_one_form(cover: tuple[some.Vector, list[reference.Span]]) -> None:
    found = native_cover(cover)
    assert same_cover(found, reference.Cover.of(*cover))
    again = _core.Cover(found.vector, found.exceptions[::-1])
    assert (again, hash(again)) == (found, hash(found))


@given(some.covers, st.integers(1, 4), st.integers(0, 16))
def test_covers(cover: tuple[some.Vector, list[reference.Span]], origin: int, stamp: int) -> None:
    assert native_cover(cover).covers(origin, stamp) == reference.Cover.of(*cover).covers(origin, stamp)


@given(some.covers, some.covers)
def test_includes_compares_vector_with_vector_and_spans_with_either(
    one: tuple[some.Vector, list[reference.Span]], two: tuple[some.Vector, list[reference.Span]]
) -> None:
    mine, others = reference.Cover.of(*one), reference.Cover.of(*two)
    level = all(stamp <= mine.vector.get(origin, -1) for origin, stamp in others.vector.items())
    dots = [(origin, stamp) for origin, first, last in others.exceptions for stamp in range(first, last + 1)]
    expected = level and all(mine.covers(*dot) for dot in dots)
    assert native_cover(one).includes(native_cover(two)) == expected


# ------------------------------------------------------------------------------------------------- piece

PIECE = "piece/0123456789abcdef0123456789abcdef"
Seen = dict[str, tuple[bytes, bytes | None]]


def piece_of(seen: Seen) -> _core.Piece:
    """Return the core's piece of some keys with token and digest."""
    return _core.Piece.build(list(seen), [token for token, _ in seen.values()], [d for _, d in seen.values()])


@given(seen=some.listings, compress=st.booleans())
def test_pieces_are_read_by_the_other_side(*, seen: Seen, compress: bool) -> None:
    ours = piece_of(seen).encode(PIECE, compress)
    theirs = reference.Piece(seen).encode(PIECE, compress=compress)
    assert compress or ours == theirs
    assert reference.Piece.decode(ours, PIECE) == reference.Piece(seen)
    read = _core.Piece.decode(theirs, PIECE)
    assert dict(read.entries()) == seen
    assert read.find([*seen, "\U0010ffff\U0010ffff"]) == [*seen.values(), None]


@given(some.listings, some.listings, st.data())
def test_a_listing_is_compared(seen: Seen, other: Seen, data: st.DataObject) -> None:
    kept = data.draw(st.sets(st.sampled_from(list(seen)))) if seen else set()
    listing = dict(sorted({**other, **{key: seen[key] for key in kept}}.items()))
    keys, tokens = list(listing), [token for token, _ in listing.values()]
    walk = _core.Walk([1])
    walk.supply(0, piece_of(seen))
    gone, stop = walk.compare(_core.Page.of_tokens(keys, tokens), 0)
    known = {key: entry for key, entry in seen.items() if entry[1] is not None}
    found, unread = walk.take()
    assert len(found) == 0
    assert [*zip(*unread.part(0, len(unread)), strict=True)] == [
        (key, token, known[key][1] if key in known else None)
        for key, token in zip(keys, tokens, strict=True)
        if not token or key not in known or known[key][0] != token
    ]
    assert [*gone, *walk.rest()] == [key for key in known if key not in listing]
    assert (stop, walk.known, walk.needs()) == (len(keys), len(known), None)


def test_pages_have_to_ascend() -> None:
    walk = _core.Walk([])
    assert walk.compare(_core.Page(["b"], [b"1"]), 0) == ([], 1)
    for keys in (["b"], ["a"], ["c", "c"]):
        with pytest.raises(UsageError, match="do not ascend"):
            walk.compare(_core.Page(keys, [b"1"] * len(keys)), 0)


def test_pieces_of_a_run_have_to_ascend() -> None:
    walk = _core.Walk([2])
    walk.supply(0, piece_of({"a": (b"1", bytes(32)), "c": (b"1", bytes(32))}))
    assert walk.rest() == ["a", "c"]
    assert walk.needs() == 0
    with pytest.raises(IndexDamagedError, match="do not ascend"):
        walk.supply(0, piece_of({"c": (b"2", bytes(32))}))
    with pytest.raises(UsageError, match="no such run"):
        walk.supply(1, piece_of({}))
