"""Names that one system cannot tell apart or cannot hold, and other tools mixed up or dropped."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

import pytest
from places import FolderPlace
from telling import command, told, unreadable

import kvsync
from kvsync import Put

if TYPE_CHECKING:
    from telling import Story


def through_a_folder(story: Story, values: dict[str, bytes]) -> list[dict[str, bytes]]:
    """Sync values from a dict through a folder into a database; delete the first one there; return what all hold."""
    first, middle = story.place("first", values), story.place("middle", kind="folder")
    last = story.place("last", kind="sqlite")
    story.sync(first, middle)
    story.sync(middle, last)
    assert last.values() == values
    last.delete(next(iter(values)))
    story.sync(middle, last)
    story.sync(first, middle)
    third = story.place("third")
    story.sync(middle, third)
    return [first.values(), third.values(), last.values()]


def test_names_that_differ_in_case_only_stay_two(story: Story) -> None:
    """syncthing/syncthing#2907: of two directories, `Test` and `test`, one was deleted, and the other went with it,
    as a Windows machine had only one of them. Here each is a key of its own, and deleting one leaves the other."""
    values = {"Application/x": b"1", "application/x": b"2"}
    assert through_a_folder(story, values) == [{"application/x": b"2"}] * 3


def test_two_spellings_of_one_letter_stay_two(story: Story) -> None:
    """nextcloud/desktop#10087: a name with an accent was stored in one Unicode form and looked for in the other. It
    was not found, so it was deleted on the server. Here a key is what its bytes are; the forms are two keys."""
    composed, decomposed = (unicodedata.normalize(form, "Ordner é/brief") for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert through_a_folder(story, {decomposed: b"NFD", composed: b"NFC"}) == [{composed: b"NFC"}] * 3


def test_a_dot_at_the_end_of_a_name_is_part_of_it(story: Story) -> None:
    """owncloud/client#416: of two directories that differed in a dot at the end, Windows could hold one. The other
    was removed there, and then everywhere; `Surname, A.` became `Surname, A`. Here such a name is quoted where it is
    made."""
    values = {"Surname, A./letter": b"1", "Surname, A/letter": b"2"}
    assert through_a_folder(story, values) == [{"Surname, A/letter": b"2"}] * 3


@pytest.mark.parametrize("key", ["12345 /x", "trailing ", "CON", "aux.txt", "plop...", "a\\b", "line\nbreak", "nul\0"])
def test_a_name_that_windows_cannot_have_arrives(story: Story, key: str) -> None:
    """rclone/rclone#6652: directories whose names end with a space were listed, then could not be found, and were not
    copied. Here a name that is not portable has a quoted file name, and comes back as it was."""
    values = {key: b"1", "plain": b"2"}
    first, middle = story.place("first", values), story.place("middle", kind="folder")
    last = story.place("last")
    assert told(story.sync(first, middle)) == (2, 0, 0, 0, 0)
    assert told(story.sync(middle, last)) == (2, 0, 0, 0, 0)
    assert last.values() == values


def test_a_file_and_a_directory_of_one_name_are_both_kept(story: Story) -> None:
    """rclone/rclone#14: a bucket can hold both `test_file` and `test_file/1`, a file system cannot: one of them was
    not copied. Here the file stands beside the directory, and comes back under its own name."""
    values = {"test_file": b"file", "test_file/1": b"in the directory"}
    bucket, folder = story.place("bucket", values), story.place("folder", kind="folder")
    assert isinstance(folder, FolderPlace)
    other = story.place("other", kind="sqlite")
    assert told(story.sync(bucket, folder)) == (2, 0, 0, 0, 0)
    assert (folder.path / "test_file%value").read_bytes() == b"file"
    assert told(story.sync(folder, other)) == (2, 0, 0, 0, 0)
    assert other.values() == values
    other.delete("test_file/1")
    story.sync(folder, other)
    assert folder.values() == {"test_file": b"file"}
    assert told(story.sync(bucket, folder)) == (0, 1, 0, 0, 0)
    assert bucket.values() == {"test_file": b"file"}


def test_a_name_that_sorts_between_a_directory_and_its_files_moves_once(story: Story) -> None:
    """aws/aws-cli#431: a file `foo.txt` beside a directory `foo` was deleted in the bucket and uploaded again, with
    each sync. Here both sides are listed in the order of their bytes, in which `foo.txt` comes before `foo/`."""
    values = {"foo.txt": b"1", "foo/foo2.txt": b"2", "foo-bar/x": b"3", "foo": b"4"}
    folder, bucket = story.place("folder", kind="folder"), story.place("bucket", kind="s3")
    for key in ("foo.txt", "foo/foo2.txt", "foo-bar/x"):
        folder.put(key, values[key])
    bucket.put("foo", values["foo"])
    assert told(story.sync(folder, bucket)) == (3, 1, 0, 0, 0)
    for _ in range(2):
        assert told(story.sync(folder, bucket)) == (0, 0, 0, 0, 0)
    assert bucket.values() == values


def test_a_key_that_is_too_long_for_one_side_is_named_and_stops_no_other(story: Story) -> None:
    """apache/couchdb-couch-replicator#54: one document id of over 8,000 bytes made a replication crash and start
    again, for ever; none of the others arrived. Here that key is named each time, the command ends with 1, and all
    others are there."""
    long = "x" * 5000
    source, folder = story.place("source", kind="sqlite"), story.place("folder", kind="folder")
    given = [Put(long, b"1"), Put("a", b"1"), Put("b", b"1")]
    kvsync.commit(source.target, given, environment=story.clock.environment)
    for moved in (2, 0):
        result = story.sync(source, folder)
        assert [(key, side) for key, side, _ in result.missing] == [(long, "target")]
        assert result.pushed == moved
    assert command("sync", source.target, folder.target) == 1
    assert folder.values() == {"a": b"1", "b": b"1"}
    assert unreadable(result) == []
    assert long in source.values()
