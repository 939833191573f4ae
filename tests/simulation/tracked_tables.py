"""The tables of the histories in `journals`: what applications do with them by SQL."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

from kvsync.storages import open_storage
from kvsync.storages.sqlite import SqliteStorage

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from kvsync.storages import Storage

    Statement = tuple[str, tuple[Any, ...]]

KEYS = [f"k{number}" for number in range(8)]
FILLERS = [f"s{number:02}" for number in range(30)]
"""Keys that nobody touches, so that a few deletes are not most of the table."""

UPSERT = "INSERT INTO kv (key, value) VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
MOVE = "UPDATE kv SET key = %s, value = %s WHERE key = %s AND NOT EXISTS (SELECT 1 FROM kv WHERE key = %s)"


class TrackedTable:
    """A table, and the connection of an application to its database.

    Attributes:
        busy: what is raised where somebody else holds a lock.
        connection: of the application.
        unnoted: writes while a trigger is gone.
        slowly: begins a transaction of a second application, and returns what commits it; None if it could not write.
        emptied: empties the table.
    """

    busy: tuple[type[Exception], ...]
    connection: Any
    unnoted: Callable[[], None]
    slowly: Callable[[], Callable[[], None] | None]
    emptied: Callable[[], None]

    def open(self) -> Storage:
        """Open it as a storage."""
        raise NotImplementedError

    def begin(self) -> None:
        """Begin a transaction of the application."""
        raise NotImplementedError

    def statements(self, value: Callable[[], bytes]) -> Iterator[Statement]:
        """Yield what an application does in one transaction; `value` returns one that is written nowhere else."""
        raise NotImplementedError

    def harm(self) -> None:
        """Change the schema, or what notes changes."""
        raise NotImplementedError

    def rows(self) -> dict[str, bytes]:
        return dict(self.connection.execute("SELECT key, value FROM kv").fetchall())

    def swap(self) -> None:
        """Let the second application take the place of the first, or the other way round."""

    def end(self) -> None:
        """End the transaction of the second application, if one is open."""

    def close(self) -> None:
        self.connection.close()


class SqliteTable(TrackedTable):
    """A table of a SQLite database."""

    busy: tuple[type[Exception], ...] = (sqlite3.OperationalError,)
    tables = (
        "CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB)",
        "CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID",
        "CREATE TABLE kv (id INTEGER PRIMARY KEY, key TEXT UNIQUE, value BLOB)",
    )

    def __init__(self, path: str, rng: random.Random) -> None:
        self._path = path
        self._rng = rng
        self.connection = sqlite3.connect(path, isolation_level=None, timeout=0)
        self.connection.execute("PRAGMA synchronous = OFF")
        if rng.random() < 0.5:
            self.connection.execute("PRAGMA journal_mode = WAL")
        self._create = rng.choice(self.tables)
        self.connection.execute(self._create)
        self.connection.executemany("INSERT INTO kv (key, value) VALUES (?, 's')", [(key,) for key in FILLERS])
        if rng.random() < 0.2:
            self.connection.execute("CREATE TRIGGER other AFTER INSERT ON kv BEGIN SELECT 1; END")
        self._numbered = "id INTEGER" in self._create

    def open(self) -> Storage:
        return SqliteStorage(self._path, busy_timeout=0.0, sleep=lambda _: None)

    def begin(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")

    def statements(self, value: Callable[[], bytes]) -> Iterator[Statement]:
        rng = self._rng
        for _ in range(rng.randint(1, 3)):
            key, other = rng.choice(KEYS), rng.choice(KEYS)
            choices: list[Statement] = [
                ("INSERT OR IGNORE INTO kv (key, value) VALUES (?, ?)", (key, value())),
                ("INSERT OR REPLACE INTO kv (key, value) VALUES (?, ?)", (key, value())),
                (
                    "INSERT INTO kv (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                    (key, value()),
                ),
                ("UPDATE kv SET value = ? WHERE key = ?", (value(), key)),
                ("UPDATE OR REPLACE kv SET key = ?, value = ? WHERE key = ?", (other, value(), key)),
                ("DELETE FROM kv WHERE key = ?", (key,)),
                ("UPDATE kv SET value = value WHERE key = ?", (key,)),
            ]
            if self._numbered:
                number = rng.randint(31, 40)
                choices.append(("INSERT OR REPLACE INTO kv (id, key, value) VALUES (?, ?, ?)", (number, key, value())))
                choices.append(("UPDATE OR REPLACE kv SET id = ? WHERE key = ?", (number, key)))
            yield rng.choice(choices)
            if rng.random() < 0.15:
                yield "SAVEPOINT part", ()
                yield "DELETE FROM kv", ()
                yield "ROLLBACK TO part", ()

    def harm(self) -> None:
        names = [
            row[0] for row in self.connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'kvsync%:%'")
        ]
        what = self._rng.choice(["drop", "flicker", "vacuum", "other", "anew"])
        if what == "vacuum":
            self.connection.execute("VACUUM")
        elif what == "other":
            self.connection.execute(f"CREATE TABLE IF NOT EXISTS other{self._rng.randrange(99)} (a)")
        elif what == "anew":
            with self.connection:
                self.connection.execute("BEGIN IMMEDIATE")
                self.connection.execute(self._create.replace("TABLE kv", "TABLE next"))
                self.connection.execute("INSERT INTO next (key, value) SELECT key, value FROM kv")
                self.connection.execute("DROP TABLE kv")
                self.connection.execute("ALTER TABLE next RENAME TO kv")
        elif names:
            name = self._rng.choice(names)
            create = self.connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
            self.connection.execute(f'DROP TRIGGER "{name}"')
            if what == "flicker":
                self.unnoted()
                self.connection.execute(create)


class PostgresTable(TrackedTable):
    """A table of a PostgreSQL database, in a schema of its own; a second application keeps transactions open."""

    tables = (
        "CREATE TABLE kv (key text PRIMARY KEY, value bytea)",
        "CREATE TABLE kv (id serial, key varchar(20) UNIQUE, value bytea, more int DEFAULT 1)",
        """
        CREATE TABLE kv (key text PRIMARY KEY, value bytea) PARTITION BY HASH (key);
        CREATE TABLE kv0 PARTITION OF kv FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE kv1 PARTITION OF kv FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        """,
    )

    def __init__(self, url: str, schema: str, rng: random.Random) -> None:
        import psycopg

        self._psycopg = psycopg
        self._url, self._schema, self._rng = url, schema, rng
        self.busy: tuple[type[Exception], ...] = (psycopg.errors.LockNotAvailable, psycopg.errors.UniqueViolation)
        self.connection = self._connect()
        self._slow = self._connect()
        self._waiting: Callable[[], None] | None = None
        self._create = rng.choice(self.tables)
        self.connection.execute(self._create)
        self.connection.execute("INSERT INTO kv (key, value) SELECT unnest(%s::text[]), 's'", (FILLERS,))

    def _connect(self) -> Any:
        connection = self._psycopg.connect(self._url, autocommit=True)
        connection.execute(f"SET search_path = {self._schema}; SET lock_timeout = '5ms'")
        return connection

    def open(self) -> Storage:
        return open_storage(f"{self._url}?schema={self._schema}&lock_timeout=0.005")[0]

    def begin(self) -> None:
        self.connection.execute("BEGIN")

    def statements(self, value: Callable[[], bytes]) -> Iterator[Statement]:
        rng = self._rng
        for _ in range(rng.randint(1, 3)):
            key, other = rng.choice(KEYS), rng.choice(KEYS)
            yield rng.choice(
                [
                    ("INSERT INTO kv (key, value) VALUES (%s, %s) ON CONFLICT DO NOTHING", (key, value())),
                    (
                        UPSERT,
                        (key, value()),
                    ),
                    ("UPDATE kv SET value = %s WHERE key = %s", (value(), key)),
                    (
                        MOVE,
                        (other, value(), key, other),
                    ),
                    ("DELETE FROM kv WHERE key = %s", (key,)),
                    ("UPDATE kv SET value = value WHERE key = %s", (key,)),
                ]
            )
            if rng.random() < 0.15:
                yield "SAVEPOINT part", ()
                yield "DELETE FROM kv WHERE key = ANY (%s)", (KEYS,)
                yield "ROLLBACK TO part", ()

    def harm(self) -> None:
        """Change the schema, or what notes changes; or begin or end a transaction of the second application."""
        what = self._rng.choice(["drop", "flicker", "other", "truncate", "begin", "begin", "end"])
        query = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'kv'::regclass AND tgname LIKE 'kvsync%'"
        names = [row[0] for row in self.connection.execute(query)]
        if what == "begin" and self._waiting is None:
            self._waiting = self.slowly()
        elif what in {"begin", "end"}:
            self.end()
        elif what == "other":
            self.connection.execute(f"ALTER TABLE kv ADD COLUMN IF NOT EXISTS more{self._rng.randrange(9)} int")
        elif what == "truncate":
            self.emptied()
        elif names:
            name = self._rng.choice(names)
            if what == "drop":
                self.connection.execute(f"DROP TRIGGER {name} ON kv")
            else:
                self.connection.execute(f"ALTER TABLE kv DISABLE TRIGGER {name}")
                self.unnoted()
                self.connection.execute(f"ALTER TABLE kv ENABLE ALWAYS TRIGGER {name}")

    def end(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting()

    def swap(self) -> None:
        self.connection, self._slow = self._slow, self.connection

    def close(self) -> None:
        self.connection.close()
        self._slow.close()
