"""Values that other tools deleted, though nobody had: disks that were not there, listings that were not whole."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from places import FolderPlace, Hooked
from servers.redis import RedisServer
from telling import command, conflicts, told, unreadable

import kvsync
from kvsync.storages.wrapper import WrappedStorage
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from telling import Story

    from kvsync.storages.contract import Storage

MUSIC = {f"album/{number}.flac": b"%d" % number for number in range(6)}


def test_a_drive_that_is_unplugged_deletes_nothing(story: Story) -> None:
    """syncthing/syncthing#799: a drive with the synced files was unplugged. All on the other machine was deleted.
    Here the command ends with 1, since there is no such folder. Plugged in again, the drive goes on as before."""
    drive, laptop = story.place("drive", MUSIC, "folder"), story.place("laptop", kind="folder")
    assert isinstance(drive, FolderPlace)
    story.sync(drive, laptop)
    drive.path.rename(story.folder / "unplugged")
    assert command("sync", drive.target, laptop.target) == 1
    assert not drive.path.exists()
    (story.folder / "unplugged").rename(drive.path)
    drive.put("album/new.flac", b"new")
    assert told(story.sync(drive, laptop)) == (1, 0, 0, 0, 0)
    assert drive.values() == laptop.values() == {**MUSIC, "album/new.flac": b"new"}


def test_a_mount_point_without_its_disk_is_a_new_folder_and_deletes_nothing(story: Story) -> None:
    """bcpierce00/unison#262: one root was a mount point, and not mounted: its directories were deleted on the other
    side, and mounting it again did not heal that. Here an empty folder without an index knows of no delete."""
    disk, copy = story.place("disk", MUSIC, "folder"), story.place("copy", kind="sqlite")
    assert isinstance(disk, FolderPlace)
    story.sync(disk, copy)
    disk.path.rename(story.folder / "unmounted")
    disk.path.mkdir()
    assert told(story.sync(disk, copy)) == (0, 6, 0, 0, 0)
    assert copy.values() == MUSIC
    disk.path.rename(story.folder / "below the mount point")
    (story.folder / "unmounted").rename(disk.path)
    disk.put("album/new.flac", b"new")
    assert told(story.sync(disk, copy)) == (1, 0, 0, 0, 0)
    assert disk.values() == copy.values() == {**MUSIC, "album/new.flac": b"new"}


def test_a_disk_that_shows_up_empty_stops_the_run(story: Story) -> None:
    """syncthing/syncthing#4345: a disk that did not wake up right looked empty, and 100 GB were deleted on all hosts.
    Here the index is there and every value is gone: the run stops before it writes, at any limit but 100%."""
    disk, copy = story.place("disk", MUSIC, "folder"), story.place("copy", kind="folder")
    story.sync(disk, copy)
    for name in MUSIC:
        disk.delete(name)
    for limit in (None, 1000, "99%"):
        with pytest.raises(kvsync.BudgetError, match="kvsync"):
            story.sync(disk, copy, max_delete=limit)
    assert command("sync", disk.target, copy.target, "--max-delete", "99%") == 5
    assert copy.values() == MUSIC


def test_a_sync_directory_that_was_cleared_does_not_clear_the_notes(story: Story) -> None:
    """laurent22/joplin#883: the files in the directory between two devices were removed, and the next sync wiped all
    notes. Here a directory that is cleared, index and all, is filled again from the notes."""
    notes, directory = story.place("notes", MUSIC, "sqlite"), story.place("directory", kind="folder")
    assert isinstance(directory, FolderPlace)
    story.sync(notes, directory)
    story.restore(directory, story.place("empty", kind="folder"))
    assert told(story.sync(notes, directory)) == (6, 0, 0, 0, 0)
    assert notes.values() == directory.values() == MUSIC


def test_another_target_that_is_empty_gets_everything(story: Story) -> None:
    """laurent22/joplin#5904: the sync target was changed to an empty directory. Some notes were uploaded, and others
    were deleted. Here each storage has its own index, so a new target knows of nothing, and gets all."""
    notes, old, new = story.place("notes", MUSIC, "sqlite"), story.place("old"), story.place("new", kind="folder")
    story.sync(notes, old)
    notes.put("written since", b"1")
    assert told(story.sync(notes, new)) == (7, 0, 0, 0, 0)
    assert notes.values() == new.values() == {**MUSIC, "written since": b"1"}
    assert old.values() == MUSIC


def test_a_new_device_that_deleted_its_welcome_notes_deletes_nothing_else(story: Story) -> None:
    """laurent22/joplin#1358: a new client, whose welcome notes had been deleted, was told of the existing sync
    target, and emptied it. Here a new replica has deleted what it had, and nothing else."""
    device = story.place("device", {"welcome": b"hello"}, "sqlite")
    target = story.place("target", MUSIC, "folder")
    kvsync.commit(device.target, scan=True, environment=story.clock.environment)
    device.delete("welcome")
    kvsync.commit(device.target, scan=True, max_delete="100%", environment=story.clock.environment)
    result = story.sync(device, target)
    assert device.values() == target.values() == MUSIC
    assert result.pulled == 6
    assert conflicts(result) == []


class NotToBeListed(WrappedStorage):
    """A folder in which some values cannot be read for now, neither one by one nor in a listing."""

    def __init__(self, inner: Storage, reason: str) -> None:
        super().__init__(inner)
        self.reason = reason

    def read(self, keys: Any) -> Any:
        return [Unreadable(self.reason) if key.startswith("album/") else None for key in keys]

    def scan(self, splits: Sequence[str] = ()) -> Iterator[tuple[list[str], list[bytes]]]:
        return iter(())


def test_files_that_may_not_be_read_are_not_deleted(story: Story) -> None:
    """syncthing/syncthing#4573: a directory came to belong to another user. Its files could not be looked at, so they
    were taken for deleted, and were deleted on the other device. Here each is asked for once more, and told as
    unreadable."""
    one, other = story.place("one", MUSIC, "folder"), story.place("other", kind="sqlite")
    story.sync(one, other)
    with one.storage() as storage:
        closed = NotToBeListed(storage, "permission denied")
        result = kvsync.sync(closed, other.target, scan=True, environment=story.clock.environment)
    assert unreadable(result) == [(name, "source") for name in MUSIC]
    assert one.values() == other.values() == MUSIC
    assert told(story.sync(one, other)) == (0, 0, 0, 0, 0)


def test_a_directory_that_became_a_link_does_not_empty_what_it_leads_to(story: Story) -> None:
    """syncthing/syncthing#2571: a directory was removed, and a link to another one put in its place. The delete of
    its old file was carried out behind the link. Here what is behind a link is not touched, and its keys are told."""
    one = story.place("one", {"A/a": b"1", "B/a": b"1", "B/b": b"2"}, "folder")
    other = story.place("other", kind="folder")
    assert isinstance(one, FolderPlace)
    story.sync(one, other)
    one.delete("A/a")
    (one.path / "A").rmdir()
    (one.path / "A").symlink_to("B")
    result = story.sync(one, other)
    assert unreadable(result) == [("A/a", "source")]
    assert other.values() == {"A/a": b"1", "B/a": b"1", "B/b": b"2"}
    assert (one.path / "B/a").read_bytes() == b"1"
    assert command("sync", one.target, other.target) == 1


def test_a_listing_that_ends_early_deletes_nothing(story: Story) -> None:
    """rclone/rclone#988: on weak wifi, a bucket seemed to hold less than it did, and files were deleted to be fetched
    again. Here a key that a listing leaves out counts as deleted only after a direct look for it."""
    bucket, board = story.place("bucket", MUSIC), story.place("board", kind="folder")
    story.sync(bucket, board)

    class Short(Hooked):
        def scan(self, splits: Sequence[str] = ()) -> Iterator[tuple[list[str], list[bytes]]]:
            for keys, tokens in super().scan(splits):
                yield keys[:4], tokens[:4]

    result = kvsync.sync(Short(bucket.target), board.target, scan=True, environment=story.clock.environment)
    assert told(result) == (0, 0, 0, 0, 0)
    assert board.values() == bucket.values() == MUSIC


def test_a_server_whose_disk_fails_is_an_error_and_no_empty_server(story: Story) -> None:
    """haiwen/seafile#391: a server's USB disk was away for some seconds. It answered as if no library existed, and
    all clients gave theirs up. Here an error while listing ends the run, and leaves everything as it was."""
    server, client = story.place("server", MUSIC, "folder"), story.place("client", kind="sqlite")
    story.sync(server, client)

    def fail(method: str, *_: object) -> None:
        if method == "scan":
            raise OSError(5, os.strerror(5))

    failing = Hooked(server.target, before=fail)
    with pytest.raises(OSError, match="Input/output error"):
        kvsync.sync(failing, client.target, scan=True, environment=story.clock.environment)
    failing.close()
    assert client.values() == MUSIC
    assert told(story.sync(server, client)) == (0, 0, 0, 0, 0)


def test_a_server_that_evicts_keys_is_refused(story: Story, tmp_path: Path) -> None:
    """redis/redis#4213: a server that reached its memory limit evicted not some but all of its 66 million keys. To a
    scan an evicted key is a deleted one. Here such a server is refused unless its URL says `evicting=allow`."""
    peer = story.place("peer", MUSIC)
    with RedisServer(tmp_path, maxmemory="50mb", maxmemory_policy="volatile-ttl") as server:
        with pytest.raises(kvsync.StorageError, match=r"may evict keys .*evicting=allow"):
            kvsync.sync(peer.target, server.url, scan=True)
        allowed = kvsync.sync(peer.target, f"{server.url}?evicting=allow", scan=True)
    assert told(allowed) == (6, 0, 0, 0, 0)


def test_what_lies_beside_the_synced_part_is_left_alone(story: Story) -> None:
    """rclone/rclone#205: directories that a filter left out of the upload were deleted where the rest was downloaded
    to. Here what does not belong to a storage, such as other prefixes and tables, is neither read nor written."""
    server, table = story.place("server", MUSIC, "redis"), story.place("app", kind="sqlite")
    beside = story.place("beside", {"x": b"1"}, "redis")
    story.sync(server, table)
    kvsync.commit(f"{table.target}?table=other", [kvsync.Put("y", b"2")])
    server.delete("album/0.flac")
    table.delete("album/1.flac")
    assert told(story.sync(server, table)) == (1, 1, 0, 0, 0)
    assert beside.values() == {"x": b"1"}
    assert kvsync.status(f"{table.target}?table=other").changes == 1
    with kvsync.open(f"{table.target}?table=other") as other:
        assert dict(other) == {"y": b"2"}


def test_a_first_run_that_is_cut_off_deletes_nothing(story: Story) -> None:
    """nextcloud/desktop#9280: the power failed during the first sync. Files that were still to be downloaded were
    taken for deleted here, and deleted on the server. Here the next run downloads the rest."""
    server, laptop = story.place("server", MUSIC, "sqlite"), story.place("laptop", kind="folder")

    def cut(method: str, *batch: Any) -> None:
        if method == "write":
            keys, values = batch[:2]
            laptop.put(keys[0], values[0])
            raise KeyboardInterrupt

    failing = Hooked(laptop.target, before=cut)
    with pytest.raises(KeyboardInterrupt):
        kvsync.sync(server.target, failing, scan=True, environment=story.clock.environment)
    failing.close()
    assert laptop.values() == {"album/0.flac": b"0"}
    result = story.sync(server, laptop)
    assert server.values() == laptop.values() == MUSIC
    assert told(result) == (5, 0, 0, 0, 0)
