"""Commands that name the wrong thing: swapped, misspelt, twice the same, one within the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from places import FolderPlace
from telling import command, conflicts, kept, told

import kvsync

if TYPE_CHECKING:
    from telling import Story

HOME = {"thesis.tex": b"years", ".bashrc": b"alias", "photos/1.jpg": b"jpeg"}


@pytest.mark.parametrize("swapped", [False, True])
def test_swapped_arguments_delete_nobodys_home(story: Story, swapped: bool) -> None:
    """rclone/rclone#4298: `sync` from a drive to `~` made the home directory equal to the drive: all else was
    deleted. Here both sides get what they lack, whichever is named first."""
    home, drive = story.place("home", HOME, "folder"), story.place("drive", {"drive/1": b"1"}, "folder")
    pair = (drive, home) if swapped else (home, drive)
    assert command("sync", *(place.target for place in pair)) == 0
    assert home.values() == drive.values() == {**HOME, "drive/1": b"1"}


def test_a_misspelt_source_is_no_empty_one(story: Story) -> None:
    """syncthing/syncthing#845: the device of a folder was not mounted, so there was no such folder. On the other node
    all files were removed. Here a source that does not exist, for whatever reason, is an error: the command ends with
    1, and makes nothing."""
    home, drive = story.place("home", HOME, "folder"), story.place("drive", kind="folder")
    story.sync(home, drive)
    assert command("sync", f"{home.target}x", drive.target) == 1
    assert command("sync", f"sqlite:///{story.folder}/misspelt.db", drive.target) == 1
    assert drive.values() == HOME
    assert {path.name for path in story.folder.iterdir()} == {"home", "drive"}


def test_a_target_that_does_not_exist_takes_nothing_with_it(story: Story) -> None:
    """laurent22/joplin#10567: the directory to sync with was changed to one that did not exist. Notes that had been
    written since were deleted. Here the directory is made, the result says so, and everything goes there."""
    notes, old = story.place("notes", HOME, "sqlite"), story.place("old", kind="folder")
    story.sync(notes, old)
    notes.put("new note", b"1")
    new = FolderPlace(story.folder / "nonexistent", story.clock)
    result = story.sync(notes, new)
    assert told(result) == (4, 0, 0, 0, 0)
    assert list(result.created) == ["target"]
    assert notes.values() == new.values() == {**HOME, "new note": b"1"}


@pytest.mark.parametrize("name", ["link", "home/../home", "home"])
def test_one_folder_under_two_names_is_refused(story: Story, name: str) -> None:
    """datalad/datalad#6959: a clone's store was a link to the original's. Dropping the clone's copy, since the
    original still had one, dropped the only one. Here two names of one storage are recognised, and the command ends
    with 2."""
    home = story.place("home", HOME, "folder")
    (story.folder / "link").symlink_to(story.folder / "home")
    before = home.photograph()
    with pytest.raises(kvsync.SameStorageError):
        kvsync.sync(home.target, str(story.folder / name), scan=True)
    assert command("sync", home.target, story.folder / name) == 2
    assert home.photograph() == before


def test_a_folder_within_the_other_is_refused(story: Story) -> None:
    """meganz/MEGAsync#1088: a folder was synced into a place within itself, which made MEGA/MEGA/MEGA and so on. Here
    a folder within the other, also by way of a link, is refused before anything is written."""
    home = story.place("home", HOME, "folder")
    assert isinstance(home, FolderPlace)
    (story.folder / "link").symlink_to(home.path / "photos")
    before = home.photograph()
    for inner in (home.path / "photos", home.path / "new/backup", story.folder / "link"):
        assert command("sync", home.target, inner) == 2
        assert inner.exists() == (inner.name != "backup")
    assert command("sync", home.path / "photos", home.target) == 2
    assert home.photograph() == before


def test_another_disk_at_the_same_path_is_another_storage(story: Story) -> None:
    """bcpierce00/unison#457: what was known of the roots came from an earlier sync, and was not true of these; files
    were deleted, and the report did not say so. Here the index is on the disk that it describes, so another disk has
    its own."""
    disk, server = story.place("disk", HOME, "folder"), story.place("server", kind="sqlite")
    assert isinstance(disk, FolderPlace)
    story.sync(disk, server)
    disk.path.rename(story.folder / "first disk")
    second = FolderPlace(disk.path, story.clock)
    disk.path.mkdir()
    second.put("other/1", b"1")
    result = story.sync(second, server)
    assert told(result) == (1, 3, 0, 0, 0)
    assert second.values() == server.values() == {**HOME, "other/1": b"1"}


def test_an_empty_note_made_at_startup_does_not_swallow_the_full_one(story: Story) -> None:
    """remotely-save/remotely-save#1063: an app made an empty page of the day as soon as it started. That was newer
    than the full page on the server, and replaced it. Here two new values are a conflict: it is told, and the full
    one is kept and comes back."""
    phone, server = story.place("phone", {"x": b"1"}, "folder"), story.place("server", {"day": b"a full day"}, "sqlite")
    phone.put("day", b"")
    result = story.sync(phone, server)
    assert conflicts(result) == [("day", "source")]
    assert kept(server) == [("day", b"a full day")]
    kvsync.restore(server.target, "day", environment=story.clock.environment)
    assert told(story.sync(phone, server)) == (0, 1, 0, 0, 0)
    assert phone.values() == server.values() == {"x": b"1", "day": b"a full day"}
