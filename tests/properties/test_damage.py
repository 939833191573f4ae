"""On bad input the pure-Python reference and the native core agree: both read the same, or both refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import index_strategies as some
import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from index_packing import Choose, envelope, frames, pack, shortest, with_checksum

import reference
from kvsync import _core
from kvsync.errors import FormatError, IndexDamagedError

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

NAME = "segment/0000000000000001-0"
T = TypeVar("T")

ROWS: reference.Segment = [
    ("a", 7, 1000, 0, 3, b"\x01" * 32, 1000),
    ("b", 9, 1001, 1, 0, bytes(32), 0),
    ("b/\u00e9", 9, 900, 2, 300, b"\x02" * 32, 0),
    ("\U00010000", 7, 2000, 3, 0, bytes(32), 0),
]
PIECE = "piece/0123456789abcdef0123456789abcdef"
SEEN: dict[str, tuple[bytes, bytes | None]] = {
    "a": (b"t1", b"\x01" * 32),
    "b": (b"", b"\x02" * 32),
    "c": (b"", None),
    "\u00e9": (b"\x03" * 32, b"\x03" * 32),
}


def outcome(read: Callable[[], T], damaged: type[Exception], newer: type[Exception]) -> T | str:
    """Return what was read, or in a word why not; any other exception passes through."""
    try:
        return read()
    except newer:
        return "newer"
    except damaged:
        return "damaged"


def native_segment(data: bytes, name: str) -> tuple[reference.Segment, bytes]:
    """Return the rows and the note that the core reads."""
    segment = _core.Segment.decode(data, name)
    return segment.rows(0, len(segment)), segment.note


def read_segment(data: bytes, name: str = NAME) -> reference.Segment | str:
    """Return the rows that both readers of segments read, or why not: the outcome of both is one and the same."""
    ours = outcome(lambda: native_segment(data, name), IndexDamagedError, FormatError)
    assert ours == outcome(lambda: reference.decode_noted(data, name), reference.DamagedError, reference.NewerError)
    return ours if isinstance(ours, str) else ours[0]


def native_piece(data: bytes) -> bytes:
    """Return a piece as the core writes it again."""
    return _core.Piece.decode(data, PIECE).encode(PIECE)


def read_piece(data: bytes) -> bytes | str:
    """Return the outcome of both readers of pieces, encoded again where they accept."""
    ours = outcome(lambda: native_piece(data), IndexDamagedError, FormatError)
    assert ours == outcome(
        lambda: reference.Piece.decode(data, PIECE).encode(PIECE), reference.DamagedError, reference.NewerError
    )
    return ours


def segment_map(rows: reference.Segment = ROWS) -> reference.Pairs:
    """Return the body of a segment as the entries of its map."""
    return reference.Pairs(unpacked(reference.encode_segment(rows, NAME)).items())


def piece_map() -> reference.Pairs:
    """Return the body of a piece as the entries of its map."""
    return reference.Pairs(unpacked(reference.Piece(SEEN).encode(PIECE)).items())


def unpacked(data: bytes) -> dict[str, Any]:
    """Return the map in an envelope."""
    body: dict[str, Any] = msgpack.unpackb(data[24:])
    return body


def changed(entries: reference.Pairs, **values: Any) -> reference.Pairs:
    """Return a map with other values for some of its keys."""
    assert set(values) <= {key for key, _ in entries}
    return reference.Pairs((key, values.get(key, value)) for key, value in entries)


# -------------------------------------------------------------------------------- garbage and mutations


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    assert read_segment(data) == "damaged"
    assert read_piece(data) == "damaged"


@given(st.binary(max_size=200), st.sampled_from([0, 1]), st.integers(0, 400))
def test_garbage_in_a_good_envelope_is_refused(stored: bytes, flags: int, length: int) -> None:
    assert read_segment(envelope(stored, flags=flags, length=length)) == "damaged"


def encoded(rows: reference.Segment, note: bytes, *, compress: bool = False) -> bytes:
    """Return a segment of rows and a note."""
    return reference.encode_segment(rows, NAME, note, compress=compress)


def mutations(data: bytes) -> st.SearchStrategy[bytes]:
    """Draw `data` with a few bytes overwritten, cut out or put in."""
    edit = st.tuples(
        st.integers(0, len(data)),
        st.integers(0, 4),
        st.one_of(st.binary(max_size=4), st.sampled_from([b"\xff", b"\x00", b"\x80", b"\xc0"])),
    )

    def apply(edits: list[tuple[int, int, bytes]]) -> bytes:
        result = data
        for at, cut, put in edits:
            result = result[:at] + put + result[at + cut :]
        return result

    return st.lists(edit, min_size=1, max_size=3).map(apply)


@given(st.tuples(some.segments, some.notes).flatmap(lambda parts: mutations(encoded(*parts))))
def test_mutated_segments(data: bytes) -> None:
    read_segment(data)
    read_segment(with_checksum(data))


@given(st.tuples(some.segments, some.notes).flatmap(lambda parts: mutations(encoded(*parts, compress=True))))
def test_mutated_compressed_segments(data: bytes) -> None:
    read_segment(data)
    read_segment(with_checksum(data))


@given(some.listings.map(lambda seen: reference.Piece({**seen}).encode(PIECE)).flatmap(mutations))
def test_mutated_pieces(data: bytes) -> None:
    read_piece(data)
    read_piece(with_checksum(data))


def test_every_byte_replaced_with_the_checksum_made_right() -> None:
    data = reference.encode_segment(ROWS, NAME, b"note")
    for at in range(len(data)):
        for byte in (
            0,
            1,
            2,
            4,
            8,
            0x7F,
            0x80,
            0xC0,
            0xFF,
            data[at] ^ 1,
            data[at] + 1 & 255,
            data[at] - 1 & 255,
        ):
            read_segment(with_checksum(data[:at] + bytes([byte]) + data[at + 1 :]))


def test_every_byte_cut_out_or_doubled_with_the_checksum_made_right() -> None:
    data = reference.encode_segment(ROWS, NAME, b"note")
    for at in range(24, len(data)):
        for stored in (data[24:at] + data[at + 1 :], data[24 : at + 1] + data[at:], data[24:at]):
            assert read_segment(envelope(stored)) == "damaged"


# ----------------------------------------------------------------------------------------------- envelope


@pytest.mark.parametrize("version", [0, 2, 3, 255])
def test_only_an_intact_object_can_be_newer(version: int) -> None:
    data = envelope(pack(segment_map()), version=version)
    assert read_segment(data) == ("newer" if version > 1 else "damaged")
    assert read_segment(data[:-1] + b"\1") == "damaged"
    assert read_segment(envelope(b"", kind=99, version=version, flags=0xFFFF)) == (
        "newer" if version > 1 else "damaged"
    )


@pytest.mark.parametrize("kind", [0, 2, 3, 4, 5, 6, 255])
def test_another_kind_is_refused(kind: int) -> None:
    assert read_segment(envelope(pack(segment_map()), kind=kind)) == "damaged"


@pytest.mark.parametrize("flags", [2, 3, 4, 0x100, 0x101, 0x8000])
def test_unknown_flags_are_refused(flags: int) -> None:
    assert read_segment(envelope(pack(segment_map()), flags=flags)) == "damaged"


@pytest.mark.parametrize("change", [-1, 1, 2**32, 2**63])
@pytest.mark.parametrize("flags", [0, 1])
def test_a_false_length_is_refused(change: int, flags: int) -> None:
    body = pack(segment_map())
    stored = frames(body)["plain"] if flags else body
    assert read_segment(envelope(stored, flags=flags, length=len(body) + change)) == "damaged"


GOOD_FRAMES = {"plain", "summed", "strong", "sizeless"}


@pytest.mark.parametrize("rows", [ROWS, []], ids=["rows", "no rows"])
@pytest.mark.parametrize("form", frames(b"some body"))
def test_the_stored_body_is_one_zstd_frame(form: str, rows: reference.Segment) -> None:
    body = pack(segment_map(rows))
    data = envelope(frames(body)[form], flags=1, length=len(body))
    assert read_segment(data) == (rows if form in GOOD_FRAMES else "damaged")


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_a_frame_may_grow_512_times_and_no_more(over: int) -> None:
    frame = frames(bytes(10_000))["plain"]
    grown = frames(bytes(512 * len(frame) + over))["plain"]
    assert len(grown) == len(frame)
    data = envelope(grown, flags=1, length=512 * len(frame) + over)
    opened = outcome(lambda: _core.unseal(1, data), IndexDamagedError, FormatError)
    assert opened == outcome(lambda: reference.unseal(1, data), reference.DamagedError, reference.NewerError)
    assert (opened == "damaged") == (over > 0)


def test_a_body_that_shrinks_too_well_is_stored_plain() -> None:
    body = bytes(1_000_000)
    assert _core.seal(1, body, compress=True) == reference.seal(1, body)
    assert reference.unseal(1, _core.seal(1, bytes(3000), compress=True)) == bytes(3000)


# --------------------------------------------------------------------------------------- forms of msgpack


@given(some.segments, st.randoms(use_true_random=False))
def test_values_may_take_any_form_that_holds_them(rows: reference.Segment, chance: random.Random) -> None:
    assert read_segment(envelope(pack(segment_map(rows), chance.choice))) == rows


@given(some.listings, st.randoms(use_true_random=False))
def test_values_of_a_piece_too(seen: dict[str, tuple[bytes, bytes | None]], chance: random.Random) -> None:
    data = reference.Piece(seen).encode(PIECE)
    entries = reference.Pairs(unpacked(data).items())
    assert read_piece(envelope(pack(entries, chance.choice), kind=reference.KIND_PIECE)) == data


def longest(forms: Sequence[bytes]) -> bytes:
    """Choose the longest form."""
    return max(forms, key=len)


@pytest.mark.parametrize("choose", [shortest, longest])
@pytest.mark.parametrize("extra", [b"\0", b"\xc0", b"\x80"])
def test_nothing_follows_the_map(choose: Choose, extra: bytes) -> None:
    body = pack(segment_map(), choose)
    assert read_segment(envelope(body)) == ROWS
    assert read_segment(envelope(body + extra)) == "damaged"


ODD_VALUES: list[Any] = [
    None,
    True,
    False,
    -1,
    0,
    1,
    7,
    2**64 - 1,
    1.0,
    "",
    "a",
    b"",
    b"\0",
    [],
    [0],
    [[]],
    [-1],
    [True],
    [1.0],
    [None],
    reference.Pairs(),
    reference.Pairs([("name", 0)]),
]


@pytest.mark.parametrize("value", ODD_VALUES, ids=repr)
@pytest.mark.parametrize("key", reference.SEGMENT_FIELDS)
def test_odd_values_in_a_segment(key: str, value: object) -> None:
    found = read_segment(envelope(pack(changed(segment_map(), **{key: value}))))
    if (key, value) == ("expires", b""):
        assert found == [(*row[:-1], 0) for row in ROWS]
    elif key == "note" and type(value) is bytes:
        assert found == ROWS
    else:
        assert found == "damaged"
    read_segment(envelope(pack(changed(segment_map([]), **{key: value}))))


@pytest.mark.parametrize("value", ODD_VALUES, ids=repr)
@pytest.mark.parametrize("key", reference.PIECE_FIELDS)
def test_odd_values_in_a_piece(key: str, value: object) -> None:
    entries = changed(piece_map(), **{key: value})
    assert read_piece(envelope(pack(entries), kind=reference.KIND_PIECE)) == "damaged"


@pytest.mark.parametrize(
    ("state", "token", "digest"),
    [
        (0, b"\x01" * 32, b"\x01" * 32),
        (1, b"t", b"\x01" * 32),
        (2, b"t", bytes(32)),
        (2, b"", b"\x01" * 32),
        (3, b"", b"\x01" * 32),
        (255, b"", bytes(32)),
    ],
)
def test_an_entry_fits_its_state(state: int, token: bytes, digest: bytes) -> None:
    entries = reference.Pairs(unpacked(reference.Piece({"a": (b"t", b"\x01" * 32)}).encode(PIECE)).items())
    assert read_piece(envelope(pack(entries), kind=reference.KIND_PIECE)) != "damaged"
    entries = changed(entries, state=bytes([state]), token_size=bytes([len(token)]), token=token, digest=digest)
    assert read_piece(envelope(pack(entries), kind=reference.KIND_PIECE)) == "damaged"


@pytest.mark.parametrize("key", reference.SEGMENT_FIELDS)
def test_keys_come_once_and_in_order(key: str) -> None:
    entries = segment_map()
    at = list(reference.SEGMENT_FIELDS).index(key)
    one = entries[at]
    others = [*entries[:at], *entries[at + 1 :]]
    for odd in (
        others,
        [*entries, one],
        [one, *entries],
        [*entries[:at], one, *entries[at:]],
        [*others[: at - 1], one, *others[at - 1 :]] if at else [*others, one],
        [*others[:at], (key.encode(), one[1]), *others[at:]],
        [*others[:at], (key + "s", one[1]), *others[at:]],
        [*others[:at], (at, one[1]), *others[at:]],
        [*entries, ("more", 0)],
    ):
        assert read_segment(envelope(pack(reference.Pairs(odd)))) == "damaged"


# ------------------------------------------------------------------------- every rule of the segment, broken

B8 = (1).to_bytes(8, "little")
BROKEN: dict[str, dict[str, Any]] = {
    "origins not ascending": {"origins": [9, 7], "max": [1001, 2000], "origin": b"\1\0\0\1"},
    "an origin twice": {"origins": [7, 7]},
    "an origin that nobody uses": {"origins": [7, 9, 11], "max": [2000, 1001, 0]},
    "an origin that nobody uses, first": {
        "origins": [1, 7, 9],
        "max": [0, 2000, 1001],
        "origin": b"\1\2\2\1",
    },
    "an origin out of range": {"origin": b"\0\1\2\0"},
    "max too great": {"max": [2001, 1001]},
    "max too small": {"max": [1999, 1001]},
    "max missing": {"max": [2000]},
    "max too long": {"max": [2000, 1001, 1]},
    "stamp_base too small": {"stamp_base": 899},
    "stamp_base too great": {"stamp_base": 901},
    "stamp beyond 64 bits": {"stamp_base": 2**64 - 1000},
    "stamps wider than needed": {"stamp": b"".join(n.to_bytes(4, "little") for n in (100, 101, 0, 1100))},
    "stamps three bytes wide": {"stamp": b"".join(n.to_bytes(3, "little") for n in (100, 101, 0, 1100))},
    "origins wider than needed": {"origin": b"\0\0\1\0\1\0\0\0"},
    "an unknown flag": {"flags": b"\0\1\2\x08"},
    "flags too short": {"flags": b"\0\1\2"},
    "flags too long": {"flags": b"\0\1\2\3\0"},
    "a tombstone with a size": {"flags": b"\1\1\2\3"},
    "a tombstone with a digest": {"digest": b"\1" * 128},
    "sizes wider than needed": {"size": b"".join(n.to_bytes(4, "little") for n in (3, 0, 300, 0))},
    "expiries of a byte each": {"expires": b"\1\0\0\0\0"},
    "expiries too short": {"expires": b"\1\0\0"},
    "expiries three bytes wide": {"expires": b"\1\0\1" + bytes(9)},
    "expiries wider than needed": {"expires": b"\1" + bytes(7)},
    "expiries much wider than needed": {"expires": b"\0\0\0\1" + bytes(28)},
    "expiries of values that never expire": {"expires": bytes(4)},
    "wide expiries of values that never expire": {"expires": bytes(32)},
    "a tombstone that expires": {"expires": b"\1\1\0\0"},
    "a decided tombstone that expires": {"expires": b"\0\0\0\1"},
    "digests too short": {"digest": bytes(127)},
    "digests too long": {"digest": bytes(129)},
    "key sizes too small": {"key_size": b"\1\1\4\3"},
    "key sizes too great": {"key_size": b"\1\1\4\5"},
    "key sizes that wrap around": {"key_size": b"".join(n.to_bytes(8, "little") for n in (2**63, 2**63, 4, 6))},
    "key sizes that cut a letter": {"key_size": b"\1\1\3\5"},
    "a key that is not UTF-8": {"key": b"abb/\xc3\xc3\xf0\x90\x80\x80"},
    "a surrogate": {"key": b"abb/\xc3\xa9\xed\xa0\x80a"},
    "an overlong letter": {"key": b"abb/\xc0\xaf\xf0\x90\x80\x80"},
    "a letter beyond Unicode": {"key": b"abb/\xc3\xa9\xf4\x90\x80\x80"},
    "keys not ascending": {"key": b"bab/\xc3\xa9\xf0\x90\x80\x80"},
    "a key twice": {"key": b"aab/\xc3\xa9\xf0\x90\x80\x80"},
    "a count too small": {"count": 3},
    "a count too great": {"count": 5},
    "a count without rows": {"count": 0},
    "a monstrous count": {"count": 2**64 - 1},
    "a count that wraps around": {"count": 2**59},
}


def test_the_unbroken_segment_is_read() -> None:
    assert read_segment(envelope(pack(segment_map()))) == ROWS


@pytest.mark.parametrize("values", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_rule_is_noticed(values: dict[str, Any]) -> None:
    assert read_segment(envelope(pack(changed(segment_map(), **values)))) == "damaged"


@pytest.mark.parametrize("key", ["stamp", "origin", "flags", "size", "expires", "digest", "key_size", "key"])
def test_columns_of_an_empty_segment_are_empty(key: str) -> None:
    assert read_segment(envelope(pack(segment_map([])))) == []
    assert read_segment(envelope(pack(changed(segment_map([]), **{key: b"\0"})))) == "damaged"


@pytest.mark.parametrize("values", [{"stamp_base": 1}, {"origins": [1], "max": [0]}, {"max": [0]}])
def test_an_empty_segment_has_no_stamps(values: dict[str, Any]) -> None:
    assert read_segment(envelope(pack(changed(segment_map([]), **values)))) == "damaged"
