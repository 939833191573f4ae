"""Power cuts, full disks and networks that die in the middle: the next run goes on, and half a value is no value."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from places import Clock, DictPlace, FolderPlace, Hooked
from telling import HOUR, command, conflicts, told

import kvsync
from kvsync import Delete, Put
from kvsync.storages.folder import staging, values
from kvsync.testing import Fault, FaultyStorage, crashes

if TYPE_CHECKING:
    from telling import Story

FILES = {"a": b"a" * 999, "b": b"b" * 999, "c": b"c" * 999}


def half_written(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let every value end in the middle of its bytes."""

    def write_half(file: int, data: bytes) -> None:
        os.write(file, data[: len(data) // 2])
        raise error

    monkeypatch.setattr(values, "write_all", write_half)


def test_a_disk_that_becomes_full_leaves_no_empty_files(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """nextcloud/desktop#359: a disk became full during a download. Seven empty files stayed, and were synced back to
    the server. Here a file gets its name when it is whole, and the run says to make room."""
    laptop, server = story.place("laptop", {"a": b"old", "x": b"1"}, "folder"), story.place("server", kind="sqlite")
    story.sync(laptop, server)
    kvsync.commit(server.target, [Put(*file) for file in FILES.items()], environment=story.clock.environment)
    with monkeypatch.context() as patched:
        half_written(patched, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        with pytest.raises(kvsync.StorageError, match="make room"):
            story.sync(laptop, server)
    assert laptop.values() == {"a": b"old", "x": b"1"}
    assert told(story.sync(laptop, server)) == (0, 3, 0, 0, 0)
    assert laptop.values() == server.values() == {**FILES, "x": b"1"}


@pytest.mark.skipif(sys.platform != "linux", reason="looks at open files in /proc")
def test_what_a_power_cut_can_leave_is_flushed_before_it_has_its_name(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nextcloud/desktop#10547: power was cut after files had been downloaded and noted, but not flushed. 447 of them
    came back with no bytes, and were uploaded like that. Here each file is flushed, then named, then its directory is
    flushed, then it is logged."""
    laptop, server = story.place("laptop", {"x": b"1"}, "folder"), story.place("server")
    assert isinstance(laptop, FolderPlace)
    story.sync(laptop, server)
    server.put("invoice.pdf", b"197806 bytes")
    invoice, steps = laptop.path / "invoice.pdf", list[str]()
    flush = os.fsync

    def note(file: int) -> None:
        flushed = Path(os.readlink(f"/proc/self/fd/{file}"))
        if flushed == laptop.path:
            steps.append("directory" if invoice.exists() else "directory before")
        elif flushed.is_file():
            what = "value" if flushed.read_bytes() == b"197806 bytes" else "index"
            steps.append(what if invoice.exists() == (what == "index") else f"{what} too late or too early")
        flush(file)

    monkeypatch.setattr(os, "fsync", note)
    story.sync(laptop, server)
    assert steps.index("value") < steps.index("directory") < len(steps) - 1 - steps[::-1].index("index")
    assert "value too late or too early" not in steps


def test_a_download_that_broke_off_is_not_uploaded(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """abraunegg/onedrive#791: the network died while a file was downloaded. The next sync uploaded the half that was
    there. Here the half was never a file of the folder, and the next run removes it."""
    server, laptop = story.place("server", FILES, "sqlite"), story.place("laptop", kind="folder")
    assert isinstance(laptop, FolderPlace)
    with monkeypatch.context() as patched:
        half_written(patched, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            story.sync(server, laptop)
    assert laptop.values() == {}
    assert told(story.sync(server, laptop)) == (3, 0, 0, 0, 0)
    assert laptop.values() == server.values() == FILES
    assert not list((laptop.path / ".kvsync").glob("tmp/*"))


def test_no_checkpoint_runs_ahead_of_what_was_written(story: Story) -> None:
    """apache/pouchdb#1240: the checkpoint of a replication was ahead of the documents that had been written. Cut off
    at the wrong moment, it never asked for the others again. Here a run is killed before each of its operations in
    turn: the next one always has the rest."""

    def make() -> tuple[DictPlace, DictPlace, Clock]:
        source, target, clock = DictPlace(), DictPlace(), Clock()
        kvsync.sync(source.target, target.target, [Put("a", b"0"), Put("d", b"0")], environment=clock.environment)
        source.target.update(FILES)
        return source, target, clock

    def run(world: tuple[DictPlace, DictPlace, Clock], fault: Fault) -> None:
        source, target, clock = world
        with source.storage() as one, target.storage() as other:
            faulty = FaultyStorage(one, fault), FaultyStorage(other, fault)
            kvsync.sync(*faulty, scan=True, environment=clock.environment)

    points = 0
    for fault, (source, target, clock) in crashes(make, run, modes=["killed"]):
        clock.sleep(HOUR)
        result = kvsync.sync(source.target, target.target, scan=True, environment=clock.environment)
        assert source.values() == target.values() == {**FILES, "d": b"0"}, fault
        assert conflicts(result) == [], fault
        points += 1
    assert points > 10


def test_a_run_that_was_cut_off_needs_no_starting_over(story: Story) -> None:
    """rclone/rclone#7470: after Ctrl-C, a power cut or a shutdown, a bidirectional sync could only start over,
    without its history, and so without its deletes. Here the next run goes on by itself, and what was deleted stays
    deleted."""

    def make() -> tuple[DictPlace, DictPlace, Clock]:
        here, there, clock = DictPlace(), DictPlace(), Clock()
        first = [Put(key, b"0") for key in ("a", "b", "deleted here", "deleted there")]
        kvsync.sync(here.target, there.target, first, environment=clock.environment)
        here.delete("deleted here")
        here.put("a", b"1")
        there.delete("deleted there")
        return here, there, clock

    def run(world: tuple[DictPlace, DictPlace, Clock], fault: Fault) -> None:
        here, there, clock = world
        with here.storage() as one, there.storage() as other:
            faulty = FaultyStorage(one, fault), FaultyStorage(other, fault)
            kvsync.sync(*faulty, scan=True, environment=clock.environment)

    for fault, (here, there, clock) in crashes(make, run, modes=["killed-after"]):
        clock.sleep(HOUR)
        kvsync.sync(here.target, there.target, scan=True, environment=clock.environment)
        assert here.values() == there.values() == {"a": b"1", "b": b"0"}, fault


def test_a_run_that_was_cut_off_does_not_pass_for_a_finished_one(story: Story) -> None:
    """rclone/rclone#438: a transfer of two days was cut off. The next run said after five minutes that all was done,
    though files were missing. Here `verify` ends with 1 until they are there, and the next run says what it moved."""
    disk, drive = story.place("disk", FILES, "folder"), story.place("drive", kind="folder")

    def cut(method: str, *batch: Any) -> None:
        if method == "write":
            drive.put(batch[0][0], batch[1][0])
            raise KeyboardInterrupt

    failing = Hooked(drive.target, before=cut)
    with pytest.raises(KeyboardInterrupt):
        kvsync.sync(disk.target, failing, scan=True, environment=story.clock.environment)
    failing.close()
    assert command("verify", disk.target, drive.target) == 1
    assert told(story.sync(disk, drive)) == (2, 0, 0, 0, 0)
    assert command("verify", disk.target, drive.target) == 0


def test_an_edit_that_could_not_be_sent_for_days_is_sent_then(story: Story) -> None:
    """mozilla/notes#1476: a note was edited, and no sync got through for a while. When one did, the old note from the
    server replaced the edit. Here a failed run has changed nothing, and the edit goes out with the first one that
    does not fail."""
    phone, server = story.place("phone", {"note": b"1"}, "sqlite"), story.place("server")
    story.sync(phone, server)
    phone.put("note", b"an afternoon of ideas")

    def fail(method: str, *_: object) -> None:
        if method in {"load", "read", "scan"}:
            raise kvsync.StorageError("the network is unreachable")

    for _ in range(3):
        with pytest.raises(kvsync.StorageError, match="unreachable"):
            kvsync.sync(phone.target, Hooked(server.target, before=fail), scan=True, wait_seconds=0)
        story.clock.sleep(24 * HOUR)
    assert told(story.sync(phone, server)) == (1, 0, 0, 0, 0)
    assert phone.values() == server.values() == {"note": b"an afternoon of ideas"}


def test_an_index_on_a_full_disk_stays_the_one_it_was(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """Velocidex/velociraptor#2885: files were truncated before they were written anew. On a full disk that left them
    empty, those that described the whole organisation too. Here an index object is replaced as a whole or not at
    all."""
    folder, peer = story.place("folder", FILES, "folder"), story.place("peer")
    story.sync(folder, peer)
    before = folder.objects()["manifest"]

    def full(_self: staging.Staging, *_: object) -> tuple[str, int]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(staging.Staging, "create", full)
        with pytest.raises(kvsync.StorageError, match="make room"):
            kvsync.commit(folder.target, [Put("d", b"1")], environment=story.clock.environment)
    assert folder.objects()["manifest"] == before
    assert folder.values() == FILES
    kvsync.commit(folder.target, [Delete("c")], environment=story.clock.environment)
    assert told(story.sync(folder, peer)) == (1, 0, 0, 0, 0)
    assert folder.values() == peer.values() == {"a": FILES["a"], "b": FILES["b"]}
