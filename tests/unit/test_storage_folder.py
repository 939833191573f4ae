"""What is special about folders: links, foreign names, collisions, crashes, and errors of the file system."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from storage_stories import path_goes_on_meaning_the_same

from kvsync.errors import StorageError
from kvsync.storages.folder import FolderStorage, exchange
from kvsync.storages.folder.keyname import Naming
from kvsync.storages.folder.safe_tree import SafeTree
from kvsync.testing.conformance import HARD_KEYS, listing
from kvsync.types import ABSENT, ANY, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


def files_below(path: Path) -> list[str]:
    found = [str(f.relative_to(path)) for f in path.rglob("*") if not f.is_dir() or f.is_symlink()]
    return sorted(name for name in found if not name.startswith(".kvsync"))


def put(path: Path, data: bytes = b"x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_only_a_write_creates_the_folder(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path / "a/b")
    assert storage.read(["x"]) == [None]
    assert listing(storage) == {}
    assert storage.objects() == []
    storage.delete(["x"])
    storage.remove(["lease"], ANY)
    assert not (tmp_path / "a").exists()
    storage.write(["x"], [b"1"])
    assert (tmp_path / "a/b/x").read_bytes() == b"1"


def test_reading_changes_no_byte(root: Path) -> None:
    put(root / "a/b")
    before = os.stat(root).st_mtime_ns
    storage = FolderStorage(root)
    storage.read(["a/b", "c"])
    storage.load("manifest")
    storage.modified_ms(["a/b"])
    listing(storage)
    assert os.listdir(root) == ["a"]
    assert os.stat(root).st_mtime_ns == before


def test_a_missing_folder_that_must_be_there(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path / "none", create=False)
    for call in (
        lambda: storage.read(["a"]),
        lambda: storage.write(["a"], [b"1"]),
        lambda: list(storage.scan()),
    ):
        with pytest.raises(StorageError, match="create it, or mount it"):
            call()
    assert not (tmp_path / "none").exists()


def test_a_file_in_the_folders_place(tmp_path: Path) -> None:
    put(tmp_path / "file")
    storage = FolderStorage(tmp_path / "file")
    with pytest.raises(StorageError, match="name a folder") as caught:
        storage.write(["a"], [b"1"])
    assert caught.value.storage == str(tmp_path / "file")
    with pytest.raises(StorageError, match="name a folder"):
        storage.read(["a"])


@pytest.mark.parametrize("kind", ["file", "link"])
def test_something_else_where_the_index_has_to_be(root: Path, tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    put(outside / "manifest", b"theirs")
    put(root / ".kvsync") if kind == "file" else (root / ".kvsync").symlink_to(outside)
    storage = FolderStorage(root)
    calls: list[Callable[[], object]] = [
        lambda: storage.write(["a"], [b"1"]),
        lambda: storage.store("manifest", b"M", ANY),
        lambda: storage.load("manifest"),
        storage.objects,
    ]
    for call in calls:
        with pytest.raises(StorageError, match="kvsync"):
            call()
    assert os.listdir(outside) == ["manifest"]
    assert files_below(root) == []


def test_every_hard_key_can_be_held(root: Path, tmp_path: Path) -> None:
    storage = FolderStorage(root)
    assert storage.write(HARD_KEYS, [b"x"] * len(HARD_KEYS)).refused == ()
    assert set(listing(storage)) == set(HARD_KEYS)
    assert os.listdir(tmp_path) == ["root"]


def test_a_folder_of_people_is_taken_as_it_is(root: Path) -> None:
    names = [
        *(
            "user/1",
            "lib/python3.11/os.py",
            "MixedCase.TXT",
            "mixedcase.txt",
            "100%.txt",
            "a%20b",
            ".hidden",
            "%+",
        ),
        *(
            "aux.c",
            "draft.",
            "back\\slash",
            "new\nline",
            " lead",
            "trail ",
            "caf\u00e9",
            "cafe\u0301",
            "x" * 255,
            "%zz",
        ),
    ]
    for name in names:
        put(root / name, name.encode())
    storage = FolderStorage(root)
    assert set(listing(storage)) == set(names)
    assert storage.read(names) == [name.encode() for name in names]
    assert storage.write(names, [b"new"] * len(names)).refused == ()
    assert files_below(root) == sorted(names)
    assert storage.delete(names).refused == ()
    assert files_below(root) == []


def test_links_and_devices_are_no_values(root: Path, tmp_path: Path) -> None:
    put(tmp_path / "secret/file", b"secret")
    (root / "to_file").symlink_to(tmp_path / "secret/file")
    (root / "to_folder").symlink_to(tmp_path / "secret")
    (root / "dangling").symlink_to(tmp_path / "none")
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
        put(root / "value", b"1")
        storage = FolderStorage(root)
        assert list(listing(storage)) == ["value"]
        keys = ["to_file", "to_folder", "dangling", "fifo", "socket", "to_folder/file", "to_folder/new"]
        assert all(isinstance(value, Unreadable) for value in storage.read(keys))
        written = storage.write(keys, [b"attack"] * len(keys))
        assert {(refusal.key, refusal.changed) for refusal in written.refused} == {(key, False) for key in keys}
        assert written.tokens == (None,) * len(keys)
        assert [refusal.key for refusal in storage.delete(keys).refused] == keys
    assert (tmp_path / "secret/file").read_bytes() == b"secret"
    assert os.listdir(tmp_path / "secret") == ["file"]
    assert not (tmp_path / "none").exists()
    assert (root / "to_file").is_symlink()


def test_a_directory_swapped_for_a_link_between_look_and_write(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attacker who may write into the folder replaces a directory while a value is being staged."""
    outside = tmp_path / "outside"
    outside.mkdir()
    put(root / "dir/a", b"old")
    real = os.rename

    def swap(source: Any, target: Any, **where: Any) -> None:
        if not (root / "dir").is_symlink():
            real(root / "dir", root / "moved")
            (root / "dir").symlink_to(outside)
        real(source, target, **where)

    monkeypatch.setattr(os, "rename", swap)
    FolderStorage(root).write(["dir/a"], [b"new"])
    assert os.listdir(outside) == []
    assert (root / "moved/a").read_bytes() == b"new"


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", ".", "", "lock", "tmp/x", "a\0", "a//b", "a\n"])
def test_names_of_objects_stay_below_ours(root: Path, tmp_path: Path, name: str) -> None:
    storage = FolderStorage(root)
    storage.store("manifest", b"M", ANY)
    calls: list[Callable[[], object]] = [
        lambda: storage.load(name),
        lambda: storage.store(name, b"x", ANY),
        lambda: storage.remove([name], ANY),
    ]
    for call in calls:
        with pytest.raises(StorageError, match="not the name"):
            call()
    assert os.listdir(tmp_path) == ["root"]


@pytest.mark.parametrize(
    "key",
    [".kvsync", ".kvsync/manifest", ".KVSYNC/x", ".kv\u200dsync/x", "inner/.kvsync/x", "lone \ud800", "x" * 4001],
)
def test_keys_that_a_folder_refuses(root: Path, key: str) -> None:
    storage = FolderStorage(root)
    written = storage.write(["a", key, "b"], [b"1", b"2", b"3"])
    assert [(refusal.key, refusal.changed) for refusal in written.refused] == [(key, False)]
    assert storage.read(["a", key, "b"]) == [b"1", None, b"3"]


def test_leftovers_of_a_crash_are_removed_unless_somebody_writes(root: Path) -> None:
    FolderStorage(root).write(["a"], [b"1"])
    left = root / ".kvsync/tmp/dead-1"
    left.write_bytes(b"half")
    busy = os.open(root / ".kvsync/tmp", os.O_RDONLY)
    fcntl.flock(busy, fcntl.LOCK_SH)
    FolderStorage(root).write(["b"], [b"1"])
    assert left.exists()
    os.close(busy)
    FolderStorage(root).write(["c"], [b"1"])
    assert os.listdir(root / ".kvsync/tmp") == []
    assert files_below(root) == ["a", "b", "c"]


@pytest.mark.parametrize("fails", ["fsync", "rename", "write"])
def test_a_full_disk_leaves_the_old_value(root: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    storage = FolderStorage(root)
    storage.write(["a"], [b"old"])
    version = storage.store("manifest", b"old", ABSENT)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, fails, full)
        with pytest.raises(StorageError, match=r"the disk is full.*make room"):
            storage.write(["a"], [b"new"])
        with pytest.raises(StorageError, match=r"the disk is full.*make room"):
            storage.store("manifest", b"new", version)
    assert storage.read(["a"]) == [b"old"]
    assert storage.load("manifest") == (b"old", version)
    assert os.listdir(root / ".kvsync/tmp") == []


def test_a_file_without_permission(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root / "open", b"1")
    put(root / "shut", b"2")
    real = os.open

    def guarded(path: Any, *args: Any, **where: Any) -> int:
        if path == "shut":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, *args, **where)

    monkeypatch.setattr(os, "open", guarded)
    values = FolderStorage(root).read(["open", "shut"])
    assert values[0] == b"1"
    assert isinstance(values[1], Unreadable)
    assert "denied" in values[1].reason


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EILSEQ, errno.ELOOP, errno.EBUSY])
@pytest.mark.parametrize("expect", [None, [None, None]])
def test_a_name_that_the_file_system_cannot_have(
    root: Path, monkeypatch: pytest.MonkeyPatch, code: int, expect: list[bytes | None] | None
) -> None:
    """A FAT disk takes no colon: that key is refused, and not the whole run."""
    reals = {"link": os.link, "rename": os.rename}

    def picky(function: str, source: Any, target: Any, **where: Any) -> None:
        if ":" in target:
            raise OSError(code, os.strerror(code))
        reals[function](source, target, **where)

    for function in reals:
        monkeypatch.setattr(os, function, partial(picky, function))
    monkeypatch.setattr(exchange, "_renameat", lambda: (None, int))
    written = FolderStorage(root).write(["a:b", "c"], [b"1", b"2"], expect)
    assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("a:b", False)]
    assert files_below(root) == ["c"]


def test_a_read_only_file_system(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root / "a", b"1")

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "mkdir", read_only)
    storage = FolderStorage(root)
    assert storage.read(["a"]) == [b"1"]
    with pytest.raises(StorageError, match="mount it for writing"):
        storage.store("lease", b"L", ABSENT)


def test_a_file_that_changes_while_it_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root / "a", b"first")
    real = os.read
    times = [1]

    def changing(file: int, size: int) -> bytes:
        data = real(file, size)
        if times[0]:
            times[0] -= 1
            with open(root / "a", "ab") as log:
                log.write(b"+")
        return data

    monkeypatch.setattr(os, "read", changing)
    assert FolderStorage(root).read(["a"]) == [b"first+"]
    times[0] = 10
    assert isinstance(FolderStorage(root).read(["a"])[0], Unreadable)


def test_a_write_right_after_ours_is_seen(root: Path) -> None:
    """The kernel's clock ticks every few milliseconds; same size, same inode, same tick must not look the same."""
    storage = FolderStorage(root)
    for turn in range(50):
        tokens = storage.write(["a"], [b"%02d" % turn]).tokens
        assert tokens is not None
        with open(root / "a", "r+b") as file:
            file.write(b"xx")
        assert [r.changed for r in storage.write(["a"], [b"99"], tokens).refused] == [True]
        assert storage.read(["a"]) == [b"xx"]


def test_a_file_that_appears_at_the_last_moment_is_not_overwritten(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = FolderStorage(root)
    real = os.link

    def late(*args: Any, **where: Any) -> None:
        put(root / "a", b"theirs")
        real(*args, **where)

    monkeypatch.setattr(os, "link", late)
    assert [r.changed for r in storage.write(["a"], [b"ours"], [None]).refused] == [True]
    assert storage.read(["a"]) == [b"theirs"]
    assert os.listdir(root / ".kvsync/tmp") == []


def test_without_hard_links_a_condition_still_holds(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", none)
    storage = FolderStorage(root)
    assert storage.write(["a"], [b"1"], [None]).refused == ()
    assert [r.changed for r in storage.write(["a"], [b"2"], [None]).refused] == [True]
    assert storage.read(["a"]) == [b"1"]


def test_a_collision_arises_and_dissolves(root: Path) -> None:
    storage = FolderStorage(root)
    tokens = storage.write(["a"], [b"1"]).tokens
    assert tokens is not None
    storage.write(["a/b"], [b"2"])
    assert files_below(root) == ["a%value", "a/b"]
    storage.delete(["a/b"])
    assert files_below(root) == ["a"]
    assert storage.write(["a"], [b"3"], tokens).refused == ()
    assert files_below(root) == ["a"]
    assert storage.read(["a", "a/b"]) == [b"3", None]


def test_of_two_files_of_one_key_the_plain_one_counts(root: Path) -> None:
    """Somebody removed the directory `a` and made a file of that name, while our value lay beside it."""
    put(root / "a", b"plain")
    put(root / "a%value", b"old")
    storage = FolderStorage(root)
    assert storage.read(["a"]) == [b"plain"]
    assert list(listing(storage)) == ["a"]
    tokens = listing(storage)
    assert storage.write(["a"], [b"new"], [tokens["a"]]).refused == ()
    assert files_below(root) == ["a"]
    put(root / "a%value", b"old")
    storage.delete(["a"])
    assert listing(storage) == {}


def test_many_and_deep_directories_need_few_descriptors(root: Path) -> None:
    keys = ["/".join("d" for _ in range(900)), *(f"{number}/x/y" for number in range(400))]
    storage = FolderStorage(root)
    assert storage.write(keys, [b"1"] * len(keys)).refused == ()
    assert storage.read(keys) == [b"1"] * len(keys)
    assert set(listing(storage)) == set(keys)
    open_before = len(os.listdir("/proc/self/fd"))
    storage.delete(keys)
    assert listing(storage) == {}
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_where_names_fold_the_exact_one_counts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that takes `Readme` for `README` is imitated: every lookup ignores case."""
    put(root / "Readme", b"1")
    put(root / "Dir/a", b"2")
    real_open, real_stat = os.open, os.stat

    def there(name: Any, where: dict[str, Any]) -> Any:
        if isinstance(name, str) and where.get("dir_fd") is not None:
            same = [other for other in os.listdir(where["dir_fd"]) if other.lower() == name.lower()]
            return same[0] if same else name
        return name

    monkeypatch.setattr(os, "open", lambda n, *a, **w: real_open(there(n, w), *a, **w))
    monkeypatch.setattr(os, "stat", lambda n, **w: real_stat(there(n, w), **w))
    storage = FolderStorage(root)
    written = storage.write(["README", "Readme", "dir/b", "Dir/b"], [b"x"] * 4)
    assert storage._naming == Naming(folds=True)
    assert [(refusal.key, refusal.changed) for refusal in written.refused] == [
        ("README", False),
        ("dir/b", False),
    ]
    assert storage.read(["README", "Readme", "dir/a", "Dir/a"]) == [None, b"x", None, b"2"]
    assert storage.read(["readme", "Dir/b"]) == [None, b"x"]
    assert FolderStorage(root).read(["README", "Readme"]) == [None, b"x"]
    assert set(listing(storage)) == {"Readme", "Dir/a", "Dir/b"}


def test_a_relative_path_is_that_of_the_time_of_its_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path_goes_on_meaning_the_same("", tmp_path, monkeypatch)


@pytest.mark.parametrize("moment", ["SafeTree._clear_way", "os.mkdir"])
def test_two_who_make_one_directory_at_once_both_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    storage, other = FolderStorage(tmp_path), FolderStorage(tmp_path)
    listing(storage)  # what is asked about names is asked before
    original = SafeTree._clear_way if moment == "SafeTree._clear_way" else os.mkdir

    def late(*arguments: Any, **options: Any) -> Any:
        if "a" in arguments:
            monkeypatch.undo()
            other.write(["a/theirs"], [b"2"])
        return original(*arguments, **options)

    monkeypatch.setattr(f"kvsync.storages.folder.safe_tree.{moment}", late)
    assert not storage.write(["a/ours"], [b"1"]).refused
    assert storage.read(["a/ours", "a/theirs"]) == [b"1", b"2"]


def test_a_system_that_writes_less_than_it_is_given_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before a disk is full. Each part of a large value was then written over the beginning of the file."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, bytes(data[:3000])))
    storage = FolderStorage(tmp_path)
    parts = [bytes([number]) * 10_000 for number in range(5)]
    assert storage.write_stream("large", iter(parts)).refused == ()
    assert storage.write(["small"], [parts[0]]).refused == ()
    assert storage.read(["large", "small"]) == [b"".join(parts), parts[0]]
