"""What several kinds of storage have to go through alike, each told once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

import kvsync
from kvsync import Delete, Put
from kvsync.errors import LockHeldError, StorageError, UsageError
from kvsync.storages import open_storage
from kvsync.storages.contract import Storage, has_transaction
from kvsync.testing.conformance import listing
from kvsync.types import ABSENT, ANY

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "absent_bucket_is_told",
    "held_lease_is_reported_at_once",
    "is_made_equal_with_a_dict",
    "path_goes_on_meaning_the_same",
    "reads_as_empty",
    "transactions_do_not_nest",
    "two_tables_have_an_index_each",
]


def is_made_equal_with_a_dict(url: str, keys: list[str]) -> dict[str, bytes]:
    """Sync a new storage both ways; return the dict that is equal to it now. `keys` are its 500 first keys."""
    data: dict[str, bytes] = {}
    assert kvsync.sync(data, url, changes=[Put(key, b"%d" % number) for number, key in enumerate(keys)]).pushed == 500
    result = kvsync.sync(data, url, changes=[Put(keys[1], b"new"), Delete(keys[2])])
    assert result.pushed == 2
    assert result.guarantee == "T1"
    kvsync.commit(url, [Put(keys[3], b"theirs"), Delete(keys[4])])
    assert kvsync.sync(data, url).pulled == 2
    values = {key: value for key, value in data.items() if not key.startswith(".kvsync/")}
    with closing(open_storage(url)[0]) as storage:
        assert dict(zip(values, storage.read(list(values)), strict=True)) == values
        assert len(listing(storage)) == len(values) == 498
    return data


def held_lease_is_reported_at_once(url: str) -> None:
    """Run into a run that stands still in its push: who does not want to wait is told, and does not hang."""
    data: dict[str, bytes] = {}
    kvsync.sync(data, url, changes=[Put("a", b"1")])
    entered, leave = threading.Event(), threading.Event()

    def hold(progress: object) -> None:
        entered.set()
        leave.wait(30)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(kvsync.sync, data, url, changes=[Put("b", b"2")], on_progress=hold)
        assert entered.wait(30)
        started = time.monotonic()
        with pytest.raises(LockHeldError):
            kvsync.sync({}, url, changes=[Put("c", b"3")], wait_seconds=0)
        assert time.monotonic() - started < 5
        leave.set()
        assert running.result(30).pushed == 1


def absent_bucket_is_told(storage: Storage) -> None:
    """Nothing takes a bucket that is not there for an empty one."""
    for call in (
        lambda: storage.read(["a"]),
        lambda: storage.write(["a"], [b"1"]),
        lambda: storage.delete(["a"]),
        lambda: list(storage.scan()),
        lambda: storage.load("lease"),
    ):
        with pytest.raises(StorageError, match="the bucket does not exist: create it"):
            call()


def reads_as_empty(storage: Storage) -> None:
    """Look at a storage that is not there, and delete from it."""
    assert storage.read(["x"]) == [None]
    assert listing(storage) == {}
    assert storage.objects() == []
    assert storage.load("manifest") is None
    storage.delete(["x"])
    storage.remove(["lease"], ANY)


def two_tables_have_an_index_each(first: Storage, second: Storage) -> None:
    """Write to two tables of one database."""
    first.store("manifest", b"1", ABSENT)
    assert second.objects() == []
    second.store("manifest", b"2", ABSENT)
    first.write(["a"], [b"1"])
    assert second.read(["a"]) == [None]
    first.remove(["manifest"], ANY)
    assert second.objects() == ["manifest"]


def transactions_do_not_nest(storage: Storage) -> None:
    """Begin a transaction within another."""
    assert has_transaction(storage)
    with storage.transaction():
        storage.write(["a"], [b"1"])
        with pytest.raises(UsageError), storage.transaction():
            pytest.fail("it began")
    assert storage.read(["a"]) == [b"1"]


def path_goes_on_meaning_the_same(start: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change the working directory before the first call; `start` is what stands before a path."""
    for name in ("here", "there", "other/deep"):
        (folder / name).mkdir(parents=True)
    (folder / "here/link").symlink_to(folder / "other/deep")
    for path, lies in (("new", "here"), ("link/../new", "other")):
        monkeypatch.chdir(folder / "here")
        with closing(open_storage(start + path)[0]) as storage:
            monkeypatch.chdir(folder / "there")
            assert storage.name == start + path
            reads_as_empty(storage)
            assert storage.write(["a"], [b"1"]).refused == ()
            storage.store("lease", b"1", ABSENT)
            assert storage.read(["a"]) == [b"1"]
        assert list((folder / "there").iterdir()) == []
        assert (folder / lies / "new").exists()
        with closing(open_storage(f"{start}{folder}/{lies}/new")[0]) as again:
            assert again.identity == storage.identity  # type: ignore[attr-defined]
            assert again.read(["a"]) == [b"1"]
            assert again.objects() == ["lease"]
