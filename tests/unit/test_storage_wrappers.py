"""Storages around storages: what they count, when they fail, and what they pass on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import kvsync
from kvsync.errors import SameStorageError, StorageError
from kvsync.storages.contract import Support, Tier, has_expiry, has_identity, has_transaction
from kvsync.storages.counted import CountedStorage
from kvsync.storages.folder import FolderStorage
from kvsync.storages.mapping import MappingStorage
from kvsync.storages.sqlite import SqliteStorage
from kvsync.testing import CountingStorage, ExpiringStorage, Fault, FaultError, FaultyStorage, Killed, LatencyStorage
from kvsync.types import ABSENT, ANY

if TYPE_CHECKING:
    from pathlib import Path

    from kvsync.testing import FaultMode


def test_transactions_are_there_exactly_where_the_inner_storage_has_them(tmp_path: Path) -> None:
    plain, database = MappingStorage({}), SqliteStorage(tmp_path / "a.db")
    for inner, has in ((plain, False), (database, True)):
        wrappers = [
            CountingStorage(inner),
            FaultyStorage(inner, Fault()),
            LatencyStorage(inner, seconds=0),
        ]
        for wrapper in wrappers:
            assert has_transaction(wrapper) == has
            assert has_transaction(CountingStorage(wrapper)) == has


def test_counting(tmp_path: Path) -> None:
    storage = CountingStorage(SqliteStorage(tmp_path / "a.db"))
    with storage.transaction():
        storage.write(["a", "b"], [b"11", b"222"])
        storage.store("manifest", b"1234", ABSENT)
    storage.read(["a", "b", "c"])
    storage.load("manifest")
    list(storage.scan())
    storage.delete(["a"])
    storage.remove(["manifest"], ANY)
    assert storage.value_operations == {"write": 1, "read": 1, "scan": 1, "delete": 1}
    assert storage.object_operations == {"store": 1, "load": 1, "remove": 1}
    transactions = Counter(begin=1, commit=1)
    assert storage.operations == storage.value_operations + storage.object_operations + transactions
    assert storage.value_bytes == {"write": 5, "read": 5}
    assert storage.object_bytes == {"store": 4, "load": 4}
    assert storage.keys == {"write": 2, "read": 3, "scan": 2, "delete": 1}
    assert storage.stored == [("store", "manifest"), ("load", "manifest"), ("remove", "manifest")]
    storage.reset()
    assert not storage.operations


@pytest.mark.parametrize(("mode", "there"), [("raises", None), ("lost", b"2")])
def test_failing_before_or_after_the_effect(mode: FaultMode, there: bytes | None) -> None:
    data: dict[str, bytes] = {}
    fault = Fault(at=2, mode=mode)
    storage = FaultyStorage(MappingStorage(data), fault)
    storage.write(["a"], [b"1"])
    with pytest.raises(StorageError):
        storage.write(["b"], [b"2"])
    assert data.get("b") == there
    assert storage.read(["b"]) == [there]
    assert (fault.count, fault.happened) == (3, True)


@pytest.mark.parametrize(("mode", "left"), [("killed", {".kvsync/lease": b"1"}), ("killed-after", {})])
def test_a_killed_process_reaches_none_of_its_storages(mode: FaultMode, left: dict[str, bytes]) -> None:
    data: dict[str, bytes] = {}
    fault = Fault(at=2, mode=mode)
    storage, other = FaultyStorage(MappingStorage(data), fault), FaultyStorage(MappingStorage({}), fault)
    storage.store("lease", b"1", ABSENT)
    for _ in range(3):
        with pytest.raises(Killed):
            storage.remove(["lease"], ANY)
        with pytest.raises(Killed):
            other.load("lease")
    storage.close()
    assert data == left


def test_a_batch_fails_between_two_of_its_values() -> None:
    data: dict[str, bytes] = {}
    storage = FaultyStorage(MappingStorage(data), Fault(at=2))
    with pytest.raises(FaultError, match=r"operation 2 \(write\)"):
        storage.write(["a", "b", "c"], [b"1", b"2", b"3"], [None] * 3)
    assert data == {"a": b"1"}
    written = storage.write(["a", "b"], [b"4", b"5"], [None, None])
    assert [refusal.key for refusal in written.refused] == ["a"]
    assert storage.delete(["a", "b"], [None, None]).refused[0].key == "a"


def test_something_happens_before_an_operation() -> None:
    data: dict[str, bytes] = {}
    seen: list[tuple[int, int]] = []
    fault = Fault(before=lambda number: seen.append((number, len(data))))
    FaultyStorage(MappingStorage(data), fault).write(["a", "b"], [b"1", b"2"])
    assert seen == [(1, 0), (2, 1)]


@pytest.mark.parametrize(
    ("at", "mode", "held"),
    [(1, "raises", None), (1, "lost", None), (2, "lost", None), (3, "raises", None), (3, "lost", b"1")],
)
def test_faults_around_a_transaction(tmp_path: Path, at: int, mode: FaultMode, held: bytes | None) -> None:
    storage = FaultyStorage(SqliteStorage(tmp_path / "a.db"), Fault(at, mode))
    with pytest.raises(StorageError), storage.transaction():
        storage.write(["a"], [b"1"])
    assert storage.read(["a"]) == [held]
    with storage.transaction():
        storage.write(["b"], [b"1"])
    assert storage.read(["b"]) == [b"1"]


def test_expiry_passes_through_and_counts_as_any_other_call() -> None:
    now = [1_700_000_000.0]
    inner = ExpiringStorage(clock=lambda: now[0])
    faulty = FaultyStorage(inner, Fault(at=3, mode="lost"))
    storage = CountingStorage(CountedStorage(faulty))
    assert has_expiry(faulty)
    assert has_expiry(storage)
    written = storage.write_expiring(["a", "b"], [b"1", b"2"], [1_700_000_060_000, 0])
    assert written.tokens == inner.write_expiring(["a", "b"], [b"1", b"2"], [1_700_000_060_000, 0]).tokens
    with pytest.raises(StorageError):
        storage.write_expiring(["c"], [b"3"], [1_700_000_060_000], [None])
    assert storage.expiries(["a", "b", "c"]) == [1_700_000_060_000, 0, 1_700_000_060_000]
    assert storage.value_operations == {"write_expiring": 2, "expiries": 1}
    now[0] += 60
    assert storage.read(["a", "b", "c"]) == [None, b"2", None]
    assert not has_expiry(CountingStorage(MappingStorage({})))


def test_capabilities_are_those_of_the_moment() -> None:
    inner = ExpiringStorage()
    storage = CountingStorage(FaultyStorage(inner, Fault()))
    inner.capabilities = replace(inner.capabilities, supports=inner.capabilities.supports - {Support.EXPIRY})
    assert not has_expiry(storage)
    storage.capabilities = replace(inner.capabilities, tier=Tier.ADVISORY)
    assert (storage.capabilities.tier, inner.capabilities.tier) == (Tier.ADVISORY, Tier.CONDITIONAL)


def test_identity_skipped_entries_and_dry_probes_pass_through(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    folder = FolderStorage(tmp_path)
    storage = CountingStorage(FaultyStorage(folder, Fault()))
    assert has_identity(storage)
    assert storage.identity == folder.identity
    with pytest.raises(SameStorageError):
        kvsync.sync(storage, FolderStorage(tmp_path))
    found = kvsync.doctor(storage)
    assert [entry.name for entry in found.skipped] == ["link"]
    assert [path.name for path in tmp_path.iterdir()] == ["link"]
