"""A storage without some of its keys: it neither lists, reads nor writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvsync.storages.folder import FolderStorage
from kvsync.storages.mapping import MappingStorage
from kvsync.storages.overlap import folder_around, left_out, separated
from kvsync.storages.partial import PartialStorage
from kvsync.storages.path import is_within
from kvsync.storages.sqlite import SqliteStorage
from kvsync.types import Skipped, Unreadable

if TYPE_CHECKING:
    from pathlib import Path

REASON = "it is somebody else's"


@pytest.fixture
def storage(tmp_path: Path) -> PartialStorage:
    for name in ("a", "own", "z"):
        (tmp_path / name).write_bytes(name.encode())
    return PartialStorage(FolderStorage(tmp_path), {"own": REASON, "absent": REASON})


def test_what_is_left_out_is_not_listed_and_cannot_be_read(storage: PartialStorage) -> None:
    assert [key for keys, _ in storage.scan() for key in keys] == ["a", "z"]
    assert storage.skipped == (Skipped("own", REASON),)
    assert storage.read(["z", "own", "a", "gone"]) == [b"z", Unreadable(REASON), b"a", None]
    assert storage.read_stream("own") == Unreadable(REASON)
    assert storage.sizes(["own", "a"]) == [None, 1]
    assert storage.modified_ms(["own"]) == [None]
    assert left_out(storage) == ["absent", "own"]


def test_what_is_left_out_is_not_written(storage: PartialStorage, tmp_path: Path) -> None:
    written = storage.write(["b", "own", "absent"], [b"1", b"2", b"3"])
    assert [(refusal.key, refusal.reason) for refusal in written.refused] == [("own", REASON), ("absent", REASON)]
    assert written.tokens is not None
    assert [token is not None for token in written.tokens] == [True, False, False]
    assert [refusal.key for refusal in storage.write(["own"], [b"2"], [None]).refused] == ["own"]
    assert [refusal.changed for refusal in storage.write(["own", "a"], [b"2", b"3"], [None, None]).refused] == [
        False,
        True,
    ]
    assert [refusal.key for refusal in storage.write_stream("own", iter([b"2"])).refused] == ["own"]
    assert storage.write_stream("c", iter([b"4"])).refused == ()
    assert [refusal.key for refusal in storage.delete(["own", "z"]).refused] == ["own"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == {
        "a": b"a",
        "b": b"1",
        "c": b"4",
        "own": b"own",
    }


def test_two_storages_that_share_nothing_are_returned_as_they_are(tmp_path: Path) -> None:
    one, other = FolderStorage(tmp_path / "one"), SqliteStorage(tmp_path / "one.db")
    assert separated(one, other) == (one, other)
    assert separated(MappingStorage({}), one)[1] is one


def test_the_folder_around_a_database_is_found(tmp_path: Path) -> None:
    storage = SqliteStorage(tmp_path / "notes" / "deep" / "n.db")
    assert folder_around(storage) is None
    (tmp_path / "notes" / ".kvsync").mkdir(parents=True)
    assert folder_around(storage) == str(tmp_path / "notes")
    assert folder_around(MappingStorage({})) is None


def test_a_path_is_within_a_folder_by_any_spelling(tmp_path: Path) -> None:
    (tmp_path / "real" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    outer = str(tmp_path / "real")
    for inner in ("real", "real/sub", "link/sub/new", "link", "real/../real/x"):
        assert is_within(str(tmp_path / inner), outer)
        assert is_within(str(tmp_path / inner), str(tmp_path / "link"))
    for inner in ("realm", "real/../x", "", "link/../../x"):
        assert not is_within(str(tmp_path / inner), outer)
    assert is_within(str(tmp_path / "new" / "x"), str(tmp_path / "new"))
    assert not is_within(str(tmp_path / "newer"), str(tmp_path / "new"))
