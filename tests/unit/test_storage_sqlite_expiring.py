"""A SQLite table with a column that says when its rows expire, by a clock that the test moves."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from kvsync.errors import UsageError
from kvsync.native import digest_values
from kvsync.storages.contract import has_expiry
from kvsync.storages.expiry import token_of
from kvsync.storages.sqlite import ExpiringSqliteStorage, SqliteStorage, open_url
from kvsync.storages.sqlite.table import Table
from kvsync.testing.conformance import listing
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START = 1_700_000_000
MS = START * 1000


class Clock:
    def __init__(self) -> None:
        self.now = float(START)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.db"


@pytest.fixture
def storage(path: Path, clock: Clock) -> Iterator[ExpiringSqliteStorage]:
    with closing(ExpiringSqliteStorage(path, clock=clock)) as opened:
        yield opened


def run(path: Path, statement: str, *parameters: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, parameters).fetchall()


def token(value: bytes, expires: int = 0) -> bytes:
    return token_of(digest_values([value])[0], expires)


def test_a_row_is_there_up_to_its_time_and_not_at_it(storage: ExpiringSqliteStorage, clock: Clock) -> None:
    written = storage.write_expiring(["a", "b"], [b"1", b"2"], [MS + 1000, MS + 1001])
    clock.now += 0.999
    assert storage.read(["a", "b"]) == [b"1", b"2"]
    clock.now += 0.0011
    assert storage.read(["a", "b"]) == [None, b"2"]
    assert listing(storage) == {"b": token(b"2", MS + 1001)}
    assert storage.expiries(["a", "b"]) == [0, MS + 1001]
    assert written.tokens is not None
    assert [refusal.key for refusal in storage.write(["a"], [b"3"], [written.tokens[0]]).refused] == ["a"]
    assert storage.write_expiring(["a"], [b"3"], [MS + 2000], [None]).refused == ()
    clock.now -= 1
    assert storage.expiries(["a"]) == [MS + 2000]


def test_the_table_that_is_made_has_the_column(storage: ExpiringSqliteStorage, path: Path) -> None:
    storage.write_expiring(["a", "b"], [b"1", b"2"], [MS + 1000, 0])
    storage.write(["c"], [b"3"])
    rows = run(path, "SELECT key, value, expires, typeof(expires) FROM kv ORDER BY key")
    assert rows == [("a", b"1", MS + 1000, "integer"), ("b", b"2", None, "null"), ("c", b"3", None, "null")]
    with closing(open_url(f"sqlite:///{path}?expires=expires")) as real:
        assert has_expiry(real)
        assert real.read(["a", "b"]) == [None, b"2"]
    with closing(open_url(f"sqlite:///{path}")) as without:
        assert not has_expiry(without)
        assert type(without) is SqliteStorage
        assert without.read(["a", "b"]) == [b"1", b"2"]


def test_what_has_expired_stays_in_the_table_until_its_key_is_written_or_deleted(
    storage: ExpiringSqliteStorage, path: Path, clock: Clock
) -> None:
    storage.write_expiring(["a", "b", "c"], [b"1"] * 3, [MS + 1] * 3)
    clock.now += 1
    storage.write(["d"], [b"1"])
    assert listing(storage) == {"d": token(b"1")}
    assert len(run(path, "SELECT 1 FROM kv")) == 4
    assert storage.delete(["a"]).refused == ()
    assert storage.delete(["b"], [None]).refused == ()
    assert [refusal.key for refusal in storage.write(["c"], [b"2"], [token(b"1", MS + 1)]).refused] == ["c"]
    assert run(path, "SELECT key FROM kv ORDER BY key") == [("c",), ("d",)]
    assert storage.write(["c"], [b"2"], [None]).refused == ()
    assert run(path, "SELECT key, expires FROM kv ORDER BY key") == [("c", None), ("d", None)]


def test_times_that_others_wrote(storage: ExpiringSqliteStorage, path: Path) -> None:
    storage.write(["null", "zero", "text", "past", "later"], [b"1"] * 5)
    for key, due in (("zero", 0), ("text", f"{MS + 5}"), ("past", MS - 5), ("later", MS + 6)):
        run(path, "UPDATE kv SET expires = ? WHERE key = ?", due, key)
    assert storage.expiries(["null", "zero", "text", "past", "later"]) == [0, 0, MS + 5, 0, MS + 6]
    before = {"null": token(b"1"), "zero": token(b"1"), "text": token(b"1", MS + 5), "later": token(b"1", MS + 6)}
    assert listing(storage) == before
    run(path, "UPDATE kv SET expires = expires + 1 WHERE key = 'later'")
    assert [refusal.key for refusal in storage.delete(["later"], [before["later"]]).refused] == ["later"]


@pytest.mark.parametrize("due", ["soon", 9e999, b"x", -1, START, 3600, "2099-01-01 00:00:00"])
def test_a_time_that_is_none_is_named_and_its_row_does_not_count_as_expired(
    storage: ExpiringSqliteStorage, path: Path, due: object
) -> None:
    """Seconds, read as milliseconds, are a day in January 1970: every live row would be gone."""
    storage.write_expiring(["a", "b"], [b"1"] * 2, [MS + 5] * 2)
    run(path, "UPDATE kv SET expires = ? WHERE key = 'a'", due)
    assert listing(storage) == {"a": b"", "b": token(b"1", MS + 5)}
    assert storage.expiries(["a", "b"]) == [0, MS + 5]
    found = storage.read(["a"])[0]
    assert isinstance(found, Unreadable)
    assert "unit=ms" in found.reason
    assert "'expires'" in found.reason
    for expect in (None, token(b"1"), token(b"1", MS + 5)):
        assert [refusal.reason for refusal in storage.write(["a"], [b"2"], [expect]).refused] == [found.reason]
        assert [refusal.key for refusal in storage.delete(["a"], [token(b"1")]).refused] == ["a"]
    storage.write(["a"], [b"2"])
    assert listing(storage)["a"] == token(b"2")


def test_a_time_beyond_64_bits_is_refused_alone(storage: ExpiringSqliteStorage) -> None:
    expires = [(1 << 63) - 1, 1 << 63, 0]
    for expect in (None, [None] * 3):
        written = storage.write_expiring(["a", "b", "c"], [b"1"] * 3, expires, expect)
        assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("b", False)]
        assert written.tokens == (token(b"1", (1 << 63) - 1), None, token(b"1"))
        assert listing(storage) == {"a": token(b"1", (1 << 63) - 1), "c": token(b"1")}
        storage.delete(["a", "c"])


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ("key TEXT PRIMARY KEY, value BLOB", "no column 'expires'"),
        ("key TEXT PRIMARY KEY, value BLOB, expires TEXT", "does not fit unit=ms"),
        ("key TEXT PRIMARY KEY, value BLOB, expires DATETIME", "does not fit unit=ms"),
        ("key TEXT PRIMARY KEY, value BLOB, expires INTEGER AS (1)", "generated"),
    ],
)
def test_a_column_that_does_not_fit_is_refused(
    storage: ExpiringSqliteStorage, path: Path, columns: str, reason: str
) -> None:
    run(path, f"CREATE TABLE kv ({columns})")
    for call in (lambda: storage.write(["a"], [b"1"]), lambda: storage.read(["a"]), lambda: listing(storage)):
        with pytest.raises(UsageError, match=reason):
            call()


@pytest.mark.parametrize("name", ["", "a b", 'a"', "key", "VALUE"])
def test_names_that_do_not_do(name: str) -> None:
    with pytest.raises(UsageError, match="expires"):
        Table(expires=name)


def test_the_clock_is_asked_once_a_statement(path: Path) -> None:
    asked: list[int] = []

    def clock() -> float:
        asked.append(1)
        return float(START)

    with closing(ExpiringSqliteStorage(path, clock=clock)) as storage:
        storage.write_expiring([f"{number}" for number in range(400)], [b"1"] * 400, [MS + 1] * 400)
        asked.clear()
        assert len(listing(storage)) == 400
        assert len(asked) <= 2
