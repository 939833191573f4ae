"""A storage as a mapping: it behaves as a dict does, and logs what is written."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

import pytest

import kvsync
from kvsync import store as store_module

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["dict", "folder", "sqlite"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return {"dict": {}, "folder": str(tmp_path / "files"), "sqlite": f"sqlite:///{tmp_path}/x.db"}[request.param]


def test_it_is_a_mapping(target: Any) -> None:
    with kvsync.open(target) as store:
        assert isinstance(store, MutableMapping)
        store["a"] = b"1"
        store.update({"b": b"2", "c": b"3"})
        del store["b"]
        assert store.pop("c") == b"3"
        assert store.setdefault("d", b"4") == b"4"
        assert dict(store) == {"a": b"1", "d": b"4"}
        assert len(store) == 2
        assert "a" in store
        assert "b" not in store
        assert store.get("b") is None
        store.flush()
        assert dict(store) == {"a": b"1", "d": b"4"}
        store.clear()
        assert dict(store) == {}
    assert all(change.deletes for change in kvsync.log(target))


def test_what_is_written_is_logged_and_synced(target: Any) -> None:
    other: dict[str, bytes] = {}
    with kvsync.open(target) as store:
        store["a"] = b"1"
        store["a"] = b"2"
        store["b"] = b"3"
    result = kvsync.sync(target, other)
    assert result.pushed == 2
    assert (other["a"], other["b"]) == (b"2", b"3")
    with kvsync.open(target) as store:
        del store["a"]
    kvsync.sync(target, other)
    assert "a" not in other


def test_nothing_is_written_before_a_flush() -> None:
    target: dict[str, bytes] = {"a": b"old"}
    store = kvsync.open(target)
    store["a"] = b"new"
    del store["a"]
    store["b"] = b"1"
    assert target == {"a": b"old"}
    assert dict(store) == {"b": b"1"}
    assert store.flush() == 2
    assert store.flush() == 0
    assert target.get("a") is None
    assert target["b"] == b"1"


@pytest.mark.parametrize("key", ["absent", "deleted"])
def test_absent_keys(target: Any, key: str) -> None:
    with kvsync.open(target) as store:
        store["deleted"] = b"1"
        del store["deleted"]
        for _ in range(2):
            with pytest.raises(KeyError):
                store[key]
            with pytest.raises(KeyError):
                del store[key]
            store.flush()


@pytest.mark.parametrize(("key", "value"), [(".kvsync/x", b""), ("k", "text"), ("k", None), ("k", bytearray())])
def test_wrong_entries_are_refused_at_once(key: Any, value: Any) -> None:
    target: dict[str, bytes] = {}
    with kvsync.open(target) as store:
        with pytest.raises(kvsync.UsageError):
            store[key] = value
        assert len(store) == 0
    assert target == {}


@pytest.mark.parametrize("key", [1, None, b"k"])
def test_a_key_that_is_no_text_is_refused(key: Any) -> None:
    with kvsync.open({}) as store, pytest.raises(kvsync.UsageError):
        store[key] = b"1"


def test_it_is_flushed_after_an_error_too() -> None:
    target: dict[str, bytes] = {}
    with pytest.raises(ZeroDivisionError), kvsync.open(target) as store:
        store["a"] = b"1"
        raise ZeroDivisionError
    assert target["a"] == b"1"


def test_many_writes_are_flushed_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PENDING_COUNT", 10)
    monkeypatch.setattr(store_module, "PENDING_BYTES", 100)
    target: dict[str, bytes] = {}
    with kvsync.open(target) as store:
        for i in range(10):
            store[f"k{i}"] = b""
        assert "k9" in target
        store["big"] = b"x" * 100
        assert "big" in target
        store["small"] = b"x"
        assert "small" not in target
    assert "small" in target


def test_a_lease_that_is_held_keeps_what_is_pending() -> None:
    target: dict[str, bytes] = {}
    store = kvsync.open(target)
    store["a"] = b"1"
    with kvsync.open(target):
        pass
    good = kvsync.lease.LeaseRecord(kvsync.lease.LeaseState.RELEASED, b"", "x", 0, 0, 0).encode()
    target[".kvsync/lease"] = good[:-1]
    with pytest.raises(kvsync.IndexDamagedError):
        store.flush()
    del target[".kvsync/lease"]
    assert store["a"] == b"1"
    assert store.flush() == 1
    assert target["a"] == b"1"
