"""What a run may create, which names are slips, and what to do if a run moves nothing since it looks at nothing."""

from __future__ import annotations

import os
import sqlite3
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import kvsync
from kvsync import KvsyncWarning, Put, SameStorageError, StorageError, UsageError, api
from kvsync.environment import Environment
from kvsync.lease import Acquirer, Lease, LeaseState
from kvsync.storages import open_storage
from kvsync.storages.slips import likely_meaning

pytest.importorskip("lmdb")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder of the test's own, with a database that has a table of another name."""
    monkeypatch.chdir(tmp_path)
    Path("notes").mkdir()
    Path("notes/a").write_bytes(b"1")
    with closing(sqlite3.connect("app.db")) as connection, connection:
        connection.execute("CREATE TABLE settings (key TEXT PRIMARY KEY, value BLOB)")
        connection.execute("INSERT INTO settings VALUES ('k', x'00')")
    return tmp_path


MISSPELT = [
    ("noets", "the folder 'noets'"),
    ("sqlite:///ap.db", "the database 'ap.db'"),
    ("sqlite:///app.db?table=setings", "the table 'setings' in 'app.db'"),
    ("lmdb:///cahce", "the LMDB environment 'cahce'"),
]


def left() -> set[str]:
    """Return the names of all files and folders."""
    return {str(path) for path in Path().rglob("*")}


@pytest.mark.parametrize(("name", "what"), MISSPELT)
def test_a_misspelt_source_is_an_error_and_not_created(name: str, what: str) -> None:
    """It was created, and filled from the target."""
    before = left()
    runs: list[Any] = [
        lambda: kvsync.sync(name, "notes", scan=True),
        lambda: kvsync.sync(name, "notes", scan=True, dry_run=True),
        lambda: kvsync.plan(name, "notes", scan=True),
        lambda: kvsync.sync("notes", name, scan=True, create="none"),
        lambda: kvsync.verify("notes", name),
        lambda: kvsync.commit(name, scan=True),
        lambda: kvsync.compact(name),
        lambda: kvsync.unlock(name),
        lambda: kvsync.status(name),
        lambda: kvsync.log(name),
        lambda: kvsync.lost(name),
    ]
    for run in runs:
        with pytest.raises(StorageError, match="does not exist: check the spelling") as raised:
            run()
        assert what in raised.value.message
    assert left() == before


@pytest.mark.parametrize(("name", "what"), MISSPELT)
def test_a_target_is_created_and_so_is_a_source_that_gets_changes(name: str, what: str) -> None:
    plan = kvsync.plan("notes", name, scan=True)
    assert plan.creates == {"target": what}
    assert f"creates {what}" in str(plan)
    result = kvsync.sync("notes", name, scan=True)
    assert (result.pushed, result.created) == (1, {"target": what})
    assert what in str(result)
    again = kvsync.sync("notes", name, scan=True)
    assert again.created == kvsync.plan(name, "notes").creates == {}


@pytest.mark.parametrize(("name", "what"), MISSPELT)
def test_a_source_that_gets_changes_may_be_new(name: str, what: str) -> None:
    changes = [Put("k", b"1")]
    with pytest.raises(StorageError, match="does not exist"):
        kvsync.sync(name, "notes", changes, create="target")
    result = kvsync.sync(name, "notes", changes)
    assert result.created == {"source": what}
    assert Path("notes/k").read_bytes() == b"1"


@pytest.mark.parametrize(("name", "what"), MISSPELT)
def test_both_may_be_new_if_the_caller_says_so(name: str, what: str) -> None:
    result = kvsync.sync(name, "copy", scan=True, create="both")
    assert result.created == {"source": what, "target": "the folder 'copy'"}
    with pytest.raises(UsageError, match="create"):
        kvsync.sync(name, "copy", create="maybe")  # type: ignore[arg-type]


def test_a_storage_with_an_index_exists_although_it_has_no_table_of_values() -> None:
    Path("empty").mkdir()
    kvsync.sync("empty", "sqlite:///new.db", scan=True)
    assert kvsync.sync("sqlite:///new.db", "empty", scan=True).created == {}
    assert kvsync.commit("sqlite:///other.db", [Put("k", b"1")]) == 1


@pytest.mark.parametrize("url", ["sqlite:///new.db", "lmdb:///new"])
def test_the_lease_of_a_first_run_can_be_taken_away(url: str) -> None:
    """Who was locked out by it was told to unlock a storage, and then that it does not exist."""
    storage, _ = open_storage(url)
    lease = Acquirer(storage, Environment(), 60).look()
    storage.close()
    assert isinstance(lease, Lease)
    held = kvsync.status(url).lease
    assert held is not None
    assert held.state is LeaseState.HELD
    assert kvsync.unlock(url, force=True)
    assert kvsync.sync("notes", url, scan=True, wait_seconds=0).pushed == 1


def test_a_name_that_nothing_can_be_misspelt_in_needs_no_existence() -> None:
    assert kvsync.sync("memory:", {}, scan=True).created == {}


SLIPS = [
    ("~/x", "only the shell expands ~"),
    ("$HOME/x", "only the shell expands variables"),
    (" ", "it is blank"),
    (" notes", "begins or ends with a blank"),
    ("notes\n", "begins or ends with a blank"),
    ("rel.db", "write sqlite:///rel.db"),
    ("data/app.SQLITE3", "write sqlite:///data/app.SQLITE3"),
    ("C:\\x", "a path of Windows"),
    ("sub\\x", "a path of Windows"),
    ("127.0.0.1:6379", "write redis://127.0.0.1:6379"),
    ("[::1]:6379/0", "write redis://[::1]:6379/0"),
    ("host:4222", "looks like a server"),
    ("me:secret@host/db", "looks like a login"),
    ("nas:/volume/notes", "another machine"),
    ("me@nas:~/notes", "another machine"),
]


@pytest.mark.skipif(os.name == "nt", reason="there these are paths")
@pytest.mark.parametrize(("name", "meaning"), SLIPS)
def test_a_slip_makes_no_folder(name: str, meaning: str) -> None:
    """Each of these made a folder of that name, and filled it."""
    before = left()
    runs: list[Any] = [
        lambda: kvsync.sync("notes", name, scan=True),
        lambda: kvsync.sync("notes", Path(name), scan=True),
        lambda: kvsync.plan("notes", name),
        lambda: kvsync.sync(name, "notes", [Put("k", b"1")]),
        lambda: kvsync.commit(name, [Put("k", b"1")]),
        lambda: kvsync.open(name),
    ]
    for run in runs:
        with pytest.raises(UsageError) as raised:
            run()
        assert meaning in raised.value.message
        assert "make that first" in raised.value.message
    assert left() == before
    os.makedirs(name)
    assert kvsync.sync("notes", name, scan=True).pushed == 1


def test_a_slip_shows_no_password() -> None:
    with pytest.raises(UsageError) as raised:
        kvsync.sync("notes", "me:hunter2@host:6379")
    assert "hunter2" not in f"{raised.value}{raised.value.storage}"
    assert "redis://host:6379" in raised.value.message


@pytest.mark.parametrize("name", ["notes", "notes/2024", "./x", "a.b", "x.database", "rel.db/", "100%", "日記", "a b"])
def test_ordinary_names_are_no_slips(name: str) -> None:
    assert likely_meaning(name) == ""


HINT = "pass scan=True"


def test_a_run_that_looks_at_nothing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the command scans by default: `kvsync.sync("notes", "sqlite:///notes.db")` moved nothing, and was silent."""
    monkeypatch.setattr(api, "_warned", set())
    with pytest.warns(KvsyncWarning, match=HINT) as caught:
        result = kvsync.sync("notes", "sqlite:///notes.db")
    assert caught[0].filename == __file__
    assert HINT in result.hint
    assert HINT in str(result)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert HINT in kvsync.sync("notes", "sqlite:///notes.db").hint  # once is enough
        assert HINT in kvsync.plan("notes", "sqlite:///notes.db").hint
        assert HINT in str(kvsync.plan("notes", "sqlite:///notes.db"))
        assert kvsync.sync("notes", "sqlite:///notes.db", scan=True).hint == ""
        assert kvsync.sync("notes", "sqlite:///notes.db").hint == ""


def test_no_hint_where_there_is_nothing_or_a_log() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kvsync.sync({}, {}).hint == ""
        assert kvsync.sync({"a": b"1"}, {}, [Put("b", b"2")]).hint == ""
        one: dict[str, bytes] = {}
        kvsync.commit(one, [Put("a", b"1")])
        assert kvsync.sync(one, {"b": b"2"}).hint == ""
        assert kvsync.sync({"a": b"1"}, {}, scan=True).hint == ""


def keys_of(target: str) -> set[str]:
    storage, _ = open_storage(target)
    found = {key for keys, _ in storage.scan() for key in keys}
    storage.close()
    return found


@pytest.mark.parametrize(
    "url", ["sqlite:///notes/notes.db", "lmdb:///notes/cache", "lmdb:///notes", "sqlite:///link/n.db"]
)
@pytest.mark.parametrize("swapped", [False, True])
def test_a_database_within_the_folder_is_left_out(url: str, *, swapped: bool) -> None:
    """It stored itself, and grew in every run."""
    Path("notes/sub").mkdir()
    Path("link").symlink_to("notes/sub")
    Path("notes/other.db").write_bytes(b"a value like others")
    kvsync.commit(url, [Put("b", b"2")])
    pair = (url, "notes") if swapped else ("notes", url)
    plan = kvsync.plan(*pair, scan=True)
    assert {change.key for change in [*plan.to_target, *plan.to_source]} == {"a", "b", "other.db"}
    assert "belong to the other storage, and are left out" in str(plan)
    for _ in range(3):
        result = kvsync.sync(*pair, scan=True)
        assert (result.missing, result.unreadable) == ([], [])
        assert "left out" in result.notes[0]
    assert (result.pushed, result.pulled) == (0, 0)
    assert keys_of(url) == {"a", "b", "other.db"}
    assert Path("notes/b").read_bytes() == b"2"
    assert kvsync.verify(*pair).equal
    # A key of that name from elsewhere never overwrites the database.
    name = next(
        path.name for path in Path("notes").rglob("*") if path.suffix in {".db", ".mdb"} and path.name != "other.db"
    )
    key = next(str(path.relative_to("notes")) for path in Path("notes").rglob(name))
    kvsync.commit(url, [Put(key, b"ruin")])
    result = kvsync.sync(*pair, scan=True)
    assert [missing.key for missing in result.missing] == [key]
    assert "it is a file of" in result.missing[0].reason
    assert keys_of(url) == {"a", "b", "other.db", key}


@pytest.mark.parametrize("url", ["sqlite:///notes/sub/n.db", "lmdb:///notes/sub/cache"])
def test_a_key_below_a_database_does_not_move_the_database_away(url: str) -> None:
    """A file at the place of a new directory is renamed, and the file was the database."""
    Path("notes/sub").mkdir()
    kvsync.commit(url, [Put("b", b"2")])
    database = next(path for path in Path("notes").rglob("*") if path.suffix in {".db", ".mdb"})
    below = f"{database.relative_to('notes')}/x"
    kvsync.commit(url, [Put(below, b"ruin")])
    result = kvsync.sync("notes", url, scan=True)
    assert [missing.key for missing in result.missing] == [below]
    assert "below, a file of" in result.missing[0].reason
    assert database.is_file()
    assert keys_of(url) == {"a", "b", below}


@pytest.mark.parametrize("url", ["sqlite:///notes/sub/n.db", "lmdb:///notes/sub/cache"])
@pytest.mark.parametrize("way", ["link", "directory link", "hard link"])
def test_a_database_is_left_out_under_its_other_names(url: str, way: str) -> None:
    """It stored itself under the name of the link, and a change of that key replaced the open database."""
    Path("notes/sub").mkdir()
    kvsync.commit(url, [Put("b", b"2")])
    database = next(path for path in Path("notes").rglob("*") if path.suffix in {".db", ".mdb"})
    other = {"link": "other", "directory link": f"linked/{database.name}", "hard link": "other"}[way]
    if way == "hard link":
        Path("notes/other").hardlink_to(database)
    elif way == "link":
        Path("notes/other").symlink_to(database.relative_to("notes"))
    else:
        Path("notes/linked").symlink_to(database.parent.relative_to("notes"))
    folder = Path("notes").absolute().as_uri() + ("" if way == "hard link" else "?links=follow")
    for _ in range(2):
        result = kvsync.sync(folder, url, scan=True)
    assert (result.pushed, result.pulled, result.missing, result.unreadable) == (0, 0, [], [])
    assert keys_of(url) == {"a", "b"}
    kvsync.commit(url, [Put(other, b"ruin")])
    result = kvsync.sync(folder, url, scan=True)
    assert [missing.key for missing in result.missing] == [other]
    assert "it leads to" in result.missing[0].reason
    assert keys_of(url) == {"a", "b", other}
    assert database.stat().st_size > len(b"ruin")


def test_a_database_beside_the_folder_changes_nothing() -> None:
    result = kvsync.sync("notes", "sqlite:///beside.db", scan=True)
    assert (result.pushed, result.notes) == (1, [])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("notes", "notes/sub"),
        ("notes", "link/sub"),
        ("notes", "link"),
        ("notes", "./notes/../notes"),
        ("sqlite:///app.db?table=KV", "sqlite:///app.db"),
        ("sqlite:///app.db?table=kv", "sqlite:///./link2.db?table=Kv"),
        ("lmdb:///cache", "lmdb:///./cache"),
    ],
)
def test_storages_that_overlap_are_refused_before_anything_is_written(one: str, other: str) -> None:
    Path("link").symlink_to("notes")
    Path("link2.db").symlink_to("app.db")
    Path("notes/sub").mkdir()
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    for pair in ((one, other), (other, one)):
        for run in (kvsync.sync, kvsync.plan):
            with pytest.raises(SameStorageError):
                run(*pair, scan=True, create="both")
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


def test_two_names_of_one_table_share_one_log() -> None:
    """`table=KV` beside `kv` had two logs, and two leases, for one table."""
    kvsync.commit("sqlite:///app.db?table=KV", [Put("a", b"1")])
    assert [change.key for change in kvsync.log("sqlite:///app.db?table=kv")] == ["a"]


@pytest.mark.parametrize("new", ["new", "sqlite:///new.db", "sqlite:///app.db?table=new", "lmdb:///new"])
def test_a_value_that_is_said_to_be_stored_makes_no_storage(new: str) -> None:
    """The call was refused, and left an empty database behind."""
    before = left()
    for call in (
        lambda: kvsync.commit(new, [Put("k")]),
        lambda: kvsync.sync(new, "notes", [Put("other", b"1"), Put("k")]),
        lambda: kvsync.plan(new, "notes", [Put("k")]),
    ):
        with pytest.raises(StorageError, match="does not exist: check the spelling"):
            call()
    assert left() == before


def test_a_hint_names_only_what_the_call_has() -> None:
    with pytest.raises(StorageError, match=r"or create or mount it$"):
        kvsync.commit("new", [Put("k")])
    with pytest.raises(StorageError, match='create="both"'):
        kvsync.sync("new", "notes", scan=True)
