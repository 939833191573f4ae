"""The records that Python reads, as every released version wrote them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvsync.index.lost import LostValue
from kvsync.index.manifest import Manifest, RememberedIntent
from kvsync.lease import LeaseRecord, LeaseState
from kvsync.native import digest_values

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.mark.parametrize("version", ["v1"])
def test_a_manifest(version: str) -> None:
    manifest = Manifest.decode((GOLDEN / version / "manifest.bin").read_bytes(), "golden")
    assert (manifest.replica, manifest.generation) == (7, 3)
    knowledge = manifest.knowledge
    assert [entry.change.key for entry in knowledge.missing] == ["a"]
    assert [entry.change.expires for entry in knowledge.missing] == [1_700_086_400_000]
    assert knowledge.missing[0].held == digest_values([b"older"])[0]
    assert [(change.key, change.origin) for change in knowledge.unreconciled] == [("b", 9)]
    assert manifest.intents == (RememberedIntent("segment/0000000000000002-0", 1_700_000_600_000),)
    assert manifest.segments[0].inline is not None
    assert [number for number, _ in manifest.checkpoints] == [1, 3]
    assert manifest.inventory == b"fedcba9876543210"
    assert manifest.lease == b"0123456789abcdef0123456789abcdef"
    assert manifest.encode() == (GOLDEN / version / "manifest.bin").read_bytes()


@pytest.mark.parametrize("version", ["v1"])
def test_a_lease(version: str) -> None:
    record = LeaseRecord.decode((GOLDEN / version / "lease.bin").read_bytes(), "golden")
    assert (record.state, record.renewals, record.life_seconds) == (LeaseState.RELEASED, 4, 60.0)
    assert (record.process.pid, record.process.started) == (4711, 123_456)
    assert record.process.machine.startswith("golden 01234567-89ab-")
    assert record.encode() == (GOLDEN / version / "lease.bin").read_bytes()


@pytest.mark.parametrize("version", ["v1"])
def test_a_lost_value(version: str) -> None:
    data = (GOLDEN / version / "lost.bin").read_bytes()
    # The golden object is named by hand; the name is part of what is checked.
    with pytest.raises(Exception, match="damaged"):
        LostValue.decode(data, "lost/elsewhere", "golden")
