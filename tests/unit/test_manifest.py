"""The manifest: what is written is read, and nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgpack
import pytest

import kvsync
from kvsync.environment import Environment
from kvsync.index.manifest import Manifest, RememberedIntent, SegmentEntry
from kvsync.native import KIND_LEASE, KIND_MANIFEST, Cover, Segment, seal
from kvsync.replica.knowledge import Knowledge, Missing
from kvsync.replica.log import Log
from kvsync.storages.mapping import MappingStorage
from kvsync.types import Change

if TYPE_CHECKING:
    from collections.abc import Callable

SEGMENT = Segment.from_values(["a", "b"], [b"1", None], 5, 10)
DATA = SEGMENT.encode("segment/0000000000000001-0")

FULL = Manifest(
    replica=2**64 - 1,
    generation=7,
    nonce=bytes(range(16)),
    clock=2**63,
    knowledge=Knowledge(
        Cover({1: 2**64 - 1, 5: 11}, [(5, 20, 25), (9, 1, 1)]),
        (Missing(Change("ключ", 5, 11, 0, 3, b"d" * 32, 1_700_086_400_000), "no room", b"h" * 32),),
        (Change("other", 5, 12, 0, 3, b"e" * 32), Change("other", 6, 1, 1, 0, bytes(32))),
    ),
    segments=(
        SegmentEntry.of("segment/0000000000000001-0", SEGMENT.maxima, 2, DATA, inline=True),
        SegmentEntry.of("segment/0000000000000002-a", SEGMENT.maxima, 2, DATA, inline=False),
    ),
    peers={3: {1: 2}, 4: {}},
    intents=(RememberedIntent("segment/0000000000000003-0", 1_700_000_000_000),),
    garbage=("segment/0000000000000004-0", "segment/0000000000000005-0"),
    digest=b"0123456789abcdef",
    checkpoints=((1, 5), (9, 77)),
    inventory=b"fedcba9876543210",
    lease=b"a version",
)
EMPTY = Manifest.fresh(7)._replace(generation=1, nonce=bytes(range(16)))


def body_of(manifest: Manifest) -> dict[str, Any]:
    body: dict[str, Any] = msgpack.unpackb(manifest.encode()[24:])
    return body


def decode(body: Any) -> Manifest:
    return Manifest.decode(seal(KIND_MANIFEST, msgpack.packb(body)), "the storage")


@pytest.mark.parametrize("manifest", [FULL, EMPTY], ids=["full", "empty"])
def test_it_reads_back(manifest: Manifest) -> None:
    read = Manifest.decode(manifest.encode(), "x")
    for name in Manifest._fields:
        expected = getattr(manifest, name)
        assert getattr(read, name) == ({} if name == "peers" and expected is None else expected)
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
        log.write(7, Segment.from_rows([]), Knowledge(Cover({7: generation})))
        assert log.manifest.generation == generation
        nonces.add(log.manifest.nonce)
    assert len(nonces) == 3


WRONG: list[Any] = [None, -1, "text", b"bytes", 1.5, True, [], [[]], [1], [[1, 2, 3, 4, 5, 6, 7, 8]], {}, {"a": 1}]
FINE: dict[str, Callable[[Any], bool]] = {
    "replica": lambda _value: False,
    "generation": lambda _value: False,
    "nonce": lambda _value: False,
    "clock": lambda _value: False,
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
    assert "scan" in str(raised.value)


@pytest.mark.parametrize("value", [None, -1, "text", b"x", 1.5, True, [1], {}], ids=repr)
@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("vector", (0, 0)),
        ("vector", (0, 1)),
        ("exceptions", (0, 0)),
        ("exceptions", (0, 1)),
        ("exceptions", (0, 2)),
        ("checkpoints", (0, 0)),
        ("checkpoints", (0, 1)),
        ("segments", (0, 0)),
        ("segments", (0, 1)),
        ("segments", (0, 2)),
        ("segments", (0, 3)),
        ("segments", (0, 4)),
        ("segments", (0, 5)),
        ("peers", (0, 0)),
        ("peers", (0, 1)),
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
        ("missing", (0, 0)),
        ("missing", (0, 7)),
        ("intents", (0, 0)),
    }
    if value == "text" and (text or field == "garbage"):
        pytest.skip("that is what belongs there")
    if value is None and (field, path) == ("segments", (0, 5)):
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


def test_vectors_ascend() -> None:
    for vector in ([[2, 1], [1, 1]], [[1, 1], [1, 2]]):
        with pytest.raises(kvsync.IndexDamagedError):
            decode(body_of(FULL) | {"vector": vector})


def test_a_missing_delete_has_no_expiry() -> None:
    entry = Missing(Change("gone", 5, 11, 1, 0, bytes(32)), "held back")
    body = body_of(FULL._replace(knowledge=Knowledge(Cover(), (entry,))))
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
    for at, value in ((3, entry[3] + 1), (4, entry[4] ^ 1), (5, entry[5][:-1])):
        changed = [*entry[:at], value, *entry[at + 1 :]]
        with pytest.raises(kvsync.IndexDamagedError):
            decode(body | {"segments": [changed]})


def test_deep_nesting_is_refused() -> None:
    deep: Any = []
    for _ in range(400):
        deep = [deep]
    with pytest.raises(kvsync.IndexDamagedError):
        decode(body_of(FULL) | {"garbage": deep})
