"""A storage as a mapping: it behaves as a dict does, and logs what is written."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections import UserDict
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

import pytest

import kvsync
from kvsync import pending as pending_module
from kvsync.storages import open_storage
from kvsync.storages.contract import RESERVED
from kvsync.testing import CountingStorage, ExpiringStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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


@pytest.mark.parametrize(("key", "value"), [(".kvsync/x", b""), ("k", "text"), ("k", None), ("k", 3), ("k", [1])])
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


@pytest.mark.parametrize("on_error", ["discard", "flush"])
def test_a_block_that_fails_commits_nothing_unless_told_to(on_error: Any) -> None:
    """Half of what the block meant to write was committed."""
    target: dict[str, bytes] = {}
    with pytest.raises(ZeroDivisionError), kvsync.open(target, on_error=on_error) as store:
        store["a"] = b"1"
        store.flush()
        store["b"] = b"2"
        raise ZeroDivisionError
    assert target["a"] == b"1"
    assert ("b" in target) is (on_error == "flush")
    assert len(kvsync.log(target)) == (2 if on_error == "flush" else 1)
    with pytest.raises(kvsync.UsageError):
        store["c"] = b"3"


def test_on_error_is_one_of_two() -> None:
    with pytest.raises(kvsync.UsageError, match="on_error"):
        kvsync.open({}, on_error="ignore")  # type: ignore[arg-type]


def test_many_writes_are_flushed_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_module, "PENDING_COUNT", 10)
    monkeypatch.setattr(pending_module, "PENDING_BYTES", 100)
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
    assert "c" not in store
    store["c"] = b"3"
    store.close()
    assert target["c"] == b"3"


@pytest.fixture
def free_scheduling() -> Iterator[None]:
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(*works: Callable[[], object]) -> None:
    """Run functions in threads, all at the same time, and raise what one of them raised."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(works))

    def call(work: Callable[[], object]) -> None:
        barrier.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.usefixtures("free_scheduling")
@pytest.mark.parametrize("count", [4000, 500])
def test_writes_of_several_threads_all_arrive(target: Any, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six threads set 24,000 keys, and 14,002 arrived: a flush committed a list, and then emptied the dict."""
    if count < 4000:
        monkeypatch.setattr(pending_module, "PENDING_COUNT", 100)
    elif isinstance(target, str) and "://" not in target:
        count = 400  # files
    store = kvsync.open(target)
    done = threading.Event()

    def write(thread: int) -> None:
        for number in range(count):
            key = f"{thread}/{number}"
            store[key] = b"%d" % number
            assert store[key] == b"%d" % number

    def flush() -> None:
        while not done.is_set():
            store.flush()

    def look() -> None:
        while not done.is_set():
            listed = list(store)
            assert len(listed) == len(set(listed))
            assert all(key in store for key in listed[:50])
            time.sleep(0.01)

    def write_all() -> None:
        try:
            at_once(*[lambda thread=thread: write(thread) for thread in range(6)])
        finally:
            done.set()

    at_once(write_all, flush, look)
    store.close()
    reader = kvsync.open(target)
    assert reader.copy() == {f"{thread}/{number}": b"%d" % number for thread in range(6) for number in range(count)}
    reader.close()
    assert len(kvsync.log(target)) == 6 * count


@pytest.mark.usefixtures("free_scheduling")
def test_of_several_threads_one_gets_a_key() -> None:
    """`pop`, `setdefault` and `del` look and write; nobody gets in between."""
    with kvsync.open({f"k{number}": b"x" for number in range(300)}) as store:
        popped: list[bytes] = []
        chosen: list[bytes] = []

        def work(thread: int) -> None:
            popped.extend(store.pop(f"k{number}", b"") for number in range(300))
            chosen.extend(store.setdefault(f"s{number}", b"%d" % thread) for number in range(300))

        at_once(*[lambda thread=thread: work(thread) for thread in range(4)])
        assert popped.count(b"x") == 300
        assert sorted(chosen) == sorted(store[f"s{number}"] for _ in range(4) for number in range(300))


def test_a_loop_yields_each_key_once_while_it_writes(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`for k in s: s[k] += b"!"` over 25,000 keys changed 5,000 of them twice."""
    monkeypatch.setattr(pending_module, "PENDING_COUNT", 37)
    before = {f"k{number:04}": b"%d" % number for number in range(120)}
    with kvsync.open(target) as store:
        store.update(before)
    with kvsync.open(target) as store:
        store["pending"] = b"p"
        for key in store:
            store[key] += b"!"
            store[f"new/{key}"] = b""
        assert store.copy() == {
            **{key: value + b"!" for key, value in {**before, "pending": b"p"}.items()},
            **{f"new/{key}": b"" for key in [*before, "pending"]},
        }
        for key in store:
            if key.startswith("new/"):
                del store[key]
        assert len(store) == 121
        for key, value in store.items():
            assert value.endswith(b"!")
            store.pop("k0100", None)
            store.pop(key)
        assert not store


def test_a_closed_store_takes_nothing(target: Any) -> None:
    """What was written after `close` was accepted, and lost."""
    store = kvsync.open(target)
    store["a"] = b"1"
    store.close()
    store.close()
    calls: list[Callable[[], object]] = [
        lambda: store.update(b=b"2"),
        lambda: store.put("b", b"2"),
        lambda: store.pop("a"),
        lambda: store.setdefault("b", b"2"),
        store.clear,
        store.flush,
        lambda: store["a"],
        lambda: list(store),
    ]
    for call in calls:
        with pytest.raises(kvsync.UsageError, match="closed"):
            call()
    assert "closed" in repr(store)
    assert [change.key for change in kvsync.log(target)] == ["a"]


def test_writes_that_are_dropped_are_warned_of() -> None:
    def drop(*, discards: bool) -> None:
        store = kvsync.open({})
        store["a"] = b"1"
        assert not discards or store.discard() == 1

    with pytest.warns(ResourceWarning, match="1 pending.*not closed"):
        drop(discards=False)
    drop(discards=True)
    gc.collect()


class Picky(UserDict[str, bytes]):
    """Refuses the keys that begin with `no`."""

    def __setitem__(self, key: str, value: bytes) -> None:
        if key.startswith("no"):
            raise ValueError(key)
        super().__setitem__(key, value)


def test_a_refused_key_is_reported_once() -> None:
    """It stayed pending, and failed every later flush."""
    target = Picky()
    with kvsync.open(target) as store:
        store.update({"a": b"1", "no": b"2", "b": b"3", "no/2": b"4"})
        with pytest.raises(kvsync.RefusedError, match="'no'") as raised:
            store.flush()
        assert [refusal.key for refusal in raised.value.refused] == ["no", "no/2"]
        assert (raised.value.key, store.flush()) == ("no", 0)
        store["c"] = b"5"
        assert store.copy() == {"a": b"1", "b": b"3", "c": b"5"}
    assert {change.key for change in kvsync.log(target)} == {"a", "b", "c"}
    with pytest.raises(kvsync.RefusedError), kvsync.open(target) as store:
        store["no"] = b"1"
    assert "closed" in repr(store)


@pytest.mark.parametrize("key", [1, None, b"k", ".kvsync/manifest", "lone \ud800"])
def test_what_cannot_be_a_key_is_absent(target: Any, key: Any) -> None:
    """`1 in store` raised AttributeError on a folder, and a dict showed its index."""
    with kvsync.open(target) as store:
        store["k"] = b"1"
        store.flush()
        assert key not in store
        assert store.get(key) is None
        assert store.pop(key, b"none") == b"none"
        with pytest.raises(KeyError):
            store[key]
        with pytest.raises(KeyError):
            del store[key]


def test_looking_for_a_key_reads_no_value(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a").write_bytes(b"1")
    (folder / "b").write_bytes(b"2")
    storage = CountingStorage(open_storage(str(folder))[0])
    with kvsync.open(storage) as store:
        assert "a" in store
        del store["a"]
        assert "a" not in store
        assert storage.operations["read"] == 0
        store["new"] = b"3"
        assert store
        assert storage.operations["scan"] == 0
        assert store.setdefault("new", b"4") == b"3"
        assert storage.operations["read"] == 0


def test_truth_is_told_by_the_first_key() -> None:
    storage = CountingStorage(open_storage({f"k{number:05}": b"" for number in range(30_000)})[0])
    with kvsync.open(storage) as store:
        assert store
        del store["k00000"]
        assert store
        assert storage.keys["scan"] <= 20_000
    assert not kvsync.open({})


def test_a_value_expires_through_a_store() -> None:
    now = [1_000.0]
    storage = ExpiringStorage(clock=lambda: now[0])
    peer: dict[str, bytes] = {}
    with kvsync.open(storage, clock=lambda: now[0]) as store:
        store.put("session", b"1", expires=1_060)
        store.put("kept", b"2")
        assert store["session"] == b"1"
        now[0] = 1_061
        assert "session" not in store
        assert list(store) == ["kept"]
        now[0] = 1_000
    assert storage.expiries(["session", "kept"]) == [1_060_000, 0]
    kvsync.sync(storage, peer, clock=lambda: now[0])
    assert peer["session"] == b"1"
    with kvsync.open({}) as store, pytest.raises(kvsync.UsageError, match="expires"):
        store.put("x", b"", expires=float("nan"))


def test_it_has_what_a_dict_has(target: Any) -> None:
    data = bytearray(b"1")
    with kvsync.open(target) as store:
        store["a"] = data
        data[:] = b"2"
        store["b"] = memoryview(b"xyz")[1:]
        assert store.copy() == {"a": b"1", "b": b"yz"}
        assert type(store["a"]) is bytes
        store |= {"c": b"3"}
        store |= [("d", b"4")]
        assert repr(store) == f"Store({store._storage.name!r}, 4 pending)"
        assert isinstance(store, kvsync.Store)
        assert sorted(store.values()) == [b"1", b"3", b"4", b"yz"]
        assert store == {"a": b"1", "b": b"yz", "c": b"3", "d": b"4"}
        taken = dict([store.popitem() for _ in range(4)])
        assert taken == {"a": b"1", "b": b"yz", "c": b"3", "d": b"4"}
        with pytest.raises(KeyError):
            store.popitem()
    assert not any(key.startswith(RESERVED) for key in taken)
