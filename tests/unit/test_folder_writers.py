"""Other programs that write the files of a folder at the very moment at which kvsync replaces or deletes them."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

import kvsync
from kvsync.storages.folder import FolderStorage, exchange, replacing
from kvsync.storages.folder.token import is_young, token_of
from kvsync.testing.conformance import listing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kvsync.types import Refusal

NOW_MS = 1_700_000_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


def put(path: Path, data: bytes = b"x") -> None:
    """Replace a file as careful programs do."""
    path.with_name("new").write_bytes(data)
    os.rename(path.with_name("new"), path)


def displaced(root: Path) -> list[bytes]:
    folder = root / ".kvsync/displaced"
    return [path.read_bytes() for path in folder.iterdir()] if folder.exists() else []


def overwritten(root: Path, do: Callable[[], object], monkeypatch: pytest.MonkeyPatch, at: int = 1) -> Refusal:
    """Overwrite `a` on condition, while `do` happens before exchange number `at`; return why it was refused."""
    storage = FolderStorage(root)
    token = listing(storage)["a"]
    calls = 0

    def late(*names: str, source_at: int, target_at: int) -> bool:
        nonlocal calls
        calls += 1
        if calls == at:
            do()
        return exchange.exchange(*names, source_at=source_at, target_at=target_at)

    monkeypatch.setattr(replacing, "exchange", late)
    (refusal,) = storage.write(["a"], [b"ours"], [token]).refused
    monkeypatch.undo()
    assert refusal.changed
    assert os.listdir(root / ".kvsync/tmp") == []
    return refusal


def test_what_is_replaced_at_the_last_moment_is_put_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root / "a", b"old")
    overwritten(root, lambda: put(root / "a", b"theirs"), monkeypatch)
    assert (root / "a").read_bytes() == b"theirs"
    assert displaced(root) == []


def test_what_is_deleted_at_the_last_moment_stays_deleted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root / "a", b"old")
    overwritten(root, (root / "a").unlink, monkeypatch)
    assert not (root / "a").exists()


@pytest.mark.parametrize("kind", ["directory", "link"])
def test_what_is_no_file_any_more_is_put_back(root: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    put(root / "a", b"old")

    def change() -> None:
        (root / "a").unlink()
        (root / "a").mkdir() if kind == "directory" else (root / "a").symlink_to("nowhere")

    overwritten(root, change, monkeypatch)
    assert (root / "a").is_dir() if kind == "directory" else (root / "a").is_symlink()


def test_what_is_written_in_place_at_the_last_moment_is_put_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root / "a", b"old")
    overwritten(root, lambda: (root / "a").write_bytes(b"theirs"), monkeypatch)
    assert (root / "a").read_bytes() == b"theirs"


def test_a_file_that_a_program_has_open_for_writing_is_left_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it writes after the exchange would go to a file that nobody can open any more."""
    put(root / "a", b"old")
    with open(root / "a", "r+b", buffering=0) as theirs:
        overwritten(root, lambda: None, monkeypatch)
        theirs.write(b"theirs")
    assert (root / "a").read_bytes() == b"theirs"
    storage = FolderStorage(root)
    with open(root / "a", "rb"):  # to have it open for reading is no reason
        assert storage.write(["a"], [b"ours"], [listing(storage)["a"]]).refused == ()


def test_of_two_changes_in_a_row_the_later_has_the_name_and_the_other_is_kept(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(root / "a", b"old")
    storage = FolderStorage(root)
    token = listing(storage)["a"]
    late = iter([b"first", b"second"])

    def beside(*names: str, source_at: int, target_at: int) -> bool:
        value = next(late, None)
        if value is not None:
            put(root / "a", value)
        return exchange.exchange(*names, source_at=source_at, target_at=target_at)

    monkeypatch.setattr(replacing, "exchange", beside)
    (refusal,) = storage.write(["a"], [b"ours"], [token]).refused
    assert (root / "a").read_bytes() == b"second"
    assert displaced(root) == [b"first"]
    assert ".kvsync/displaced/" in refusal.reason
    assert storage.objects() == []


def test_what_is_written_into_ours_between_two_exchanges_is_not_lost(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(root / "a", b"old")
    storage = FolderStorage(root)
    token = listing(storage)["a"]
    steps: Iterator[Callable[[], object]] = iter(
        [lambda: put(root / "a", b"first"), lambda: (root / "a").write_bytes(b"second")]
    )

    def beside(*names: str, source_at: int, target_at: int) -> bool:
        next(steps, lambda: None)()
        return exchange.exchange(*names, source_at=source_at, target_at=target_at)

    monkeypatch.setattr(replacing, "exchange", beside)
    assert len(storage.write(["a"], [b"ours"], [token]).refused) == 1
    assert ((root / "a").read_bytes(), displaced(root)) == (b"second", [b"first"])


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP])
def test_without_exchange_a_condition_still_holds(root: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(exchange, "_renameat", lambda: (lambda *_: -1, lambda: code))
    put(root / "a", b"old")
    storage = FolderStorage(root)
    token = listing(storage)["a"]
    assert storage.write(["a"], [b"new"], [token]).refused == ()
    assert [refusal.changed for refusal in storage.write(["a"], [b"newer"], [token]).refused] == [True]
    with open(root / "a", "r+b"):
        assert len(storage.write(["a"], [b"newer"], [listing(storage)["a"]]).refused) == 1
    assert storage.read(["a"]) == [b"new"]
    assert os.listdir(root / ".kvsync/tmp") == []


def test_a_rename_that_fails_leaves_both_files_as_they_were(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_renameat", lambda: (lambda *_: -1, lambda: errno.EPERM))
    put(root / "a", b"old")
    storage = FolderStorage(root)
    token = listing(storage)["a"]
    real = os.rename

    def refused(source: Any, target: Any, **where: Any) -> None:
        if target == "a":
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        real(source, target, **where)

    monkeypatch.setattr(os, "rename", refused)
    (refusal,) = storage.write(["a"], [b"new"], [token]).refused
    assert not refusal.changed
    assert (os.listdir(root / ".kvsync/tmp"), (root / "a").read_bytes(), displaced(root)) == ([], b"old", [])


def removing(root: Path, monkeypatch: pytest.MonkeyPatch, before: Callable[[], object]) -> list[Refusal]:
    """Delete `a` on condition, while `before` happens at the last moment."""
    storage = FolderStorage(root)
    token = listing(storage)["a"]
    real = os.rename

    def late(source: Any, target: Any, **where: Any) -> None:
        if source == "a":
            monkeypatch.setattr(os, "rename", real)
            before()
        real(source, target, **where)

    monkeypatch.setattr(os, "rename", late)
    refused = list(storage.delete(["a"], [token]).refused)
    monkeypatch.undo()
    assert os.listdir(root / ".kvsync/tmp") == []
    return refused


def test_what_is_written_before_a_delete_stays(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root / "a", b"old")
    for change in (lambda: put(root / "a", b"theirs"), lambda: (root / "a").write_bytes(b"in place")):
        assert [refusal.changed for refusal in removing(root, monkeypatch, change)] == [True]
    assert (root / "a").read_bytes() == b"in place"
    with open(root / "a", "ab"):
        assert [refusal.changed for refusal in removing(root, monkeypatch, lambda: None)] == [True]
    assert removing(root, monkeypatch, (root / "a").unlink) == []
    assert not (root / "a").exists()


def test_what_comes_back_during_a_delete_is_not_overwritten(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root / "a", b"old")

    def content(*_: object) -> None:
        put(root / "a", b"new")

    monkeypatch.setattr(replacing, "_content", content)
    storage = FolderStorage(root)
    (refusal,) = storage.delete(["a"], [listing(storage)["a"]]).refused
    assert ".kvsync/displaced/" in refusal.reason
    assert ((root / "a").read_bytes(), displaced(root)) == (b"new", [b"old"])


def test_a_crash_between_exchange_and_look_keeps_what_came_out(root: Path) -> None:
    storage = FolderStorage(root)
    storage.write(["a"], [b"1"])
    (root / ".kvsync/tmp/out-0123456789abcdef").write_bytes(b"theirs")
    (root / ".kvsync/tmp/7b-1").write_bytes(b"unfinished")
    storage.write(["b"], [b"1"])
    assert os.listdir(root / ".kvsync/tmp") == []
    assert displaced(root) == [b"theirs"]


def test_a_change_under_the_same_time_and_size_is_seen(root: Path, tmp_path: Path) -> None:
    """`cp --preserve=timestamps` onto a file, which was written in place, showed the old token."""
    peer: dict[str, bytes] = {}
    put(root / "a", b"one")
    put(root / "b", b"1")
    kvsync.sync(str(root), peer, scan=True)
    before = os.stat(root / "a")
    (tmp_path / "copy").write_bytes(b"two")
    os.utime(tmp_path / "copy", ns=(before.st_atime_ns, before.st_mtime_ns))
    with open(tmp_path / "copy", "rb") as source, open(root / "a", "r+b") as target:
        shutil.copyfileobj(source, target)
    os.utime(root / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    after = os.stat(root / "a")
    assert (before.st_mtime_ns, before.st_size, before.st_ino) == (after.st_mtime_ns, after.st_size, after.st_ino)
    peer["a"] = b"theirs"
    result = kvsync.sync(str(root), peer, scan=True, conflict="target")
    assert [conflict.key for conflict in result.conflicts] == ["a"]
    assert [value.value for value in kvsync.lost(str(root))] == [b"two"]


def test_our_own_renames_leave_a_token_as_it_was(root: Path) -> None:
    """A rename moves the change time, and with it the token that a scan, earlier in the same run, has seen."""
    storage = FolderStorage(root)
    storage.write(["topic", "x"], [b"1", b"2"])
    token = listing(storage)["topic"]
    assert storage.write(["topic/x"], [b"3"]).refused == ()
    assert storage.delete(["topic"], [token]).refused == ()
    storage.write(["topic/x"], [b"4"])
    assert list(listing(storage)) == ["topic/x", "x"]


def test_tokens_after_a_write_are_those_of_the_listing(root: Path) -> None:
    storage = FolderStorage(root)
    put(root / "b", b"old")
    os.chmod(root / "b", 0o640)
    tokens = storage.write(["a", "b"], [b"1", b"2"], [None, listing(storage)["b"]]).tokens
    assert tokens == tuple(listing(storage).values())
    written = storage.write(["a", "b"], [b"3", b"4"], list(tokens or ()))
    assert written.tokens == tuple(listing(storage).values())


class Times:
    """What a file system shows of a file."""

    st_size = st_ino = 1

    def __init__(self, modified_ms: float, changed_ms: float) -> None:
        self.st_mtime_ns = int((NOW_MS + modified_ms) * 1_000_000)
        self.st_ctime_ns = int((NOW_MS + changed_ms) * 1_000_000)


@pytest.mark.parametrize(
    ("modified_ms", "changed_ms", "young"),
    [
        (-30.5, -30.5, False),
        (-10.5, -10.5, True),
        (-5000.5, -10.5, True),  # the time was put back
        (-10.5, -5000.5, True),  # the file system keeps no change time
        (5000.5, -5000.5, False),  # the time was set to the future
        (5.5, 5.5, True),
        (-1000, -1000, True),  # whole seconds
        (-2000, -2000, True),
        (-3000, -3000, False),
        (-10_000, -1000.5, False),
        (-(2.0**43), -2000.5, False),
    ],
)
def test_which_tokens_prove_nothing_yet(modified_ms: float, changed_ms: float, *, young: bool) -> None:
    token = token_of(Times(modified_ms, changed_ms))  # type: ignore[arg-type]
    assert is_young(token, NOW_MS) is young


def test_a_file_system_of_whole_seconds_gives_no_token_that_proves_a_write(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.utime

    def whole(file: Any, *, ns: tuple[int, int]) -> None:
        real(file, ns=(ns[0] // 10**9 * 10**9, ns[1] // 10**9 * 10**9))

    monkeypatch.setattr(os, "utime", whole)
    assert FolderStorage(root).write(["a"], [b"1"]).tokens == (b"",)
    peer: dict[str, bytes] = {"b": b"2"}
    kvsync.sync(str(root), peer, scan=True)
    (root / "b").write_bytes(b"3")
    os.utime(root / "b", ns=(os.stat(root / "b").st_mtime_ns,) * 2)
    kvsync.sync(str(root), peer, scan=True)
    assert peer["b"] == b"3"
