"""Clocks that are wrong, and times of files that say nothing: no edit is lost for them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from places import Clock, FolderPlace
from telling import HOUR, conflicts, kept, told

import kvsync
from kvsync import Put

if TYPE_CHECKING:
    from telling import Story

DAY = 24 * HOUR


def dated(place: FolderPlace, key: str, seconds: float) -> None:
    """Give a file another modification time."""
    os.utime(place.path / key, (seconds, seconds))


def test_a_file_from_the_future_does_not_win_for_years(story: Story) -> None:
    """opentx/opentx#5735: files in a copy bore times of the next year. Until then no edit on the radio could replace
    them. Here a time in the future cannot be right: the change counts as made now, and the next edit as a later
    one."""
    card, radio = story.place("card", {"model": b"0"}, "folder"), story.place("radio", kind="folder")
    assert isinstance(card, FolderPlace)
    story.sync(card, radio)
    card.put("model", b"from the future")
    dated(card, "model", story.clock.now + 400 * DAY)
    assert told(story.sync(card, radio)) == (1, 0, 0, 0, 0)
    radio.put("model", b"tuned on the radio")
    assert told(story.sync(card, radio)) == (0, 1, 0, 0, 0)
    assert card.values() == radio.values() == {"model": b"tuned on the radio"}


@pytest.mark.parametrize("seconds", [0, 1, -DAY, 4_294_967_295], ids=["1970", "1970, a second", "1969", "2106"])
def test_files_dated_1970_are_synced_like_others(story: Story, seconds: float) -> None:
    """nextcloud/desktop#4332: videos dated 1 January 1970 were refused for that, and not uploaded. Here such a date
    says that the time is not known, and nothing else."""
    camera, laptop = story.place("camera", {"a.mov": b"1", "b.mov": b"1"}, "folder"), story.place("laptop")
    assert isinstance(camera, FolderPlace)
    dated(camera, "a.mov", seconds)
    assert told(story.sync(camera, laptop)) == (2, 0, 0, 0, 0)
    camera.put("a.mov", b"cut")
    dated(camera, "a.mov", seconds)
    assert told(story.sync(camera, laptop)) == (1, 0, 0, 0, 0)
    assert laptop.values() == {"a.mov": b"cut", "b.mov": b"1"}


def test_a_device_whose_battery_died_replaces_no_newer_edit(story: Story) -> None:
    """syncthing/syncthing#10457: whenever a device had run out of battery, its old files replaced what others had
    edited since. Here it has nothing to send. While its clock is 20 years back the run is refused, and says to
    correct it."""
    phone, laptop = story.place("phone", {"note": b"1"}, "sqlite"), story.place("laptop", kind="folder")
    story.sync(phone, laptop)
    laptop.put("note", b"edited")
    kvsync.commit(laptop.target, scan=True, environment=story.clock.environment)
    dead = Clock(story.clock.now - 20 * 365 * DAY)
    with pytest.raises(kvsync.ClockError, match="correct the clock"):
        kvsync.sync(phone.target, laptop.target, scan=True, environment=dead.environment)
    late = Clock(story.clock.now - DAY / 2)
    assert told(kvsync.sync(phone.target, laptop.target, scan=True, environment=late.environment)) == (0, 1, 0, 0, 0)
    assert phone.values() == laptop.values() == {"note": b"edited"}


@pytest.mark.parametrize("swapped", [False, True])
def test_the_later_edit_wins_whoever_starts_first(story: Story, swapped: bool) -> None:
    """syncthing/syncthing#1306: a file was edited on two hosts while they did not see each other. The older edit won:
    which one does was not determined. Here it is the later one, and the other is kept."""
    ubuntu, windows = story.place("ubuntu", {"file": b"0"}, "folder"), story.place("windows", kind="folder")
    story.sync(ubuntu, windows)
    windows.put("file", b"older")
    story.clock.sleep(60)
    ubuntu.put("file", b"newer")
    result = story.sync(windows, ubuntu) if swapped else story.sync(ubuntu, windows)
    assert conflicts(result) == [("file", "target" if swapped else "source")]
    assert [conflict.certain for conflict in result.conflicts] == [True]
    assert ubuntu.values() == windows.values() == {"file": b"newer"}
    assert kept(windows) == [("file", b"older")]


def test_two_indexes_that_are_made_anew_bring_no_old_file_forward(story: Story) -> None:
    """syncthing/syncthing#1022: after both devices had rebuilt their indexes, older files replaced newer ones in half
    of the cases. Here the times of the files count, both are told as a conflict, and the older one is kept."""
    one, other = story.place("one", {"a": b"0", "b": b"0"}, "folder"), story.place("other", kind="folder")
    story.sync(one, other)
    for place, edited, older in ((one, "a", "b"), (other, "b", "a")):
        assert isinstance(place, FolderPlace)
        dated(place, older, story.clock.now)
        story.clock.sleep(60)
        place.put(edited, b"newer")
        place.drop_index()
    result = story.sync(one, other)
    assert one.values() == other.values() == {"a": b"newer", "b": b"newer"}
    assert conflicts(result) == [("a", "source"), ("b", "target")]
    assert kept(one, other) == [("a", b"0"), ("b", b"0")]


def test_clocks_an_hour_apart_make_no_conflict_by_themselves(story: Story) -> None:
    """laurent22/joplin#5738: one client's time was an hour off, and each sync made a new conflict of the same note:
    3,000 in the end. Here a conflict is what two sides did without knowing of each other; clocks cannot make one."""
    server = story.place("server", kind="sqlite")
    clients = [story.place(name, {f"note of {name}": b"1"}) for name in ("rome", "vatican")]
    clocks = [Clock(story.clock.now), Clock(story.clock.now + HOUR)]
    told_of: list[tuple[str, str | None]] = []
    for number in range(6):
        client, environment = clients[number % 2], clocks[number % 2].environment
        told_of += conflicts(kvsync.sync(client.target, server.target, scan=True, environment=environment))
        client.put("note of rome", b"%d" % number)
        told_of += conflicts(kvsync.sync(client.target, server.target, scan=True, environment=environment))
        for clock in clocks:
            clock.sleep(60)
    assert told_of == []
    assert server.values() == {"note of rome": b"5", "note of vatican": b"1"}
    assert kept(server, *clients) == []


def test_a_clock_that_went_back_loses_no_edit(story: Story) -> None:
    """syncany/syncany#515: a laptop whose battery was empty went back to 2001, and conflict copies appeared where
    nobody else had edited anything. Here the next change is later than all that a replica has seen; a clock that is
    back by more than a day stops the run."""
    laptop, desktop = story.place("laptop", kind="sqlite"), story.place("desktop")
    kvsync.sync(laptop.target, desktop.target, [Put("thesis", b"1")], environment=story.clock.environment)
    with pytest.raises(kvsync.ClockError, match="correct the clock"):
        kvsync.sync(laptop.target, desktop.target, [Put("thesis", b"2")], environment=Clock(1e9).environment)
    assert laptop.values() == desktop.values() == {"thesis": b"1"}
    behind = Clock(story.clock.now - DAY / 2)
    result = kvsync.sync(laptop.target, desktop.target, [Put("thesis", b"2")], environment=behind.environment)
    assert told(result) == (1, 0, 0, 0, 0)
    assert laptop.values() == desktop.values() == {"thesis": b"2"}


def test_a_clock_that_ran_away_infects_nobody(story: Story) -> None:
    """yugabyte/yugabyte-db#10628: a hybrid clock takes over the latest time that it hears of and never goes back, so
    one server whose clock is far ahead carries all others with it. Here that is refused as a whole, and the good
    replicas go on with each other."""
    good, other, mad = story.place("good", {"k": b"1"}, "sqlite"), story.place("other"), story.place("mad")
    story.sync(good, other)
    ahead = Clock(story.clock.now + 300 * DAY)
    kvsync.commit(mad.target, [Put("k", b"from the future")], environment=ahead.environment)
    before = good.objects()["manifest"]
    with pytest.raises(kvsync.ClockError, match="in the future"):
        story.sync(good, mad)
    assert good.objects()["manifest"] == before
    good.put("k", b"2")
    assert told(story.sync(good, other)) == (1, 0, 0, 0, 0)
    assert good.values() == other.values() == {"k": b"2"}


def test_new_times_on_all_files_upload_nothing(story: Story) -> None:
    """nextcloud/server#5965: after a power failure, the client sent all files again, and the server had a new version
    of each, though none had changed. Here a new time makes the scan look, and the same bytes are no change."""
    files = {f"{number}.jpg": b"%d" % number for number in range(9)}
    laptop, server = story.place("laptop", files, "folder"), story.place("server", kind="sqlite")
    story.sync(laptop, server)
    story.clock.sleep(DAY)
    for name, value in files.items():
        laptop.put(name, value)
    before = kvsync.log(laptop.target), kvsync.log(server.target)
    assert told(story.sync(laptop, server, max_delete=0)) == (0, 0, 0, 0, 0)
    assert (kvsync.log(laptop.target), kvsync.log(server.target)) == before


def test_a_change_that_keeps_size_and_time_is_found(story: Story) -> None:
    """rclone/rclone#3859: tags were added to audio files, whose size stayed as it was, and the files were not
    uploaded, since only the size was compared. Here the file system's own time of change gives it away, if nothing
    else does."""
    audio, mega = story.place("audio", {"song.mp3": b"lyrics: ---"}, "folder"), story.place("mega")
    assert isinstance(audio, FolderPlace)
    story.sync(audio, mega)
    status = (audio.path / "song.mp3").stat()
    with (audio.path / "song.mp3").open("r+b") as song:
        song.write(b"lyrics: yes")
    os.utime(audio.path / "song.mp3", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert told(story.sync(audio, mega)) == (1, 0, 0, 0, 0)
    assert mega.values() == {"song.mp3": b"lyrics: yes"}
