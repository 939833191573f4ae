"""SQLite tables of any make: what is not refused is there as given, and what is refused is as it was."""

from __future__ import annotations

import contextlib
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from memory import folder_in_memory

from kvsync.native import digest_values
from kvsync.storages.sqlite import SqliteStorage
from kvsync.testing.conformance import listing
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from pathlib import Path

KEYS = ["a", "A", "a ", "7", "-7", "007", "1e1", "\uffff", "\U00010000", ""]  # few, so that they meet
RAW_KEYS: list[Any] = [*KEYS, *(key.encode() for key in KEYS), 7, 7, -7, 10, 1.5, None, b"\xff"]
VALUES = [b"", b"42", b"042", b"text", "é".encode(), b"\xff", b"4e1"]
RAW_VALUES: list[Any] = [*VALUES, "42", "text", "", 42, 1.5, None]
TABLES = [
    f"CREATE TABLE kv (key {key}, value {value})"
    for key in ("TEXT UNIQUE", "UNIQUE", "BLOB UNIQUE", "INTEGER PRIMARY KEY", "BIGINT UNIQUE", "UUID UNIQUE")
    for value in ("BLOB", "TEXT", "NUMERIC", "INTEGER", "JSON", "")
] + [
    *(
        f"CREATE TABLE kv (key TEXT COLLATE {collation}, value); CREATE UNIQUE INDEX b ON kv (key COLLATE BINARY)"
        for collation in ("NOCASE", "RTRIM", "NOCASE")
    ),
    "CREATE TABLE kv (key TEXT UNIQUE, value TEXT, other TEXT NOT NULL CHECK (other <> ''))",
]
TRIGGERS = [
    "",
    "",
    "",
    "CREATE TRIGGER t BEFORE INSERT ON kv WHEN NEW.key IN ('a', 7) BEGIN SELECT RAISE(IGNORE); END",
    "CREATE TRIGGER t BEFORE UPDATE ON kv WHEN NEW.key IN ('a', 7) BEGIN SELECT RAISE(ABORT, 'no'); END",
    "CREATE TRIGGER t BEFORE DELETE ON kv WHEN OLD.key IN ('a', 7) BEGIN SELECT RAISE(IGNORE); END",
    "CREATE TRIGGER t AFTER INSERT ON kv BEGIN UPDATE kv SET value = upper(value) WHERE key IS NEW.key; END",
    "CREATE TRIGGER t AFTER UPDATE OF value ON kv BEGIN UPDATE kv SET value = NULL WHERE key IS NEW.key; END",
]
CALLS = st.tuples(
    st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), min_size=1),
    st.booleans(),
    st.sampled_from(["any", "present", "absent", "other"]),
)


def make(path: Path, encoding: str, table: str, rows: list[tuple[Any, Any]], trigger: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(f"PRAGMA encoding = '{encoding}'; {table}")
        columns = "key, value, other" if "other" in table else "key, value"
        more = ", 'x'" if "other" in table else ""
        for row in rows:
            with contextlib.suppress(sqlite3.IntegrityError):  # such as a text for the number of a row
                connection.execute(f"INSERT OR IGNORE INTO kv ({columns}) VALUES (?, ?{more})", row)
        connection.executescript(trigger)


def token(value: object) -> bytes | None:
    if isinstance(value, Unreadable):
        return b""
    return digest_values([value])[0] if isinstance(value, bytes) else None


def look(storage: SqliteStorage) -> dict[str, object]:
    """Return what is at each key; a scan has to say the same, in order."""
    found: dict[str, object] = dict(zip(KEYS, storage.read(KEYS), strict=True))
    listed = listing(storage)
    assert list(listed) == sorted(listed, key=str.encode)
    assert {key: token for key, token in listed.items() if key in KEYS} == {
        key: token(value) for key, value in found.items() if value is not None
    }
    return found


def expected(before: dict[str, object], keys: list[str], how: str) -> list[bytes | None] | None:
    if how == "any":
        return None
    by_how = {"absent": None, "other": bytes(32)}
    return [token(before[key]) if how == "present" else by_how[how] for key in keys]


def check(storage: SqliteStorage, call: tuple[dict[str, bytes], bool, str]) -> None:
    values, deletes, how = call
    before, keys = look(storage), list(values)
    expect = expected(before, keys, how)
    done = storage.delete(keys, expect) if deletes else storage.write(keys, list(values.values()), expect)
    refused = {refusal.key: refusal.changed for refusal in done.refused}
    after = look(storage)
    for key in KEYS:
        if key not in values or key in refused:
            assert after[key] == before[key], key
        else:
            assert after[key] == (None if deletes else values[key]), key
    for key, token_expected in zip(keys, expect or [], strict=bool(expect)):
        matches = token(before[key]) == token_expected and token_expected != b""
        if not matches and not (deletes and before[key] is None):
            assert refused[key], key
        else:
            assert not refused.get(key), key


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["UTF-8", "UTF-8", "UTF-16le"]),
    st.sampled_from(TABLES),
    st.lists(st.tuples(st.sampled_from(RAW_KEYS), st.sampled_from(RAW_VALUES)), min_size=4, max_size=16),
    st.sampled_from(TRIGGERS),
    st.lists(CALLS, min_size=1, max_size=3),
)
def test_what_is_not_refused_is_there_as_given(
    encoding: str,
    table: str,
    rows: list[tuple[Any, Any]],
    trigger: str,
    calls: list[tuple[dict[str, bytes], bool, str]],
) -> None:
    with folder_in_memory() as folder:
        path = folder / "a.db"
        make(path, encoding, table, rows, trigger)
        with closing(SqliteStorage(path)) as storage:
            for call in calls:
                check(storage, call)
