"""What is special about mappings: foreign contents, moods of their own, and one lock for each."""

from __future__ import annotations

import gc
import time
from collections import OrderedDict, UserDict
from typing import Any

import pytest

import kvsync
from kvsync import Put
from kvsync.environment import Environment
from kvsync.errors import StorageError
from kvsync.storages import mapping as module
from kvsync.storages.contract import RESERVED, Tier
from kvsync.storages.mapping import MappingStorage
from kvsync.types import ABSENT, Unreadable


def scan_all(storage: MappingStorage) -> list[str]:
    return [key for keys, _ in storage.scan() for key in keys]


def test_a_value_that_is_no_bytes_is_unreadable() -> None:
    data: dict[str, Any] = {"a": "text", "b": b"1", "c": bytearray(b"2")}
    storage = MappingStorage(data)
    values = storage.read(["a", "b", "c", "d"])
    assert isinstance(values[0], Unreadable)
    assert "str" in values[0].reason
    assert isinstance(values[2], Unreadable)
    assert values[1::2] == [b"1", None]
    with pytest.raises(StorageError, match="'a'") as caught:
        scan_all(storage)
    assert caught.value.key == "a"
    assert [r.changed for r in storage.write(["a"], [b"x"], [None]).refused] == [True]
    assert storage.write(["a"], [b"x"]).refused == ()


@pytest.mark.parametrize("key", [7, None, b"bytes", ("a",), "lone \ud800"])
def test_a_foreign_key_is_named_when_scanned(key: object) -> None:
    data: Any = {"a": b"1", key: b"2"}
    with pytest.raises(StorageError, match="key"):
        scan_all(MappingStorage(data))


def test_keys_below_ours_are_refused_one_by_one() -> None:
    storage = MappingStorage({})
    written = storage.write(["a", ".kvsync/manifest", "a.kvsync/b"], [b"1", b"2", b"3"])
    assert [(refusal.key, refusal.changed) for refusal in written.refused] == [(".kvsync/manifest", False)]
    assert scan_all(storage) == ["a", "a.kvsync/b"]
    storage.store("manifest", b"M", ABSENT)
    assert [r.key for r in storage.delete([".kvsync/manifest", "a"]).refused] == [".kvsync/manifest"]


def test_the_index_lies_in_the_mapping() -> None:
    data = {"a": b"1"}
    MappingStorage(data).store("manifest", b"M", ABSENT)
    assert data == {"a": b"1", ".kvsync/manifest": b"M"}


def test_one_lock_a_mapping_and_none_is_left_behind() -> None:
    gc.collect()
    before = len(module._guards)
    data: dict[str, bytes] = {}
    first, second = MappingStorage(data), MappingStorage(data)
    assert first._guard is second._guard
    assert MappingStorage({})._guard is not first._guard
    del first, second
    gc.collect()
    assert len(module._guards) == before


class Moody(UserDict[str, bytes]):
    """Refuses some keys, and breaks at others."""

    def __setitem__(self, key: str, value: bytes) -> None:
        if key == "no":
            raise ValueError(key)
        if key == "broken":
            raise RuntimeError(key)
        super().__setitem__(key, value)


def test_a_mapping_with_moods() -> None:
    storage = MappingStorage(Moody())
    written = storage.write(["a", "no", "b"], [b"1", b"2", b"3"])
    assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("no", False)]
    assert storage.read(["a", "no", "b"]) == [b"1", None, b"3"]
    with pytest.raises(StorageError, match="broken"):
        storage.write(["broken"], [b"x"])


def test_a_key_deleted_during_a_scan_is_left_out() -> None:
    data = {f"{number:05d}": b"x" for number in range(module.SCAN_COUNT + 10)}
    storage = MappingStorage(data)
    batches = storage.scan()
    next(batches)
    del data[f"{module.SCAN_COUNT:05d}"]
    (rest,) = batches
    assert rest[0][0] == f"{module.SCAN_COUNT + 1:05d}"
    assert len(rest[0]) == len(rest[1]) == 9


class Outliving(UserDict[str, bytes]):
    """Keeps what was set when its process is killed, as a `shelve` does; it is killed at a chosen write."""

    killed_at: str | None = None

    def __setitem__(self, key: str, value: bytes) -> None:
        if key == self.killed_at:
            raise KeyboardInterrupt
        super().__setitem__(key, value)


def test_only_a_dict_commits_values_and_log_as_one() -> None:
    """A shelve was called transactional; a killed commit left one of two values, and nothing in the log."""
    assert MappingStorage({}).capabilities.tier is Tier.TRANSACTIONAL
    assert MappingStorage(Outliving()).capabilities.tier is Tier.CONDITIONAL
    assert MappingStorage(OrderedDict[str, bytes]()).capabilities.tier is Tier.CONDITIONAL
    assert kvsync.sync({}, Outliving()).guarantee is Tier.CONDITIONAL


@pytest.mark.parametrize("killed_at", ["second", f"{RESERVED}/manifest"])
def test_values_that_a_killed_commit_wrote_are_adopted(killed_at: str) -> None:
    mapping, later = Outliving(), Environment(clock=lambda: time.time() + 600)
    kvsync.commit(mapping, [Put("old", b"0")])
    mapping.killed_at = killed_at
    with pytest.raises(KeyboardInterrupt):
        kvsync.commit(mapping, [Put("first", b"1"), Put("second", b"2")])
    assert mapping["first"] == b"1"
    assert {change.key for change in kvsync.log(mapping)} == {"old"}
    mapping.killed_at = None
    peer: dict[str, bytes] = {}
    kvsync.sync(mapping, peer, environment=later)
    written = {key: value for key, value in mapping.items() if not key.startswith(RESERVED)}
    assert {change.key for change in kvsync.log(mapping)} == set(written)
    assert kvsync.verify(mapping, peer).equal
    assert kvsync.verify(mapping, peer).unlogged == {MappingStorage(mapping).name: [], MappingStorage(peer).name: []}
