"""What several kinds of storage have to go through alike, each told once."""

from __future__ import annotations

import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

import kvsync
from kvsync import Delete, Put
from kvsync.errors import LockHeldError, StorageError, UsageError
from kvsync.storages import open_storage
from kvsync.storages.contract import ObjectMismatch, Storage, has_transaction
from kvsync.testing.conformance import listing
from kvsync.types import ABSENT, ANY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = [
    "absent_bucket_is_told",
    "held_lease_is_reported_at_once",
    "is_made_equal_with_a_dict",
    "one_index_writer_wins",
    "one_process_wins_the_lease",
    "one_writer_wins",
    "path_goes_on_meaning_the_same",
    "reads_as_empty",
    "transactions_do_not_nest",
    "two_tables_have_an_index_each",
    "version_does_not_come_back",
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


def one_process_wins_the_lease(place: str) -> None:
    """Have four processes create the lease of a new storage at once."""
    context = multiprocessing.get_context("spawn")
    start, won = context.Event(), context.Queue()
    racers = [context.Process(target=_race, args=(place, number, start, won)) for number in range(4)]
    for racer in racers:
        racer.start()
    start.set()
    for racer in racers:
        racer.join(60)
        assert racer.exitcode == 0
    winner = won.get(timeout=10)
    assert won.empty()
    with closing(open_storage(place)[0]) as storage:
        stored = storage.load("lease")
    assert stored is not None
    assert stored.data == b"%d" % winner


def _race(place: str, number: int, start: Any, won: Any) -> None:
    start.wait(30)
    with closing(open_storage(place)[0]) as storage:
        try:
            storage.store("lease", b"%d" % number, ABSENT)
        except ObjectMismatch:
            return
    won.put(number)


def one_writer_wins(handles: Sequence[Storage]) -> None:
    """Have eight handles of one storage write on the same condition at once, five times."""
    first = handles[0]
    first.write(["there"], [b"0"])
    for turn in range(5):
        token = listing(first)["there"]
        barrier = threading.Barrier(len(handles))

        def race(
            number: int, token: bytes = token, turn: int = turn, barrier: threading.Barrier = barrier
        ) -> list[str]:
            barrier.wait(30)
            values = [b"%d %d" % (turn, number)] * 2
            written = handles[number].write(["there", f"new {turn}"], values, [token, None])
            return [refusal.key for refusal in written.refused]

        with ThreadPoolExecutor(len(handles)) as pool:
            refused = list(pool.map(race, range(len(handles))))
        (winner,) = (number for number, keys in enumerate(refused) if "there" not in keys)
        assert sum(f"new {turn}" not in keys for keys in refused) == 1
        assert first.read(["there"]) == [b"%d %d" % (turn, winner)]


def one_index_writer_wins(storage: Storage) -> None:
    """Of eight that replace one version of an index object at once, one does."""
    version = storage.store("manifest", b"0", ABSENT)

    def race(number: int) -> bool:
        try:
            storage.store("manifest", b"of %d" % number, version)
        except ObjectMismatch:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(race, range(8))).count(True) == 1


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


def version_does_not_come_back(storage: Storage) -> None:
    """Remove an object and store it anew with the same bytes: it is not what somebody saw before."""
    old = storage.store("lease", b"same", ABSENT)
    storage.remove(["lease"], old)
    storage.store("lease", b"same", ABSENT)
    with pytest.raises(ObjectMismatch):
        storage.store("lease", b"x", old)


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
