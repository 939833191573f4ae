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
from kvsync.native import digest_values
from kvsync.storages import mapping as module
from kvsync.storages.contract import RESERVED, Tier
from kvsync.storages.mapping import MappingStorage
from kvsync.types import ABSENT, Unreadable


def scan_all(storage: MappingStorage) -> dict[str, bytes]:
    return {key: token for keys, tokens in storage.scan() for key, token in zip(keys, tokens, strict=True)}


def test_a_value_that_is_no_bytes_is_unreadable() -> None:
    data: dict[str, Any] = {"a": "text", "b": b"1", "c": bytearray(b"2"), "n": None}
    for mapping in (data, UserDict(data)):
        storage = MappingStorage(mapping)
        values = storage.read(["a", "b", "c", "n", "absent"])
        assert [value.reason for value in values if isinstance(value, Unreadable)] == [
            "the mapping holds a str, not bytes",
            "the mapping holds a bytearray, not bytes",
            "the mapping holds None, not bytes",
        ]
        assert values[1::3] == [b"1", None]
        assert scan_all(storage) == {"a": b"", "b": digest_values([b"1"])[0], "c": b"", "n": b""}
        for expected in (None, b"", digest_values([b"x"])[0]):
            assert [r.changed for r in storage.write(["a"], [b"x"], [expected]).refused] == [True]
            assert [r.changed for r in storage.delete(["n"], [expected]).refused] == [True]
        assert storage.write(["a"], [b"x"]).refused == ()


@pytest.mark.parametrize("key", [7, None, b"bytes", ("a",), "lone \ud800", ".KVSYNC/x", "a/.kvsync", "\u200b.kvsync"])
def test_what_cannot_be_a_key_is_skipped_and_named(key: object) -> None:
    """One such key stopped the run, which did not name the mapping either."""
    data: Any = {"a": b"1", key: b"2", "b": b"3"}
    name = repr(key)[1:-1] if isinstance(key, str) else repr(key)
    storage = MappingStorage(data)
    assert list(scan_all(storage)) == ["a", "b"]
    (skipped,) = storage.skipped
    assert skipped.name == name
    assert skipped.reason
    assert not skipped.harmless
    peer: dict[str, bytes] = {}
    result = kvsync.sync(data, peer, scan=True)
    assert (peer["a"], peer["b"], result.pushed) == (b"1", b"3", 2)
    assert [(u.key, u.side) for u in result.unreadable] == [(name, "source")]


def test_keys_below_ours_are_refused_one_by_one() -> None:
    storage = MappingStorage({})
    written = storage.write(["a", ".kvsync/manifest", "a.kvsync/b"], [b"1", b"2", b"3"])
    assert [(refusal.key, refusal.changed) for refusal in written.refused] == [(".kvsync/manifest", False)]
    assert list(scan_all(storage)) == ["a", "a.kvsync/b"]
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
    """Does what it likes with some keys."""

    def __getitem__(self, key: str) -> bytes:
        if key == "unread":
            raise RuntimeError(key)
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: bytes) -> None:
        if key == "no":
            raise ValueError(key)
        if key == "broken":
            raise RuntimeError(key)
        if key != "ignored":
            super().__setitem__(key, value.upper() if key == "shouted" else value)

    def __delitem__(self, key: str) -> None:
        if key == "locked":
            raise OSError(key)
        if key != "stays":
            super().__delitem__(key)


def test_a_mapping_with_moods() -> None:
    storage = MappingStorage(Moody())
    keys = ["a", "no", "b", "broken", "ignored", "shouted", "unread"]
    written = storage.write(keys, [b"1"] * 5 + [b"hush", b"1"])
    assert [refusal.key for refusal in written.refused] == ["no", "broken", "ignored", "shouted", "unread"]
    assert not any(refusal.changed for refusal in written.refused)
    assert storage.read(["a", "no", "b", "ignored"]) == [b"1", None, b"1", None]
    assert isinstance(storage.read(["unread"])[0], Unreadable)
    assert scan_all(storage)["unread"] == b""
    storage.write(["locked", "stays", "goes"], [b"1"] * 3)
    assert [refusal.key for refusal in storage.delete(["locked", "stays", "goes"]).refused] == ["locked", "stays"]
    with pytest.raises(StorageError, match="list its keys"):
        list(MappingStorage(Unlistable()).scan())


class Unlistable(UserDict[str, bytes]):
    """Cannot be iterated."""

    def __iter__(self) -> Any:
        raise RuntimeError


def test_only_the_key_that_a_mapping_refuses_is_left_behind() -> None:
    """Eight cases of another project's test suite stopped a run for one key."""
    moody = Moody({"a": b"1", "unread": b"2"})
    peer = {"b": b"3", "no": b"4", "broken": b"5", "ignored": b"6", "shouted": b"loud"}
    result = kvsync.sync(moody, peer, scan=True)
    assert (moody["b"], peer["a"]) == (b"3", b"1")
    assert {(missing.key, missing.side) for missing in result.missing} == {
        (key, "source") for key in ("no", "broken", "ignored", "shouted")
    }
    assert [(u.key, u.side) for u in result.unreadable] == [("unread", "source")]
    assert all(missing.reason for missing in result.missing)
    peer["c"] = b"7"
    again = kvsync.sync(moody, peer, scan=True)
    assert (moody["c"], peer["ignored"], peer["no"]) == (b"7", b"6", b"4")
    assert sorted(missing.key for missing in again.missing) == ["broken", "ignored", "no"]
    # What the mapping made of a value is a change of its own, and both sides agree on it.
    assert moody["shouted"] == peer["shouted"] == b"LOUD"


def test_a_delete_that_a_mapping_refuses_is_reported() -> None:
    moody = Moody({"stays": b"1", "locked": b"2", "goes": b"3", "kept": b"4"})
    peer: dict[str, bytes] = {}
    kvsync.sync(moody, peer, scan=True)
    for key in ("stays", "locked", "goes"):
        del peer[key]
    result = kvsync.sync(moody, peer, scan=True, max_delete="100%")
    assert "goes" not in moody
    assert sorted(missing.key for missing in result.missing) == ["locked", "stays"]
    assert "stays" not in peer


def test_a_key_deleted_during_a_scan_is_left_out() -> None:
    data = {f"{number:05d}": b"x" for number in range(module.SCAN_COUNT + 10)}
    storage = MappingStorage(data)
    batches = storage.scan()
    next(batches)
    del data[f"{module.SCAN_COUNT:05d}"]
    ((keys, tokens),) = batches
    assert keys[0] == f"{module.SCAN_COUNT + 1:05d}"
    assert len(keys) == len(tokens) == 9


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
