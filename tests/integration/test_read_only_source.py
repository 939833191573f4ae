"""A source that may only be read: nothing is written there, and its index is kept in the target."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import pytest

import kvsync
from kvsync import Put
from kvsync.errors import StorageError, UsageError
from kvsync.storages import open_storage
from kvsync.storages.wrapper import WrappedStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvsync.storages import Storage

P = ParamSpec("P")
T = TypeVar("T")

NOBODY = 65534

WRITES = frozenset(
    {
        "write",
        "delete",
        "store",
        "remove",
        "write_expiring",
        "write_stream",
        "copy",
        "write_with_metadata",
        "write_stream_with_metadata",
        "begin",
        "commit",
    }
)


class Unwritable(WrappedStorage):
    """Fails at whatever writes, and at every look for an index."""

    def around(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if method in WRITES or method in {"load", "load_ranges", "objects"}:
            message = f"{method} of a source that is only read"
            raise StorageError(message, storage=self.name)
        return call(*args, **kwargs)


def places(path: Path, kind: str) -> tuple[Storage, Storage]:
    """Return two storages of a kind."""
    urls = {
        "folder": (str(path / "source"), str(path / "target")),
        "sqlite": (f"sqlite:///{path}/source.db", f"sqlite:///{path}/target.db"),
        "lmdb": (f"lmdb:///{path}/source", f"lmdb:///{path}/target"),
    }
    if kind == "dict":
        return open_storage({})[0], open_storage({})[0]
    one, other = urls[kind]
    return open_storage(one)[0], open_storage(other)[0]


def held(storage: Storage) -> dict[str, Any]:
    keys = [key for page, _ in storage.scan() for key in page]
    return dict(zip(keys, storage.read(keys), strict=True))


def run(source: Storage, target: Storage, direction: Any = "push", **options: Any) -> Any:
    unwritable: Any = Unwritable(source)
    return kvsync.sync(unwritable, target, scan=True, direction=direction, read_only_source=True, **options)


@pytest.mark.parametrize("kind", ["dict", "folder", "sqlite", "lmdb"])
def test_a_push_and_a_mirror_only_read_their_source(kind: str, tmp_path: Path) -> None:
    source, target = places(tmp_path, kind)
    source.write(["a", "b", "c"], [b"1", b"2", b"3"])
    target.write(["own"], [b"1"])
    assert run(source, target).pushed == 3
    assert run(source, target).pushed == 0
    source.write(["a"], [b"new"])
    source.delete(["b"])
    result = run(source, target)
    assert (result.pushed, result.withheld) == (2, ["own"])
    assert held(target) == {"a": b"new", "c": b"3", "own": b"1"}
    target.write(["c"], [b"changed"])
    result = run(source, target, "mirror", max_delete="100%")
    assert held(source) == held(target) == {"a": b"new", "c": b"3"}
    assert source.objects() == []
    assert kvsync.verify(target).intact
    source.close()
    target.close()


def test_conflicts_are_decided_and_nothing_is_kept_in_the_source(tmp_path: Path) -> None:
    source, target = places(tmp_path, "folder")
    source.write(["k"], [b"source"])
    target.write(["k"], [b"target"])
    for policy, value in (("target", b"target"), ("source", b"target")):
        assert run(source, target, conflict=policy).missing == []
        assert held(target) == {"k": value}  # what was decided stays so until somebody changes the key
    assert held(source) == {"k": b"source"}
    assert run(source, target, "mirror", max_delete="100%").pushed == 1
    assert held(target) == {"k": b"source"}


def test_what_a_read_only_source_gave_is_known_to_a_third_storage() -> None:
    source, target = {"a": b"1", "b": b"1"}, {"own": b"1"}
    third: dict[str, bytes] = {}
    kvsync.sync(source, target, scan=True, direction="push", read_only_source=True)
    kvsync.sync(target, third, scan=True)
    del source["b"]
    kvsync.sync(source, target, scan=True, direction="push", read_only_source=True)
    kvsync.sync(target, third, scan=True)
    assert {key: third[key] for key in third if not key.startswith(".kvsync/")} == {"a": b"1", "own": b"1"}
    assert set(source) == {"a"}
    # Later it may be written: it is a new storage then, equal values are adopted, and it gets the rest.
    kvsync.sync(source, target, scan=True)
    assert source["own"] == b"1"


def test_two_sources_of_one_target_are_told_apart() -> None:
    one, other = {"a": b"1", "x": b"1"}, {"b": b"1"}
    target: dict[str, bytes] = {}
    for source in (one, other, one, other):
        kvsync.sync(source, target, scan=True, direction="push", read_only_source=True)
    del one["x"]
    for source in (one, other):
        kvsync.sync(source, target, scan=True, direction="push", read_only_source=True)
    assert {key for key in target if not key.startswith(".kvsync/")} == {"a", "b"}


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """Yield a directory that we own, and have no rights to write to: root is somebody else meanwhile."""
    is_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        (path / "a").write_bytes(b"1")
        path.chmod(0o555)
        if is_root:
            os.seteuid(NOBODY)
        try:
            yield path
        finally:
            if is_root:
                os.seteuid(0)
            path.chmod(0o755)


def test_a_folder_without_write_permission_is_read(unprivileged: Path) -> None:
    target: dict[str, bytes] = {}
    with pytest.raises(StorageError, match="if it may only be read, use the option read_only_source"):
        kvsync.sync(unprivileged, target, scan=True, direction="push")
    result = kvsync.sync(unprivileged, target, scan=True, direction="push", read_only_source=True)
    assert (result.pushed, target["a"]) == (1, b"1")
    assert os.listdir(unprivileged) == ["a"]


def test_an_error_names_the_option_where_only_writing_fails() -> None:
    source: Any = Unwritable(open_storage({"a": b"1"})[0])
    source.around = lambda method, call, *args, **kwargs: (
        call(*args, **kwargs)
        if method in {"load", "objects"}
        else Unwritable.around(source, method, call, *args, **kwargs)
    )
    directions: Any = ("push", "mirror")
    for direction in directions:
        with pytest.raises(StorageError, match="use the option read_only_source"):
            kvsync.sync(source, {}, scan=True, direction=direction)
    with pytest.raises(StorageError) as caught:
        kvsync.sync(source, {}, scan=True)
    assert "read_only_source" not in str(caught.value)


@pytest.mark.parametrize("direction", ["both", "pull"])
def test_a_source_that_gets_something_must_be_writable(direction: Any) -> None:
    with pytest.raises(UsageError, match="can get nothing"):
        kvsync.sync({}, {}, direction=direction, read_only_source=True)


def test_changes_cannot_be_given_to_a_source_that_is_only_read() -> None:
    with pytest.raises(UsageError, match="changes are written to the source"):
        kvsync.sync({}, {}, [Put("a", b"1")], scan=True, direction="push", read_only_source=True)


def test_a_plan_of_a_read_only_source_writes_nothing_at_all() -> None:
    source, target = {"a": b"1"}, {"b": b"1"}
    plan = kvsync.plan(source, target, scan=True, direction="mirror", read_only_source=True, max_delete="100%")
    assert (source, target) == ({"a": b"1"}, {"b": b"1"})
    assert plan.to_target_count == 2
    plan.apply()
    assert source == {"a": b"1"}
    assert {key: target[key] for key in target if not key.startswith(".kvsync/")} == {"a": b"1"}


def test_a_cache_that_drops_values_never_deletes_in_the_truth() -> None:
    truth = {f"k{number}": b"1" for number in range(10)}
    cache: dict[str, bytes] = {}
    options: dict[str, Any] = {"scan": True, "read_only_source": True, "max_delete": "100%"}
    kvsync.sync(truth, cache, direction="push", **options)
    for key in ("k1", "k2", "k3"):
        del cache[key]
    assert kvsync.sync(truth, cache, direction="push", **options).withheld == ["k1", "k2", "k3"]
    assert len(truth) == 10
    kvsync.sync(truth, cache, direction="mirror", **options)
    assert {key: cache[key] for key in truth} == truth


def test_a_watch_of_a_read_only_source_writes_nothing_there() -> None:
    source = {"a": b"1"}
    target: dict[str, bytes] = {}
    for event in kvsync.watch(source, target, direction="push", read_only_source=True):
        assert event.result.pushed == 1  # type: ignore[union-attr]
        break
    assert source == {"a": b"1"}
    assert target["a"] == b"1"


def test_a_source_that_is_not_scanned_is_an_error() -> None:
    with pytest.raises(kvsync.UsageError, match="has to be scanned"):
        kvsync.sync({"a": b"1"}, {}, direction="push", read_only_source=True)
