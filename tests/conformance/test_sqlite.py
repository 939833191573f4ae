"""SQLite against the suite for storages: a database of our own, and a table that was there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import pytest
from shortened import shortened

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
    supports=frozenset(
        {
            Support.TRANSACTION,
            Support.IDENTITY,
            Support.FILES,
            Support.SKIPPED,
            Support.DRY_PROBE,
            Support.LIMITS,
            Support.HINTS,
            Support.RANGES,
            Support.JOURNAL,
        }
    ),
)
EXPIRING = replace(EXPECTED, supports=EXPECTED.supports | {Support.EXPIRY})


class TestSqlite(StorageConformance):
    expects = EXPECTED
    unique_versions = True

    @pytest.fixture
    def reopen(self, in_memory: Path) -> Callable[[], Storage]:
        return partial(SqliteStorage, in_memory / "kv.db")


class TestMappedTable(StorageConformance):
    """A table with a rowid, a number of other columns, and a rollback journal."""

    expects = EXPECTED
    unique_versions = True

    @pytest.fixture
    def reopen(self, in_memory: Path) -> Callable[[], Storage]:
        path = in_memory / "app.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT UNIQUE, body, stars DEFAULT 0)")
        return partial(open_url, f"sqlite:///{path}?table=notes&key=title&value=body&busy_timeout=30")

    @pytest.fixture
    def run(self, in_memory: Path) -> Callable[..., list[tuple[object, ...]]]:
        """Return a function that executes a statement as an application does."""

        def run(statement: str) -> list[tuple[object, ...]]:
            with closing(sqlite3.connect(in_memory / "app.db", timeout=30)) as connection, connection:
                return connection.execute(statement).fetchall()

        return run

    @pytest.fixture(params=["RAISE(IGNORE)", "RAISE(ABORT, 'no')"])
    def hinder(self, run: Callable[[str], object], request: pytest.FixtureRequest) -> Callable[[str], None]:
        def add_triggers(key: str) -> None:
            for verb, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
                when = f"BEFORE {verb} ON notes WHEN {row}.title = '{key}'"
                run(f"CREATE TRIGGER on_{verb} {when} BEGIN SELECT {request.param}; END")

        return add_triggers

    @pytest.fixture
    def spoil(self, run: Callable[[str], object]) -> Callable[[str], object]:
        return lambda key: run(f"UPDATE notes SET body = NULL WHERE title = '{key}'")

    @pytest.fixture
    def misname(self, run: Callable[[str], object]) -> Callable[[], object]:
        return lambda: run("INSERT INTO notes (title, body) VALUES (x'ff', x'31')")

    @pytest.fixture
    def dress(self, run: Callable[[str], object]) -> Callable[[str], Callable[[], object]]:
        def add_stars(key: str) -> Callable[[], object]:
            run(f"UPDATE notes SET stars = 5 WHERE title = '{key}'")
            return lambda: run(f"SELECT id, stars FROM notes WHERE title = '{key}'")

        return add_stars


class TestExpiring(StorageConformance):
    expects = EXPIRING
    unique_versions = True

    @pytest.fixture
    def reopen(self, in_memory: Path) -> Callable[[], Storage]:
        return partial(open_url, f"sqlite:///{in_memory}/kv.db?expires=expires&busy_timeout=30")


@shortened
class TestMappedExpiring(StorageConformance):
    """A table that was there, whose rows expire in a day unless told otherwise."""

    expects = EXPIRING
    unique_versions = True

    @pytest.fixture
    def reopen(self, in_memory: Path) -> Callable[[], Storage]:
        path = in_memory / "app.db"
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
    def reopen(self, in_memory: Path) -> Callable[[], Storage]:
        path = in_memory / "app.db"
        with closing(sqlite3.connect(path)) as connection:
            for statement in self.setup:
                connection.execute(statement)
        return partial(open_url, f"sqlite:///{path}?busy_timeout=30{self.options}")


@shortened
class TestOtherCollation(ExistingTable):
    setup = (
        "CREATE TABLE kv (key TEXT COLLATE NOCASE, value)",
        "CREATE UNIQUE INDEX by_bytes ON kv (key COLLATE BINARY)",
    )


@shortened
class TestHarmlessTriggers(ExistingTable):
    """Triggers that change no value: each write is looked at, and none is refused."""

    setup = (
        "CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB, changed)",
        "CREATE TRIGGER a AFTER UPDATE ON kv BEGIN UPDATE kv SET changed = 1 WHERE key = NEW.key; END",
        "CREATE TRIGGER b BEFORE DELETE ON kv BEGIN SELECT 1; END",
    )


@shortened
class TestBlobKeys(ExistingTable):
    setup = ("CREATE TABLE kv (key BLOB PRIMARY KEY, value BLOB)",)


@shortened
class TestUtf16(ExistingTable):
    """A database whose texts are UTF-16, which sorts otherwise than UTF-8."""

    setup = ("PRAGMA encoding = 'UTF-16le'", "CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB)")


@shortened
class TestSeconds(ExistingTable):
    """Times as `time.time()` counts them, in a column that does not allow NULL."""

    expects = EXPIRING
    setup = ("CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB, gone REAL NOT NULL)",)
    options = "&expires=gone&unit=s"


@shortened
class TestDates(ExistingTable):
    expects = EXPIRING
    setup = ("CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB, gone DATETIME NOT NULL)",)
    options = "&expires=gone&unit=iso"


@shortened
class TestWrappedSqlite(StorageConformance):
    expects = EXPECTED
    processes = False
    unique_versions = True

    @pytest.fixture
    def reopen(self, in_memory: Path) -> Callable[[], Storage]:
        return lambda: CountingStorage(SqliteStorage(in_memory / "kv.db"))
