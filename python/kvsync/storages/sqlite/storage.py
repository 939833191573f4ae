"""A table of a SQLite database as a storage.

`sqlite:///app.db` is a path relative to the working directory, `sqlite:////var/app.db` an absolute one.
Values lie in the table `kv(key, value)`, or in the one that `?table=&key=&value=` name, with `expires=` a column that
says when they expire (`kvsync.storages.sqlite.expiring`); the index lies in `kvsync_index`.

File and tables are made by the first write. A file that is made here gets write-ahead
logging; another keeps its journal mode. Every commit is durable, but for the lease's, which a crash may take
back.

Only values of the storage class BLOB are values; a row with another is unreadable, and says so.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from kvsync.errors import StorageError, UsageError
from kvsync.native import digest_values
from kvsync.storages.base import ObjectMismatch
from kvsync.storages.rehearsal import undone
from kvsync.storages.sqlite.table import INDEX_TABLE, Table
from kvsync.types import ABSENT, ANY, Capabilities, Refusal, Stored, Unreadable, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kvsync.types import Expectation, Version

__all__ = ["SqliteStorage"]

READ_COUNT = 500
FETCH_COUNT = 50
VERSION_BYTES = 8
SCAN_COUNT = 5_000
SCAN_BYTES = 32 << 20
WAL_ATTEMPTS = 100
WAL_PAUSE_SECONDS = 0.02

_CREATE_INDEX = (
    f"CREATE TABLE IF NOT EXISTS {INDEX_TABLE} "
    "(tbl TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL, version INTEGER NOT NULL, "
    "PRIMARY KEY (tbl, name))"
)
_ADVICE = {
    "SQLITE_BUSY": "another program holds the database: wait for it, or raise busy_timeout",
    "SQLITE_CANTOPEN": "the file cannot be opened: check the path and its permissions",
    "SQLITE_CORRUPT": "the database is damaged: restore it from a backup",
    "SQLITE_FULL": "the disk is full: make room and run again",
    "SQLITE_IOERR": "the disk failed: check it and run again",
    "SQLITE_LOCKED": "another connection holds the table: wait for it, or raise busy_timeout",
    "SQLITE_NOTADB": "the file is not a SQLite database: name another",
    "SQLITE_READONLY": "the database is read-only: change its permissions, and its folder's",
}

BUSY_SECONDS = 5.0
"""How long a call waits for another writer, unless told otherwise."""


class SqliteStorage:
    """A table of a SQLite database as a storage; several threads may use it.

    Args:
        path: the database's file.
        table: the table's name and those of its columns.
        name: what messages call it; by default its URL.
        busy_timeout: seconds to wait for others' locks.
        sleep: waits that many seconds.
        random_bytes: gives that many random bytes; versions of index objects are made of them.
    """

    capabilities = Capabilities(tier="T1", transactional=True, blocking=True, versions=False)

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        table: Table | None = None,
        name: str | None = None,
        busy_timeout: float = BUSY_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.path = os.fspath(path)
        self.table = table or Table()
        self.name = name or f"sqlite:///{self.path}"
        self.identity = f"sqlite:{os.path.realpath(self.path)}?{self.table.name}"
        self._busy_timeout = busy_timeout
        self._sleep = sleep
        self._random_bytes = random_bytes
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._in_transaction = False
        self._tables: set[str] = set()
        self._closed = False

    def __repr__(self) -> str:
        """Return the class and the storage's name."""
        return f"SqliteStorage({self.name!r})"

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Return the values of `keys`, in their order; None where there is none.

        Raises:
            StorageError: the database cannot be read.
        """
        with self._reading(self.table.name) as connection:
            if connection is None:
                return [None] * len(keys)
            found = self._select(connection, keys)
        if set(map(type, found.values())) <= {bytes}:
            return [found.get(key) for key in keys]
        return [_readable(found[key]) if key in found else None for key in keys]

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Write `values[i]` at `keys[i]`, with `expect` only where the value there has that BLAKE3.

        Raises:
            StorageError: the database cannot be written.
        """
        if not keys:
            return Written()
        with self._writing() as connection:
            self._make(connection, self.table.name, self.table.create)
            rows = list(zip(keys, values, strict=True))
            refused = self._unexpected(connection, keys, expect)
            if refused:
                rows = [row for row in rows if row[0] not in refused]
            refused.update(self._upsert(connection, rows))
        return Written(tuple(refused.values()))

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Delete `keys`, with `expect` only where the value there has that BLAKE3.

        Raises:
            StorageError: the database cannot be written.
        """
        if not self._present(self.table.name):
            return Written()
        with self._writing() as connection:
            refused = self._unexpected(connection, keys, expect, absent_is_fine=True)
            rows = [(key,) for key in keys if key not in refused and _is_text(key)]
            connection.executemany(self.table.delete, rows)
        return Written(tuple(refused.values()))

    def scan(self) -> Iterator[tuple[list[str], list[bytes]]]:
        """Yield every key with the BLAKE3 of its value, ascending by UTF-8 bytes.

        Raises:
            StorageError: the database cannot be read, or a key in it is no text, or a value no BLOB.
        """
        last: str | None = None
        while True:
            with self._reading(self.table.name) as connection:
                rows = [] if connection is None else self._page(connection, last)
            if not rows:
                return
            keys, values = [row[0] for row in rows], [row[1] for row in rows]
            self._check_rows(keys, values)
            yield keys, self._tokens_of_rows(rows)
            last = keys[-1]

    def load(self, name: str) -> Stored | None:
        """Return an index object, or None.

        Raises:
            StorageError: it cannot be read.
        """
        with self._reading(INDEX_TABLE) as connection:
            if connection is None:
                return None
            row = connection.execute(
                f"SELECT data, version FROM {INDEX_TABLE} WHERE tbl = ? AND name = ?",  # noqa: S608
                (self.table.name, name),
            ).fetchone()
        if row is None:
            return None
        if not isinstance(row[0], bytes) or not isinstance(row[1], int):
            message = f"object {name!r:.200} in table {INDEX_TABLE} was changed by another program: delete its row"
            raise StorageError(message, storage=self.name)
        return Stored(row[0], row[1].to_bytes(VERSION_BYTES, "little", signed=True))

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Write an index object and return its new version.

        Raises:
            ObjectMismatch: it is not as expected; nothing was written.
            StorageError: the database cannot be written.
        """
        version = self._random_bytes(VERSION_BYTES)
        row = (data, int.from_bytes(version, "little", signed=True), self.table.name, name)
        with self._writing(durable=name != "lease") as connection:
            self._make(connection, INDEX_TABLE, _CREATE_INDEX)
            if _change(connection, row, expect) != 1:
                raise ObjectMismatch(name)
        return version

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Remove index objects; absent ones are passed over, where `expect` allows it.

        Raises:
            ObjectMismatch: one is not as expected; nothing was removed.
            StorageError: the database cannot be written.
        """
        if not names:
            return
        if not self._present(INDEX_TABLE):
            if isinstance(expect, bytes):
                raise ObjectMismatch(names[0])
            return
        with self._writing(durable=list(names) != ["lease"]) as connection:
            if expect is not ANY:
                for name in names:
                    self._check(connection, name, expect)
            connection.executemany(
                f"DELETE FROM {INDEX_TABLE} WHERE tbl = ? AND name = ?",  # noqa: S608
                [(self.table.name, name) for name in names],
            )

    def objects(self) -> list[str]:
        """Return the names of all index objects, ascending.

        Raises:
            StorageError: the database cannot be read.
        """
        with self._reading(INDEX_TABLE) as connection:
            if connection is None:
                return []
            query = f"SELECT name FROM {INDEX_TABLE} WHERE tbl = ? ORDER BY name"  # noqa: S608
            return [row[0] for row in connection.execute(query, (self.table.name,))]

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        """Return None for each key: a table does not say."""
        return [None] * len(keys)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all that is done inside as one on leaving, or undo it on an exception.

        Raises:
            UsageError: one is open already.
            StorageError: it cannot be begun or committed; nothing of it remains.
        """
        if self._in_transaction:
            message = "a transaction is open already"
            raise UsageError(message, storage=self.name)
        with self._errors(), self._lock:
            connection = self._open(create=True)
        try:
            # All within one `try`: an interrupt between two of these lines must not leave a transaction open.
            with self._errors(), self._lock:
                self._in_transaction = True
                connection.execute("BEGIN IMMEDIATE")
            yield
            self._end(connection, "COMMIT")
        except BaseException:
            self._end(connection, "ROLLBACK")
            raise

    @contextlib.contextmanager
    def rehearsal(self) -> Iterator[str]:
        """See `kvsync.storages.rehearsal`.

        Raises:
            StorageError: the database cannot be written.
        """
        if not os.path.exists(self.path):
            yield f"the database {self.path!r:.300}"
        else:
            with undone(self):
                yield ""

    def close(self) -> None:
        """Close the database; what a transaction has not committed is undone."""
        with self._lock, self._errors():
            connection, self._connection, self._closed = self._connection, None, True
            if connection is not None:
                connection.close()

    def _select(self, connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        wanted = self._storable(keys)
        for start in range(0, len(wanted), READ_COUNT):
            chunk = wanted[start : start + READ_COUNT]
            found.update(connection.execute(self.table.select(len(chunk)), chunk))
        return found

    def _storable(self, keys: Sequence[str]) -> Sequence[str]:
        return keys if _are_texts(keys) else [key for key in keys if _is_text(key)]

    def _unexpected(
        self,
        connection: sqlite3.Connection,
        keys: Sequence[str],
        expect: Sequence[bytes | None] | None,
        *,
        absent_is_fine: bool = False,
    ) -> dict[str, Refusal]:
        if expect is None:
            return {}
        found = self._select(connection, keys)
        readable = [key for key in keys if isinstance(found.get(key), bytes)]
        tokens = self._tokens_of(connection, readable, [found[key] for key in readable])
        return {
            key: Refusal(key, "the value there is not the expected one", changed=True)
            for key, wanted in zip(keys, expect, strict=True)
            # A row that is no BLOB is in `found` without a token: never what was expected.
            if (tokens.get(key) != wanted or (wanted is None and key in found))
            and not (absent_is_fine and key not in found)
        }

    # `kvsync.storages.sqlite.expiring` adds to these two what its column says.

    def _tokens_of(
        self,
        connection: sqlite3.Connection,  # noqa: ARG002
        keys: Sequence[str],
        values: Sequence[bytes],
    ) -> dict[str, bytes]:
        return dict(zip(keys, digest_values(values), strict=True))

    def _tokens_of_rows(self, rows: Sequence[tuple[Any, ...]]) -> list[bytes]:
        return digest_values([row[1] for row in rows])

    def _upsert(self, connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> dict[str, Refusal]:
        connection.execute("SAVEPOINT batch")
        try:
            connection.executemany(self.table.upsert, rows)
        except (sqlite3.DataError, sqlite3.IntegrityError, OverflowError, UnicodeEncodeError):
            connection.execute("ROLLBACK TO batch")
        else:
            connection.execute("RELEASE batch")
            return {}
        refused = {}
        for row in rows:  # some row cannot be stored: find out which
            try:
                connection.execute(self.table.upsert, row)
            except (sqlite3.DataError, sqlite3.IntegrityError, OverflowError, UnicodeEncodeError) as error:
                refused[row[0]] = Refusal(row[0], f"the database refused it: {error!s:.300}", changed=False)
        connection.execute("RELEASE batch")
        return refused

    def _page(self, connection: sqlite3.Connection, last: str | None) -> list[tuple[Any, ...]]:
        cursor = connection.execute(self.table.page(first=last is None), () if last is None else (last,))
        rows: list[tuple[Any, ...]] = []
        size = 0
        with contextlib.closing(cursor):
            while len(rows) < SCAN_COUNT and size < SCAN_BYTES:
                more = cursor.fetchmany(FETCH_COUNT)
                rows += more
                size += sum(len(row[1]) for row in more if isinstance(row[1], bytes))
                if len(more) < FETCH_COUNT:
                    break
        return rows

    def _check_rows(self, keys: Sequence[object], values: Sequence[object]) -> None:
        if set(map(type, keys)) == {str} and set(map(type, values)) == {bytes}:
            return
        for key, value in zip(keys, values, strict=True):
            if not isinstance(key, str):
                message = f"table {self.table.name!r} has a key that is {_class(key)}, no text: {key!r:.200}"
                raise StorageError(message, storage=self.name)
            if not isinstance(value, bytes):
                message = f"the row of key {key!r:.200} holds {_class(value)}, not a BLOB: rewrite or delete it"
                raise StorageError(message, storage=self.name, key=key)

    def _check(self, connection: sqlite3.Connection, name: str, expect: Expectation) -> None:
        query = f"SELECT version FROM {INDEX_TABLE} WHERE tbl = ? AND name = ?"  # noqa: S608
        row = connection.execute(query, (self.table.name, name)).fetchone()
        if (row is None) != (expect is ABSENT):
            raise ObjectMismatch(name)
        if row is not None and isinstance(expect, bytes) and row[0] != _number(expect):
            raise ObjectMismatch(name)

    # Connection and transactions

    @contextlib.contextmanager
    def _reading(self, table: str) -> Iterator[sqlite3.Connection | None]:
        """Give the connection, or None where file or table is missing."""
        with self._errors(), self._lock:
            yield self._connection_to(table)

    def _present(self, table: str) -> bool:
        with self._reading(table) as connection:
            return connection is not None

    def _connection_to(self, table: str) -> sqlite3.Connection | None:
        self._check_open()
        if self._connection is None and not os.path.exists(self.path):
            return None
        connection = self._open(create=False)
        if table not in self._tables:
            if table == INDEX_TABLE:
                query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
                found = connection.execute(query, (INDEX_TABLE,)).fetchone() is not None
            else:
                found = self.table.exists(connection)
            if not found:
                return None
            if not self._in_transaction:  # a rollback would take the table away again
                self._tables.add(table)
        return connection

    @contextlib.contextmanager
    def _writing(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        with self._errors(), self._lock:
            connection = self._open(create=True)
            if self._in_transaction:
                with self._savepoint(connection):
                    yield connection
                return
            relaxed = not durable and self._journal == "wal"
            if relaxed:
                connection.execute("PRAGMA synchronous = NORMAL")
            try:
                # All within one `try`: an interrupt between two of these lines must not leave a transaction open.
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                self._commit(connection)
            except BaseException:
                if connection.in_transaction:  # a full disk, for one, ends it by itself
                    connection.execute("ROLLBACK")
                raise
            finally:
                if relaxed:
                    connection.execute("PRAGMA synchronous = FULL")

    @contextlib.contextmanager
    def _savepoint(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Undo what one call did within a transaction, if it fails."""
        if not connection.in_transaction:
            message = "the database has undone the transaction: run again"
            raise StorageError(message, storage=self.name)
        connection.execute("SAVEPOINT call")
        try:
            yield
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK TO call")
                connection.execute("RELEASE call")
            raise
        connection.execute("RELEASE call")

    def _commit(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _end(self, connection: sqlite3.Connection, how: str) -> None:
        with self._errors(), self._lock:
            self._in_transaction = False
            if self._closed and how == "ROLLBACK":
                return  # closing has undone it
            if how == "COMMIT":
                self._check_open()
                self._commit(connection)
            elif connection.in_transaction:
                connection.execute("ROLLBACK")

    def _make(self, connection: sqlite3.Connection, table: str, statement: str) -> None:
        if self._connection_to(table) is None:
            connection.execute(statement)

    def _open(self, *, create: bool) -> sqlite3.Connection:
        self._check_open()
        if self._connection is None:
            uri = f"file:{quote(os.path.abspath(self.path))}?mode={'rwc' if create else 'rw'}"
            connection = sqlite3.connect(
                uri, uri=True, timeout=self._busy_timeout, isolation_level=None, check_same_thread=False
            )
            try:
                self._journal = self._prepare(connection, fresh=create)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _prepare(self, connection: sqlite3.Connection, *, fresh: bool) -> str:
        connection.execute("PRAGMA synchronous = FULL")
        mode = str(connection.execute("PRAGMA journal_mode").fetchone()[0]).lower()
        if fresh and connection.execute("PRAGMA page_count").fetchone()[0] == 0:
            return self._set_wal(connection)
        return mode

    def _set_wal(self, connection: sqlite3.Connection) -> str:
        # SQLite does not wait for others here, even with a busy timeout.
        for attempt in range(WAL_ATTEMPTS):
            try:
                return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]).lower()
            except sqlite3.OperationalError as error:
                if not error.sqlite_errorname.startswith("SQLITE_BUSY") or attempt == WAL_ATTEMPTS - 1:
                    raise
                self._sleep(WAL_PAUSE_SECONDS)
        raise AssertionError

    def _check_open(self) -> None:
        if self._closed:
            message = "the storage is closed: open it again"
            raise StorageError(message, storage=self.name)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except UsageError as error:
            error.storage = error.storage or self.name
            raise
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorname", "")
            known = (text for name, text in _ADVICE.items() if code.startswith(name))
            advice = next(known, "mend it and run again")
            message = f"{error}: {advice}"
            raise StorageError(message, storage=self.name) from error


def _change(connection: sqlite3.Connection, row: tuple[bytes, int, str, str], expect: Expectation) -> int:
    """Write an object's row if it is as expected; return how many rows that were, 0 or 1."""
    if isinstance(expect, bytes):
        update = (
            f"UPDATE {INDEX_TABLE} SET data = ?, version = ? "  # noqa: S608 - a constant
            "WHERE tbl = ? AND name = ? AND version = ?"
        )
        return connection.execute(update, (*row, _number(expect))).rowcount
    overwrite = "DO UPDATE SET data = excluded.data, version = excluded.version"
    conflict = "DO NOTHING" if expect is ABSENT else overwrite
    insert = (
        f"INSERT INTO {INDEX_TABLE} (data, version, tbl, name) VALUES (?, ?, ?, ?) "  # noqa: S608
        f"ON CONFLICT (tbl, name) {conflict}"
    )
    return connection.execute(insert, row).rowcount


def _number(version: bytes) -> int | None:
    return int.from_bytes(version, "little", signed=True) if len(version) == VERSION_BYTES else None


def _readable(value: object) -> bytes | Unreadable:
    return value if isinstance(value, bytes) else Unreadable(f"its row holds {_class(value)}, not a BLOB")


def _class(value: object) -> str:
    classes = {str: "TEXT", int: "INTEGER", float: "REAL", bytes: "a BLOB", type(None): "NULL"}
    return classes.get(type(value), type(value).__name__)


def _are_texts(keys: Sequence[str]) -> bool:
    try:
        "".join(keys).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_text(key: str) -> bool:
    return _are_texts([key])
