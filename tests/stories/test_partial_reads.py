"""Values that were read while they were written, or could not be read or written at all."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from places import Blind, DictPlace, FolderPlace, Hooked, Picky, SqlitePlace
from telling import command, missing, told, unreadable

import kvsync
from kvsync.storages.wrapper import WrappedStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest
    from telling import Story

    from kvsync.storages.contract import Storage
    from kvsync.types import Unreadable


def test_a_download_under_way_is_not_passed_on_in_part(story: Story) -> None:
    """owncloud/client#2210: a file that a slow download was still writing was uploaded in part, and that part went to
    all other clients. Here a file that changes between two looks waits, and moves when it has come to rest."""
    laptop, server = story.place("laptop", {"x": b"1", "master.zip": b""}, "folder"), story.place("server")
    assert isinstance(laptop, FolderPlace)

    def download(method: str, *_: object) -> None:
        if method == "read":
            with (laptop.path / "master.zip").open("ab") as file:
                file.write(b"more")

    loading = Hooked(laptop.target, before=download)
    result = kvsync.sync(loading, server.target, scan=True, environment=story.clock.environment)
    loading.close()
    assert missing(result) == [("master.zip", "target")]
    assert server.values() == {"x": b"1"}
    whole = laptop.values()["master.zip"]
    assert whole.count(b"more") > 1
    assert told(story.sync(laptop, server)) == (1, 0, 0, 0, 0)
    assert server.values() == {"x": b"1", "master.zip": whole}


class Rewritten(WrappedStorage):
    """A storage in which a value is written anew, of the same size, when it is about to be moved."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.rewrite: list[Callable[[], object]] = []

    def read_stream(self, key: str) -> Iterator[bytes] | Unreadable | None:
        if self.rewrite:
            self.rewrite.pop()()
        return super().read_stream(key)


def test_a_large_file_that_changes_under_way_is_not_a_mixture(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """syncthing/syncthing#1780: a file of 25 GB was transferred while it was being made. Size and name were right in
    the end, the content was not. Here what was moved is compared with the digest that was logged, before it has its
    name."""
    for module in ("run.transfer", "digesting"):
        monkeypatch.setattr(f"kvsync.{module}.LARGE_BYTES", 1000)
    source, target = story.place("source", {"big": b"1" * 5000}, "folder"), story.place("target", kind="folder")
    with source.storage() as storage:
        moving = Rewritten(storage)
        kvsync.sync(moving, target.target, scan=True, environment=story.clock.environment)
        assert target.values() == {"big": b"1" * 5000}
        source.put("big", b"2" * 5000)
        kvsync.commit(source.target, scan=True, environment=story.clock.environment)
        moving.rewrite.append(lambda: source.put("big", b"2" * 2500 + b"3" * 2500))
        result = kvsync.sync(moving, target.target, environment=story.clock.environment)
    assert missing(result) == [("big", "target")]
    assert target.values() == {"big": b"1" * 5000}
    assert told(story.sync(source, target)) == (1, 0, 0, 0, 0)
    assert target.values() == {"big": b"2" * 2500 + b"3" * 2500}


def test_a_value_that_one_side_refuses_is_not_skipped_for_good(story: Story) -> None:
    """apache/couchdb#4676: a document that the target refused, for whatever reason, was skipped. A counter of
    failures was all that was left of it. Here every run tries again, and it arrives when it can."""
    refusing = Picky(lambda _, value: len(value) > 10)
    source, target = story.place("source", {"small": b"1", "large": b"x" * 99}), DictPlace(refusing)
    for moved in ((1, 0), (0, 0), (0, 0)):
        result = story.sync(source, target)
        assert (result.pushed, result.pulled) == moved
        assert missing(result) == [("large", "target")]
    refusing.refuses = lambda *_: False
    assert told(story.sync(source, target)) == (1, 0, 0, 0, 0)
    assert target.values() == source.values()


def test_a_refused_value_ends_the_command_with_1(story: Story) -> None:
    """glynnbird/couchreplicate#6: large documents did not fit into the target, and the replication said that it was
    done. Here the command names the key and the reason, and ends with 1 until all is there."""
    source, target = (
        story.place("source", {"small": b"1", "large": b"x" * 99}, "folder"),
        story.place("t", kind="sqlite"),
    )
    assert isinstance(target, SqlitePlace)
    with closing(sqlite3.connect(target.path)) as connection, connection:
        check = "CHECK (length(value) < 10)"
        connection.execute(f"CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB NOT NULL {check})")
    assert command("sync", source.target, target.target) == 1
    assert target.values() == {"small": b"1"}
    (left,) = kvsync.sync(source.target, target.target, scan=True).missing
    assert (left.key, left.side) == ("large", "target")
    assert "CHECK" in left.reason
    source.put("large", b"shorter")
    assert command("sync", source.target, target.target) == 0
    assert target.values() == {"small": b"1", "large": b"shorter"}


def test_a_document_that_could_not_be_read_once_is_read_later(story: Story) -> None:
    """apache/pouchdb#5033: one document of a batch could not be fetched. The batch was taken for done, and it was
    left out for good. Here a value that cannot be read now is named, is no delete, and is read by a later run."""
    source, target = story.place("source", {"a": b"1", "b": b"1", "c": b"1"}), story.place("target", kind="sqlite")
    result = kvsync.sync(Blind(source.target, "b"), target.target, scan=True, environment=story.clock.environment)
    assert (result.pushed, unreadable(result)) == (2, [("b", "source")])
    assert target.values() == {"a": b"1", "c": b"1"}
    assert told(story.sync(source, target)) == (1, 0, 0, 0, 0)
    assert target.values() == {"a": b"1", "b": b"1", "c": b"1"}


def test_rows_that_are_only_in_the_log_of_a_database_move_too(story: Story) -> None:
    """n24q02m/mnemo-mcp#1037: an upload took the file of a SQLite database without its `-wal`. It looked right, said
    that it was done, and had no table in it. Here the database is read as a database, so what is committed counts."""
    app, backup = story.place("app", {"memory 1": b"old"}, "sqlite"), story.place("backup", kind="folder")
    assert isinstance(app, SqlitePlace)
    with closing(sqlite3.connect(app.path)) as running:
        running.execute("PRAGMA journal_mode=wal")
        running.execute("PRAGMA wal_autocheckpoint=0")
        running.execute("INSERT INTO kv VALUES ('memory 2', x'6e6577')")
        running.commit()
        assert app.path.with_name(app.path.name + "-wal").stat().st_size > 0
        assert told(story.sync(app, backup)) == (2, 0, 0, 0, 0)
    assert backup.values() == {"memory 1": b"old", "memory 2": b"new"}


def test_a_reader_sees_the_old_file_or_the_new_one(story: Story) -> None:
    """larrabee/s3sync#52: a file was truncated, then filled. Who read it meanwhile got a part of it; if the copy
    failed, it stayed empty. Here a finished file takes the place of the old one, which an open reader still has."""
    folder, bucket = story.place("folder", {"table.csv": b"old" * 9999}, "folder"), story.place("bucket")
    assert isinstance(folder, FolderPlace)
    story.sync(folder, bucket)
    bucket.put("table.csv", b"new" * 9999)
    with (folder.path / "table.csv").open("rb") as reader:
        assert reader.read(3) == b"old"
        story.sync(folder, bucket)
        assert reader.read() == b"old" * 9998
    assert folder.values() == {"table.csv": b"new" * 9999}


def test_files_that_arrive_during_a_run_are_not_taken_for_deleted(story: Story) -> None:
    """rclone/rclone#325: a sync was started while music was still being copied into the folder. Later, many files
    were gone. Here what arrives during a run is left to the next one, which moves all of it."""
    music = {f"track {number}": b"%d" % number for number in range(50)}
    folder, cloud = story.place("folder", {"first": b"1"}, "folder"), story.place("cloud")
    arriving = iter(music.items())

    def copy_one_more(*_: object) -> None:
        for key, value in arriving:
            folder.put(key, value)
            break

    copying = Hooked(folder.target, before=copy_one_more, after=copy_one_more)
    result = kvsync.sync(copying, cloud.target, scan=True, environment=story.clock.environment)
    copying.close()
    for key, value in arriving:
        folder.put(key, value)
    assert told(result)[1:] == (0, 0, 0, 0)
    story.sync(folder, cloud)
    assert folder.values() == cloud.values() == {"first": b"1", **music}


def test_a_file_that_vanishes_after_the_listing_stops_nothing(story: Story) -> None:
    """rclone/rclone#5676: a file was gone after the listing, and a bidirectional sync gave up: it had to start over,
    by hand. Here that key is named, all others move, and the next run sees that there is nothing to move."""
    source, target = story.place("source", {"a": b"1", "b": b"1"}, "folder"), story.place("target")
    story.sync(source, target)
    source.put("a", b"2")
    source.put("temporary", b"1")

    def vanish(method: str, *_: object) -> None:
        if method == "write" and "temporary" in source.values():
            source.delete("temporary")

    busy = Hooked(source.target, before=vanish, after=lambda method, *_: vanish("write") if method == "scan" else None)
    result = kvsync.sync(busy, target.target, scan=True, environment=story.clock.environment)
    busy.close()
    assert (result.pushed, target.values()) == (1, {"a": b"2", "b": b"1"})
    assert told(story.sync(source, target)) == (0, 0, 0, 0, 0)
    assert source.values() == target.values() == {"a": b"2", "b": b"1"}
