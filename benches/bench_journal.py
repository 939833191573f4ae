"""What a journal saves and costs: runs of tracked tables, and the writes of an application to them.

An application changes 100 rows of 200 bytes, by SQL, in one transaction. A run finds and moves them, among ten thousand
rows and among a million: our own time is that of the processor in this process. Beside that, what the same writes of
the application take in a table with the triggers and in one without, in turn; in PostgreSQL by one statement a row, and
by one for all of them.
"""

from __future__ import annotations

import os
import random
import sqlite3
import tempfile
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from servers.running import running

import kvsync
from kvsync.storages import open_storage
from measure import FULL, Line, Report, Timing, in_turn_prepared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FEW = 10_000 if FULL else 2_000
MANY = 1_000_000 if FULL else 20_000
CHANGES = 100
VALUE_BYTES = 200
ROUNDS = 40 if FULL else 5
WRITES = 400 if FULL else 20
RUN_BAR_MS = 20.0
WRITE_BAR = 1.3
GROWTH_BAR = 1.5
TICKS = os.sysconf("SC_CLK_TCK")

KINDS = ["sqlite", "postgres"]


class Sqlite:
    """A table of a SQLite database, and a program that writes to it."""

    def __init__(self, stack: ExitStack, rows: int) -> None:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        self.url = f"sqlite:///{Path(folder) / 'app.db'}"
        self.connection = sqlite3.connect(Path(folder) / "app.db", isolation_level=None)
        stack.enter_context(closing(self.connection))
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB)")
        self.connection.execute("BEGIN")
        self.connection.executemany("INSERT INTO kv VALUES (?, ?)", _rows(rows))
        self.connection.execute("COMMIT")

    def write(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        self.connection.execute("BEGIN")
        self.connection.executemany(statement, rows)
        self.connection.execute("COMMIT")

    def server_seconds(self) -> float:
        return 0.0


class Postgres:
    """A table of a PostgreSQL database, and a program that writes to it."""

    def __init__(self, stack: ExitStack, rows: int) -> None:
        server = running("postgres")
        schema = server.schema()
        self.url = f"{server.url}?schema={schema}"
        self.connection = stack.enter_context(closing(psycopg.connect(server.url, autocommit=True)))
        self.connection.execute(f"SET search_path = {schema}")
        self.connection.execute("CREATE TABLE kv (key text PRIMARY KEY, value bytea)")
        with self.connection.cursor().copy("COPY kv FROM STDIN") as copy:
            for row in _rows(rows):
                copy.write_row(row)
        self.connection.execute("VACUUM ANALYZE kv")

    def write(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        with self.connection.transaction():
            self.connection.cursor().executemany(statement, rows)

    def write_at_once(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        with self.connection.transaction():
            self.connection.execute(statement, [list(column) for column in zip(*rows, strict=True)])

    def server_seconds(self) -> float:
        """How long the server's process for this connection has kept a processor busy."""
        fields = Path(f"/proc/{self.connection.info.backend_pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


Table = Sqlite | Postgres
TABLES: dict[str, type[Table]] = {"sqlite": Sqlite, "postgres": Postgres}


def _rows(count: int) -> Iterator[tuple[str, bytes]]:
    chance = random.Random(1)
    return ((f"user/{number:08}", chance.randbytes(VALUE_BYTES)) for number in range(count))


def _updates(count: int, chance: random.Random) -> list[tuple[bytes, str]]:
    """Return new values for rows among so many."""
    numbers = chance.sample(range(count), CHANGES)
    return [(chance.randbytes(VALUE_BYTES), f"user/{number:08}") for number in numbers]


class Pair:
    """Two tables that are in sync and tracked, and a program that changes 100 rows of the first before each run."""

    def __init__(self, kind: str, rows: int, stack: ExitStack) -> None:
        self._table, other = TABLES[kind](stack, rows), TABLES[kind](stack, 0)
        self._rows, self._chance = rows, random.Random(2)
        self._update = WAYS[kind]["update"]
        self.source, self.target = (
            stack.enter_context(closing(open_storage(table.url)[0])) for table in (self._table, other)
        )
        kvsync.sync(self.source, self.target, scan=True)
        for side in (self.source, self.target):
            kvsync.track(side)
        kvsync.sync(self.source, self.target, scan=True)

    def run(self) -> Callable[[], object]:
        """Change rows, and return the run that moves them."""
        self._table.write(self._update, _updates(self._rows, self._chance))

        def work() -> None:
            result = kvsync.sync(self.source, self.target, scan=True)
            assert result.pushed == CHANGES, result
            assert "scan" not in result.operations["source"]

        return work

    def full(self) -> Callable[[], object]:
        """Change rows, and return the run that looks at everything."""
        self.run()
        return partial(kvsync.sync, self.source, self.target, scan=True, full=True)


@pytest.mark.parametrize("kind", KINDS)
def test_runs(report: Report, kind: str) -> None:
    """Compare runs among few rows and among many."""
    with ExitStack() as stack:
        few, many = Pair(kind, FEW, stack), Pair(kind, MANY, stack)
        found = in_turn_prepared({"few": few.run, "many": many.run}, ROUNDS)
        everything = in_turn_prepared({"full": many.full}, 1)["full"]
    add = partial(Line, "journal", f"{kind}, {CHANGES} changes in {FEW:,} and in {MANY:,}")
    report.add(add("our time among few", 1e3 * _middle(found["few"]), "ms"))
    report.add(add("our time among many", 1e3 * _middle(found["many"]), "ms", RUN_BAR_MS))
    report.add(add("our time, many / few", _middle(found["many"]) / _middle(found["few"]), "x", GROWTH_BAR))
    report.add(add("wall clock among many, median", 1e3 * found["many"].median, "ms"))
    report.add(add("our time, a scan of everything", 1e3 * everything.cpu, "ms"))


def _middle(timing: Timing) -> float:
    """Return the processor's time of the middle round."""
    return sorted(timing.cpu_seconds)[len(timing.cpu_seconds) // 2]


WAYS: dict[str, dict[str, str]] = {
    "sqlite": {
        "insert": "INSERT INTO kv (value, key) VALUES (?, ?)",
        "update": "UPDATE kv SET value = ? WHERE key = ?",
        "upsert": "INSERT INTO kv (value, key) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    },
    "postgres": {
        "insert": "INSERT INTO kv (value, key) VALUES (%s, %s)",
        "update": "UPDATE kv SET value = %s WHERE key = %s",
        "upsert": "INSERT INTO kv (value, key) VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        "insert, one statement": "INSERT INTO kv (value, key) SELECT * FROM unnest(%s::bytea[], %s::text[])",
        "update, one statement": (
            "UPDATE kv SET value = given.value FROM unnest(%s::bytea[], %s::text[]) AS given (value, key) "
            "WHERE kv.key = given.key"
        ),
    },
}


class Writer:
    """A program that writes batches to a table."""

    def __init__(self, table: Table, way: str, statement: str) -> None:
        self._table, self._statement = table, statement
        self._is_new = way.startswith("insert")
        self._work = table.write_at_once if "one statement" in way and isinstance(table, Postgres) else table.write
        self._chance, self._number = random.Random(3), 0
        self.server_seconds = 0.0

    def batch(self) -> Callable[[], object]:
        rows = _updates(FEW, self._chance)
        if self._is_new:
            self._number += 1
            rows = [(value, f"new/{self._number:06}/{number:03}") for number, (value, _) in enumerate(rows)]

        def work() -> None:
            self._work(self._statement, rows)

        return work


@pytest.mark.parametrize(("kind", "way"), [(kind, way) for kind in KINDS for way in WAYS[kind]])
def test_writes_of_an_application(report: Report, kind: str, way: str) -> None:
    """Compare what an application waits for with triggers and without."""
    with ExitStack() as stack:
        bare, tracked = (TABLES[kind](stack, FEW) for _ in range(2))
        kvsync.track(tracked.url)
        writers = {name: Writer(table, way, WAYS[kind][way]) for name, table in (("bare", bare), ("tracked", tracked))}
        before = bare.server_seconds(), tracked.server_seconds()
        found = in_turn_prepared({name: writer.batch for name, writer in writers.items()}, WRITES)
        busy = [table.server_seconds() - start for table, start in zip((bare, tracked), before, strict=True)]
    add = partial(Line, "journal", f"{kind}, batches of {CHANGES} rows of {VALUE_BYTES} bytes")
    report.add(add(f"{way}, a row", 1e6 * found["tracked"].median / CHANGES, "us"))
    report.add(add(f"{way}, tracked / not, median", found["tracked"].median / found["bare"].median, "x", WRITE_BAR))
    spent = [sum(found[name].cpu_seconds) + seconds for name, seconds in zip(("bare", "tracked"), busy, strict=True)]
    report.add(add(f"{way}, the same, processors", spent[1] / spent[0], "x"))
