"""Keys and values of tables as others made them: collations, texts, BLOBs, integers, and what is none of these."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from sqlite_tables import ask, execute

import kvsync
from kvsync.errors import UsageError
from kvsync.native import digest_values
from kvsync.storages.sqlite import SqliteStorage, open_url
from kvsync.storages.sqlite.keys import KeyKind, reserved
from kvsync.storages.sqlite.schema import inspect
from kvsync.storages.sqlite.statements import Statements
from kvsync.storages.sqlite.table import Table
from kvsync.testing.conformance import listing
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from pathlib import Path

BY_BYTES = "CREATE UNIQUE INDEX by_bytes ON kv (key COLLATE BINARY)"
HOW_MANY = 12_000


@pytest.mark.parametrize("collation", ["NOCASE", "RTRIM"])
def test_a_collation_of_the_column_makes_no_two_keys_one(tmp_path: Path, collation: str) -> None:
    """Deleting `Readme` deleted `README`, too, and beyond a page of rows keys were never seen."""
    path = tmp_path / "a.db"
    execute(path, f"CREATE TABLE kv (key TEXT COLLATE {collation}, value BLOB)", BY_BYTES)
    keys = [f"{letter}{number // 3}{' ' * (number % 3)}" for number in range(HOW_MANY // 3) for letter in "aAb"]
    with closing(SqliteStorage(path)) as storage:
        assert storage.write(keys, [key.encode() for key in keys]).refused == ()
        assert list(listing(storage)) == sorted(keys)
        assert storage.read(["a7", "A7", "a7 "]) == [b"a7", b"A7", b"a7 "]
        storage.delete(["a7"])
        storage.delete(["A8"], [digest_values([b"A8"])[0]])
        assert storage.read(["a7", "A7", "a7 ", "a8", "A8"]) == [None, b"A7", b"a7 ", b"a8", None]
        storage.write(["a9"], [b"new"])
        assert storage.read(["a9", "A9"]) == [b"new", b"A9"]
        assert len(listing(storage)) == HOW_MANY - 2


def test_a_collation_that_is_not_known_here(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.create_collation("ODD", lambda one, two: (one[::-1] > two[::-1]) - (one[::-1] < two[::-1]))
        connection.execute("CREATE TABLE kv (key TEXT COLLATE ODD, value BLOB)")
        connection.execute(BY_BYTES)
        connection.execute("INSERT INTO kv VALUES ('ab', x'31'), ('ba', x'32')")
        connection.commit()
    with closing(SqliteStorage(path)) as storage:
        storage.write(["aa"], [b"3"])
        storage.delete(["ba"])
        assert list(listing(storage)) == ["aa", "ab"]


def test_keys_that_are_not_unique_byte_by_byte_are_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    execute(path, "CREATE TABLE kv (key TEXT PRIMARY KEY COLLATE NOCASE, value BLOB)")
    with pytest.raises(UsageError, match="byte by byte") as caught, closing(SqliteStorage(path)) as storage:
        storage.read(["a"])
    execute(path, str(caught.value).partition("byte by byte: ")[2])
    with closing(SqliteStorage(path)) as storage:
        written = storage.write(["Readme", "README", "b"], [b"1", b"2", b"3"])
        assert [refusal.key for refusal in written.refused] == ["README"]
        assert listing(storage).keys() == {"Readme", "b"}


@pytest.mark.parametrize(
    "create",
    [
        "CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
        "CREATE TABLE kv (id INTEGER PRIMARY KEY, key VARCHAR(40) COLLATE NOCASE, value BLOB)",
        "CREATE TABLE kv (key BIGINT PRIMARY KEY, value BLOB)",
        "CREATE TABLE kv (key INTEGER PRIMARY KEY, value BLOB)",
        "CREATE TABLE kv (key BLOB COLLATE RTRIM, value BLOB)",
    ],
)
def test_every_statement_uses_the_index(tmp_path: Path, create: str) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.execute(create)
        if "COLLATE" in create:
            connection.execute(BY_BYTES)
        schema = inspect(connection, Table())
        assert schema is not None
        sql = Statements(Table(), schema)
        for statement in (sql.select(3), sql.kinds(3), sql.delete, sql.update, sql.next_page, sql.others, sql.odd_keys):
            count = statement.count("?")
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", [b"1"] * count).fetchall()
            steps = [row[3] for row in plan if "kv" in row[3] or "B-TREE" in row[3]]
            assert steps
            assert all(step.startswith("SEARCH") for step in steps), (statement, steps)


# ---------------------------------------------------------------------------------------------- Values as texts


def test_values_are_texts_where_the_column_is_declared_so(tmp_path: Path) -> None:
    """kvsync wrote BLOBs, for which `WHERE value = 'light'` is false."""
    path = tmp_path / "a.db"
    execute(path, "CREATE TABLE kv (key TEXT PRIMARY KEY, value TEXT)", "INSERT INTO kv VALUES ('old', x'31')")
    with closing(SqliteStorage(path)) as storage:
        assert storage.read(["old"]) == [b"1"]
        values = [b"light", "Zoë\0".encode(), b"", b"\xff\x00", b"new"]
        written = storage.write(["theme", "name", "empty", "bytes", "old"], values)
        assert [refusal.key for refusal in written.refused] == ["bytes"]
        assert "UTF-8" in written.refused[0].reason
        assert ask(path, "SELECT key FROM kv WHERE value = 'light'") == ["theme"]
        assert set(ask(path, "SELECT typeof(value) FROM kv")) == {"text"}
        assert storage.read(["theme", "name", "empty", "old"]) == [*values[:3], b"new"]
        assert listing(storage)["name"] == digest_values([values[1]])[0]
        assert storage.write(["theme"], [b"dark"], [digest_values([b"light"])[0]]).refused == ()


@pytest.mark.parametrize("declared", ["JSON", "JSONB", "STRING"])
def test_words_for_texts_that_sqlite_does_not_know(tmp_path: Path, declared: str) -> None:
    """SQLite takes such a column for one of numbers: what it would write otherwise is refused."""
    path = tmp_path / "a.db"
    execute(path, f"CREATE TABLE kv (key TEXT PRIMARY KEY, value {declared})")
    with closing(SqliteStorage(path)) as storage:
        written = storage.write(["a", "b", "c", "d", "e"], [b'{"x": 1}', b"42", b'"42"', b"4.20", b"\xff"])
        assert {refusal.key for refusal in written.refused} == {"d", "e"}
        assert ask(path, "SELECT value FROM kv ORDER BY key") == ['{"x": 1}', 42, '"42"']
        assert storage.read(["a", "b"]) == [b'{"x": 1}', b"42"]


def test_a_blob_in_a_column_of_texts_may_become_another_blob(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    execute(path, "CREATE TABLE kv (key TEXT PRIMARY KEY, value TEXT)", "INSERT INTO kv VALUES ('a', x'ff')")
    with closing(SqliteStorage(path)) as storage:
        assert storage.write(["a"], [b"\xfe"]).refused == ()
        assert ask(path, "SELECT value FROM kv") == [b"\xfe"]


@pytest.mark.parametrize("create", ["key TEXT PRIMARY KEY, value BLOB NOT NULL", "key PRIMARY KEY, value"])
def test_a_row_of_text_stays_one_in_any_column(tmp_path: Path, create: str) -> None:
    """One row that was inserted as text blocked the table, that of kvsync included."""
    path = tmp_path / "a.db"
    execute(path, f"CREATE TABLE kv ({create}) WITHOUT ROWID")
    execute(path, "INSERT INTO kv VALUES ('t', 'text'), ('b', x'626c6f62'), ('bad', CAST(x'ff' AS TEXT))")
    with closing(SqliteStorage(path)) as storage:
        assert storage.read(["t", "b", "bad"]) == [b"text", b"blob", b"\xff"]
        assert listing(storage) == {
            key: digest_values([value])[0] for key, value in (("b", b"blob"), ("bad", b"\xff"), ("t", b"text"))
        }
        storage.write(["t", "b", "new"], ["ä".encode()] * 3)
        assert ask(path, "SELECT key, typeof(value) FROM kv ORDER BY key") == [
            ("b", "blob"),
            ("bad", "text"),
            ("new", "blob"),
            ("t", "text"),
        ]
        storage.write(["t"], [b"\xff"])
        assert storage.read(["t"]) == [b"\xff"]
        assert ask(path, "SELECT typeof(value) FROM kv WHERE key = 't'") == ["blob"]


def test_a_table_with_rows_of_all_kinds_moves_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    execute(path, "CREATE TABLE kv (key TEXT PRIMARY KEY, value)")
    execute(path, "INSERT INTO kv VALUES ('t', 'text'), ('b', x'00'), ('i', 7), ('r', 1.5), ('n', NULL), (NULL, 'x')")
    execute(path, "INSERT INTO kv VALUES (CAST(x'61ff' AS TEXT), 'y'), ('notes/.kvsync/x', 'z'), ('.KVSYNC', 'z')")
    data: dict[str, bytes] = {}
    for _ in range(2):
        result = kvsync.sync(f"sqlite:///{path}", data, scan=True)
        moved = {key: value for key, value in data.items() if not key.startswith(".kvsync")}
        assert moved == {"t": b"text", "b": b"\0"}
        assert {entry.key for entry in result.unreadable} == {
            *"irn",
            "NULL",
            "a\\xff",
            "notes/.kvsync/x",
            ".KVSYNC",
        }
    data["i"] = b"theirs"
    result = kvsync.sync(f"sqlite:///{path}", data, scan=True)
    assert [entry.key for entry in result.missing] == ["i"]
    assert ask(path, "SELECT value FROM kv WHERE key = 'i'") == [7]


# ------------------------------------------------------------------------------------------------ Kinds of keys


def test_a_text_among_integer_keys_is_told_as_what_it_is(tmp_path: Path) -> None:
    """It was said not to be UTF-8."""
    path = tmp_path / "a.db"
    execute(path, "CREATE TABLE kv (key BIGINT PRIMARY KEY, value BLOB)")
    execute(path, "INSERT INTO kv VALUES (7, x'31'), ('abc', x'31'), (x'6465', x'31'), (x'ff', x'31')")
    with closing(SqliteStorage(path)) as storage:
        assert list(listing(storage)) == ["7"]
        assert {entry.name: entry.reason for entry in storage.skipped} == {
            "abc": "its key is TEXT, and not an integer, as keys of this table are",
            "de": "its key is a BLOB, and not an integer, as keys of this table are",
            r"\xff": "its key is not UTF-8",
        }


@pytest.mark.parametrize("declared", ["INTEGER PRIMARY KEY", "BIGINT PRIMARY KEY", "INT NOT NULL UNIQUE"])
def test_integer_keys(tmp_path: Path, declared: str) -> None:
    path = tmp_path / "a.db"
    execute(path, f"CREATE TABLE kv (key {declared}, value TEXT, balance INTEGER DEFAULT 0)")
    keys = [str(number) for number in range(-3_000, 9_000)] + [str(2**63 - 1), str(-(2**63))]
    with closing(SqliteStorage(path)) as storage:
        assert storage.write(keys, [key.encode() for key in keys]).refused == ()
        assert list(listing(storage)) == sorted(keys)
        assert storage.read(["42", "-7", "042", "x", "9223372036854775808"]) == [b"42", b"-7", None, None, None]
        bad = ["007", "-0", "+1", " 1", "1.0", "1e3", "abc", "", "٤", "9223372036854775808"]
        written = storage.write([*bad, "42"], [b"v"] * 11)
        assert [refusal.key for refusal in written.refused] == bad
        assert "42 or -7" in written.refused[0].reason
        assert storage.delete(["007", "42", "abc"]).refused == ()
        assert storage.write(["42", "43"], [b"new"] * 2, [None, digest_values([b"43"])[0]]).refused == ()
        assert storage.read(["7", "42", "43"]) == [b"7", b"new", b"new"]
        assert ask(path, "SELECT typeof(key), typeof(value), count(*) FROM kv GROUP BY 1, 2") == [
            ("integer", "text", 12_002)
        ]


@pytest.mark.parametrize("declared", ["UUID PRIMARY KEY", "STRING NOT NULL UNIQUE", "NUMERIC UNIQUE"])
def test_keys_of_which_sqlite_makes_numbers(tmp_path: Path, declared: str) -> None:
    """In such a column `007` is the number 7: that key is refused, and finds no other's row."""
    path = tmp_path / "a.db"
    execute(path, f"CREATE TABLE kv (key {declared}, value BLOB)")
    good = ["0b5e8e0a-6f0c-4d8b-9a3e-2f6c1d7e8f90", "abc", "42", "-7"]
    bad = ["007", "1e3", " 5", "1.50", "0x10 ", "12345678901234567890"]
    with closing(SqliteStorage(path)) as storage:
        written = storage.write([*good, *bad], [b"v"] * 10)
        assert {refusal.key for refusal in written.refused} == {*bad} - {"0x10 "}
        there = sorted([*good, "0x10 "])
        assert list(listing(storage)) == there
        storage.write(["7", "1000"], [b"n"] * 2)
        assert storage.read([*there, *bad[:4]]) == [b"v"] * 5 + [None] * 4
        assert [refusal.key for refusal in storage.write(["007", "42"], [b"x"] * 2).refused] == ["007"]
        assert storage.delete(["007", "1e3", "-7"]).refused == ()
        assert storage.read(["7", "1000", "42", "-7"]) == [b"n", b"n", b"x", None]


@pytest.mark.parametrize("declared", ["BLOB PRIMARY KEY", "BLOB NOT NULL UNIQUE"])
def test_keys_as_blobs(tmp_path: Path, declared: str) -> None:
    path = tmp_path / "a.db"
    execute(path, f"CREATE TABLE kv (key {declared}, value BLOB)", "INSERT INTO kv VALUES (x'c3a4', 'x'), (x'ff', 'y')")
    with closing(SqliteStorage(path)) as storage:
        assert storage.read(["ä", "b"]) == [b"x", None]
        storage.write(["ä", "b"], [b"1", b"2"])
        assert list(listing(storage)) == ["b", "ä"]
        assert [entry.name for entry in storage.skipped] == ["\\xff"]
        assert ask(path, "SELECT typeof(key), count(*) FROM kv GROUP BY 1") == [("blob", 3)]
        storage.delete(["b"])
        assert list(listing(storage)) == ["ä"]


def test_keys_of_all_kinds_in_one_column_are_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    execute(path, "CREATE TABLE kv (key UNIQUE, value BLOB)")
    texts = [f"{number}t" for number in range(6_000)]
    with closing(sqlite3.connect(path)) as connection, connection:
        rows: list[tuple[object, bytes]] = [(text, text.encode()) for text in texts]
        rows += [(number, b"%d" % number) for number in range(7_000)]
        rows += [(b"%db" % number, b"%db" % number) for number in range(100)]
        connection.executemany("INSERT INTO kv VALUES (?, ?)", [*rows, (1.5, b"real"), (None, b"null")])
    with closing(SqliteStorage(path)) as storage:
        keys = list(listing(storage))
        assert keys == sorted(keys)
        assert len(keys) == 13_100
        assert storage.read(keys) == [key.encode() for key in keys]
        assert [entry.name for entry in storage.skipped] == ["1.5", "NULL"]
        assert not any(entry.harmless for entry in storage.skipped)
        storage.write(["7", "7b", "7t", "7x"], [b"new"] * 4)
        assert ask(path, "SELECT typeof(key) FROM kv WHERE value = x'6e6577' ORDER BY key") == [
            "integer",
            "text",
            "text",
            "blob",
        ]
        storage.delete(keys)
        assert list(listing(storage)) == ["7x"]


def test_two_rows_of_one_key_are_named_and_neither_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    execute(path, "CREATE TABLE kv (key UNIQUE, value)")
    execute(path, "INSERT INTO kv VALUES ('a', 'text'), (x'61', 'blob'), (7, 'i'), ('7', 't'), ('b', '1')")
    before = ask(path, "SELECT * FROM kv")
    with closing(SqliteStorage(path)) as storage:
        assert listing(storage) == {"7": b"", "a": b"", "b": digest_values([b"1"])[0]}
        found = storage.read(["a", "7"])
        assert all(isinstance(value, Unreadable) and "several rows" in value.reason for value in found)
        for expect in (None, [None, None], [b"", b""], [bytes(32)] * 2):
            assert [refusal.key for refusal in storage.write(["a", "7"], [b"x"] * 2, expect).refused] == ["a", "7"]
            assert {refusal.key for refusal in storage.delete(["a", "7"], expect).refused} == {"a", "7"}
        assert ask(path, "SELECT * FROM kv") == before
        execute(path, "DELETE FROM kv WHERE typeof(key) <> 'text'")
        assert storage.read(["a", "7"]) == [b"text", b"t"]


def test_texts_of_utf_16_are_in_the_order_of_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    execute(path, "PRAGMA encoding = 'UTF-16le'", "CREATE TABLE kv (key TEXT PRIMARY KEY, value TEXT)")
    keys = ["a", "b", "Ā", "ā", "\ufffd", "\U00010000", "ab", "z"]
    with closing(SqliteStorage(path)) as storage:
        # SQLite stores another character in place of this one.
        written = storage.write([*keys, "\uffff", "v"], [*(key.encode() for key in keys), b"", "\uffff".encode()])
        assert [refusal.key for refusal in written.refused] == ["\uffff", "v"]
        storage.delete(["\uffff"])
        assert list(listing(storage)) == sorted(keys, key=str.encode)
        assert storage.read(keys) == [key.encode() for key in keys]
        assert storage.write(["a"], ["Ā".encode()], [digest_values([b"a"])[0]]).refused == ()
        assert set(ask(path, "SELECT key FROM kv WHERE value = 'Ā'")) == {"a", "Ā"}


def test_the_forms_of_keys() -> None:
    assert KeyKind.TEXT.forms("42") == ["42", b"42", 42]
    assert KeyKind.TEXT.forms("\ud800") == []
    assert KeyKind.INTEGER.forms("abc") == []
    assert KeyKind.BLOB.new("\ud800") is None
    assert KeyKind.TEXT.text(b"\xff") is None
    assert KeyKind.INTEGER.text("7") is None
    assert reserved(["a", "kvsync", "a/.Kvsync/b", ".\u200bkvsync", "x.kvsync"]) == {"a/.Kvsync/b", ".\u200bkvsync"}


def test_a_virtual_table_or_a_view_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    execute(path, "CREATE TABLE t (key TEXT PRIMARY KEY, value)", "CREATE VIEW v AS SELECT * FROM t")
    with closing(open_url(f"sqlite:///{path}?table=v")) as storage, pytest.raises(UsageError, match="is a view"):
        storage.read(["a"])


@pytest.mark.parametrize("key", ["TEXT", "BLOB", "ANY", "INTEGER"])
@pytest.mark.parametrize("value", ["TEXT", "BLOB", "ANY"])
def test_strict_tables(tmp_path: Path, key: str, value: str) -> None:
    path = tmp_path / "a.db"
    execute(path, f"CREATE TABLE kv (key {key} PRIMARY KEY, value {value}) STRICT")
    with closing(SqliteStorage(path)) as storage:
        for text in (b"42", b"007"):
            assert storage.write(["7"], [text]).refused == ()
            assert storage.read(["7"]) == [text]
        assert list(listing(storage)) == ["7"]
        assert [refusal.key for refusal in storage.write(["007"], [b"\xff"]).refused] == (
            ["007"] if key == "INTEGER" or value == "TEXT" else []
        )
