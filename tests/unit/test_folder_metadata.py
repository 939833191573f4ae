"""What a file keeps when kvsync overwrites it, what a new one gets, and disks that are full."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import stat
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from kvsync.errors import StorageError
from kvsync.storages.folder import FolderStorage
from kvsync.testing.conformance import listing
from kvsync.types import ABSENT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ACL = bytes.fromhex("02000000 01000600ffffffff 02000700e8030000 04000400ffffffff 10000700ffffffff 20000400ffffffff")
"""user::rw-, user:1000:rwx, group::r--, mask::rwx, other::r--"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


def set_attribute(path: Path, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        pytest.skip(f"no {name} here: {error}")


@pytest.mark.parametrize("conditional", [True, False])
def test_a_file_keeps_its_mode_and_a_new_one_has_the_umasks(root: Path, *, conditional: bool) -> None:
    (root / "script").touch(0o750)
    os.chmod(root / "script", 0o6750)
    storage = FolderStorage(root)
    expect = [listing(storage)["script"], None] if conditional else None
    umask = os.umask(0o027)
    try:
        assert storage.write(["script", "new"], [b"1", b"2"], expect).refused == ()
    finally:
        os.umask(umask)
    assert stat.S_IMODE(os.stat(root / "script").st_mode) == 0o750
    assert stat.S_IMODE(os.stat(root / "new").st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("conditional", [True, False])
def test_a_file_keeps_its_owner_and_group(root: Path, *, conditional: bool) -> None:
    """kvsync, run as root, made every file that it overwrote root's."""
    (root / "a").write_bytes(b"1")
    os.chown(root / "a", 1234, 5678)
    storage = FolderStorage(root)
    written = storage.write(["a"], [b"2"], [listing(storage)["a"]] if conditional else None)
    assert written.tokens == (listing(storage)["a"],)
    there = os.stat(root / "a")
    assert (there.st_uid, there.st_gid, (root / "a").read_bytes()) == (1234, 5678, b"2")


def test_who_may_not_give_files_away_still_overwrites(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    (root / "a").write_bytes(b"1")
    if os.geteuid() == 0:
        os.chown(root / "a", 1234, 5678)
    monkeypatch.setattr(os, "fchown", refused)
    assert FolderStorage(root).write(["a"], [b"2"]).refused == ()
    assert (root / "a").read_bytes() == b"2"


def test_a_file_keeps_its_extended_attributes(root: Path) -> None:
    (root / "a").write_bytes(b"1")
    set_attribute(root / "a", "user.origin", b"\0a camera\xff")
    storage = FolderStorage(root)
    assert storage.write(["a"], [b"2"], [listing(storage)["a"]]).refused == ()
    assert os.getxattr(root / "a", "user.origin") == b"\0a camera\xff"
    assert (root / "a").read_bytes() == b"2"


def test_a_file_keeps_its_access_list(root: Path) -> None:
    (root / "a").write_bytes(b"1")
    set_attribute(root / "a", "system.posix_acl_access", ACL)
    storage = FolderStorage(root)
    assert storage.write(["a"], [b"2"], [listing(storage)["a"]]).refused == ()
    assert os.getxattr(root / "a", "system.posix_acl_access") == ACL


def test_a_file_loses_what_vouched_for_its_old_content(root: Path) -> None:
    (root / "a").write_bytes(b"1")
    set_attribute(root / "a", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    FolderStorage(root).write(["a"], [b"2"])
    assert "security.capability" not in os.listxattr(root / "a")


def test_another_name_of_the_file_keeps_the_old_value(root: Path, tmp_path: Path) -> None:
    (root / "a").write_bytes(b"1")
    os.link(root / "a", tmp_path / "backup")
    storage = FolderStorage(root)
    assert storage.write(["a"], [b"2"], [listing(storage)["a"]]).refused == ()
    assert ((root / "a").read_bytes(), (tmp_path / "backup").read_bytes()) == (b"2", b"1")


@pytest.fixture
def small_disk(root: Path) -> Iterator[Path]:
    """Mount a disk of 256 KiB."""
    mount = shutil.which("mount")
    command = [mount or "", "-t", "tmpfs", "-o", "size=256k", "kvsync-test", str(root)]
    if os.geteuid() != 0 or mount is None or subprocess.run(command, check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        yield root
    finally:
        subprocess.run([shutil.which("umount") or "umount", str(root)], check=True)


def test_a_full_disk_is_called_that_and_holds_nothing_half(small_disk: Path) -> None:
    storage = FolderStorage(small_disk)
    storage.write(["a"], [b"old"])
    version = storage.store("manifest", b"M", ABSENT)
    keys = ["a", *(f"dir/{number}" for number in range(8))]
    with pytest.raises(StorageError, match="the disk is full: make room and run again"):
        storage.write(keys, [b"x" * 100_000] * 9)
    assert os.listdir(small_disk / ".kvsync/tmp") == []
    values = storage.read(keys)
    assert values[0] in {b"old", b"x" * 100_000}
    assert set(values[1:]) <= {None, b"x" * 100_000}
    with pytest.raises(StorageError, match="the disk is full"):
        storage.write_stream("big", iter([b"x" * 100_000] * 20))
    with pytest.raises(StorageError, match="the disk is full"):
        storage.store("segment/1-0", b"x" * 2_000_000, ABSENT)
    assert os.listdir(small_disk / ".kvsync/tmp") == []
    assert storage.load("manifest") == (b"M", version)
    storage.remove(["manifest"], version)


def test_a_limit_of_file_size_refuses_that_key_alone(root: Path) -> None:
    storage = FolderStorage(root)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler: Any = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        written = storage.write(["large", "small"], [b"x" * 20_000, b"1"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [(refusal.key, "too large" in refusal.reason) for refusal in written.refused] == [("large", True)]
    assert storage.read(["large", "small"]) == [None, b"1"]
    assert os.listdir(root / ".kvsync/tmp") == []
