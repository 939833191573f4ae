"""Objects of every released format version stay readable, and no damage to one goes unnoticed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
import zstandard

import reference
from kvsync import _core
from kvsync.errors import IndexDamagedError
from kvsync.index.inventory import Inventory, load_piece
from kvsync.storages.mapping import MappingStorage

if TYPE_CHECKING:
    from collections.abc import Iterator

GOLDEN = Path(__file__).parents[1] / "golden"
OBJECTS = sorted(path for path in GOLDEN.rglob("*") if path.is_file() and path.read_bytes()[:4] == b"kvsy")
SEGMENTS = [path for path in OBJECTS if path.read_bytes()[4] == reference.KIND_SEGMENT]
EXPIRING = [path for path in SEGMENTS if path.stem == "segment-expires"]
NOTED = [path for path in SEGMENTS if path.stem == "segment-note"]
INVENTORIES = [path for path in OBJECTS if path.read_bytes()[4] == reference.KIND_INVENTORY]
PIECES = [path for path in OBJECTS if path.read_bytes()[4] == reference.KIND_PIECE]


def label(path: Path) -> str:
    """Return what a test of one object is called."""
    return path.relative_to(GOLDEN).as_posix()


def stock_map(data: bytes) -> dict[str, Any]:
    """Return an object's map with zstandard and msgpack alone."""
    stored = data[24:]
    if data[6] & 1:
        stored = zstandard.ZstdDecompressor().decompress(stored, max_output_size=512 * len(stored))
    body: dict[str, Any] = msgpack.unpackb(stored)
    return body


def native(kind: int, data: bytes, name: str) -> object:
    """Read an object with the core: its envelope at least, all of it where the core knows the kind."""
    if kind == reference.KIND_SEGMENT:
        return _core.Segment.decode(data, name)
    if kind == reference.KIND_PIECE:
        return _core.Piece.decode(data, name)
    if kind == reference.KIND_INVENTORY:
        return Inventory.decode(data, "golden")
    return _core.unseal(kind, data)


def test_there_are_golden_objects() -> None:
    assert SEGMENTS
    assert EXPIRING
    assert NOTED
    assert INVENTORIES
    assert PIECES


@pytest.mark.parametrize("path", OBJECTS, ids=label)
def test_the_reference_opens_the_envelope(path: Path) -> None:
    data = path.read_bytes()
    body = reference.unseal(data[4], data)
    assert body == _core.unseal(data[4], data)
    assert msgpack.unpackb(body) == stock_map(data)
    assert next(iter(stock_map(data))) == "name"


@pytest.mark.parametrize("path", SEGMENTS, ids=label)
def test_the_reference_reads_segments(path: Path) -> None:
    data = path.read_bytes()
    name = stock_map(data)["name"]
    rows, note = reference.decode_noted(data, name)
    segment = _core.Segment.decode(data, name)
    assert segment.rows(0, len(segment)) == rows
    assert segment.note == note
    plain = reference.encode_segment(rows, name, note)
    assert segment.encode(name, note=note) == plain
    assert data[6] & 1 or data == plain


@pytest.mark.parametrize("path", EXPIRING, ids=label)
def test_expiries_are_read(path: Path) -> None:
    segment = _core.Segment.decode(path.read_bytes(), stock_map(path.read_bytes())["name"])
    assert segment.expiring == 2
    assert segment.expires(0, len(segment)) == [0, 1_700_086_400_000, 1_700_090_000_000]
    assert segment.expired(1_700_086_400_000) == ["a"]


@pytest.mark.parametrize("path", PIECES, ids=label)
def test_the_reference_reads_pieces(path: Path) -> None:
    data = path.read_bytes()
    name = stock_map(data)["name"]
    piece = reference.Piece.decode(data, name)
    assert dict(_core.Piece.decode(data, name).entries()) == piece.seen
    assert data[6] & 1 or data == piece.encode(name)
    assert {reference.state_of(*entry) for entry in piece.seen.values()} == {0, 1, 2}


@pytest.mark.parametrize("path", INVENTORIES, ids=label)
def test_an_inventory_lists_its_pieces(path: Path) -> None:
    inventory = Inventory.decode(path.read_bytes(), "golden")
    assert inventory.nonce == b"0123456789abcdef"
    assert [[entry.first for entry in run] for run in inventory.runs] == [["a", "m"], ["b"]]
    assert [entry.name[-1] for entry in inventory.stored] == ["1", "2"]
    assert inventory.garbage == ("piece/00000000000000000000000000000009",)
    assert path.read_bytes() == inventory.encode()
    (_, (patch,)) = inventory.runs
    assert len(load_piece(MappingStorage({}), patch)) == patch.length == 4


def damaged_forms(data: bytes) -> Iterator[bytes]:
    """Yield `data` with each bit flipped, cut off before each byte, and one byte more."""
    for at, byte in enumerate(data):
        for bit in range(8):
            yield data[:at] + bytes([byte ^ 1 << bit]) + data[at + 1 :]
        yield data[:at]
    yield data + b"\0"


@pytest.mark.parametrize("path", OBJECTS, ids=label)
def test_every_flipped_bit_and_every_cut_is_refused(path: Path) -> None:
    data = path.read_bytes()
    kind, name = data[4], stock_map(data)["name"]
    native(kind, data, name)
    for damaged in damaged_forms(data):
        with pytest.raises(IndexDamagedError):
            native(kind, damaged, name)


def printed(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield what the last section of `docs/index-format.md` prints, by the code that stands there."""
    body = msgpack.unpackb(data[24:])  # a zstd frame first, if data[6] & 1
    sizes, keys, at = body["key_size"], body["key"], 0
    width = len(sizes) // body["count"]
    for i in range(body["count"]):
        size = int.from_bytes(sizes[i * width : (i + 1) * width], "little")
        yield keys[at : at + size].decode(), "deleted" if body["flags"][i] & 1 else "put"
        at += size


@pytest.mark.parametrize("long", [3, 300], ids=["narrow", "wide"])
def test_the_stock_msgpack_library_reads_a_segment(long: int) -> None:
    keys = ["a", "a/b", "b" * long, "\u00e9"]
    segment = _core.Segment.from_values(keys, [b"1", None, b"3", b"4"], origin=7, stamp=1000)
    shown = list(printed(segment.encode("segment/0000000000000001-0")))
    assert shown == list(zip(keys, ["put", "deleted", "put", "put"], strict=True))
