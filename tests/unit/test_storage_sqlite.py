"""What is special about SQLite: tables of others, locks of others, and files that are something else."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from storage_stories import (
    path_goes_on_meaning_the_same,
    reads_as_empty,
    transactions_do_not_nest,
    two_tables_have_an_index_each,
)

import kvsync
from kvsync.errors import StorageError, UsageError
from kvsync.storages.sqlite import SqliteStorage, open_url
from kvsync.storages.sqlite.failure import failure
from kvsync.storages.sqlite.table import Table
from kvsync.testing.conformance import listing
from kvsync.types import ABSENT, ANY, Unreadable

if TYPE_CHECKING:
    from pathlib import Path


def prepare(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def ask(path: Path, query: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchone()


def test_only_a_write_creates_the_file(tmp_path: Path) -> None:
    storage = SqliteStorage(tmp_path / "a.db")
    reads_as_empty(storage)
    assert os.listdir(tmp_path) == []
    storage.write(["x"], [b"1"])
    assert ask(tmp_path / "a.db", "PRAGMA journal_mode") == ("wal",)
    assert ask(tmp_path / "a.db", "SELECT * FROM kv") == ("x", b"1")
    storage.close()
    assert os.listdir(tmp_path) == ["a.db"]


def test_reading_changes_no_byte_of_anothers_database(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    prepare(path, "CREATE TABLE other (x)")
    before = path.read_bytes()
    storage = SqliteStorage(path)
    assert storage.read(["x"]) == [None]
    assert listing(storage) == {}
    assert storage.objects() == []
    storage.delete(["x"])
    storage.close()
    assert path.read_bytes() == before


def test_anothers_database_keeps_its_journal(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    prepare(path, "CREATE TABLE other (x)")
    storage = SqliteStorage(path)
    storage.write(["x"], [b"1"])
    storage.store("lease", b"L", ABSENT)
    storage.close()
    assert ask(path, "PRAGMA journal_mode") == ("delete",)


def test_rows_of_other_kinds_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    prepare(path, "CREATE TABLE kv (key TEXT PRIMARY KEY, value)")
    prepare(path, "INSERT INTO kv VALUES ('r', 1.5), ('i', 7), ('n', NULL), ('b', x'00ff')")
    storage = SqliteStorage(path)
    values = storage.read(["r", "i", "n", "b", "none"])
    assert values[3:] == [b"\x00\xff", None]
    reasons = [value.reason for value in values if isinstance(value, Unreadable)]
    assert [word for word in ("REAL", "INTEGER", "NULL") if any(word in reason for reason in reasons)] == [
        "REAL",
        "INTEGER",
        "NULL",
    ]
    assert {key: token == b"" for key, token in listing(storage).items()} == {
        "b": False,
        "i": True,
        "n": True,
        "r": True,
    }
    written = storage.write(["r", "i", "n"], [b"x"] * 3, [None, bytes(32), b""])
    assert [refusal.changed for refusal in written.refused] == [True] * 3
    assert "REAL" in written.refused[0].reason
    assert [refusal.key for refusal in storage.delete(["r", "i"], [None, bytes(32)]).refused] == ["r", "i"]
    assert len(listing(storage)) == 4
    assert storage.write(["r", "i", "n"], [b"x"] * 3).refused == ()
    assert len(listing(storage)) == 4


@pytest.mark.parametrize(
    "create",
    [
        "CREATE TABLE kv (key TEXT, value BLOB)",
        "CREATE TABLE kv (key TEXT, value BLOB, x, UNIQUE (key, x))",
        "CREATE TABLE kv (key TEXT PRIMARY KEY COLLATE NOCASE, value BLOB)",
        "CREATE TABLE kv (key TEXT PRIMARY KEY COLLATE RTRIM, value BLOB)",
        "CREATE TABLE kv (key REAL PRIMARY KEY, value BLOB)",
        "CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB AS (x'00'))",
        "CREATE TABLE kv (id TEXT PRIMARY KEY, value BLOB)",
        "CREATE TABLE kv (key TEXT PRIMARY KEY, data BLOB)",
        "CREATE VIEW kv AS SELECT '1' AS key, x'00' AS value",
        "CREATE VIRTUAL TABLE kv USING fts5 (key, value)",
    ],
)
def test_tables_that_do_not_fit(tmp_path: Path, create: str) -> None:
    path = tmp_path / "a.db"
    prepare(path, create)
    storage = SqliteStorage(path)
    with pytest.raises(UsageError) as caught:
        storage.read(["a"])
    assert caught.value.storage == storage.name
    with pytest.raises(UsageError):
        storage.write(["a"], [b"1"])


@pytest.mark.parametrize(
    "name", ["a b", 'a"b', "a;DROP TABLE kv", "", "1a", "sqlite_master", "KVSYNC_index", "ä", "a\n"]
)
def test_names_that_are_no_names(name: str) -> None:
    with pytest.raises(UsageError):
        Table(name)


def test_a_row_that_breaks_a_rule_of_its_table_is_refused_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    prepare(path, "CREATE TABLE kv (key TEXT PRIMARY KEY CHECK (length(key) < 4), value BLOB)")
    storage = SqliteStorage(path)
    written = storage.write(["ok", "too long", "lone \ud800", "fine"[:3]], [b"1", b"2", b"3", b"4"])
    assert [(refusal.key, refusal.changed) for refusal in written.refused] == [
        ("too long", False),
        ("lone \ud800", False),
    ]
    assert storage.read(["ok", "too long", "lone \ud800", "fin"]) == [b"1", None, None, b"4"]


def test_keys_with_nul_are_whole(tmp_path: Path) -> None:
    storage = SqliteStorage(tmp_path / "a.db")
    keys = ["a", "a\0", "a\0b", "a\0c", "\0", ""]
    storage.write(keys, [key.encode() for key in keys])
    assert storage.read(keys) == [key.encode() for key in keys]
    assert set(listing(storage)) == set(keys)
    storage.delete(["a\0b"])
    assert storage.read(["a", "a\0", "a\0b", "a\0c"]) == [b"a", b"a\0", None, b"a\0c"]


def test_two_tables_of_one_database_have_an_index_each(tmp_path: Path) -> None:
    two_tables_have_an_index_each(
        *(open_url(f"sqlite:///{tmp_path}/a.db?table={name}") for name in ("first", "second"))
    )


def test_a_locked_database_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    storage = SqliteStorage(path, busy_timeout=0)
    storage.write(["a"], [b"1"])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for call in (lambda: storage.write(["a"], [b"2"]), lambda: storage.store("lease", b"L", ANY)):
            with pytest.raises(StorageError, match=r"locked.*wait for it") as caught:
                call()
            assert caught.value.storage == storage.name
        assert storage.read(["a"]) == [b"1"]
        with pytest.raises(StorageError, match="locked"), storage.transaction():
            pytest.fail("the transaction began")
    storage.write(["a"], [b"2"])
    assert storage.read(["a"]) == [b"2"]


def test_what_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"no database, but long enough to be one" * 100)
    with pytest.raises(StorageError, match="not a SQLite database"):
        SqliteStorage(path).read(["a"])
    with pytest.raises(StorageError, match="check the path"):
        SqliteStorage(tmp_path / "none/a.db").write(["a"], [b"1"])
    with pytest.raises(StorageError, match="check the path"):
        SqliteStorage(tmp_path).read(["a"])


def test_a_read_only_database(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    storage = SqliteStorage(path)
    storage.write(["a"], [b"1"])
    assert storage._database.connection is not None
    storage._database.connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StorageError, match="read-only"):
        storage.write(["a"], [b"2"])


def test_a_full_disk(tmp_path: Path) -> None:
    storage = SqliteStorage(tmp_path / "a.db")
    storage.write(["a"], [b"1"])
    assert storage._database.connection is not None
    storage._database.connection.execute("PRAGMA max_page_count = 10")
    with pytest.raises(StorageError, match="make room"):
        storage.write(["a", "b"], [b"2", bytes(1 << 20)])
    assert storage.read(["a", "b"]) == [b"1", None]


@pytest.mark.parametrize("code", ["SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC", "SQLITE_CANTOPEN"])
def test_a_full_disk_is_told_from_a_failed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = code
    path = str(tmp_path / "a.db")
    assert "full" not in str(failure(error, storage="s", path=path))
    monkeypatch.setattr("os.statvfs", lambda _: SimpleNamespace(f_bavail=1, f_frsize=4096))
    assert "the disk is full: make room" in str(failure(error, storage="s", path=path))


def test_a_full_disk_within_a_transaction_undoes_all_of_it(tmp_path: Path) -> None:
    """SQLite ends the transaction by itself; what follows in the same block must not be committed alone."""
    storage = SqliteStorage(tmp_path / "a.db")
    storage.write(["a"], [b"1"])
    assert storage._database.connection is not None
    storage._database.connection.execute("PRAGMA max_page_count = 10")
    with pytest.raises(StorageError), storage.transaction():
        storage.write(["b"], [b"2"])
        with pytest.raises(StorageError, match="make room"):
            storage.write(["c"], [bytes(1 << 20)])
        storage.write(["d"], [b"4"])
    assert list(listing(storage)) == (["a"] if storage.read(["b"]) == [None] else ["a", "b", "d"])


def test_a_call_that_failed_halfway_is_not_committed(tmp_path: Path) -> None:
    """Of a batch whose second row no driver takes, the first would be kept by whoever goes on after the error."""
    storage = SqliteStorage(tmp_path / "a.db")
    storage.write(["a"], [b"1"])
    unfit: Any = object()
    with pytest.raises(StorageError, match="undoes all of it"), storage.transaction():
        storage.write(["a"], [b"2"])
        with pytest.raises(StorageError):
            storage.write(["b", "c"], [b"2", unfit])
    assert storage.read(["a", "b"]) == [b"1", None]
    with storage.transaction():
        storage.write(["b"], [b"3"])
    assert storage.read(["b"]) == [b"3"]


def test_transactions_do_not_nest(tmp_path: Path) -> None:
    transactions_do_not_nest(SqliteStorage(tmp_path / "a.db"))


def test_closed_is_closed_and_an_open_transaction_is_undone(tmp_path: Path) -> None:
    storage = SqliteStorage(tmp_path / "a.db")
    storage.write(["a"], [b"1"])
    transaction = storage.transaction()
    transaction.__enter__()
    storage.write(["a"], [b"2"])
    storage.close()
    with pytest.raises(StorageError, match="closed"):
        storage.read(["a"])
    with pytest.raises(StorageError, match="closed"):
        transaction.__exit__(None, None, None)
    assert SqliteStorage(tmp_path / "a.db").read(["a"]) == [b"1"]


def test_only_the_lease_is_written_without_waiting_for_the_disk(tmp_path: Path) -> None:
    storage = SqliteStorage(tmp_path / "a.db")
    storage.store("lease", b"1", ABSENT)
    assert storage._database.connection is not None
    seen: list[str] = []
    storage._database.connection.set_trace_callback(seen.append)
    storage.store("manifest", b"1", ABSENT)
    with storage.transaction():
        storage.store("lease", b"2", ANY)
    assert not [line for line in seen if "synchronous" in line]
    storage.store("lease", b"3", ANY)
    storage.remove(["lease"], ANY)
    assert [line for line in seen if "synchronous" in line] == [
        "PRAGMA synchronous = NORMAL",
        "PRAGMA synchronous = FULL",
    ] * 2


def test_a_folder_that_does_not_exist_is_named_with_what_the_slashes_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError) as caught:
        kvsync.sync({"a": b"1"}, f"sqlite://{tmp_path}/app.db", scan=True)
    assert f"the folder {os.path.join(tmp_path, str(tmp_path)[1:])!r} does not exist" in str(caught.value)
    assert "after sqlite:/// it is relative" in str(caught.value)


def test_a_relative_path_is_that_of_the_time_of_its_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path_goes_on_meaning_the_same("sqlite:///", tmp_path, monkeypatch)


def test_two_columns_of_values_are_two_storages(tmp_path: Path) -> None:
    """The second one was compared with the log of the first: every value counted as overwritten."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE t (id TEXT PRIMARY KEY, name BLOB, mail BLOB)")
        connection.execute("INSERT INTO t VALUES ('a', x'01', x'02'), ('b', x'03', x'04')")
    names, mails = f"sqlite:///{path}?table=t&key=id&value=name", f"sqlite:///{path}?table=t&key=id&value=MAIL"
    one: dict[str, bytes] = {}
    other: dict[str, bytes] = {}
    for _ in range(2):
        kvsync.sync(one, names, scan=True)
        kvsync.sync(other, mails, scan=True)
        assert (one["a"], one["b"], other["a"], other["b"]) == (b"\1", b"\3", b"\2", b"\4")
    other["a"] = b"new"
    assert kvsync.sync(other, mails, scan=True).pushed == 1
    assert kvsync.sync(one, names, scan=True).pulled == 0
    with pytest.raises(kvsync.SameStorageError):
        kvsync.sync(mails, mails.replace("MAIL", "mail"), scan=True)
