"""Files that cannot be read, and names that cannot be keys: each is named, and all others move."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kvsync
from kvsync.storages.folder import FolderStorage
from kvsync.testing.conformance import listing
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534


@pytest.fixture
def root() -> Iterator[Path]:
    """Give a folder that everybody may enter, and that belongs to nobody."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "root"
        root.mkdir()
        os.chmod(name, 0o755)
        if os.geteuid() == 0:
            os.chown(root, NOBODY, NOBODY)
        yield root


@pytest.fixture(scope="module", autouse=True)
def modules_are_loaded() -> None:
    """Import what runs import late: nobody may not read the interpreter's files."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        put(Path(one, "a"))
        kvsync.sync(one, other, scan=True)
        put(Path(one, "a"), b"2")
        kvsync.sync(one, other, scan=True)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Do without the rights of root, which may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def put(path: Path, data: bytes = b"x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def values(peer: dict[str, bytes]) -> dict[str, bytes]:
    return {key: value for key, value in peer.items() if not key.startswith(".kvsync")}


def test_a_file_that_may_not_be_read_is_named(root: Path) -> None:
    """It was skipped without a word: exit 0, nothing to do."""
    peer: dict[str, bytes] = {}
    with as_nobody():
        put(root / "a", b"1")
        put(root / "b", b"2")
        kvsync.sync(str(root), peer, scan=True)
        put(root / "a", b"changed")
        put(root / "c", b"3")
        put(root / "new", b"4")
        os.chmod(root / "a", 0)
        os.chmod(root / "new", 0)
        result = kvsync.sync(str(root), peer, scan=True)
        assert values(peer) == {"a": b"1", "b": b"2", "c": b"3"}
        assert [(key, "denied" in reason) for key, _, reason in result.unreadable] == [("a", True), ("new", True)]
        peer["a"] = b"theirs"
        kvsync.sync(str(root), peer, scan=True)
        os.chmod(root / "a", 0o600)
        assert (root / "a").read_bytes() == b"changed"


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o100])
def test_a_directory_that_may_not_be_read_is_named(root: Path, mode: int) -> None:
    peer: dict[str, bytes] = {}
    with as_nobody():
        for name in ("open/1", "shut/1", "shut/deep/2"):
            put(root / name, name.encode())
        kvsync.sync(str(root), peer, scan=True)
        put(root / "open/3")
        os.chmod(root / "shut", mode)
        result = kvsync.sync(str(root), peer, scan=True)
        os.chmod(root / "shut", 0o700)
        assert set(values(peer)) == {"open/1", "open/3", "shut/1", "shut/deep/2"}
        named = {key for key, _, reason in result.unreadable if "denied" in reason}
        # Without the right to list it, its files can still be opened by their names.
        assert named >= ({"shut/1", "shut/deep/2"} if mode != 0o100 else set())
        assert ("shut" in named) == (mode != 0o400)
        assert not kvsync.sync(str(root), peer, scan=True).unreadable


def test_a_directory_that_fails_is_named_by_itself(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root / "good/1")
    put(root / "bad/1")
    real = os.open

    def failing(path: Any, *arguments: Any, **where: Any) -> int:
        if path == "bad":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, *arguments, **where)

    monkeypatch.setattr(os, "open", failing)
    storage = FolderStorage(root)
    assert list(listing(storage)) == ["good/1"]
    assert [(entry.name, entry.harmless) for entry in storage.skipped] == [("bad", False)]
    assert isinstance(storage.read(["bad/1"])[0], Unreadable)


def test_a_log_that_grows_while_it_is_read_waits(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peer: dict[str, bytes] = {}
    put(root / "log", b"line\n")
    put(root / "other")
    real = os.read

    def growing(file: int, size: int) -> bytes:
        data = real(file, size)
        if data.startswith(b"line"):
            with open(root / "log", "ab") as log:
                log.write(b"line\n")
        return data

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", growing)
        result = kvsync.sync(str(root), peer, scan=True)
    assert set(values(peer)) == {"other"}
    assert [(key, "changes while" in reason) for key, _, reason in result.unreadable] == [("log", True)]
    assert not kvsync.sync(str(root), peer, scan=True).unreadable
    assert peer["log"] == (root / "log").read_bytes()


def test_names_that_cannot_be_keys_are_named_and_the_rest_moves(root: Path) -> None:
    """One name that is not UTF-8, or one component `.kvsync`, ended the whole run."""
    peer: dict[str, bytes] = {}
    put(root / "sub/good", b"1")
    put(root / "sub/.kvsync", b"a file")
    put(root / "inner/.kvsync/manifest", b"of a folder within this one")
    put(root / "inner/value", b"2")
    put(root / ".KVsync", b"3")
    for name in (b"/sub/bad\xff", b"/d\xfe/x"):
        path = os.fsencode(root) + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb"):
            pass
    result = kvsync.sync(str(root), peer, scan=True)
    assert values(peer) == {"sub/good": b"1", "inner/value": b"2"}
    assert sorted(key for key, _, _ in result.unreadable) == [".KVsync", "d\\xfe", "sub/.kvsync", "sub/bad\\xff"]
    assert kvsync.sync(str(root), peer, scan=True).unreadable


@pytest.mark.parametrize("seconds", [-(2**33), -1, 0, 2**33, 2**34, 2**37])
def test_files_of_any_time(root: Path, seconds: int) -> None:
    """A time before 1677 or after 2262 ended the run: "argument out of range"."""
    peer: dict[str, bytes] = {"b": b"2"}
    put(root / "a", b"1")
    os.utime(root / "a", (seconds, seconds))
    for _ in range(2):
        kvsync.sync(str(root), peer, scan=True)
    assert values(peer) == {"a": b"1", "b": b"2"}
    put(root / "a", b"changed")
    os.utime(root / "a", (seconds, seconds))
    kvsync.sync(str(root), peer, scan=True)
    peer["a"] = b"theirs"
    kvsync.sync(str(root), peer, scan=True)
    assert (root / "a").read_bytes() == b"theirs"


@pytest.mark.parametrize("nanoseconds", [-(2**80), -1, 2**63, 2**80])
def test_files_of_times_that_no_file_system_here_keeps(
    root: Path, monkeypatch: pytest.MonkeyPatch, nanoseconds: int
) -> None:
    put(root / "a", b"1")
    real = os.stat

    class Status:
        def __init__(self, status: os.stat_result) -> None:
            self._status = status
            self.st_mtime_ns = nanoseconds

        def __getattr__(self, name: str) -> Any:
            return getattr(self._status, name)

    monkeypatch.setattr(os, "stat", lambda *args, **where: Status(real(*args, **where)))
    storage = FolderStorage(root)
    assert storage.modified_ms(["a"]) == [nanoseconds // 1_000_000]
    (refusal,) = storage.write(["a"], [b"2"], [b"another token"]).refused
    assert refusal.changed
