"""Directories: which are removed, and how a file takes the place of one in the same run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import kvsync
from kvsync.storages.folder import FolderStorage
from kvsync.testing.conformance import listing

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def put(path: Path, data: bytes = b"x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def names(root: Path) -> list[str]:
    found = (str(path.relative_to(root)) + "/" * path.is_dir() for path in root.rglob("*"))
    return sorted(name for name in found if not name.startswith(".kvsync"))


def test_only_directories_that_kvsync_made_are_removed(tmp_path: Path) -> None:
    """`git gc` on one side emptied `refs/heads` on the other, which vanished: "not a git repository"."""
    put(tmp_path / "theirs/a")
    storage = FolderStorage(tmp_path)
    storage.write(["theirs/ours/b", "made/c/d", "made/e"], [b"1"] * 3)
    storage.delete(["theirs/a", "theirs/ours/b", "made/c/d"])
    assert names(tmp_path) == ["made/", "made/e", "theirs/"]
    FolderStorage(tmp_path).delete(["made/e"])
    assert names(tmp_path) == ["theirs/"]
    (tmp_path / "made").mkdir()
    put(tmp_path / "made/e")
    FolderStorage(tmp_path).delete(["made/e"])
    assert names(tmp_path) == ["made/", "theirs/"]


def test_without_the_list_directories_stay(tmp_path: Path) -> None:
    FolderStorage(tmp_path).write(["made/c"], [b"1"])
    (tmp_path / ".kvsync/made.list").unlink()
    FolderStorage(tmp_path).delete(["made/c"])
    assert names(tmp_path) == ["made/"]


def test_what_makes_a_repository_or_a_maildir_stays(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path)
    keys = [".git/HEAD", ".git/refs/heads/main", "mail/new/1", "mail/cur/2", "mail/sub/cur/3", "plain/refs/x"]
    storage.write(keys, [b"1"] * len(keys))
    storage.delete(keys[1:])
    assert names(tmp_path) == [".git/", ".git/HEAD", ".git/refs/", "mail/", "mail/cur/", "mail/new/"]


def test_a_directory_replaced_by_a_file_has_its_plain_name_after_one_run(tmp_path: Path) -> None:
    """A git branch `topic/x` that became `topic` arrived as `topic%value`, and stayed so."""
    one, other = tmp_path / "one", tmp_path / "other"
    for root in (one, other):
        put(root / "heads/topic/x", b"1")
        put(root / "heads/main", b"1")
    for _ in range(2):
        kvsync.sync(str(one), str(other), scan=True)
    (one / "heads/topic/x").unlink()
    (one / "heads/topic").rmdir()
    put(one / "heads/topic", b"2")
    kvsync.sync(str(one), str(other), scan=True)
    assert names(other) == ["heads/", "heads/main", "heads/topic"]
    (other / "heads/topic").unlink()
    put(other / "heads/topic/y/z", b"3")
    kvsync.sync(str(one), str(other), scan=True)
    assert names(one) == ["heads/", "heads/main", "heads/topic/", "heads/topic/y/", "heads/topic/y/z"]
    result = kvsync.sync(str(one), str(other), scan=True)
    assert (result.pushed, result.pulled, result.unreadable) == (0, 0, [])


def test_a_value_takes_the_place_of_empty_directories_only(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path)
    (tmp_path / "a/b/c").mkdir(parents=True)
    put(tmp_path / "d/e/f")
    (tmp_path / "g").mkdir()
    (tmp_path / "g/link").symlink_to("nowhere")
    assert storage.write(["a", "d", "g"], [b"1"] * 3, [None] * 3).refused == ()
    assert names(tmp_path) == ["a", "d%value", "d/", "d/e/", "d/e/f", "g%value", "g/", "g/link"]
    assert set(listing(storage)) == {"a", "d", "d/e/f", "g"}
    storage.delete(["d/e/f"])
    assert names(tmp_path) == ["a", "d", "g%value", "g/", "g/link"]
    assert set(listing(storage)) == {"a", "d", "g"}


def test_the_list_of_directories_is_no_index_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = FolderStorage("folder")
    storage.write(["a/b", "c\nd/e", "caf\u00e9/f"], [b"1"] * 3)
    assert storage.objects() == []
    assert sorted((tmp_path / "folder/.kvsync/made.list").read_text().split("\0")) == ["", "a", "c%0Ad", "caf\u00e9"]
    storage.delete(["a/b", "caf\u00e9/f"])
    assert (tmp_path / "folder/.kvsync/made.list").read_text() == "c%0Ad\0"
    assert sorted(os.listdir(tmp_path / "folder")) == [".kvsync", "c%0Ad"]
