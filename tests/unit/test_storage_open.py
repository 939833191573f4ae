"""Turning URLs, paths and mappings into storages."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest

import kvsync
from kvsync.errors import SameStorageError, UsageError
from kvsync.storages import open_storage, schemes
from kvsync.storages.folder import FolderStorage
from kvsync.storages.mapping import MappingStorage
from kvsync.storages.overlap import separated
from kvsync.storages.sqlite import SqliteStorage
from kvsync.storages.url import scheme_of


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("memory:", "memory"),
        ("memory:cache", "memory"),
        ("SQLite:///a.db", "sqlite"),
        ("s3://bucket/a", "s3"),
        ("postgresql+tls://h/d", "postgresql+tls"),
        ("C:\\data", None),
        ("C:/data", None),
        ("c://data", None),
        ("notes:2024", None),
        ("notes:2024/a", None),
        ("./memory:x", None),
        ("memory:a/b", None),
        ("dir/a://b", None),
        ("./s3://x", None),
        ("relative", None),
        ("/absolute:x", None),
        ("://", None),
    ],
)
def test_telling_urls_from_paths(text: str, scheme: str | None) -> None:
    assert scheme_of(text) == scheme


def test_what_is_opened(tmp_path: Path) -> None:
    folder, owned = open_storage(tmp_path)
    assert isinstance(folder, FolderStorage)
    assert owned
    assert isinstance(open_storage(str(tmp_path))[0], FolderStorage)
    url_folder, _ = open_storage(f"file://{tmp_path}/a%20b")
    assert isinstance(url_folder, FolderStorage)
    assert url_folder.path == f"{tmp_path}/a b"
    relative, _ = open_storage("sqlite:///rel.db")
    absolute, _ = open_storage("sqlite:////abs.db?table=t&key=k&value=v")
    assert isinstance(relative, SqliteStorage)
    assert isinstance(absolute, SqliteStorage)
    assert (relative.path, absolute.path, absolute.table.value) == ("rel.db", "/abs.db", "v")
    data: dict[str, bytes] = {}
    mapping, owned = open_storage(data)
    assert isinstance(mapping, MappingStorage)
    assert owned
    assert open_storage(mapping) == (mapping, False)


def test_a_path_object_is_never_a_url() -> None:
    storage, _ = open_storage(Path("memory:x"))
    assert isinstance(storage, FolderStorage)


def test_memory_is_private_unless_named() -> None:
    private, _ = open_storage("memory:")
    private.write(["a"], [b"1"])
    assert open_storage("memory:")[0].read(["a"]) == [None]
    named, _ = open_storage("memory:test-open")
    named.write(["a"], [b"1"])
    assert open_storage("memory:test-open")[0].read(["a"]) == [b"1"]
    assert named.name == "memory:test-open"


@pytest.mark.parametrize(
    "target",
    [
        *("", b"bytes", None, 7, ["list"], "nosuch://host/x", "file://host/dir", "file:///dir?x=1", "a\0b"),
        *(
            "sqlite://host/a.db",
            "sqlite:///",
            "sqlite:///:memory:",
            "sqlite:///a.db?tabel=x",
            "memory://x?y=1",
        ),
        *(
            "sqlite:///a.db?table=a&table=b",
            "sqlite:///a.db?busy_timeout=soon",
            "sqlite:///a.db?busy_timeout=nan",
        ),
        *("sqlite:///a.db?table=a%22b", "sqlite:///a.db?table=kvsync_index", "sqlite:///a.db?key=x&value=X"),
    ],
)
def test_what_cannot_be_opened(target: object) -> None:
    with pytest.raises(UsageError):
        open_storage(target)  # type: ignore[arg-type]


def test_what_one_object_can_do_is_not_said_of_its_kind() -> None:
    inner = MappingStorage({})
    like_one = SimpleNamespace(**{name: getattr(inner, name) for name in dir(inner) if not name.startswith("_")})
    assert open_storage(like_one) == (like_one, False)
    with pytest.raises(UsageError):
        open_storage(SimpleNamespace(name="none"))


def test_an_unknown_scheme_lists_the_known_and_hides_the_password() -> None:
    with pytest.raises(UsageError, match=r"file.*memory.*sqlite") as caught:
        open_storage("nosuch://me:hunter2@host/x")
    assert "hunter2" not in str(caught.value)


def test_adapters_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("theirs", "kvsync.storages.mapping:MappingStorage", "kvsync.storages")

    def points(*, group: str, name: str | None = None) -> list[EntryPoint]:
        return [point] if group == "kvsync.storages" and name in {None, "theirs"} else []

    monkeypatch.setattr("importlib.metadata.entry_points", points)
    assert "theirs" in schemes()
    # The factory gets the URL; this one takes it for a mapping, which is all that is to be shown here.
    storage, owned = open_storage("theirs://x")
    assert isinstance(storage, MappingStorage)
    assert owned


@pytest.mark.parametrize(
    "text",
    [" redis://u:hunter2@h/0", "redis//u:hunter2@h/0", "redis:u:hunter2@h", "\tnosuch://u:hunter2@h", "SQLITE:/a.db"],
)
def test_a_url_with_a_slip_is_no_folder_and_hides_its_password(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        open_storage(text)
    assert "hunter2" not in f"{raised.value}{raised.value.storage}"


def test_a_folder_may_be_named_like_a_scheme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("./redis:x", "redis", "sqlite.db", "notes:2024"):
        assert isinstance(open_storage(name)[0], FolderStorage)


def test_opening_a_folder_asks_for_no_adapters_of_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Looking for slips of the pen took a walk through all installed packages, each time a path was opened."""

    def points(**_: str) -> list[EntryPoint]:
        raise AssertionError

    monkeypatch.setattr("importlib.metadata.entry_points", points)
    assert isinstance(open_storage(str(tmp_path))[0], FolderStorage)
    with pytest.raises(UsageError, match="begins like a URL"):
        open_storage("redis:host")


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ("redis://h/0?prefix=n:", "redis://h/0?prefix=n:sub:"),
        ("redis://h/0", "redis://h/0?prefix=n:"),
        ("s3://b/n?region=x", "s3://b/n/sub?region=x"),
        ("s3://b/?region=x", "s3://b/n?region=x"),
    ],
)
def test_a_storage_within_the_other_is_refused(outer: str, inner: str) -> None:
    """Each run took the inner one's index and values in, and grew it by as much again."""
    for pair in ((outer, inner), (inner, outer)):
        with pytest.raises(SameStorageError, match="inside the other"):
            kvsync.sync(*pair)


@pytest.mark.parametrize(
    ("one", "other"),
    [("redis://h:1/0?prefix=n:", "redis://h:1/0?hash=n:x"), ("s3://b/n?region=x", "s3://b/n2?region=x")],
)
def test_storages_side_by_side_are_not(one: str, other: str) -> None:
    opened = [open_storage(url)[0] for url in (one, other)]
    assert separated(*opened) == tuple(opened)
    for storage in opened:
        storage.close()
