"""Bare copies: each client library's best way to write and read many values, and nothing besides.

A `Place` is a storage and, beside it, the bare way into the very same keys, table or database. Of LMDB only one of them
is used, since a process must not open an environment twice.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lmdb
import psycopg
import redis
from servers.redis import RedisServer
from servers.running import running

from kvsync.digesting import BATCH_COUNT
from kvsync.storages import Storage, open_storage

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMAND_COUNT = 1000
READ_COUNT = 500
TABLE = "CREATE TABLE IF NOT EXISTS kv (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
UPSERT = "ON CONFLICT (key) DO UPDATE SET value = excluded.value"


class Bare(ABC):
    """One place, written and read with nothing between the caller and the client library."""

    @abstractmethod
    def write(self, values: dict[str, bytes]) -> None:
        """Write values, whatever is there; they are durable, as far as the server is."""

    @abstractmethod
    def read(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values of keys."""

    @abstractmethod
    def close(self) -> None:
        """Release what was opened."""


@dataclass(frozen=True)
class Place:
    """A storage, and the bare way to its values."""

    storage: Storage
    bare: Bare

    def close(self) -> None:
        """Close both."""
        self.storage.close()
        self.bare.close()


Make = Callable[[], Place]
"""Makes a new, empty place on the same server, or in the same folder, as the others."""


def slices(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Cut keys into parts of a size."""
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


class BareRedis(Bare):
    """MSET and MGET, a thousand keys a command."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self.client = client
        self.prefix = prefix

    def write(self, values: dict[str, bytes]) -> None:
        for keys in slices(list(values), COMMAND_COUNT):
            self.client.mset({self.prefix + key: values[key] for key in keys})

    def read(self, keys: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, Any] = {}
        for some in slices(keys, COMMAND_COUNT):
            found.update(zip(some, self.client.mget([self.prefix + key for key in some]), strict=True))
        return found

    def close(self) -> None:
        self.client.close()


class BarePostgres(Bare):
    """One transaction of COPY into a temporary table and an upsert from there; reads by `= ANY`.

    With `plain`, COPY into the table itself, which takes new keys only.
    """

    def __init__(self, url: str, schema: str, *, plain: bool = False) -> None:
        self.connection = psycopg.connect(url, autocommit=True)
        self.table = f"{schema}.kv"
        self.plain = plain
        self.connection.execute(
            f'CREATE TABLE IF NOT EXISTS {self.table} (key text COLLATE "C" PRIMARY KEY, value bytea NOT NULL)'
        )
        self.connection.execute(
            'CREATE TEMPORARY TABLE fresh (key text COLLATE "C", value bytea) ON COMMIT DELETE ROWS'
        )

    def write(self, values: dict[str, bytes]) -> None:
        with self.connection.transaction():
            into = self.table if self.plain else "fresh"
            with self.connection.cursor().copy(f"COPY {into} (key, value) FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["text", "bytea"])
                for row in values.items():
                    copy.write_row(row)
            if not self.plain:
                self.connection.execute(f"INSERT INTO {self.table} SELECT * FROM fresh {UPSERT}")  # noqa: S608

    def read(self, keys: Sequence[str]) -> dict[str, bytes]:
        query = f"SELECT key, value FROM {self.table} WHERE key = ANY (%s)"  # noqa: S608
        return dict(self.connection.cursor(binary=True).execute(query, (list(keys),)).fetchall())

    def close(self) -> None:
        self.connection.close()


class BareLmdb(Bare):
    """One durable transaction of `putmulti`; reads by `get`, which is faster than `getmulti`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def opened(self) -> tuple[lmdb.Environment, Any]:
        """The environment and its database, opened by the first use."""
        environment = lmdb.open(str(self.path), map_size=1 << 40, max_dbs=64)
        return environment, environment.open_db(b"kv")

    def write(self, values: dict[str, bytes]) -> None:
        rows = [(key.encode(), value) for key, value in values.items()]
        environment, database = self.opened
        with environment.begin(write=True) as transaction:
            transaction.cursor(database).putmulti(rows)

    def read(self, keys: Sequence[str]) -> dict[str, bytes]:
        environment, database = self.opened
        with environment.begin() as transaction:
            get: Any = transaction.get
            return {key: get(key.encode(), None, database) for key in keys}

    def close(self) -> None:
        if "opened" in self.__dict__:
            self.opened[0].close()


class BareSqlite(Bare):
    """A durable transaction a batch, `executemany` of an upsert; reads by `IN`.

    With `one`, all in one transaction.
    """

    def __init__(self, path: Path, *, one: bool = False) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute(TABLE)
        self.one = one

    def write(self, values: dict[str, bytes]) -> None:
        rows = list(values.items())
        size = len(rows) if self.one else BATCH_COUNT
        for start in range(0, len(rows), size):
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.executemany(
                f"INSERT INTO kv (key, value) VALUES (?, ?) {UPSERT}",  # noqa: S608 - made of constants
                rows[start : start + size],
            )
            self.connection.execute("COMMIT")

    def read(self, keys: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for some in slices(keys, READ_COUNT):
            marks = ",".join("?" * len(some))
            query = f"SELECT key, value FROM kv WHERE key IN ({marks})"  # noqa: S608 - marks alone
            found.update(self.connection.execute(query, some))
        return found

    def close(self) -> None:
        self.connection.close()


@contextlib.contextmanager
def places(kind: str, *, other: bool = False) -> Iterator[Make]:
    """Give a maker of new places of a kind; all of them are removed in the end.

    `other` chooses the second bare way, where there is one.
    """
    with contextlib.ExitStack() as stack:
        make = _MAKERS[kind](stack, other)

        def made() -> Place:
            place = make()
            stack.callback(place.close)
            return place

        yield made


def _redis(stack: contextlib.ExitStack, _other: bool) -> Make:
    # One for each case: the memory of a server that held much before is in pieces, and slower.
    server = RedisServer(_folder(stack))
    server.start()
    stack.callback(server.stop)
    numbers = count()

    def make() -> Place:
        prefix = f"{next(numbers)}:"
        storage, _ = open_storage(f"{server.url}?prefix={prefix}")
        return Place(storage, BareRedis(redis.Redis(port=server.port), prefix))

    return make


def _postgres(stack: contextlib.ExitStack, other: bool) -> Make:
    server = running("postgres")

    def make() -> Place:
        schema = server.schema()
        stack.callback(server.run, f"DROP SCHEMA {schema} CASCADE")
        storage, _ = open_storage(f"{server.url}?schema={schema}")
        return Place(storage, BarePostgres(server.url, schema, plain=other))

    return make


def _lmdb(stack: contextlib.ExitStack, _other: bool) -> Make:
    folder, numbers = _folder(stack), count()

    def make() -> Place:
        path = folder / str(next(numbers))
        storage, _ = open_storage(f"lmdb:///{path}")
        return Place(storage, BareLmdb(path))

    return make


def _sqlite(stack: contextlib.ExitStack, other: bool) -> Make:
    folder, numbers = _folder(stack), count()

    def make() -> Place:
        path = folder / f"{next(numbers)}.db"
        bare = BareSqlite(path, one=other)
        storage, _ = open_storage(f"sqlite:///{path}")
        return Place(storage, bare)

    return make


def _folder(stack: contextlib.ExitStack) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="kvsync-bench-"))
    stack.callback(shutil.rmtree, folder)
    return folder


_MAKERS = {"redis": _redis, "postgres": _postgres, "lmdb": _lmdb, "sqlite": _sqlite}
