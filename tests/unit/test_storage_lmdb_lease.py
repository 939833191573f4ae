"""The lease of an LMDB storage, in a file beside the data: torn files, forks, killed holders, who waits for whom."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Any

import lmdb
import pytest

import kvsync
from kvsync import Delete, Put
from kvsync.errors import LockHeldError, LockLostError, StorageError
from kvsync.process import this_process
from kvsync.storages.contract import ObjectMismatch
from kvsync.storages.lmdb import LmdbStorage, open_url
from kvsync.storages.lmdb.lease import LeaseFile
from kvsync.types import ABSENT, ANY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LEFT = ["data.mdb", "kvsync.lock", "lock.mdb"]
LEFT_BY_RUNS = ["data.mdb", "kvsync.lease", "kvsync.lock", "lock.mdb"]


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[LmdbStorage]:
    """Give a storage that has one value."""
    with closing(LmdbStorage(tmp_path / "e")) as opened:
        opened.write(["a"], [b"1"])
        yield opened


def lease_file(folder: Path) -> LeaseFile:
    return LeaseFile(str(folder / "lease"), str(folder / "data.mdb"), os.urandom)


def child(body: Callable[[], object]) -> None:
    """Run `body` in a forked child, and see that it ends well."""
    number = os.fork()
    if not number:
        try:
            body()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(number, 0)[1] == 0


def test_a_lease_leaves_nothing_behind(storage: LmdbStorage) -> None:
    first = storage.store("lease", b"1", ABSENT)
    assert "kvsync.lease" in os.listdir(storage.path)
    second = storage.store("lease", b"2", first)
    assert storage.objects() == ["lease"]
    for expect in (ABSENT, first, b""):
        with pytest.raises(ObjectMismatch):
            storage.store("lease", b"3", expect)
        with pytest.raises(ObjectMismatch):
            storage.remove(["lease"], expect)
    storage.remove(["lease"], second)
    with pytest.raises(ObjectMismatch):
        storage.store("lease", b"3", second)
    assert storage.objects() == []
    assert sorted(os.listdir(storage.path)) == LEFT


def test_runs_leave_a_lease_that_is_free(tmp_path: Path) -> None:
    url, data = f"lmdb:///{tmp_path}/e", {"b": b"2"}
    kvsync.sync(data, url, changes=[Put("a", b"1")])
    file = os.stat(tmp_path / "e/kvsync.lease").st_ino
    assert kvsync.status(url).lease is None
    assert kvsync.doctor(url).healthy
    assert kvsync.unlock(url) is False
    assert kvsync.sync(data, url, changes=[Put("a", b"2")], wait_seconds=0).pushed == 1
    assert sorted(os.listdir(tmp_path / "e")) == LEFT_BY_RUNS
    assert os.stat(tmp_path / "e/kvsync.lease").st_ino == file


@pytest.mark.parametrize("size", [0, 1, 39, 40, 43, 44, 200, -1])
def test_a_torn_file_is_no_lease(storage: LmdbStorage, size: int) -> None:
    """What a power cut left: a prefix of what was written, or as many bytes of nothing."""
    old = storage.store("lease", b"held" * 100, ABSENT)
    path = os.path.join(storage.path, "kvsync.lease")
    whole = os.path.getsize(path)
    os.truncate(path, max(size, 0))
    if size < 0:
        os.truncate(path, whole)
    assert storage.load("lease") is None
    assert storage.objects() == []
    for refused in (lambda: storage.store("lease", b"x", old), lambda: storage.remove(["lease"], old)):
        with pytest.raises(ObjectMismatch):
            refused()
    version = storage.store("lease", b"new", ABSENT)
    assert storage.load("lease") == (b"new", version)
    assert kvsync.unlock(storage.path) is False  # a folder of that name, which has no lease
    storage.remove(["lease"], version)
    assert sorted(os.listdir(storage.path)) == LEFT


def test_a_run_goes_on_after_a_power_cut(tmp_path: Path) -> None:
    url, data = f"lmdb:///{tmp_path}/e", dict[str, bytes]()
    kvsync.sync(data, url, changes=[Put("a", b"1")])
    for left in (b"", bytes(300), b"\xff" * 300):
        (tmp_path / "e/kvsync.lease").write_bytes(left)
        assert kvsync.status(url).lease is None
        assert kvsync.sync(data, url, changes=[Put("a", left)], wait_seconds=0).pushed == 1
        assert kvsync.status(url).lease is None
    (tmp_path / "e/kvsync.lease").unlink()
    assert kvsync.sync(data, url, changes=[Put("a", b"2")], wait_seconds=0).pushed == 1
    assert kvsync.verify(data, url).equal


def contents(environment: lmdb.Environment) -> dict[bytes, dict[bytes, bytes]]:
    with environment.begin() as transaction:
        handles = {name: environment.open_db(name, txn=transaction, create=False) for name in environment.dbs()}
        return {name: dict(transaction.cursor(handle)) for name, handle in handles.items()}


def restore(environment: lmdb.Environment, backup: dict[bytes, dict[bytes, bytes]]) -> None:
    """Put everything back, as a program of the owner may, while we have the environment open; not our lease."""
    handles = {name: environment.open_db(name) for name in backup}
    with environment.begin(write=True) as transaction:
        for name, rows in backup.items():
            transaction.drop(handles[name], delete=False)
            for key, value in rows.items():
                transaction.put(key, value, db=handles[name])


def test_what_is_restored_within_the_environment_is_seen(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path / "a"), max_dbs=8) as environment:
        a, b = LmdbStorage(environment), LmdbStorage(tmp_path / "b")
        with closing(a), closing(b):
            kvsync.sync(a, b, changes=[Put("x", b"precious"), Put("y", b"1")])
            backup = contents(environment)
            kvsync.commit(a, [Delete("x"), Put("y", b"2")])  # a mistake
            restore(environment, backup)
            for _ in range(2):
                kvsync.sync(a, b)
                assert a.read(["x", "y"]) == b.read(["x", "y"]) == [b"precious", b"1"]
            assert kvsync.sync(a, b, changes=[Put("z", b"3")]).pushed == 1
            assert kvsync.verify(a, b).equal


def test_an_index_that_is_removed_within_the_environment_is_made_anew(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path / "a"), max_dbs=8) as environment:
        a, b = LmdbStorage(environment), LmdbStorage(tmp_path / "b")
        with closing(a), closing(b):
            kvsync.sync(a, b, changes=[Put("x", b"1")])
            restore(environment, {name: {} for name in contents(environment) if name.startswith(b".kvsync")})
            kvsync.sync(a, b, scan=True)
            assert kvsync.status(a).generation > 0
            assert kvsync.sync(a, b, changes=[Put("x", b"2")]).pushed == 1
            assert kvsync.verify(a, b).equal


def test_databases_have_leases_of_their_own(tmp_path: Path) -> None:
    names = ["kv", "KV", "", "a/b", "../up", "é" * 100, "lease"]
    with ExitStack() as stack:
        storages = [stack.enter_context(closing(LmdbStorage(tmp_path / "e", database=name))) for name in names]
        versions = [storage.store("lease", storage.name.encode(), ABSENT) for storage in storages]
        for storage, version in zip(storages, versions, strict=True):
            assert storage.load("lease") == (storage.name.encode(), version)
        files = sorted(os.listdir(tmp_path / "e"))
        assert len({file.lower() for file in files if file.endswith(".lease")}) == len(names)
        for storage, version in zip(storages, versions, strict=True):
            storage.remove(["lease"], version)
            assert storage.objects() == []
    assert os.listdir(tmp_path) == ["e"]


def test_two_databases_of_one_environment_are_synced(tmp_path: Path) -> None:
    urls = [f"lmdb:///{tmp_path}/e?db={name}" for name in ("one", "two")]
    assert kvsync.sync(urls[0], urls[1], changes=[Put("a", b"1")]).pushed == 1
    with closing(open_url(urls[0])) as storage:
        assert kvsync.commit(storage, [Put("b", b"2")]) == 1
        storage.store("lease", b"somebody", ANY)
        assert kvsync.commit(urls[1], [Put("c", b"3")], wait_seconds=0) == 1


def test_the_lease_of_a_single_file_lies_next_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with lmdb.open("app.mdb", subdir=False, max_dbs=8) as environment, closing(LmdbStorage(environment)) as handed:
        handed.write(["a"], [b"1"])
        monkeypatch.chdir(tmp_path.parent)  # what is relative was so to another directory
        version = handed.store("lease", b"1", ABSENT)
        with closing(LmdbStorage(tmp_path / "app.mdb")) as other:
            assert other.load("lease") == (b"1", version)
    assert "app.mdb-kvsync.lease" in os.listdir(tmp_path)


def test_of_many_who_want_it_one_gets_it(tmp_path: Path) -> None:
    """Threads and processes at once, each of which takes it, renews it and gives it back."""
    path, turns = str(tmp_path / "lease"), 40
    program = f"""
import os, sys, time
from kvsync.storages.contract import ObjectMismatch
from kvsync.storages.lmdb.lease import LeaseFile
from kvsync.types import ABSENT
from concurrent.futures import ThreadPoolExecutor
lease = LeaseFile({path!r}, {path!r}, os.urandom)

def turn(number):
    while True:
        try:
            version, _ = lease.store(b"%d" % number, ABSENT)
            break
        except ObjectMismatch:
            time.sleep(0.0005)
    os.close(os.open({path!r} + "-turn", os.O_CREAT | os.O_EXCL))
    version, before = lease.store(b"renewed", version)
    assert before.data == b"%d" % number
    os.unlink({path!r} + "-turn")
    assert lease.remove(version).data == b"renewed"

with ThreadPoolExecutor(4) as pool:
    list(pool.map(turn, range({turns})))
"""
    running = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(4)]
    assert [process.wait(120) for process in running] == [0] * 4
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kept", [True, False])
def test_who_locks_a_file_that_is_not_there_any_more_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, kept: bool
) -> None:
    lease = lease_file(tmp_path)
    version, _ = lease.store(b"1", ABSENT)
    flock = fcntl.flock

    def late(file: int, operation: int) -> None:
        monkeypatch.undo()
        if kept:
            lease.store(b"2", version)
        else:
            lease.remove(version)
        flock(file, operation)

    monkeypatch.setattr("kvsync.storages.lmdb.lease.fcntl.flock", late)
    with pytest.raises(ObjectMismatch):
        lease.store(b"3", version)
    there = lease.load()
    assert (there.data if there is not None else None) == (b"2" if kept else None)


def test_a_forked_child_is_one_more_contender(storage: LmdbStorage) -> None:
    version = storage.store("lease", b"parent", ABSENT)

    def body() -> None:
        with pytest.raises(ObjectMismatch):
            storage.store("lease", b"child", ABSENT)
        assert storage.load("lease") == (b"parent", version)
        storage.remove(["lease"], version)
        storage.store("lease", b"child", ABSENT)

    child(body)
    there = storage.load("lease")
    assert there is not None
    assert there.data == b"child"


def test_no_fork_takes_the_lock_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock lasts until the last copy of its descriptor is closed, and a forked child copies them all."""
    monkeypatch.setattr("kvsync.storages.lmdb.lease.WAIT_SECONDS", 10.0)
    lease, ended = lease_file(tmp_path), threading.Event()
    version, _ = lease.store(b"held", ABSENT)

    def want() -> None:
        with pytest.raises(ObjectMismatch):
            lease.store(b"wanted", ABSENT)

    def keep_wanting() -> None:
        while not ended.is_set():
            want()

    children = []
    with ThreadPoolExecutor(2) as pool:
        threads = [pool.submit(keep_wanting) for _ in range(2)]
        for _ in range(40):
            number = os.fork()
            if not number:
                with contextlib.suppress(BaseException):
                    want()  # the lock of the process is free here, too
                    time.sleep(60)
                os._exit(0)
            children.append(number)
        ended.set()
        for thread in threads:
            thread.result(30)
    try:
        assert lease.remove(version) == (b"held", version)
    finally:
        for number in children:
            os.kill(number, signal.SIGKILL)
            os.waitpid(number, 0)


def test_a_signal_that_forks_in_the_middle_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = lease_file(tmp_path)
    unlink = os.unlink

    def forking(path: str) -> None:
        child(lambda: None)
        unlink(path)

    monkeypatch.setattr("kvsync.storages.lmdb.lease.os.unlink", forking)
    lease.store(b"1", ABSENT)
    assert lease.remove(ANY) is not None
    child(partial(lease.store, b"2", ABSENT))
    assert lease.load() is not None


HOLDER = """
import sys, time
import kvsync
def stand(progress):
    print("there", flush=True)
    time.sleep(60)
kvsync.sync({}, sys.argv[1], changes=[kvsync.Put("a", b"theirs")], on_progress=stand)
"""


def test_a_killed_holder_is_taken_over_from(tmp_path: Path) -> None:
    url = f"lmdb:///{tmp_path}/e"
    kvsync.sync({}, url, changes=[Put("a", b"1")])
    with subprocess.Popen([sys.executable, "-c", HOLDER, url], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        with pytest.raises(LockHeldError):
            kvsync.commit(url, [Put("b", b"2")], wait_seconds=0)
        process.kill()
        process.wait()
    assert "kvsync.lease" in os.listdir(tmp_path / "e")
    before = kvsync.status(url)
    assert before.lease is not None
    if this_process().machine:
        assert kvsync.commit(url, [Put("b", b"2")], wait_seconds=0) == 1
        assert kvsync.status(url).generation == before.generation + 2, "the holder is fenced first"
    else:
        with pytest.raises(LockHeldError):
            kvsync.commit(url, [Put("b", b"2")], wait_seconds=0)
        assert kvsync.unlock(url) is True
        assert kvsync.status(url).generation == before.generation + 1
        assert kvsync.commit(url, [Put("b", b"2")], wait_seconds=0) == 1
    assert kvsync.unlock(url) is False
    with closing(open_url(url)) as storage:
        assert storage.read(["a", "b"]) == [b"1", b"2"]
    assert sorted(os.listdir(tmp_path / "e")) == LEFT_BY_RUNS


def test_a_holder_that_was_taken_over_from_loses_its_transaction(tmp_path: Path) -> None:
    url, data, ahead = f"lmdb:///{tmp_path}/e", {"a": b"1"}, [0.0]

    def take(_progress: object) -> None:
        if not ahead[0]:
            with pytest.raises(StorageError, match="busy"):  # it has the lease, and cannot fence within our transaction
                kvsync.unlock(url, force=True)
            ahead[0] = 40.0

    changes = [Put(f"k{number:05d}", b"2") for number in range(30_000)]
    kvsync.sync(data, url, changes=[Put("a", b"1")])
    with pytest.raises(LockLostError):
        kvsync.sync(data, url, changes=changes, on_progress=take, clock=lambda: time.time() + ahead[0])
    with closing(open_url(url)) as storage:
        assert storage.read(["a", "k00000"]) == [b"1", None]
    assert kvsync.sync(data, url, wait_seconds=0).pushed == 30_000
    assert kvsync.verify(data, url).equal


def test_who_takes_over_while_the_holder_commits_comes_too_late(tmp_path: Path) -> None:
    """The lease is no part of the transaction, so it can be taken while that lasts: then the manifest decides."""
    url, data = f"lmdb:///{tmp_path}/e", {"a": b"1"}
    kvsync.sync(data, url, changes=[Put("a", b"1")])
    with ThreadPoolExecutor(1) as pool:
        late: list[Any] = []

        def take(_progress: object) -> None:
            clock = partial(later, 1000)
            late.append(pool.submit(kvsync.commit, url, [Put("c", b"3")], clock=clock, wait_seconds=0))
            while b"MainThread" in (tmp_path / "e/kvsync.lease").read_bytes():
                time.sleep(0.01)

        assert kvsync.sync(data, url, changes=[Put("b", b"2")], on_progress=take).pushed == 1
        with pytest.raises(LockLostError):
            late[0].result(60)
    assert kvsync.sync(data, url, changes=[Put("d", b"4")], clock=partial(later, 2000), wait_seconds=0).pushed == 1
    assert kvsync.verify(data, url).equal


def later(seconds: float) -> float:
    """Return the time of a clock that is ahead."""
    return time.time() + seconds


def test_who_stands_still_with_the_lock_keeps_nobody_for_ever(
    storage: LmdbStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvsync.storages.lmdb.lease.WAIT_SECONDS", 0.2)
    version = storage.store("lease", b"1", ABSENT)
    with open(os.path.join(storage.path, "kvsync.lease"), "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="busy"):
            storage.store("lease", b"2", version)
        assert storage.load("lease") == (b"1", version)
    storage.remove(["lease"], version)


class _StopError(Exception):
    pass


def test_a_transaction_that_is_undone(storage: LmdbStorage) -> None:
    """A lease that it made is gone, one that it removed is back, and a renewal stays."""
    with pytest.raises(_StopError), storage.transaction():
        first = storage.store("lease", b"1", ABSENT)
        storage.store("lease", b"2", first)
        raise _StopError
    assert storage.objects() == []
    with storage.transaction():
        version = storage.store("lease", b"3", ABSENT)
    with pytest.raises(_StopError), storage.transaction():
        storage.write(["a"], [b"2"])
        version = storage.store("lease", b"4", version)
        raise _StopError
    assert storage.load("lease") == (b"4", version)
    assert storage.read(["a"]) == [b"1"]
    with pytest.raises(_StopError), storage.transaction():
        storage.remove(["lease"], version)
        raise _StopError
    there = storage.load("lease")
    assert there is not None
    assert (there.data, there.version == version) == (b"4", False)


def test_a_transaction_that_is_undone_leaves_others_alone(storage: LmdbStorage) -> None:
    with pytest.raises(_StopError), ThreadPoolExecutor(1) as pool, storage.transaction():
        version = storage.store("lease", b"1", ABSENT)
        taken = pool.submit(storage.store, "lease", b"another's", version).result(10)
        raise _StopError
    assert storage.load("lease") == (b"another's", taken)


def test_a_full_map_keeps_no_lease(tmp_path: Path) -> None:
    """The lease needs no room in the map: it is given back, and taken, where nothing can be written."""
    url = f"lmdb:///{tmp_path}/e?map_size=256K"
    kvsync.commit(url, [Put("a", b"1")])
    for _ in range(2):
        with pytest.raises(StorageError, match="larger map_size="):
            kvsync.commit(url, [Put("b", bytes(1 << 20))], wait_seconds=0)
    with closing(open_url(url)) as storage:
        assert storage.read(["a", "b"]) == [b"1", None]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_must_not_be_written(storage: LmdbStorage) -> None:
    os.chmod(storage.path, 0o555)
    try:
        with pytest.raises(StorageError, match=r"kvsync\.lease.*check the permissions") as caught:
            storage.store("lease", b"1", ABSENT)
        assert caught.value.storage == storage.name
        assert storage.load("lease") is None
        assert storage.objects() == []
        storage.remove(["lease"], ANY)
    finally:
        os.chmod(storage.path, 0o755)


@pytest.mark.parametrize("written", [0, 10])
def test_what_cannot_be_written_changes_nothing(
    storage: LmdbStorage, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """The disk is full, at once or after some bytes; what was there is put back."""
    pwrite = os.pwrite

    def full(file: int, data: bytes, offset: int) -> int:
        if offset == 0 and written:
            return pwrite(file, data[:written], offset)
        monkeypatch.setattr("kvsync.storages.lmdb.lease.os.pwrite", pwrite)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kvsync.storages.lmdb.lease.os.pwrite", full)
    with pytest.raises(StorageError, match="make room"):
        storage.store("lease", b"1", ABSENT)
    assert sorted(os.listdir(storage.path)) == LEFT
    version = storage.store("lease", b"1", ABSENT)
    for data in (b"2", b"longer" * 100, b""):
        monkeypatch.setattr("kvsync.storages.lmdb.lease.os.pwrite", full)
        with pytest.raises(StorageError, match="make room"):
            storage.store("lease", data, version)
        assert storage.load("lease") == (b"1", version)
    assert storage.store("lease", b"", version) == storage.load("lease")[1]  # type: ignore[index]
    assert sorted(os.listdir(storage.path)) == LEFT_BY_RUNS


def test_a_lease_is_written_by_one_call(storage: LmdbStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is killed, longer and shorter records one after the other: there is always a whole one."""
    pwrite, calls = os.pwrite, []

    def counted(file: int, data: bytes, offset: int) -> int:
        calls.append(len(data))
        return pwrite(file, data, offset)

    monkeypatch.setattr("kvsync.storages.lmdb.lease.os.pwrite", counted)
    for data in (b"", b"1" * 300, b"2" * 1000, b"3", b"4" * 468, b"5" * 469):
        version = storage.store("lease", data, ANY)
        assert storage.load("lease") == (data, version)
    assert calls == [512, 512, 1536, 512, 512, 1024]


def test_files_beside_the_data_are_open_to_whom_the_data_is(storage: LmdbStorage) -> None:
    os.chmod(os.path.join(storage.path, "data.mdb"), 0o664)
    if os.geteuid() == 0:
        os.chown(os.path.join(storage.path, "data.mdb"), 1234, 4321)
    os.unlink(os.path.join(storage.path, "kvsync.lock"))
    kvsync.commit(storage, [Put("a", b"2")])
    for name in ("kvsync.lease", "kvsync.lock"):
        found, like = (os.stat(os.path.join(storage.path, one)) for one in (name, "data.mdb"))
        assert (found.st_mode & 0o777, found.st_uid, found.st_gid) == (0o664, like.st_uid, like.st_gid)


def test_who_looks_at_half_a_lease_waits_for_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = lease_file(tmp_path)
    first, _ = lease.store(b"first", ABSENT)
    pwrite, seen = os.pwrite, []

    with ThreadPoolExecutor(1) as pool:

        def slowly(file: int, data: bytes, offset: int) -> int:
            if offset:
                seen.append(pool.submit(lease.load))
                time.sleep(0.1)
                assert not seen[0].done()
            return pwrite(file, data[: None if offset else 20], offset)

        monkeypatch.setattr("kvsync.storages.lmdb.lease.os.pwrite", slowly)
        second, before = lease.store(b"second", first)
        assert before == (b"first", first)
        assert seen[0].result(10) == (b"second", second)


@pytest.mark.parametrize("made", ["directory", "link"])
def test_something_else_of_that_name_is_an_error(storage: LmdbStorage, made: str) -> None:
    path = os.path.join(storage.path, "kvsync.lease")
    if made == "link":
        os.symlink("elsewhere", path)
    else:
        os.mkdir(path)
    with pytest.raises(StorageError, match=r"kvsync\.lease|Is a directory"):
        storage.store("lease", b"1", ABSENT)
    assert not os.path.exists(os.path.join(storage.path, "elsewhere"))


def test_a_link_in_place_of_the_lock_is_an_error(storage: LmdbStorage) -> None:
    path = os.path.join(storage.path, "kvsync.lock")
    os.unlink(path)
    os.symlink("elsewhere", path)
    with pytest.raises(StorageError, match=r"kvsync\.lock"):
        storage.write(["a"], [b"2"])
    assert storage.read(["a"]) == [b"1"]
    assert not os.path.exists(os.path.join(storage.path, "elsewhere"))


def test_a_system_without_such_locks_keeps_the_lease_with_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("environment", "lease"):
        monkeypatch.setattr(f"kvsync.storages.lmdb.{module}.fcntl", None)
    with closing(LmdbStorage(tmp_path / "e")) as storage:
        version = storage.store("lease", b"1", ABSENT)
        assert storage.load("lease") == (b"1", version)
        assert storage.objects() == ["lease"]
        with pytest.raises(_StopError), storage.transaction():
            storage.store("lease", b"2", version)
            raise _StopError
        storage.remove(["lease"], version)
        assert storage.objects() == []
        assert sorted(os.listdir(storage.path)) == ["data.mdb", "lock.mdb"]
        assert kvsync.sync({}, storage, changes=[Put("b", b"2")]).pushed == 1
