"""The inventory in pieces: what a reader refuses, what becomes of a piece that is lost, and how much a run writes."""

from __future__ import annotations

import random
from dataclasses import astuple, fields
from typing import TYPE_CHECKING, Any

import msgpack
import pytest

import kvsync
from kvsync import _core
from kvsync.environment import Environment
from kvsync.errors import FormatError, IndexDamagedError
from kvsync.index.inventory import Inventory, PieceEntry, read_inventory
from kvsync.native import KIND_INVENTORY, Piece, seal
from kvsync.scan.folding import SIZES
from kvsync.scan.known import Known, Noted
from kvsync.scan.pieces import Pieces
from kvsync.scan.saving import save
from kvsync.storages.mapping import MappingStorage
from kvsync.testing.simulation.pieces import small_pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE = f"piece/{1:032x}"
TWO = f"piece/{2:032x}"


@pytest.fixture
def values() -> Iterator[dict[str, bytes]]:
    """Give a storage whose inventory has a base of many pieces, and a patch."""
    with small_pieces():
        values = {f"key {number:02}": b"value %d" % number for number in range(40)}
        kvsync.commit(values, scan=True)
        values["key 10"] = b"changed"
        del values["key 20"]
        kvsync.commit(values, scan=True)
        inventory = read_inventory(MappingStorage(values))
        assert inventory is not None
        base, *patches = inventory.runs
        assert len(base) > 5
        assert patches
        yield values


def stored_names(values: dict[str, bytes]) -> list[str]:
    """Return the names of the pieces that an inventory lists and that are objects."""
    inventory = read_inventory(MappingStorage(values))
    assert inventory is not None
    return [entry.name for entry in inventory.stored]


DAMAGE: dict[str, Any] = {
    "gone": lambda _: None,
    "flipped": lambda data: bytes([*data[:-1], data[-1] ^ 1]),
    "cut": lambda data: data[:-5],
    "another": lambda _: Piece.build(["key 00"], [b"t"], [bytes(32)]).encode(ONE),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("which", [0, 3, -1], ids=["first", "inner", "last"])
def test_what_a_lost_piece_said_is_found_again(values: dict[str, bytes], which: int, how: str) -> None:
    name = f".kvsync/{stored_names(values)[which]}"
    data = DAMAGE[how](values.pop(name))
    if data is not None:
        values[name] = data
    (found,) = kvsync.verify(values).findings
    assert found.name == name.removeprefix(".kvsync/")
    values["key 30"] = b"changed"
    del values["key 31"]
    assert kvsync.commit(values, scan=True) == 2
    assert kvsync.verify(values).findings == []
    assert kvsync.commit(values, scan=True) == 0


def test_a_piece_of_a_newer_kvsync_is_left_alone(values: dict[str, bytes]) -> None:
    name = f".kvsync/{stored_names(values)[0]}"
    newer = bytearray(values[name])
    newer[5] = 2
    header, body = bytes(newer[:16]), bytes(newer[24:])
    import xxhash

    values[name] = header + xxhash.xxh3_64_intdigest(header + body).to_bytes(8, "little") + body
    before = dict(values)
    with pytest.raises(FormatError):
        kvsync.commit(values, scan=True)
    assert {key: data for key, data in values.items() if "lease" not in key} == {
        key: data for key, data in before.items() if "lease" not in key
    }


def test_compaction_removes_pieces_that_nothing_lists(values: dict[str, bytes]) -> None:
    values[f".kvsync/{ONE}"] = Piece.build(["a"], [b"t"], [bytes(32)]).encode(ONE)
    (found,) = kvsync.verify(values).findings
    assert (found.name, found.harmless) == (ONE, True)
    kvsync.compact(values)
    listed = set(stored_names(values))
    assert {name.removeprefix(".kvsync/") for name in values if name.startswith(".kvsync/piece/")} == listed
    assert kvsync.commit(values, scan=True) == 0


def test_garbage_is_removed_in_time(values: dict[str, bytes]) -> None:
    for turn in range(40):
        values[f"key {turn % 10:02}"] = b"turn %d" % turn
        kvsync.commit(values, scan=True)
    there = {name.removeprefix(".kvsync/") for name in values if name.startswith(".kvsync/piece/")}
    assert len(there - set(stored_names(values))) < 16 + 40


PIECE = Piece.build(["m"], [b"t"], [bytes(32)]).encode(TWO)
ROWS: dict[str, Any] = {
    "no run": [],
    "no array": {},
    "a row that is too short": [[[ONE, "a", 1, 100, 5]]],
    "another name": [[["segment/0000000000000001-0", "a", 1, 100, 5, None]]],
    "a key that is no text": [[[ONE, b"a", 1, 100, 5, None]]],
    "an empty piece": [[[ONE, "a", 0, 100, 5, None]]],
    "a negative size": [[[ONE, "a", 1, -1, 5, None]]],
    "keys that do not ascend": [[[ONE, "b", 1, 100, 5, None], [TWO, "b", 1, 100, 5, None]]],
    "a name twice": [[[ONE, "a", 1, 100, 5, None]], [[ONE, "b", 1, 100, 5, None]]],
    "a name that is garbage": [[[f"piece/{9:032x}", "a", 1, 100, 5, None]]],
    "other bytes": [[[TWO, "m", 1, len(PIECE), 5, PIECE]]],
    "too few bytes": [[[TWO, "m", 1, 100, _core.checksum(PIECE), PIECE]]],
    "no object": [[[TWO, "m", 1, 1, 5, b"x"]]],
    "too many runs": [[]] * 1025,
}


def inventory(runs: object, nonce: object = bytes(16), garbage: object = (f"piece/{9:032x}",)) -> bytes:
    return seal(KIND_INVENTORY, msgpack.packb({"name": "inventory", "nonce": nonce, "runs": runs, "garbage": garbage}))


def test_a_good_inventory_is_read() -> None:
    row = (TWO, "m", 1, len(PIECE), _core.checksum(PIECE), PIECE)
    read = Inventory.decode(inventory([[(ONE, "a", 1, 100, 5, None), row], []]), "here")
    assert read.runs == ((PieceEntry(ONE, "a", 1, 100, 5, None), PieceEntry(*row)), ())


@pytest.mark.parametrize("runs", ROWS.values(), ids=ROWS)
def test_a_bad_inventory_is_refused(runs: object) -> None:
    with pytest.raises(IndexDamagedError, match="inventory is damaged"):
        Inventory.decode(inventory(runs), "here")


@pytest.mark.parametrize(
    ("nonce", "garbage"), [(bytes(15), []), (16, []), (bytes(16), {}), (bytes(16), [5]), (bytes(16), [ONE + "0"])]
)
def test_bad_fields_of_an_inventory_are_refused(nonce: object, garbage: object) -> None:
    with pytest.raises(IndexDamagedError, match="inventory is damaged"):
        Inventory.decode(inventory([[]], nonce, garbage), "here")


class Counted(MappingStorage):
    """Counts the bytes that are stored."""

    stored = 0

    def store(self, name: str, data: bytes, expect: Any) -> Any:
        self.stored += len(data)
        return super().store(name, data, expect)


@pytest.fixture
def hundredth() -> Iterator[None]:
    """Make all sizes a hundredth of what they are: then 10,000 keys are cut as a million is."""
    before = astuple(SIZES)
    for field, value in zip(fields(SIZES), before, strict=True):
        setattr(SIZES, field.name, value // 100)
    yield
    for field, value in zip(fields(SIZES), before, strict=True):
        setattr(SIZES, field.name, value)


@pytest.mark.usefixtures("hundredth")
@pytest.mark.parametrize("where", ["scattered", "appended"])
def test_a_run_writes_what_changed_and_no_more(where: str) -> None:
    """A change is written a few times in all, whether it is one of many places or at the end."""
    chance = random.Random(7)
    environment = Environment(random=random.Random(8))
    keys = [f"key {chance.getrandbits(48):012x}" for _ in range(10_000)]
    storage = Counted({})

    def noted(keys: list[str]) -> dict[str, Noted]:
        return {key: (digest, digest) for key in keys for digest in [chance.randbytes(32)]}

    stored = save(Known(Pieces(storage), None), noted(keys), environment, lambda: None)
    whole = storage.stored
    written = []
    for turn in range(1500):
        storage.stored = 0
        change = [chance.choice(keys)] if where == "scattered" else [f"last {turn:06}"]
        before = stored
        stored = save(Known(Pieces(storage), stored), noted(change), environment, lambda: None)
        root = len(stored.encode())
        assert root < 12_000
        written.append(storage.stored - root)
        # Pieces that no change touches are passed on.
        kept = {entry.name for entry in before.stored} & {entry.name for entry in stored.stored}
        assert len(kept) >= 40
    # A hundredth of the bars for a million keys: 0.25 MB in the mean, 8 MB in the worst run.
    assert sum(written) / len(written) < 2_500
    assert max(written) < 80_000 < whole / 5
    assert len(stored.runs) < 16
    assert sum(map(len, stored.runs)) < 150
