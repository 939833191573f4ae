"""SQLite against the suite for storages: a database of our own, and a table that was there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import pytest

from kvsync.storages.contract import Capabilities, Support, Tier
from kvsync.storages.sqlite import SqliteStorage, open_url
from kvsync.testing import CountingStorage
from kvsync.testing.conformance import StorageConformance

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kvsync.storages.contract import Storage


EXPECTED = Capabilities(
    Tier.TRANSACTIONAL,
    distance="mapped",
    supports=frozenset({Support.TRANSACTION, Support.IDENTITY, Support.FILES, Support.SKIPPED, Support.DRY_PROBE}),
)
EXPIRING = replace(EXPECTED, supports=EXPECTED.supports | {Support.EXPIRY})


class TestSqlite(StorageConformance):
    expects = EXPECTED
    unique_versions = True

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Storage]:
        return partial(SqliteStorage, tmp_path / "kv.db")


class TestMappedTable(StorageConformance):
    """A table with a rowid, a number of other columns, and a rollback journal."""

    expects = EXPECTED
    unique_versions = True

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Storage]:
        path = tmp_path / "app.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT UNIQUE, body, stars DEFAULT 0)")
        return partial(open_url, f"sqlite:///{path}?table=notes&key=title&value=body&busy_timeout=30")


class TestExpiring(StorageConformance):
    expects = EXPIRING
    unique_versions = True

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Storage]:
        return partial(open_url, f"sqlite:///{tmp_path}/kv.db?expires=expires&busy_timeout=30")


class TestMappedExpiring(StorageConformance):
    """A table that was there, whose rows expire in a day unless told otherwise."""

    expects = EXPIRING
    unique_versions = True

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Storage]:
        path = tmp_path / "app.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(
                "CREATE TABLE sessions (id INTEGER PRIMARY KEY, name TEXT UNIQUE, body, "
                "gone BIGINT DEFAULT ((unixepoch() + 86400) * 1000), stars DEFAULT 0)"
            )
        return partial(open_url, f"sqlite:///{path}?table=sessions&key=name&value=body&expires=gone&busy_timeout=30")


class ExistingTable(StorageConformance):
    """A table of another program, in a database that it made."""

    expects = EXPECTED
    processes = False
    unique_versions = True
    setup: ClassVar[tuple[str, ...]] = ()
    options = ""

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Storage]:
        path = tmp_path / "app.db"
        with closing(sqlite3.connect(path)) as connection:
            for statement in self.setup:
                connection.execute(statement)
        return partial(open_url, f"sqlite:///{path}?busy_timeout=30{self.options}")


class TestOtherCollation(ExistingTable):
    setup = (
        "CREATE TABLE kv (key TEXT COLLATE NOCASE, value)",
        "CREATE UNIQUE INDEX by_bytes ON kv (key COLLATE BINARY)",
    )


class TestHarmlessTriggers(ExistingTable):
    """Triggers that change no value: each write is looked at, and none is refused."""

    setup = (
        "CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB, changed)",
        "CREATE TRIGGER a AFTER UPDATE ON kv BEGIN UPDATE kv SET changed = 1 WHERE key = NEW.key; END",
        "CREATE TRIGGER b BEFORE DELETE ON kv BEGIN SELECT 1; END",
    )


class TestBlobKeys(ExistingTable):
    setup = ("CREATE TABLE kv (key BLOB PRIMARY KEY, value BLOB)",)


class TestUtf16(ExistingTable):
    """A database whose texts are UTF-16, which sorts otherwise than UTF-8."""

    setup = ("PRAGMA encoding = 'UTF-16le'", "CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB)")


class TestSeconds(ExistingTable):
    """Times as `time.time()` counts them, in a column that does not allow NULL."""

    expects = EXPIRING
    setup = ("CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB, gone REAL NOT NULL)",)
    options = "&expires=gone&unit=s"


class TestDates(ExistingTable):
    expects = EXPIRING
    setup = ("CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB, gone DATETIME NOT NULL)",)
    options = "&expires=gone&unit=iso"


class TestWrappedSqlite(StorageConformance):
    expects = EXPECTED
    processes = False
    unique_versions = True

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Storage]:
        return lambda: CountingStorage(SqliteStorage(tmp_path / "kv.db"))
