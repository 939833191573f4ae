"""What a power cut may leave of many files: each is durable before it has its name, and its name before the call ends.

A file system writes names and contents in any order, unless it is told to. So what counts is the order of our calls.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

import kvsync
from kvsync.errors import StorageError
from kvsync.storages.folder import FolderStorage
from kvsync.storages.folder.durable import sync_each
from kvsync.types import ABSENT, ANY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COUNT = 300
KEYS = [f"d{number % 70}/{number}" for number in range(COUNT)]
VALUES = [b"%d" % number for number in range(COUNT)]


class Disk:
    """Notes what is written, made durable, and named, by inode."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.dirty: set[int] = set()
        self.empty_names: list[str] = []  # of files that a power cut could leave empty
        self.unsynced: set[int] = set()  # directories
        for name in ("write", "utime", "fsync", "link", "rename"):
            patch.setattr(os, name, getattr(self, name)(getattr(os, name)))

    def write(self, real: Callable[..., int]) -> Callable[..., int]:
        def write(file: int, data: bytes) -> int:
            self.dirty.add(os.fstat(file).st_ino)
            return real(file, data)

        return write

    def utime(self, real: Callable[..., None]) -> Callable[..., None]:
        def utime(file: int, **times: Any) -> None:
            self.dirty.add(os.fstat(file).st_ino)
            real(file, **times)

        return utime

    def fsync(self, _: object) -> Callable[[int], None]:
        def fsync(file: int) -> None:
            self.dirty.discard(os.fstat(file).st_ino)
            self.unsynced.discard(os.fstat(file).st_ino)

        return fsync

    def named(self, real: Callable[..., None]) -> Callable[..., None]:
        def named(old: str, new: str, *, src_dir_fd: int, dst_dir_fd: int, **more: Any) -> None:
            if os.stat(old, dir_fd=src_dir_fd).st_ino in self.dirty:
                self.empty_names.append(new)
            self.unsynced.add(os.fstat(dst_dir_fd).st_ino)
            real(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, **more)

        return named

    link = rename = named


@pytest.mark.parametrize("expect", [None, [None] * COUNT])
def test_many_files_are_durable_before_they_have_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, expect: list[None] | None
) -> None:
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        written = FolderStorage(tmp_path).write(KEYS, VALUES, expect)
    assert not written.refused
    assert not disk.empty_names
    assert not disk.unsynced
    assert FolderStorage(tmp_path).read(KEYS) == VALUES
    assert os.listdir(tmp_path / ".kvsync/tmp") == []


def test_a_directory_that_cannot_be_written_fails_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: int) -> None:
        if os.path.samestat(os.fstat(file), os.stat(tmp_path / "d5")):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    for key in KEYS:
        (tmp_path / key).parent.mkdir(exist_ok=True)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match="Input/output error"):
        FolderStorage(tmp_path).write(KEYS, VALUES)


def test_each_of_some_files_is_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    for count in (0, 1, 2, 3, 100):
        synced.clear()
        sync_each(range(count))
        assert sorted(synced) == list(range(count))


def test_only_what_has_to_survive_a_power_cut_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After one, a lease that is back belongs to a process that has ended, and a scan can do without an inventory."""
    storage = FolderStorage(tmp_path)
    storage.store("manifest", b"1", ABSENT)
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(stat.filemode(os.fstat(file).st_mode)[0]))

    def waits(call: Callable[[], object]) -> str:
        synced.clear()
        call()
        return "".join(synced)

    for name in ("manifest", "segment/1-0", "lease"):
        assert waits(lambda name=name: storage.store(name, b"2", ANY))[0] == "-"  # type: ignore[misc]
        assert synced[1:]
        assert set(synced[1:]) == {"d"}
    assert waits(lambda: storage.store("inventory", b"2", ANY)) == "-"
    assert waits(lambda: storage.remove(["lease"], ANY)) == ""
    assert "d" in waits(lambda: storage.remove(["segment/1-0"], ANY))


def test_an_inventory_that_a_power_cut_took_back_is_not_used(tmp_path: Path) -> None:
    left, right = tmp_path / "left", tmp_path / "right"
    for number in range(4):
        left.mkdir(exist_ok=True)
        (left / f"{number}").write_bytes(b"%d" % number)
        before = (left / ".kvsync/inventory").read_bytes() if number else b""
        kvsync.sync(left, right, scan=True)
        (left / ".kvsync/inventory").write_bytes(before)
    result = kvsync.sync(left, right, scan=True)
    assert (result.pushed, result.pulled, result.conflicts) == (0, 0, [])
    assert FolderStorage(right).read(["0", "3"]) == [b"0", b"3"]


def test_entries_keep_their_directory_while_others_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links lead to more directories than stay open, while the listing still asks for the status of files."""
    monkeypatch.setattr("kvsync.storages.folder.safe_tree.OPEN_MAX", 2)
    monkeypatch.setattr("kvsync.storages.folder.listing.CHUNK_COUNT", 1)
    base = tmp_path / "base"
    for number in range(12):
        (base / f"dir{number}/in").mkdir(parents=True)
        (base / f"dir{number}/in/value").write_bytes(b"%d" % number)
        (base / f"file{number}").write_bytes(b"%d" % number)
        (base / f"link{number}").symlink_to(f"dir{number}/in")
    storage = FolderStorage(tmp_path, links="follow")
    listed = {key: token for keys, tokens in storage.scan() for key, token in zip(keys, tokens, strict=True)}
    assert len(listed) == 12 * 3
    assert list(listed.values()) == storage.tokens(list(listed))
