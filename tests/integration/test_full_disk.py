"""A folder on a disk that is full: the run fails, and locks nobody out."""

from __future__ import annotations

import errno
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from places import Clock, FolderPlace, Hooked

import kvsync
from kvsync import Delete, Put
from kvsync.lease import LeaseState
from kvsync.run.holder import read_lease
from kvsync.storages import ObjectMismatch
from kvsync.storages.folder import staging
from kvsync.types import ABSENT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BLOCK = 4096


def state(place: FolderPlace) -> LeaseState | None:
    with place.storage() as storage:
        record = read_lease(storage)
    return None if record is None else record.state


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Return the directory of a file system of 40 blocks."""
    path = tmp_path / "small"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={40 * BLOCK}", "tmpfs", str(path)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a file system")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def fill(path: Path) -> Path:
    """Fill a file system to its last block."""
    filler = path / "filler"
    with filler.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(BLOCK))
            except OSError:
                return filler


@pytest.mark.parametrize("given", [False, True])
def test_a_run_that_fills_the_disk_locks_nobody_out(small: Path, given: bool) -> None:
    """It could not release its lease, for that took room, too: everybody else waited for a minute."""
    clock = Clock()
    (small / "notes").mkdir()
    notes, other = FolderPlace(small / "notes"), dict[str, bytes]()
    kvsync.sync(notes.target, other, [Put("a", b"1")], environment=clock.environment)
    large = [Put(f"k{i}", bytes(BLOCK * 10)) for i in range(10)]
    if not given:
        kvsync.commit(other, large, environment=clock.environment)
    with pytest.raises(kvsync.StorageError, match="make room"):
        kvsync.sync(notes.target, other, large if given else (), environment=clock.environment)
    assert state(notes) is LeaseState.INTERRUPTED, "the next run looks for what this one has written"
    assert kvsync.status(other).lease is None
    for key in notes.values().keys() - {"a"}:
        notes.delete(key)
    kvsync.commit(other, [Delete(change.key) for change in large], environment=clock.environment)
    kvsync.sync(notes.target, other, environment=clock.environment, wait_seconds=0, scan=True, max_delete="100%")
    assert state(notes) is None
    assert kvsync.verify(notes.target, other).equal


def test_a_run_during_which_the_disk_becomes_full_locks_nobody_out(small: Path) -> None:
    """To its last block, by somebody else's doing: not even a mark of a few bytes can be written anew."""
    clock = Clock()
    (small / "notes").mkdir()
    notes, other = FolderPlace(small / "notes"), dict[str, bytes]()
    kvsync.sync(notes.target, other, [Put("a", b"1")], environment=clock.environment)
    kvsync.commit(other, [Put("b", bytes(2 * BLOCK))], environment=clock.environment)
    filler: list[Path] = []
    full = Hooked(notes.target, before=lambda method, *_: filler.append(fill(small)) if method == "write" else None)
    with pytest.raises(kvsync.StorageError, match="make room"):
        kvsync.sync(full, other, environment=clock.environment)
    assert state(notes) is LeaseState.INTERRUPTED
    filler[0].unlink()
    kvsync.sync(notes.target, other, environment=clock.environment, wait_seconds=0)
    assert notes.values() == {"a": b"1", "b": bytes(2 * BLOCK)}


def test_a_disk_that_is_full_from_the_start_leaves_nothing_held(small: Path) -> None:
    clock = Clock()
    (small / "notes").mkdir()
    notes, other = FolderPlace(small / "notes"), dict[str, bytes]()
    kvsync.sync(notes.target, other, [Put("a", b"1")], environment=clock.environment)
    kvsync.commit(other, [Put("b", bytes(10 * BLOCK))], environment=clock.environment)
    filler = fill(small)
    with pytest.raises(kvsync.StorageError, match="make room"):
        kvsync.sync(notes.target, other, environment=clock.environment, wait_seconds=0)
    assert state(notes) is None
    filler.unlink()
    kvsync.sync(notes.target, other, environment=clock.environment, wait_seconds=0)
    assert notes.values() == {"a": b"1", "b": bytes(10 * BLOCK)}


def test_lmdb_on_a_full_disk_says_so(small: Path) -> None:
    """LMDB itself speaks of an input/output error where there was room for a part of a write."""
    pytest.importorskip("lmdb")
    url, other = f"lmdb:///{small}/l?map_size=64M", dict[str, bytes]()
    kvsync.sync(other, url, [Put("a", b"1")])
    with pytest.raises(kvsync.StorageError, match="make room"):
        kvsync.sync(other, url, [Put(f"k{i}", bytes(BLOCK)) for i in range(50)])
    kvsync.commit(other, [Delete(f"k{i}") for i in range(40)])
    kvsync.sync(other, url, wait_seconds=0)
    assert kvsync.verify(other, url).equal


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_lease_is_overwritten_where_nothing_new_can_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Not the manifest: one that a crash cuts off in the middle would be lost."""
    notes = FolderPlace(folder / "notes")
    with notes.storage() as storage:
        lease, manifest = (storage.store(name, b"long enough", ABSENT) for name in ("lease", "manifest"))

        def refuse(_self: staging.Staging) -> tuple[str, int]:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(staging.Staging, "create", refuse)
        shorter = storage.store("lease", b"short", lease)
        there = storage.load("lease")
        assert there is not None
        assert (there.data, there.version) == (b"short", shorter)
        with pytest.raises(ObjectMismatch):
            storage.store("lease", b"other", lease)
        with pytest.raises(kvsync.StorageError):
            storage.store("manifest", b"short", manifest)
        there = storage.load("manifest")
        assert there is not None
        assert there.data == b"long enough"
        storage.remove(["lease"], shorter)
        with pytest.raises(kvsync.StorageError):
            storage.store("lease", b"new", ABSENT)
        assert storage.load("lease") is None
