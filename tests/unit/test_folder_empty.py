"""Empty directories as values: `empty_dirs=keep`."""

from __future__ import annotations

import os
import random
import shutil
from typing import TYPE_CHECKING

import pytest

import kvsync
from kvsync.errors import UsageError
from kvsync.storages.contract import Support
from kvsync.storages.folder import FolderStorage
from kvsync.storages.lmdb import LmdbStorage
from kvsync.storages.sqlite import SqliteStorage
from kvsync.testing import FaultyStorage, crashes, virtual_environment
from kvsync.testing.conformance import listing
from kvsync.types import Put, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kvsync.environment import Environment
    from kvsync.storages import Storage, Target
    from kvsync.testing import Fault


def keeping(path: Path) -> FolderStorage:
    return FolderStorage(path, empty_dirs="keep")


def put(path: Path, data: bytes = b"x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def tree(root: Path) -> dict[str, bytes | None]:
    """Return every file with its content, and every directory with None; without the index."""
    found = {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}
    return {name: data for name, data in sorted(found.items()) if ".kvsync" not in name}


def sync(source: Target, target: Target) -> kvsync.SyncResult:
    result = kvsync.sync(source, target, scan=True, max_delete="100%")
    assert (result.missing, result.unreadable, result.conflicts) == ([], [], []), result
    again = kvsync.sync(target, source, scan=True, max_delete="100%")
    assert (again.pushed, again.pulled, again.committed) == (0, 0, (0, 0)), again
    return result


@pytest.fixture
def left(tmp_path: Path) -> Path:
    (tmp_path / "left").mkdir()
    return tmp_path / "left"


@pytest.fixture
def right(tmp_path: Path) -> Path:
    (tmp_path / "right").mkdir()
    return tmp_path / "right"


def test_only_empty_directories_are_keys(left: Path) -> None:
    for name in ("a", "b/c/d", "inner/.kvsync", "%41", "aux.c", "x%value", "é.", "full"):
        (left / name).mkdir(parents=True)
    put(left / "full/1")
    put(left / "b-", b"")
    storage = keeping(left)
    keys = ["%41/", "a/", "aux.c/", "b-", "b/c/d/", "full/1", "é./"]
    assert list(listing(storage)) == keys
    assert [skipped[::2] for skipped in storage.skipped] == [("x%value", True)]
    assert storage.read(keys) == [b"x" if key == "full/1" else b"" for key in keys]
    assert storage.read(["full/", "b/", "b/c/", "/", "inner/", "a", "none/"]) == [None] * 7
    assert storage.sizes(["a/", "full/1", "full/"]) == [0, 1, None]
    assert storage.tokens(keys) == [*listing(storage).values()]
    parts = storage.read_stream("a/")
    assert parts is not None
    assert not isinstance(parts, Unreadable)
    assert list(parts) == []
    assert [refusal.key for refusal in storage.delete(keys).refused] == []
    assert tree(left) == {"inner": None, "x%value": None}


def test_its_token_is_not_moved_by_entries_that_come_and_go(left: Path) -> None:
    (left / "a").mkdir()
    before = listing(keeping(left))
    put(left / "a/x")
    assert list(listing(keeping(left))) == ["a/x"]
    (left / "a/x").unlink()
    os.chmod(left / "a", 0o700)
    assert listing(keeping(left)) == before
    os.mkdir(left / "b")
    os.rmdir(left / "a")
    os.rename(left / "b", left / "a")
    assert listing(keeping(left)) != before


def test_conditions_hold_for_directories(left: Path) -> None:
    storage = keeping(left)
    written = storage.write(["a/", "b/"], [b"", b""], [None, None])
    assert written == ((), tuple(listing(storage).values()))
    token = listing(storage)["a/"]
    refused = storage.write(["a/", "b/", "c/"], [b"", b"", b""], [None, token, token]).refused
    assert [(refusal.key, refusal.changed) for refusal in refused] == [("a/", True), ("b/", True), ("c/", True)]
    assert [refusal.key for refusal in storage.delete(["b/", "c/"], [token, token]).refused] == ["b/"]
    assert storage.write(["a/"], [b""], [token]).tokens == (token,)
    assert storage.write(["a/"], [b"1"], [token]).refused == ()
    assert tree(left) == {"a": None, "a/%": b"1", "b": None}
    assert storage.delete(["a/"], [listing(storage)["a/"]]).refused == ()
    assert tree(left) == {"b": None}


@pytest.mark.parametrize("name", ["a", "100%", "aux.c", "a%20b", "..", "", "a/", "long" * 70, "é"])
def test_a_directory_key_stays_one_beside_what_is_in_it(left: Path, name: str) -> None:
    """A peer may hold both `a/` and `a/b`: then the folder holds both, too, until one of them goes."""
    storage = keeping(left)
    for order in (1, -1):
        keys = [f"{name}/", f"{name}/b"][::order]
        values = {f"{name}/": b"", f"{name}/b": b"2"}
        for batch in ([keys], [[key] for key in keys]):
            for some in batch:
                written = storage.write(some, [values[key] for key in some], [None] * len(some))
                assert written.refused == ()
            assert storage.read(sorted(values)) == [b"", b"2"]
            assert list(listing(storage)) == sorted(values)
            before = listing(storage)[f"{name}/"]
            assert storage.delete([f"{name}/b"], [listing(storage)[f"{name}/b"]]).refused == ()
            assert (storage.read(sorted(values)), list(listing(storage))) == ([b"", None], [f"{name}/"])
            assert not [path for path in left.rglob("*") if path.is_file() and ".kvsync" not in path.parts]
            assert storage.delete([f"{name}/"], [before]).refused == ()
            assert tree(left) == {}


def test_a_key_with_a_file_and_a_directory_loses_both(left: Path) -> None:
    storage = keeping(left)
    storage.write(["100%/x", "100%/"], [b"1", b""])
    (left / "100%/x").unlink()
    assert tree(left) == {"100%": None, "100%25": None, "100%25/%": b""}
    assert storage.delete(["100%/"], [listing(storage)["100%/"]]).refused == ()
    assert (tree(left), storage.read(["100%/"])) == ({}, [None])


def test_the_first_and_the_last_file_of_a_directory(left: Path, right: Path) -> None:
    (left / "a").mkdir()
    source, target = keeping(left), keeping(right)
    sync(source, target)
    assert tree(right) == {"a": None}
    put(left / "a/x")
    sync(source, target)
    assert tree(right) == {"a": None, "a/x": b"x"}
    (right / "a/x").unlink()
    sync(source, target)
    assert tree(left) == {"a": None}
    put(right / "a/b/c")
    sync(source, target)
    assert tree(left) == tree(right) == {"a": None, "a/b": None, "a/b/c": b"x"}
    (left / "a/b/c").unlink()
    sync(source, target)
    (left / "a/b/d").mkdir()
    sync(source, target)
    assert tree(right) == {"a": None, "a/b": None, "a/b/d": None}
    shutil.rmtree(right / "a")
    sync(source, target)
    assert tree(left) == tree(right) == {}


def test_a_file_and_a_directory_change_places(left: Path, right: Path) -> None:
    put(left / "topic", b"1")
    (left / "empty/deep").mkdir(parents=True)
    source, target = keeping(left), keeping(right)
    sync(source, target)
    (left / "topic").unlink()
    (left / "topic").mkdir()
    shutil.rmtree(left / "empty")
    put(left / "empty", b"2")
    sync(source, target)
    assert tree(right) == tree(left) == {"empty": b"2", "topic": None}
    (right / "topic").rmdir()
    put(right / "topic", b"3")
    (right / "empty").unlink()
    (right / "empty").mkdir()
    sync(source, target)
    assert tree(right) == tree(left) == {"empty": None, "topic": b"3"}


def test_a_maildir_and_a_repository_arrive_whole(left: Path, right: Path) -> None:
    for name in ("mail/cur", "mail/new", "mail/tmp", "repo/refs/heads", "repo/refs/tags", "repo/objects/pack"):
        (left / name).mkdir(parents=True)
    put(left / "repo/HEAD")
    put(left / "repo/refs/heads/main")
    put(left / "mail/new/1")
    source, target = keeping(left), keeping(right)
    sync(source, target)
    assert tree(right) == tree(left)
    os.rename(right / "mail/new/1", right / "mail/cur/1:2,S")
    (left / "repo/refs/heads/main").unlink()
    sync(source, target)
    assert tree(right) == tree(left)
    assert {"mail/new", "repo/refs/heads"} < set(tree(left))
    shutil.rmtree(left / "mail")
    shutil.rmtree(left / "repo")
    put(left / "other")
    sync(source, target)
    assert tree(right) == tree(left) == {"other": b"x"}


@pytest.mark.parametrize(
    "make",
    [lambda path: SqliteStorage(path / "kv.db"), lambda path: LmdbStorage(path / "kv"), lambda _: {}],
    ids=["sqlite", "lmdb", "dict"],
)
def test_through_a_storage_of_another_kind(
    left: Path, right: Path, tmp_path: Path, make: Callable[[Path], Target]
) -> None:
    (left / "new/cur").mkdir(parents=True)
    put(left / "a/b")
    middle = make(tmp_path)
    sync(keeping(left), middle)
    sync(middle, keeping(right))
    assert tree(right) == tree(left)
    shutil.rmtree(left / "new")
    (left / "a/b").unlink()
    sync(keeping(left), middle)
    sync(middle, keeping(right))
    assert tree(right) == tree(left) == {"a": None}


def test_a_folder_without_the_option_holds_such_a_key_as_a_file(left: Path, right: Path) -> None:
    (left / "a").mkdir()
    sync(keeping(left), FolderStorage(right))
    assert tree(right) == {"a": None, "a/%": b""}
    (left / "a").rmdir()
    sync(keeping(left), FolderStorage(right))
    assert tree(right) == {}


def test_a_folder_that_had_the_option_deletes_nothing_without_it(left: Path, right: Path) -> None:
    (left / "a").mkdir()
    put(left / "b")
    sync(keeping(left), keeping(right))
    put(left / "b", b"2")
    result = kvsync.sync(FolderStorage(left), keeping(right), scan=True)
    assert [(entry.key, entry.side) for entry in result.unreadable] == [("a/", "source")]
    assert "empty_dirs=keep" in result.unreadable[0].reason
    assert tree(right) == {"a": None, "b": b"2"}
    sync(keeping(left), keeping(right))
    assert isinstance(FolderStorage(left).read_stream("a/"), Unreadable)


def test_what_a_caller_gives(left: Path, right: Path) -> None:
    source, target = keeping(left), keeping(right)
    kvsync.sync(source, target, changes=[Put("a/", b""), Put("b/c", b"1")])
    assert tree(left) == tree(right) == {"a": None, "b": None, "b/c": b"1"}
    with kvsync.open(source) as store:
        store["a/x"] = b"1"
        del store["a/"], store["b/c"]
    kvsync.sync(source, target)
    assert tree(left) == tree(right) == {"a": None, "a/x": b"1"}


def test_a_write_that_fails_leaves_no_directory(left: Path) -> None:
    storage = keeping(left)
    put(left / "file%value", b"1")
    put(left / "file", b"2")
    refused = storage.write(["new/deep/" + "x" * 3990, "file/a/b", "good/c"], [b"1"] * 3, [None] * 3).refused
    assert [refusal.key for refusal in refused] == ["new/deep/" + "x" * 3990, "file/a/b"]
    assert list(listing(storage)) == ["file", "good/c"]
    assert [name for name in tree(left) if not name.startswith("file")] == ["good", "good/c"]


def test_a_directory_that_a_crash_left_is_no_key(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Crashed(BaseException):
        pass

    def crash(*_: object, **__: object) -> None:
        raise Crashed

    storage = keeping(left)
    storage.write(["there/"], [b""])
    with monkeypatch.context() as patch, pytest.raises(Crashed):
        patch.setattr("kvsync.storages.folder.values.create", crash)
        storage.write(["made/for/a", "there/b"], [b"1", b"2"], [None, None])
    assert (left / "made/for").is_dir()
    assert list(listing(storage)) == ["there/"]
    storage.write(["other"], [b"1"])
    assert list(listing(storage)) == ["other", "there/"]
    assert tree(left) == {"other": b"1", "there": None}


def test_links_cannot_be_followed_as_well(left: Path) -> None:
    with pytest.raises(UsageError, match="links=follow and empty_dirs=keep cannot be combined"):
        FolderStorage(left, links="follow", empty_dirs="keep")
    (left / "a").mkdir()
    (left / "link").symlink_to("a")
    assert list(listing(keeping(left))) == ["a/"]


def test_the_url_says_it(left: Path, right: Path) -> None:
    (left / "a").mkdir()
    kvsync.sync(f"file://{left}?empty_dirs=keep", f"file://{right}?empty_dirs=keep", scan=True)
    assert tree(right) == {"a": None}
    with pytest.raises(UsageError, match="empty_dirs is ignore or keep"):
        kvsync.sync(f"file://{left}?empty_dirs=yes", {}, scan=True)


def test_metadata_is_not_that_of_directories(left: Path) -> None:
    (left / "a").mkdir()
    storage = FolderStorage(left, meta=["mode"], empty_dirs="keep")
    assert storage.metadata(["a/"]) == [None]
    assert Support.METADATA in storage.capabilities.supports


def change_something(chance: random.Random, root: Path) -> None:
    """Do as a user does: make and remove files and directories of few names."""
    path = root.joinpath(*chance.choices(["a", "b", "100%"], k=chance.randint(1, 3)))
    below = [above for above in (path, *path.parents) if root in above.parents]
    if any(above.with_name(f"{above.name}%value").exists() for above in below):
        return
    if not path.parent.is_dir():
        if path.parent.exists() or any(above.is_file() for above in path.parents if above != root):
            return
        path.parent.mkdir(parents=True)
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()
    if chance.random() < 0.4:
        path.mkdir()
    elif chance.random() < 0.7:
        path.write_bytes(chance.choice([b"", b"1", b"22"]))


@pytest.mark.parametrize("seed", range(6))
def test_trees_become_equal_whatever_is_done(left: Path, right: Path, seed: int) -> None:
    """With changes on one side between two runs, the other becomes the same tree, and the run after does nothing."""
    chance = random.Random(seed)
    source, target = keeping(left), keeping(right)
    for _ in range(25):
        here = chance.choice([left, right])
        for _ in range(chance.randint(1, 5)):
            change_something(chance, here)
        before = tree(here)
        sync(source, target)
        assert tree(left) == tree(right) == before


@pytest.mark.parametrize("seed", range(4))
def test_changes_on_both_sides_end_equal(left: Path, right: Path, seed: int) -> None:
    chance = random.Random(seed)
    source, target = keeping(left), keeping(right)
    for _ in range(25):
        for here in (left, right):
            for _ in range(chance.randint(0, 4)):
                change_something(chance, here)
        result = kvsync.sync(source, target, scan=True, max_delete="100%")
        assert (result.missing, result.unreadable) == ([], [])
        keys = [*listing(source)]
        assert keys == [*listing(target)]
        assert source.read(keys) == target.read(keys)
        again = kvsync.sync(target, source, scan=True, max_delete="100%")
        assert (again.pushed, again.pulled, again.committed) == (0, 0, (0, 0))


def changed_trees(place: Path) -> tuple[Path, Path, Environment]:
    """Return two equal trees, of which the first one is then changed."""
    left, right = place / "left", place / "right"
    (left / "first").mkdir(parents=True)
    put(left / "last/x")
    right.mkdir()
    environment = virtual_environment()
    kvsync.sync(keeping(left), keeping(right), scan=True, environment=environment)
    put(left / "first/x")
    (left / "last/x").unlink()
    (left / "new/deep").mkdir(parents=True)
    put(left / "made/for/a")
    return left, right, environment


def test_crashes_lose_no_directory_and_invent_none(tmp_path: Path) -> None:
    numbers = iter(range(10_000))

    def world() -> tuple[Path, Path, Environment]:
        return changed_trees(tmp_path / str(next(numbers)))

    def run(made: tuple[Path, Path, Environment], fault: Fault) -> None:
        left, right, environment = made
        target: Storage = FaultyStorage(keeping(right), fault)
        kvsync.sync(keeping(left), target, scan=True, environment=environment)

    for fault, (left, right, environment) in crashes(world, run):
        before = tree(left)
        result = kvsync.sync(keeping(left), keeping(right), scan=True, wait_seconds=200, environment=environment)
        assert result.conflicts == [], fault
        assert tree(left) == tree(right) == before, fault


class CrashedError(BaseException):
    """The process is dead."""


def crash_at(number: int, patch: pytest.MonkeyPatch, below: Path) -> None:
    """Crash before the change of that number which is made below a folder, and let nothing change afterwards."""
    counted = iter(range(number))

    def dying(change: Callable[..., object]) -> Callable[..., object]:
        def changed(*arguments: object, **places: int) -> object:
            place = next((where for where in places.values() if isinstance(where, int)), None)
            if place is None or not os.readlink(f"/proc/self/fd/{place}").startswith(str(below)):
                return change(*arguments, **places)
            if next(counted, None) is None:
                raise CrashedError
            return change(*arguments, **places)

        return changed

    for name in ("mkdir", "rmdir", "rename", "unlink", "link"):
        patch.setattr(os, name, dying(getattr(os, name)))
    patch.setattr("kvsync.storages.folder.replacing.exchange", lambda *_, **__: False)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="cannot tell where a change is made")
def test_a_crash_before_any_change_of_the_disk_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1000):
        left, right, environment = changed_trees(tmp_path / str(number))
        before = tree(left)
        with monkeypatch.context() as patch:
            crash_at(number, patch, right)
            try:
                kvsync.sync(keeping(left), keeping(right), scan=True, environment=environment)
            except CrashedError:
                crashed = True
            else:
                crashed = False
        assert set(listing(keeping(right))) <= {"first/", "first/x", "last/", "last/x", "new/deep/", "made/for/a"}, (
            number
        )
        result = kvsync.sync(keeping(left), keeping(right), scan=True, wait_seconds=200, environment=environment)
        assert (result.conflicts, result.missing) == ([], []), number
        there = {name: data for name, data in tree(right).items() if name != "last/%"}  # is still the value of `last/`
        assert tree(left) == there == before, number
        assert list(listing(keeping(right))) == list(listing(keeping(left))), number
        if not crashed:
            assert number > 20
            return
    pytest.fail("it never ended")
