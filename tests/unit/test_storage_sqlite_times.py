"""Columns of times as others made them: milliseconds, seconds, dates, with NULL and without."""

from __future__ import annotations

import os
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from sqlite_tables import ask, execute

import kvsync
from kvsync.errors import UsageError
from kvsync.native import digest_values
from kvsync.storages import open_storage
from kvsync.storages.expiry import token_of
from kvsync.storages.sqlite import ExpiringSqliteStorage, SqliteStorage
from kvsync.storages.sqlite.table import Table
from kvsync.storages.sqlite.times import NEVER_MS, PLAUSIBLE_MS, Unit
from kvsync.testing import ExpiringStorage
from kvsync.testing.conformance import listing
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_700_000_000
MS = NOW * 1000
DATE = "2023-11-14 22:13:20"  # NOW
NEVER = "9999-12-31 23:59:59"


def token(value: bytes, expires: int = 0) -> bytes:
    return token_of(digest_values([value])[0], expires)


def storage_of(path: Path, **names: Any) -> ExpiringSqliteStorage:
    return ExpiringSqliteStorage(path, table=Table(**{"expires": "gone", **names}), clock=lambda: NOW)


@pytest.mark.parametrize(
    ("declared", "held", "unit", "remedy"),
    [
        ("INTEGER", NOW + 60, "ms", "unit=s"),
        ("REAL", NOW + 60.5, "ms", "unit=s"),
        ("DATETIME", "'2099-01-01 00:00:00'", "ms", "unit=iso"),
        ("TEXT", "'2099-01-01T00:00:00Z'", "s", "unit=iso"),
        ("INTEGER", 4_000_000_000_000, "s", "unit=ms"),
        ("", NOW + 60, "iso", "unit=s"),
    ],
)
def test_times_that_cannot_be_meant_in_their_unit_are_refused_with_the_remedy(
    tmp_path: Path, declared: str, held: object, unit: str, remedy: str
) -> None:
    """Each live row counted as expired: the run said that there was nothing to do."""
    path = tmp_path / "a.db"
    execute(path, f"CREATE TABLE kv (key TEXT PRIMARY KEY, value, gone {declared})")
    execute(path, f"INSERT INTO kv VALUES ('a', 'x', {held}), ('b', 'y', NULL)")
    url = f"sqlite:///{path}?expires=gone"
    with pytest.raises(UsageError, match=f"add {remedy} to the URL"):
        kvsync.sync(f"{url}&unit={unit}", {}, scan=True)
    with closing(open_storage(f"{url}&{remedy}")[0]) as storage:
        assert listing(storage).keys() == ({"a", "b"} if remedy != "unit=s" else {"b"})
    assert ask(path, "SELECT count(*) FROM kv") == [2]


def test_seconds_arrive_as_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    execute(path, "CREATE TABLE kv (key TEXT PRIMARY KEY, value TEXT, gone INTEGER NOT NULL)")
    execute(path, "INSERT INTO kv VALUES ('old', 'x', 1600000000), ('new', 'y', 4000000000), ('stays', 'z', 0)")
    peer = ExpiringStorage()
    kvsync.sync(f"sqlite:///{path}?expires=gone&unit=s", peer, scan=True)
    assert peer.read(["old", "new", "stays"]) == [None, b"y", b"z"]
    assert peer.expiries(["new", "stays"]) == [4_000_000_000_000, 0]
    peer.write_expiring(["back", "kept"], [b"1", b"2"], [4_000_000_000_001, 0])
    for _ in range(2):
        result = kvsync.sync(f"sqlite:///{path}?expires=gone&unit=s", peer, scan=True)
        assert result.missing == []
    assert (result.pushed, result.pulled, sum(result.committed)) == (0, 0, 0)
    assert ask(path, "SELECT key, value, gone FROM kv WHERE key IN ('back', 'kept') ORDER BY key") == [
        ("back", "1", 4_000_000_001),
        ("kept", "2", 253_402_300_799),
    ]


@pytest.mark.parametrize(
    ("declared", "unit", "time", "held", "kept"),
    [
        ("INTEGER", "s", MS + 1, NOW + 1, MS + 1000),
        ("INTEGER", "s", MS + 1000, NOW + 1, MS + 1000),
        ("REAL", "s", MS + 1, NOW + 0.001, MS + 1),
        ("NUMERIC", "s", MS + 1, NOW + 1, MS + 1000),
        ("REAL", "ms", MS + 1, MS + 1.0, MS + 1),
        ("BIGINT", "ms", MS + 1, MS + 1, MS + 1),
        ("TEXT", "iso", MS + 1, f"{DATE}.001", MS + 1),
        ("DATETIME", "iso", MS + 1000, "2023-11-14 22:13:21", MS + 1000),
        ("timestamp", "iso", MS + 1230, "2023-11-14 22:13:21.230", MS + 1230),
    ],
)
def test_a_time_is_stored_as_its_column_has_it(
    tmp_path: Path, declared: str, unit: str, time: int, held: object, kept: int
) -> None:
    path = tmp_path / "a.db"
    execute(path, f"CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB, gone {declared})")
    if (declared, unit) == ("NUMERIC", "ms"):
        execute(path, f"INSERT INTO kv VALUES ('first', x'00', {MS})")
    with closing(storage_of(path, unit=Unit(unit))) as storage:
        written = storage.write_expiring(["a", "b"], [b"1", b"2"], [time, 0])
        assert ask(path, "SELECT gone FROM kv WHERE key IN ('a', 'b') ORDER BY key") == [held, None]
        assert written.tokens == (token(b"1", kept), token(b"2"))
        assert listing(storage) == {"a": token(b"1", kept), "b": token(b"2")}
        assert storage.expiries(["a", "b"]) == [kept, 0]
        assert storage.delete(["a"], [written.tokens[0]]).refused == ()


@pytest.mark.parametrize(
    ("declared", "unit", "never"),
    [("INTEGER", "ms", NEVER_MS), ("INTEGER", "s", NEVER_MS // 1000), ("DATETIME", "iso", NEVER)],
)
def test_never_is_a_far_time_where_the_column_does_not_allow_null(
    tmp_path: Path, declared: str, unit: str, never: object
) -> None:
    path = tmp_path / "a.db"
    execute(path, f"CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB, gone {declared} NOT NULL)")
    with closing(storage_of(path, unit=Unit(unit))) as storage:
        for expect in (None, [token(b"1")]):
            assert storage.write(["a"], [b"1"], expect).refused == ()
            assert ask(path, "SELECT gone FROM kv") == [never]
        assert listing(storage) == {"a": token(b"1")}
        assert storage.expiries(["a"]) == [0]
        storage.write_expiring(["a"], [b"1"], [MS + 5_000])
        assert storage.write_expiring(["a"], [b"1"], [0]).tokens == (token(b"1"),)
        assert listing(storage) == {"a": token(b"1")}


@pytest.mark.parametrize("unit", ["ms", "s", "iso"])
def test_a_time_that_no_column_holds_is_refused_by_name(tmp_path: Path, unit: str) -> None:
    with closing(storage_of(tmp_path / "a.db", unit=Unit(unit))) as storage:
        written = storage.write_expiring(["a", "b", "c"], [b"1"] * 3, [MS + 1000, 2**63, 1])
        assert [refusal.key for refusal in written.refused] == ["b"]
        assert "'gone'" in written.refused[0].reason
        assert listing(storage) == {"a": token(b"1", MS + 1000)}


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (DATE, MS),
        ("2023-11-14T22:13:20", MS),
        ("2023-11-14T22:13:20Z", MS),
        ("2023-11-14 23:13:20.250+01:00", MS + 250),
        ("2023-11-14 22:13:20.123456", MS + 123),
        ("2023-11-14", MS - 80_000_000),
        (NEVER, 0),
        (None, 0),
        (0, 0),
        ("", None),
        ("soon", None),
        ("0000-00-00 00:00:00", None),
        ("1970-01-01 00:00:00", None),
        (NOW, None),
        (b"2023-11-14", None),
    ],
)
def test_dates(raw: object, found: int | None) -> None:
    assert Unit.ISO.milliseconds(raw) == found


@pytest.mark.parametrize("unit", list(Unit))
def test_every_time_comes_back(unit: Unit) -> None:
    for moment in (1, PLAUSIBLE_MS, MS, MS + 999, NEVER_MS - 1000, NEVER_MS, NEVER_MS + 999):
        kept = unit.milliseconds(unit.stored(moment, real=True))
        assert kept == (0 if moment == NEVER_MS else max(moment, PLAUSIBLE_MS))


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_dates_expire_when_they_say(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.db"
    execute(
        path, f"PRAGMA encoding = '{encoding}'", "CREATE TABLE kv (key TEXT PRIMARY KEY, value TEXT, gone DATETIME)"
    )
    dates = {"past": "2023-11-14 22:13:19.999", "now": DATE, "next": f"{DATE}.001", "zone": "2023-11-15 00:13:20+02:00"}
    for key, date in {**dates, "later": "2023-11-14T22:13:21Z", "odd": "soon"}.items():
        execute(path, f"INSERT INTO kv VALUES ('{key}', 'v', '{date}')")
    execute(path, "INSERT INTO kv VALUES ('bad', 'v', CAST(x'ff' AS TEXT)), ('number', 'v', 20200101)")
    with closing(storage_of(path, unit=Unit.ISO)) as storage:
        live = {"later": token(b"v", MS + 1000), "next": token(b"v", MS + 1)}
        assert listing(storage) == {**live, "bad": b"", "number": b"", "odd": b""}
        assert storage.read(["past", "now", "zone"]) == [None] * 3
        assert all(isinstance(value, Unreadable) for value in storage.read(["odd", "bad", "number"]))


# ------------------------------------------------------------------------------------------- When rows were modified


@pytest.mark.parametrize(
    ("declared", "unit", "there", "written"),
    [
        ("INTEGER", "ms", MS - 5, MS),
        ("INTEGER", "s", NOW - 5, NOW),
        ("REAL", "s", NOW - 5.5, float(NOW)),
        ("DATETIME", "iso", "'2023-11-14 22:13:15'", DATE),
        ("TEXT", "iso", "'2023-11-14T22:13:15.000Z'", DATE),
    ],
)
def test_a_column_tells_when_a_row_was_modified_and_is_kept_true(
    tmp_path: Path, declared: str, unit: str, there: object, written: object
) -> None:
    path = tmp_path / "a.db"
    execute(path, f"CREATE TABLE kv (key TEXT PRIMARY KEY, value TEXT, at {declared} NOT NULL)")
    execute(path, f"INSERT INTO kv VALUES ('a', 'x', {there}), ('odd', 'y', 7), ('update', 'z', {there})")
    table = Table(modified="at", unit=Unit(unit))
    with closing(SqliteStorage(path, table=table, clock=lambda: NOW)) as storage:
        then = MS - 5 if unit == "ms" else MS - 5_500 if declared == "REAL" else MS - 4_001
        now = MS if unit == "ms" else MS + 999
        assert storage.modified_ms(["a", "odd", "none"]) == [then, None, None]
        assert storage.write(["insert", "update"], [b"1", b"2"]).refused == ()
        assert ask(path, "SELECT at FROM kv WHERE key IN ('insert', 'update')") == [written] * 2
        assert storage.modified_ms(["insert", "update", "a"]) == [now, now, then]


def test_a_table_that_is_made_has_both_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(storage_of(path, modified="at", unit=Unit.ISO)) as storage:
        storage.write_expiring(["a"], [b"1"], [MS + 1000])
        assert ask(path, "SELECT * FROM kv") == [("a", b"1", "2023-11-14 22:13:21", DATE)]
        assert storage.modified_ms(["a"]) == [MS + 999]


@pytest.mark.parametrize("later", ["row", "file"])
@pytest.mark.parametrize("swapped", [False, True])
def test_of_two_edits_the_later_one_wins(tmp_path: Path, later: str, *, swapped: bool) -> None:
    path, folder = tmp_path / "a.db", tmp_path / "folder"
    folder.mkdir()
    execute(path, "CREATE TABLE kv (key TEXT PRIMARY KEY, value TEXT, at INTEGER)")
    sides: list[Any] = [f"sqlite:///{path}?modified=at", folder]
    (folder / "a").write_text("first")
    kvsync.sync(*sides, scan=True)
    now = time.time_ns()
    row, file = (now, now - 10**6) if later == "row" else (now - 10**6, now)
    execute(path, f"UPDATE kv SET value = 'row', at = {row // 10**6}")
    (folder / "a").write_text("file")
    os.utime(folder / "a", ns=(file, file))
    time.sleep(0.01)
    result = kvsync.sync(*(sides[::-1] if swapped else sides), scan=True)
    assert len(result.conflicts) == 1
    assert ask(path, "SELECT value FROM kv") == [later]
    assert (folder / "a").read_text() == later


def test_keys_of_integers_have_times_too(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    execute(path, "CREATE TABLE kv (key INTEGER PRIMARY KEY, value TEXT, gone INTEGER, at INTEGER)")
    with closing(storage_of(path, modified="at")) as storage:
        storage.write_expiring(["7", "8"], [b"1"] * 2, [MS + 1000, MS - 1000])
        assert listing(storage) == {"7": token(b"1", MS + 1000)}
        assert storage.modified_ms(["7", "8"]) == [MS, None]


def test_one_column_has_one_use() -> None:
    with pytest.raises(UsageError, match="expires and modified are both 'AT'"):
        Table(expires="at", modified="AT")
    with pytest.raises(UsageError, match="only that is one"):
        SqliteStorage("a.db", table=Table(expires="at"))
    with pytest.raises(UsageError, match="unit is ms or s or iso"):
        open_storage("sqlite:///a.db?expires=at&unit=h")
