"""A file system that keeps whole seconds, where two writes within one of them look alike."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

import kvsync
from kvsync.storages.folder import FolderStorage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount an ext4 whose inodes have no room for more than seconds, as in ext3."""
    image, root = tmp_path / "image", tmp_path / "disk"
    root.mkdir()
    with open(image, "wb") as file:
        file.truncate(8 << 20)
    if os.geteuid() != 0 or not (shutil.which("mkfs.ext4") and shutil.which("mount")):
        pytest.skip("needs the right to mount, and mkfs.ext4")
    for command in (["mkfs.ext4", "-q", "-I", "128", str(image)], ["mount", "-o", "loop", str(image), str(root)]):
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip(f"{command[0]} does not work here")
    try:
        yield root
    finally:
        subprocess.run([shutil.which("umount") or "umount", str(root)], check=True)


def in_place(path: Path, value: bytes) -> None:
    with open(path, "r+b") as file:
        file.write(value)


def test_a_change_within_the_second_of_the_last_one_is_seen(disk: Path) -> None:
    root, peer = disk / "root", dict[str, bytes]()
    storage = FolderStorage(root)
    assert storage.write(["a", "b"], [b"-", b"-"]).tokens == (b"", b"")
    assert os.stat(root / "a").st_ctime_ns % 10**9 == 0
    for turn in range(5):
        kvsync.sync(str(root), peer, scan=True)
        in_place(root / "a", b"%d" % turn)
        kvsync.sync(str(root), peer, scan=True)
        peer["b"] = b"theirs %d" % turn
        kvsync.sync(str(root), peer, scan=True)
        assert (root / "b").read_bytes() == b"theirs %d" % turn
        in_place(root / "b", b"THEIRS %d" % turn)
        kvsync.sync(str(root), peer, scan=True)
        assert (peer["a"], peer["b"]) == (b"%d" % turn, b"THEIRS %d" % turn)


@pytest.mark.parametrize("late_ns", [0, 1, 999_999])
def test_a_value_that_is_written_when_a_second_begins_proves_no_more(disk: Path, late_ns: int) -> None:
    """Its time seemed to be kept to the nanosecond, so what somebody wrote within the same second was not seen."""
    storage = FolderStorage(disk / "root", clock_ns=lambda: time.time_ns() // 10**9 * 10**9 + late_ns)
    assert storage.write(["a"], [b"-"]).tokens == (b"",)
