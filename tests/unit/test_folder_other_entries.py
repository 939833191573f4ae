"""What is at the path of a key and is no value: never a delete, never overwritten, always named."""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

import kvsync
from kvsync.storages import open_storage
from kvsync.storages.folder import FolderStorage
from kvsync.testing.conformance import listing
from kvsync.types import Skipped, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


def put(path: Path, data: bytes = b"x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def bind(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(path))


def link_to_a_copy(path: Path) -> None:
    put(path.parent.parent / "elsewhere", b"1")
    path.symlink_to(path.parent.parent / "elsewhere")


def reason(value: object) -> str:
    assert isinstance(value, Unreadable), value
    return value.reason


REPLACEMENTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "link": (link_to_a_copy, "a symbolic link is at 'a'"),
    "dangling link": (lambda path: path.symlink_to("nowhere"), "a symbolic link is at 'a'"),
    "pipe": (os.mkfifo, "a special file is at 'a'"),
    "socket": (bind, "a special file is at 'a'"),
    "empty directory": (lambda path: path.mkdir(), "an empty directory is at 'a'"),
    "directory of directories": (lambda path: (path / "b/c").mkdir(parents=True), "an empty directory is at 'a'"),
}


@pytest.mark.parametrize("kind", REPLACEMENTS)
def test_a_file_replaced_by_something_else_is_no_delete(root: Path, tmp_path: Path, kind: str) -> None:
    """`mv big /disk2; ln -s /disk2/big big` counted as a delete, and emptied every peer with exit 0."""
    make, why = REPLACEMENTS[kind]
    peer: dict[str, bytes] = {}
    put(root / "a", b"1")
    put(root / "other", b"2")
    kvsync.sync(str(root), peer, scan=True)
    os.rename(root / "a", tmp_path / "moved")
    make(root / "a")
    put(root / "other", b"3")
    result = kvsync.sync(str(root), peer, scan=True)
    assert (peer["a"], peer["other"]) == (b"1", b"3")
    assert [(key, side, why in reason) for key, side, reason in result.unreadable] == [("a", "source", True)]
    peer["a"] = b"changed there"
    result = kvsync.sync(str(root), peer, scan=True)
    assert [entry.key for entry in result.missing] == ["a"]
    assert os.path.islink(root / "a") or not (root / "a").is_file()
    shutil.rmtree(root / "a") if (root / "a").is_dir() else (root / "a").unlink()
    os.rename(tmp_path / "moved", root / "a")
    result = kvsync.sync(str(root), peer, scan=True)
    assert not result.unreadable
    assert (root / "a").read_bytes() == peer["a"] == b"changed there"


@pytest.mark.parametrize("name", ["manifest", "lease", "inventory"])
@pytest.mark.parametrize("kind", REPLACEMENTS)
def test_an_index_object_replaced_by_something_else_is_named_and_not_taken_for_absent(
    root: Path, tmp_path: Path, kind: str, name: str
) -> None:
    """A pipe in place of the manifest made a new storage of it; of a directory the error said no more than that."""
    make = REPLACEMENTS[kind][0]
    peer: dict[str, bytes] = {}
    put(root / "a", b"1")
    kvsync.sync(str(root), peer, scan=True)
    object_file = root / ".kvsync" / name
    if object_file.exists():
        os.rename(object_file, tmp_path / "moved")
    make(object_file)
    put(root / "a", b"2")
    with pytest.raises(kvsync.StorageError, match=f"is at '.kvsync/{name}', where a file has to be: remove it"):
        kvsync.sync(str(root), peer, scan=True)
    assert peer["a"] == b"1"
    shutil.rmtree(object_file) if object_file.is_dir() and not object_file.is_symlink() else object_file.unlink()
    if (tmp_path / "moved").exists():
        os.rename(tmp_path / "moved", object_file)
    kvsync.sync(str(root), peer, scan=True)
    assert peer["a"] == b"2"


@pytest.mark.parametrize("kind", REPLACEMENTS)
def test_what_the_storage_says_of_it(root: Path, kind: str) -> None:
    make, why = REPLACEMENTS[kind]
    put(root / "a", b"1")
    storage = FolderStorage(root)
    token = listing(storage)["a"]
    (root / "a").unlink()
    make(root / "a")
    assert why in reason(storage.read(["a"])[0])
    assert why in reason(storage.read_stream("a"))
    assert storage.sizes(["a"]) == storage.modified_ms(["a"]) == [None]
    assert storage.tokens(["a", "b"]) == [b"", None]
    assert [refusal.key for refusal in storage.write(["a"], [b"2"], [b""]).refused] == ["a"]
    assert [refusal.key for refusal in storage.write(["a"], [b"2"], [token]).refused] == ["a"]
    if "directory" not in kind:
        assert [refusal.key for refusal in storage.write(["a"], [b"2"], [None]).refused] == ["a"]
        assert why in storage.delete(["a"], [token]).refused[0].reason
        assert [(entry.name, entry.harmless) for entry in scanned(storage)] == [("a", True)]


def scanned(storage: FolderStorage) -> tuple[Skipped, ...]:
    assert "a" not in listing(storage)
    return storage.skipped


def test_a_directory_of_files_replaced_by_a_link(root: Path, tmp_path: Path) -> None:
    peer: dict[str, bytes] = {}
    names = ["big/1", "big/sub/2", "small"]
    for name in names:
        put(root / name, name.encode())
    kvsync.sync(str(root), peer, scan=True)
    os.rename(root / "big", tmp_path / "disk2")
    (root / "big").symlink_to(tmp_path / "disk2")
    result = kvsync.sync(str(root), peer, scan=True)
    assert {name: peer[name] for name in names} == {name: name.encode() for name in names}
    assert [key for key, _, _ in result.unreadable] == ["big/1", "big/sub/2"]
    assert all(reason.startswith("a symbolic link is at 'big'") for _, _, reason in result.unreadable)


def test_a_file_replaced_by_a_directory_with_values_is_a_delete(root: Path) -> None:
    """A git branch `topic` is deleted, and `topic/x` made: that is how the folder is, not something foreign."""
    peer: dict[str, bytes] = {}
    put(root / "topic")
    put(root / "other")
    kvsync.sync(str(root), peer, scan=True)
    (root / "topic").unlink()
    put(root / "topic/x", b"1")
    result = kvsync.sync(str(root), peer, scan=True)
    assert not result.unreadable
    assert {key for key in peer if not key.startswith(".kvsync")} == {"topic/x", "other"}
    storage = FolderStorage(root)
    assert storage.read(["topic", "topic/x/y"]) == [None, None]
    assert storage.tokens(["topic", "topic/x/y", "topic/x"]) == [None, None, listing(storage)["topic/x"]]


def test_of_links_that_are_followed_a_key_each(root: Path, tmp_path: Path) -> None:
    put(root / "real/file", b"1")
    put(tmp_path / "outside/file", b"secret")
    links = {
        "to_file": "real/file",
        "to_folder": "real",
        "absolute": str(root / "real/file"),
        "real/beside": "../real/./file",
        "out": "../outside/file",
        "far": "/etc/passwd",
        "loop": "loop2",
        "loop2": "loop",
        "real/up": "..",
        "index": ".kvsync/manifest",
        ".#lock": "user@host.123",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    storage, _ = open_storage(f"file://{root}?links=follow")
    keys = ["absolute", "real/beside", "real/file", "to_file", "to_folder/beside", "to_folder/file"]
    assert list(listing(storage)) == keys
    assert storage.read(keys) == [b"1"] * len(keys)
    bad = ["out", "far", "loop", "index", ".#lock", "out/x"]
    assert [reason(value)[:17] for value in storage.read(bad)] == ["the symbolic link"] * len(bad)
    assert "secret" not in str(storage.read(bad))
    assert len(storage.write(bad, [b"attack"] * len(bad)).refused) == len(bad)
    assert len(storage.delete(bad).refused) == len(bad)
    assert isinstance(storage, FolderStorage)
    harmless = {entry.name: entry.harmless for entry in storage.skipped}
    assert harmless == {
        **dict.fromkeys(["out", "far", "loop", "loop2", "real/up", "to_folder/up", "index"], False),
        ".#lock": True,
    }
    assert (tmp_path / "outside/file").read_bytes() == b"secret"


def test_a_link_that_is_followed_stays_a_link(root: Path) -> None:
    put(root / "real/file", b"1")
    (root / "link").symlink_to("real/file")
    (root / "folder").symlink_to("real")
    storage = FolderStorage(root, links="follow")
    token = listing(storage)["link"]
    assert storage.write(["link", "folder/new"], [b"2", b"3"], [token, None]).refused == ()
    assert (root / "link").is_symlink()
    assert (root / "folder").is_symlink()
    assert storage.read(["real/file", "real/new"]) == [b"2", b"3"]
    (refusal,) = storage.write(["link"], [b"4"], [token]).refused
    assert refusal.changed
    # What it leads to is a value of its own, so a delete of the link's key leaves it.
    assert storage.delete(["link"], [listing(storage)["link"]]).refused == ()
    assert not (root / "link").is_symlink()
    assert storage.read(["link", "real/file"]) == [None, b"2"]


def test_a_link_that_breaks_is_no_delete(root: Path) -> None:
    put(root / "real", b"1")
    (root / "link").symlink_to("real")
    url, peer = f"file://{root}?links=follow", dict[str, bytes]()
    kvsync.sync(url, peer, scan=True)
    assert peer["link"] == b"1"
    (root / "real").rename(root / "gone")
    result = kvsync.sync(url, peer, scan=True)
    assert [entry.key for entry in result.unreadable] == ["link"]
    assert peer["link"] == b"1"


def test_an_unknown_word_for_links(root: Path) -> None:
    with pytest.raises(kvsync.UsageError, match="links is skip or follow"):
        open_storage(f"file://{root}?links=all")
