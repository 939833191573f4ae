"""Watches of real storages, in a thread, in real time: what an application writes arrives, in both directions."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
import redis
from servers.nats import NatsServer
from servers.redis import RedisServer

import kvsync
from kvsync.errors import UsageError
from kvsync.storages import open_storage
from kvsync.storages.folder.hints import file_system_of
from kvsync.storages.hints import has_hints
from kvsync.watching.events import Outage, WatchRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servers.process import Server

ARRIVES_SECONDS = 30.0
numbers = itertools.count()


class Background:
    """A watch in a thread."""

    def __init__(self, source: Any, target: Any, **options: Any) -> None:
        self.events: list[WatchRun | Outage] = []
        self.error: BaseException | None = None
        self.watch = kvsync.watch(source, target, **options)
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.events.extend(self.watch)
        except BaseException as error:
            self.error = error

    def __enter__(self) -> Self:
        self._thread.start()
        wait_for(lambda: len(self.events) > 0 or self.watch.runs > 0)
        return self

    def __exit__(self, *_: object) -> None:
        self.watch.stop()
        self._thread.join()


def wait_for(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + ARRIVES_SECONDS
    while not is_so():
        assert time.monotonic() < end, "it did not arrive"
        time.sleep(0.005)


@pytest.fixture(params=["folder", "sqlite", "nats", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give the URL of an empty storage that exists."""
    if request.param == "folder":
        (tmp_path / "notes").mkdir()
        yield str(tmp_path / "notes")
    elif request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/app.db"
    elif request.param == "nats":
        nats_server: NatsServer = request.getfixturevalue("nats_server")
        yield nats_server.url(f"watch{next(numbers)}")
    else:
        redis_server: RedisServer = request.getfixturevalue("redis_server")
        yield f"{redis_server.url}?prefix=watch{next(numbers)}:"


def test_what_is_written_on_either_side_arrives(url: str, tmp_path: Path) -> None:
    """Another handle of the storage writes, as another program would."""
    (tmp_path / "copy").mkdir()
    application, _ = open_storage(url)
    copy, _ = open_storage(str(tmp_path / "copy"))
    # Nothing but hints makes runs: no interval comes within this test.
    with Background(tmp_path / "copy", url, every="1h") as background:
        for number in range(3):
            application.write(["a/b", f"k{number}"], [b"%d" % number, b"x"])
            wait_for(lambda number=number: copy.read(["a/b"]) == [b"%d" % number])  # type: ignore[misc]
            copy.write(["back"], [b"%d" % number])
            wait_for(lambda number=number: application.read(["back"]) == [b"%d" % number])  # type: ignore[misc]
        application.delete(["a/b"])
        wait_for(lambda: copy.read(["a/b"]) == [None])
    assert background.error is None
    assert all(isinstance(event, WatchRun) for event in background.events)
    application.close()
    copy.close()


def test_a_restarted_redis_is_waited_for(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server, redis.Redis(port=server.port) as client:
        check_restart(server, f"{server.url}?prefix=app:", lambda key: client.set(f"app:{key}", b"1"), tmp_path)


def test_a_restarted_nats_is_waited_for(tmp_path: Path) -> None:
    """Its consumers are gone with it."""
    with NatsServer(tmp_path / "nats") as server:
        server.make("app")
        check_restart(server, server.url("app"), lambda key: server.ask(lambda kv: kv.put(key, b"1"), "app"), tmp_path)


def check_restart(server: Server, url: str, write: Callable[[str], object], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    write("a")
    with Background(copy, url, every="1h") as background:
        wait_for((copy / "a").exists)
        server.stop()
        wait_for(lambda: any(isinstance(event, Outage) for event in background.events))
        server.start()
        write("b")
        wait_for((copy / "b").exists)
        write("c")
        wait_for((copy / "c").exists)
    assert background.error is None
    assert {event.side for event in background.events if isinstance(event, Outage)} == {"target"}


def test_redis_without_events_is_scanned_at_the_interval(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    with (
        RedisServer(tmp_path / "redis", notify_keyspace_events="") as server,
        redis.Redis(port=server.port) as client,
        Background(tmp_path / "copy", server.url, every="0.3s") as background,
    ):
        client.set("a", b"1")
        wait_for((tmp_path / "copy" / "a").exists)
        run = background.events[0]
        assert isinstance(run, WatchRun)
        assert "set notify-keyspace-events to K$egx, or KA" in " ".join(run.result.notes)


def test_a_replaced_database_is_opened_again(tmp_path: Path) -> None:
    """An open connection goes on seeing the file that was moved away."""
    database, new = tmp_path / "app.db", tmp_path / "new.db"
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "a").write_bytes(b"1")
    with Background(tmp_path / "copy", f"sqlite:///{database}", every="1h") as background:
        wait_for(lambda: background.watch.runs >= 2)
        with sqlite3.connect(database) as source, sqlite3.connect(new) as target:
            source.backup(target)
            target.execute("INSERT INTO kv VALUES ('b', x'32')")
        source.close()
        target.close()
        for suffix in ("", "-wal", "-shm"):
            os.rename(f"{database}{suffix}", f"{tmp_path}/old.db{suffix}")
        os.rename(new, database)
        wait_for((tmp_path / "copy" / "b").exists)


def test_a_folder_that_is_replaced_is_watched_again(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    (one / "a").write_bytes(b"1")
    with Background(one, other, every="1h"):
        wait_for((other / "a").exists)
        shutil.copytree(one, tmp_path / "new", copy_function=shutil.copy2)
        os.rename(one, tmp_path / "old")
        os.rename(tmp_path / "new", one)
        time.sleep(0.1)
        (one / "b").write_bytes(b"2")
        wait_for((other / "b").exists)
        (one / "c").write_bytes(b"3")
        wait_for((other / "c").exists)


def test_a_database_within_the_folder_makes_no_runs_by_itself(tmp_path: Path) -> None:
    """Each run writes to the files of the database: as hints, they would make runs for ever."""
    (tmp_path / "a").write_bytes(b"1")
    with Background(tmp_path, f"sqlite:///{tmp_path}/app.db", every="1h") as background:
        wait_for(lambda: background.watch.runs >= 2)
        time.sleep(1)
        settled = background.watch.runs
        time.sleep(1)
        assert background.watch.runs == settled


def test_without_watchfiles_a_folder_is_scanned_at_the_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvsync.storages.folder.hints.find_spec", lambda _name: None)
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    with Background(one, other, every="0.2s") as background:
        (one / "a").write_bytes(b"1")
        wait_for((other / "a").exists)
    notes = [note for event in background.events if isinstance(event, WatchRun) for note in event.result.notes]
    missing = "is scanned at the interval, since the package watchfiles is missing (pip install 'kvsync[watch]')"
    assert notes == [f"{one} {missing}", f"{other} {missing}"]  # once


def test_a_network_mount_is_scanned_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another machine writes there makes no event here."""
    monkeypatch.setattr("kvsync.storages.folder.hints.file_system_of", lambda _path: "nfs4")
    storage, _ = open_storage(str(tmp_path))
    assert has_hints(storage)
    heard = threading.Event()
    hints = storage.hints(lambda _key: heard.set())
    try:
        assert not hints.complete
        assert hints.reason == "it is on a network mount (nfs4), which has no events for what others write"
        (tmp_path / "a").write_bytes(b"1")
        assert heard.wait(ARRIVES_SECONDS)  # what this machine writes does
    finally:
        hints.close()


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="Linux tells what is mounted")
def test_the_kind_of_a_file_system_is_that_of_the_innermost_mount(tmp_path: Path) -> None:
    assert file_system_of("/proc/self/fd") == "proc"
    assert file_system_of(str(tmp_path)) not in {"", "proc"}


def test_stop_ends_after_the_batch_and_releases_the_leases(tmp_path: Path) -> None:
    one: dict[str, bytes] = {f"k{number:05}": b"x" for number in range(20_000)}
    other: dict[str, bytes] = {}
    watch = kvsync.watch(one, other, on_progress=lambda _progress: watch.stop())
    assert list(watch) == []
    assert 0 < len([key for key in other if key.startswith("k")]) < len(one)
    assert kvsync.sync(one, other, scan=True, wait_seconds=0).missing == []
    assert {key: other[key] for key in one if key.startswith("k")} == {
        key: value for key, value in one.items() if key.startswith("k")
    }


def test_what_is_named_wrongly_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="same storage"):
        next(kvsync.watch(tmp_path, tmp_path))
    with pytest.raises(UsageError, match="unknown scheme"):
        next(kvsync.watch("nonsense://a", tmp_path))
    with pytest.raises(UsageError, match="every must be"):
        kvsync.watch({}, {}, every="soon")
    with pytest.raises(UsageError, match="every must be"):
        kvsync.watch({}, {}, every=0)


def test_the_heartbeat_is_touched_and_is_no_change(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    beat = tmp_path / "beat"
    with kvsync.watch(tmp_path / "one", {}, heartbeat=beat) as watch:
        os.utime(beat, (0, 0))
        next(watch)
        assert beat.stat().st_mtime > 0
    with pytest.raises(UsageError, match="each touch would be a change"):
        kvsync.watch(tmp_path / "one", {}, heartbeat=tmp_path / "one" / "beat")
    with pytest.raises(UsageError, match="cannot be written"):
        kvsync.watch({}, {}, heartbeat=tmp_path / "none" / "beat")
