"""The records that Python reads, as every released version wrote them."""

from __future__ import annotations

from pathlib import Path

import msgpack
import pytest

from kvsync.errors import IndexDamagedError
from kvsync.index.histories import unpack_note
from kvsync.index.lost import decode_lost, keep_lost
from kvsync.index.manifest import Manifest, RememberedIntent, SegmentEntry
from kvsync.lease import LeaseRecord, LeaseState
from kvsync.native import Segment, digest_values
from kvsync.replica.peers import FORGOTTEN, REPLACED, STRUCK, Peer
from kvsync.replica.points import Point, is_branch
from kvsync.storages.mapping import MappingStorage

GOLDEN = Path(__file__).parent.parent / "golden"
STAMP = 1_700_000_000_000 << 16
FIRST = Point(1, STAMP + 2, 0x1111_2222_3333_4444)


@pytest.mark.parametrize("version", ["v1"])
def test_a_manifest(version: str) -> None:
    manifest = Manifest.decode((GOLDEN / version / "manifest.bin").read_bytes(), "golden")
    assert (manifest.replica, manifest.place, manifest.generation) == (7, 2**64 - 8, 3)
    knowledge = manifest.knowledge
    assert [entry.change.key for entry in knowledge.missing] == ["a"]
    assert [entry.change.expires for entry in knowledge.missing] == [1_700_086_400_000]
    assert knowledge.missing[0].held == digest_values([b"older"])[0]
    assert [(change.key, change.origin) for change in knowledge.unreconciled] == [("b", 9)]
    assert manifest.intents == (RememberedIntent("segment/0000000000000002-0", 1_700_000_600_000),)
    assert manifest.history.chains == {
        7: (FIRST, Point(3, STAMP + 9, 0)),
        9: (Point(4, STAMP, 5),),
        1 << 63 | 7: (Point(2, STAMP + 6, 2**64 - 1),),
    }
    assert [is_branch(origin) for origin in manifest.history.chains] == [False, False, True]
    assert [tuple(span) for span in manifest.history.exceptions] == [(9, STAMP + 5, STAMP + 6, (6, STAMP + 8, 99))]
    assert manifest.cover.vector == {7: STAMP + 9, 9: STAMP, 1 << 63 | 7: STAMP + 6}
    assert manifest.cover.exceptions == [(9, STAMP + 5, STAMP + 6)]
    known = {7: FIRST, 9: Point(4, STAMP, 5)}
    assert manifest.peers == {9: Peer("folder:copy", STAMP + 2, known, {7: Point(3, STAMP + 9, 0)}, 99)}
    assert manifest.gone == {5: REPLACED, 6: FORGOTTEN, 8: STRUCK}
    assert (manifest.collected, manifest.collected_ms) == ({7: STAMP + 1}, 1_700_000_500_000)
    (entry,) = manifest.segments
    assert entry.inline is not None
    assert entry == SegmentEntry.of(entry.name, Segment.decode(entry.inline, entry.name), entry.inline, inline=True)
    assert (entry.length, entry.passing, entry.passing_length) == (5, ((7, STAMP + 2),), 2)
    assert manifest.inventory == b"fedcba9876543210"
    assert manifest.lease == b"0123456789abcdef0123456789abcdef"
    assert manifest.encode() == (GOLDEN / version / "manifest.bin").read_bytes()


@pytest.mark.parametrize("version", ["v1"])
def test_the_note_of_an_intent(version: str) -> None:
    name = "segment/0000000000000001-0"
    segment = Segment.decode((GOLDEN / version / "segment-note.bin").read_bytes(), name)
    giver = unpack_note(segment.note, "golden", name)
    assert giver.chains == {1: (FIRST,), 7: (FIRST, Point(3, STAMP + 9, 0))}
    far = STAMP + (5 << 32)
    assert [tuple(span) for span in giver.exceptions] == [(2**64 - 1, far, far, (8, STAMP + (6 << 32), 77))]
    rows = segment.rows(0, len(segment))
    assert {row[1] for row in rows} == {1, 7, 2**64 - 1}
    assert all(giver.point_at(row[1], row[2]) for row in rows)


@pytest.mark.parametrize("version", ["v1"])
def test_a_lease(version: str) -> None:
    record = LeaseRecord.decode((GOLDEN / version / "lease.bin").read_bytes(), "golden")
    assert (record.state, record.renewals, record.life_seconds) == (LeaseState.RELEASED, 4, 60.0)
    assert (record.process.pid, record.process.started) == (4711, 123_456)
    assert record.process.machine.startswith("golden 01234567-89ab-")
    assert record.encode() == (GOLDEN / version / "lease.bin").read_bytes()


@pytest.mark.parametrize("version", ["v1"])
def test_lost_values(version: str) -> None:
    data = (GOLDEN / version / "lost.bin").read_bytes()
    name = msgpack.unpackb(data[24:])["name"]
    values = decode_lost(data, name, "golden")
    assert [(value.key, value.origin, value.value) for value in values] == [("a", 7, b"lost"), ("b", 9, b"")]
    assert values[0].id == "018bcfe568000000-0000000000000007-60cab5f9"
    storage = MappingStorage({})
    assert keep_lost(storage, reversed(values)) == [(name, values)]
    assert storage.mapping[f".kvsync/{name}"] == data
    with pytest.raises(IndexDamagedError, match="damaged"):
        decode_lost(data, "lost/elsewhere", "golden")
