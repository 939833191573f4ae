"""The manifest: what is written is read, and nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgpack
import pytest

import kvsync
from kvsync.environment import Environment
from kvsync.index.histories import pack_note, unpack_note
from kvsync.index.manifest import Manifest, RememberedIntent, SegmentEntry
from kvsync.native import KIND_LEASE, KIND_MANIFEST, Segment, seal
from kvsync.replica.history import History, VectorException
from kvsync.replica.knowledge import Knowledge, Missing
from kvsync.replica.log import Log
from kvsync.replica.peers import FORGOTTEN, REPLACED, STRUCK, Peer
from kvsync.replica.points import Point
from kvsync.storages.mapping import MappingStorage
from kvsync.types import Change

if TYPE_CHECKING:
    from collections.abc import Callable

SEGMENT = Segment.from_values(["a", "b"], [b"1", None], 5, 10)
DATA = SEGMENT.encode("segment/0000000000000001-0")

LAST = 2**64 - 1
LATEST = 2**63 - 1
MOST = 2**48
FULL = Manifest(
    replica=2**63 - 1,
    place=LAST,
    generation=MOST,
    nonce=bytes(range(16)),
    clock=LATEST,
    knowledge=Knowledge(
        History(
            {1: (Point(1, 5, 0), Point(MOST, LATEST, LAST)), 5: (Point(3, 11, 7),), LAST: (Point(MOST, 1, 2),)},
            (
                VectorException(5, 20, 25, Point(7, 30, 8)),
                VectorException(5, 26, 26, Point(8, 31, 8)),
                VectorException(9, 1, 1, Point(1, 1, 1)),
            ),
        ),
        (Missing(Change("ключ", 5, 11, 0, 3, b"d" * 32, 1_700_086_400_000), "no room", b"h" * 32),),
        (Change("other", 5, 11, 0, 3, b"e" * 32), Change("other", 9, 1, 1, 0, bytes(32))),
    ),
    segments=(
        SegmentEntry.of("segment/0000000000000001-0", SEGMENT, DATA, inline=True),
        SegmentEntry.of("segment/0000000000000002-a", SEGMENT, DATA, inline=False),
    ),
    peers={
        3: Peer("folder:a", 77, {1: Point(1, 5, 0), LAST: Point(MOST, 1, 2)}, {1: Point(MOST, LATEST, LAST)}, 5),
        4: Peer("", 0, {}),
    },
    gone={3: FORGOTTEN, 8: REPLACED, 9: STRUCK},
    collected={1: 5, 5: 0},
    collected_ms=1_700_000_000_001,
    intents=(RememberedIntent("segment/0000000000000003-0", 1_700_000_000_000),),
    garbage=("segment/0000000000000004-0", "segment/0000000000000005-0"),
    digest=b"0123456789abcdef",
    inventory=b"fedcba9876543210",
    lease=b"a version",
)
EMPTY = Manifest.fresh(7)._replace(generation=1, clock=LATEST, nonce=bytes(range(16)))


def body_of(manifest: Manifest) -> dict[str, Any]:
    body: dict[str, Any] = msgpack.unpackb(manifest.encode()[24:])
    return body


def decode(body: Any) -> Manifest:
    return Manifest.decode(seal(KIND_MANIFEST, msgpack.packb(body)), "the storage")


@pytest.mark.parametrize("manifest", [FULL, EMPTY], ids=["full", "empty"])
def test_it_reads_back(manifest: Manifest) -> None:
    read = Manifest.decode(manifest.encode(), "x")
    for name in Manifest._fields:
        assert getattr(read, name) == getattr(manifest, name)
    assert read.encode() == manifest.encode()


def test_a_fresh_one_is_not_written_yet() -> None:
    log = Log.read(MappingStorage({}), Environment())
    assert log.manifest.generation == 0
    assert log.manifest.replica


def test_every_generation_has_a_nonce_of_its_own() -> None:
    storage = MappingStorage({})
    log = Log.read(storage, Environment())
    nonces = set()
    for generation in range(1, 4):
        log.write(Segment.from_rows([]), Knowledge(History({7: (Point(1, generation, 1),)})))
        assert log.manifest.generation == generation
        nonces.add(log.manifest.nonce)
    assert len(nonces) == 3


WRONG: list[Any] = [None, -1, "text", b"bytes", 1.5, True, [], [[]], [1], [[1, 2, 3, 4, 5, 6, 7, 8]], {}, {"a": 1}]
FINE: dict[str, Callable[[Any], bool]] = {
    "replica": lambda _value: False,
    "place": lambda _value: False,
    "generation": lambda _value: False,
    "nonce": lambda _value: False,
    "clock": lambda _value: False,
    "chains": lambda _value: False,
    "exceptions": lambda _value: False,
    "collected_ms": lambda _value: False,
    "name": lambda _value: False,
    "digest": lambda value: value is None,
    "lease": lambda value: type(value) is bytes,
    "inventory": lambda value: value == b"",
}


def is_empty_list(value: Any) -> bool:
    return bool(value == [])


@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.parametrize("field", sorted(body_of(FULL)))
def test_every_field_of_a_wrong_type_is_refused(field: str, value: Any) -> None:
    fine = FINE.get(field, is_empty_list)
    body = body_of(FULL) | {field: value}
    if fine(value):
        decode(body)
        return
    with pytest.raises(kvsync.IndexDamagedError) as raised:
        decode(body)
    assert raised.value.storage == "the storage"
    assert raised.value.name == "manifest"
    assert "kvsync verify --repair" in str(raised.value)


@pytest.mark.parametrize("value", [None, -1, "text", b"x", 1.5, True, [1], {}], ids=repr)
@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("chains", (0, 0)),
        ("chains", (0, 1)),
        ("exceptions", (0, 0)),
        ("exceptions", (0, 1)),
        ("exceptions", (0, 2)),
        ("exceptions", (0, 3)),
        ("exceptions", (0, 4)),
        ("exceptions", (0, 5)),
        ("segments", (0, 0)),
        ("segments", (0, 1)),
        ("segments", (0, 2)),
        ("segments", (0, 3)),
        ("segments", (0, 4)),
        ("segments", (0, 5)),
        ("segments", (0, 6)),
        ("segments", (0, 7)),
        ("peers", (0, 0)),
        ("peers", (0, 1)),
        ("peers", (0, 2)),
        ("peers", (0, 3)),
        ("peers", (0, 4)),
        ("peers", (0, 5)),
        ("gone", (0,)),
        ("gone", (0, 0)),
        ("gone", (0, 1)),
        ("collected", (0,)),
        ("collected", (0, 0)),
        ("collected", (0, 1)),
        ("missing", (0, 0)),
        ("missing", (0, 1)),
        ("missing", (0, 2)),
        ("missing", (0, 3)),
        ("missing", (0, 4)),
        ("missing", (0, 5)),
        ("missing", (0, 6)),
        ("missing", (0, 7)),
        ("missing", (0, 8)),
        ("unreconciled", (0, 0)),
        ("unreconciled", (0, 1)),
        ("unreconciled", (0, 2)),
        ("unreconciled", (0, 3)),
        ("unreconciled", (0, 4)),
        ("unreconciled", (0, 5)),
        ("unreconciled", (0, 6)),
        ("intents", (0,)),
        ("intents", (0, 0)),
        ("intents", (0, 1)),
        ("garbage", (1,)),
    ],
    ids=str,
)
def test_every_part_of_a_field_of_a_wrong_type_is_refused(field: str, path: tuple[int, ...], value: Any) -> None:
    text = (field, path) in {
        ("segments", (0, 0)),
        ("peers", (0, 1)),
        ("missing", (0, 0)),
        ("missing", (0, 7)),
        ("intents", (0, 0)),
    }
    if value == "text" and (text or field == "garbage"):
        pytest.skip("that is what belongs there")
    if value is None and (field, path) == ("segments", (0, 7)):
        pytest.skip("a segment that lives elsewhere")
    body = body_of(FULL)
    place = body[field]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(kvsync.IndexDamagedError) as raised:
        decode(body)
    assert raised.value.storage == "the storage"


@pytest.mark.parametrize("field", sorted(body_of(FULL)))
def test_a_missing_field_is_refused(field: str) -> None:
    body = body_of(FULL)
    del body[field]
    with pytest.raises(kvsync.IndexDamagedError):
        decode(body)


def test_order_and_repetition_of_fields_are_refused() -> None:
    body = body_of(FULL)
    for odd in (dict(reversed(body.items())), body | {"new": 1}, list(body), list(body.items()), None, 1):
        with pytest.raises(kvsync.IndexDamagedError):
            decode(odd)
    twice = msgpack.packb(body)
    twice = bytes([twice[0] + 1]) + twice[1:] + msgpack.packb("clock") + msgpack.packb(1)
    with pytest.raises(kvsync.IndexDamagedError):
        Manifest.decode(seal(KIND_MANIFEST, twice), "x")
    with pytest.raises(kvsync.IndexDamagedError):
        Manifest.decode(seal(KIND_MANIFEST, msgpack.packb(body) + b"\0"), "x")
    with pytest.raises(kvsync.IndexDamagedError):
        Manifest.decode(seal(KIND_LEASE, msgpack.packb(body)), "x")


@pytest.mark.parametrize("value", [msgpack.ExtType(5, b"x"), msgpack.Timestamp(1)], ids=repr)
def test_extension_types_are_refused(value: Any) -> None:
    with pytest.raises(kvsync.IndexDamagedError):
        decode(body_of(FULL) | {"clock": value})


def refused(field: str, value: Any) -> None:
    with pytest.raises(kvsync.IndexDamagedError, match=field):
        decode(body_of(FULL) | {field: value})


def words(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(8, "little") for number in numbers)


def test_origins_and_replicas_ascend() -> None:
    point, entry = words(1, 1, 1), words(1, 1, 1, 1)
    for rows in ([[2, point], [1, point]], [[1, point], [1, point]], [[0, point]]):
        refused("chains", rows)
    for rows in (
        [[2, "", 0, entry, b"", 1], [1, "", 0, entry, b"", 1]],
        [[1, "", 0, entry, b"", 1]] * 2,
        [[0, "", 0, entry, b"", 1]],
    ):
        refused("peers", rows)
    for field in ("gone", "collected"):
        refused(field, [[2, 1], [1, 1]])
        refused(field, [[1, 1], [1, 1]])


def test_points_ascend_and_are_whole() -> None:
    good = words(1, 1, 0, 3, 2, LAST)
    assert decode(body_of(EMPTY) | {"chains": [[1, good]]}).history.chains == {1: (Point(1, 1, 0), Point(3, 2, LAST))}
    for column in (
        b"",
        good[:-1],
        good + b"\0",
        good[:-8],
        words(0, 1, 1),
        words(1, 0, 1),
        words(1, 1, 1, 1, 2, 1),
        words(2, 1, 1, 1, 2, 1),
        words(1, 2, 1, 2, 2, 1),
        words(1, 2, 1, 2, 1, 1),
    ):
        refused("chains", [[1, column]])


def test_exceptions_ascend_ahead_of_their_chains_and_are_joined() -> None:
    chains = [[1, words(1, 10, 5)]]
    body = body_of(EMPTY) | {"chains": chains}
    for rows in (
        [[1, 11, 12, 2, 12, 1]],
        [[1, 11, 12, 2, 12, 1], [1, 13, 13, 3, 14, 1]],
        [[1, 11, 12, 2, 12, 1], [1, 14, 14, 3, 14, 1]],
        [[1, 11, 12, 2, 15, 1], [1, 14, 14, 2, 15, 1]],
        [[2, 0, 0, 1, 0, 0]],
        [[2, 1, LATEST, 1, LATEST, 0]],
    ):
        assert [[*span[:3], *span.point] for span in decode(body | {"exceptions": rows}).history.exceptions] == rows
    for rows in (
        [[1, 11, 12, 2, 11, 1]],
        [[1, 12, 11, 2, 12, 1]],
        [[1, 10, 12, 2, 12, 1]],
        [[1, 9, 9, 2, 12, 1]],
        [[0, 11, 12, 2, 12, 1]],
        [[1, 11, 12, 2, 15, 1], [1, 13, 13, 2, 15, 1]],
        [[1, 11, 12, 2, 15, 1], [1, 12, 13, 3, 15, 1]],
        [[1, 11, 12, 2, 15, 1], [1, 11, 12, 2, 15, 1]],
        [[1, 14, 14, 2, 15, 1], [1, 11, 12, 2, 15, 1]],
        [[2, 1, 1, 1, 1, 1], [1, 11, 12, 2, 15, 1]],
    ):
        with pytest.raises(kvsync.IndexDamagedError, match="exceptions"):
            decode(body | {"exceptions": rows})


def test_entries_of_peers_are_places_in_chains() -> None:
    chains = {1: (Point(1, 5, 0), Point(2, 6, 1)), 5: (Point(3, 11, 7),)}
    body = body_of(EMPTY._replace(clock=11, knowledge=Knowledge(History(chains))))
    for column, known in (
        (b"\2\0", {1: Point(2, 6, 1)}),
        (b"\1\1", {1: Point(1, 5, 0), 5: Point(3, 11, 7)}),
        (b"", {}),
    ):
        assert decode(body | {"peers": [[3, "x", 5, column, b"", 9]]}).peers == {3: Peer("x", 5, known, {}, 9)}
        assert decode(body | {"peers": [[3, "x", 5, b"", column, 9]]}).peers == {3: Peer("x", 5, {}, known, 9)}
    for column in (b"\1", b"\1\0\0", b"\0\0", b"\3\0", b"\0\2", b"\1\0\1\0", b"\1\0\0\0\0\0\0\0"):
        for columns in ((column, b""), (b"", column)):
            with pytest.raises(kvsync.IndexDamagedError):
                decode(body | {"peers": [[3, "x", 5, *columns, 9]]})


def test_many_points_take_wider_places() -> None:
    chain = tuple(Point(number, number, 0) for number in range(1, 301))
    peers = {3: Peer("x", 5, {1: chain[299]}, {1: chain[0]}, 9)}
    manifest = EMPTY._replace(clock=300, knowledge=Knowledge(History({1: chain})), peers=peers)
    assert decode(body_of(manifest)).peers == peers
    assert [len(column) for column in body_of(manifest)["peers"][0][3:5]] == [2, 1]


@pytest.mark.parametrize("why", [0, 4, LAST])
def test_an_id_is_gone_for_a_known_reason(why: int) -> None:
    refused("gone", [[1, why]])


def test_what_an_intent_notes_is_read_back_and_nothing_else_is() -> None:
    history = FULL.history
    note = pack_note(history)
    assert unpack_note(note, "the storage", "segment/x") == history
    assert pack_note(History()) == b""
    assert unpack_note(b"", "the storage", "segment/x") == History()
    chains, exceptions = msgpack.unpackb(note)
    twice = [[1, words(1, 1, 1)]] * 2
    for odd in ([], [chains], [chains, exceptions, 1], [exceptions, chains], [twice, []], None, 1, {}, {1: 2}, "ab"):
        with pytest.raises(kvsync.IndexDamagedError, match="note"):
            unpack_note(msgpack.packb(odd), "the storage", "segment/x")
    for data in (note[:-1], note + b"\0", b"\xc1", b"\x92" * 2000, b"\x81\x90\x90", b"\xd9\x01\xff"):
        with pytest.raises(kvsync.IndexDamagedError) as raised:
            unpack_note(data, "the storage", "segment/x")
        assert (raised.value.storage, raised.value.name) == ("the storage", "segment/x")


def test_a_missing_delete_has_no_expiry() -> None:
    entry = Missing(Change("gone", 5, 11, 1, 0, bytes(32)), "held back")
    body = body_of(FULL._replace(knowledge=Knowledge(FULL.history, (entry,))))
    assert decode(body).knowledge.missing == (entry,)
    body["missing"][0][6] = 1
    with pytest.raises(kvsync.IndexDamagedError):
        decode(body)


def test_missing_and_unreconciled_changes_ascend() -> None:
    body = body_of(FULL)
    entry = body["missing"][0]
    for field, rows in (
        ("missing", [entry, entry]),
        ("missing", [entry, ["a", *entry[1:]]]),
        ("unreconciled", list(reversed(body["unreconciled"]))),
        ("unreconciled", [body["unreconciled"][0]] * 2),
    ):
        with pytest.raises(kvsync.IndexDamagedError):
            decode(body | {field: rows})


def test_an_inline_segment_is_the_one_that_is_listed() -> None:
    body = body_of(FULL)
    entry = body["segments"][0]
    for at, value in ((5, entry[5] + 1), (6, entry[6] ^ 1), (7, entry[7][:-1])):
        changed = [*entry[:at], value, *entry[at + 1 :]]
        with pytest.raises(kvsync.IndexDamagedError):
            decode(body | {"segments": [changed]})


def test_deep_nesting_is_refused() -> None:
    deep: Any = []
    for _ in range(400):
        deep = [deep]
    with pytest.raises(kvsync.IndexDamagedError):
        decode(body_of(FULL) | {"garbage": deep})
