"""A SQLite database: one connection, opened on first use, its transactions, and its tables."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from kvsync.errors import StorageError, UsageError
from kvsync.storages.contract import ObjectMismatch
from kvsync.storages.sqlite.failure import failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Database", "Relation"]

WAL_ATTEMPTS = 100
WAL_PAUSE_SECONDS = 0.02


class Relation(Protocol):
    """A table that the first write to it creates."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def create(self) -> str:
        """The statement that creates it."""
        ...

    def exists(self, connection: sqlite3.Connection) -> bool:
        """Return whether it exists; if it does, look at what it is like."""
        ...


class Database:
    """Access to one database; several threads may use it, one at a time.

    Args:
        path: its file's absolute path.
        storage: the storage's name, for messages.
        prepare: called with the connection as soon as it is open.
        busy_timeout: seconds to wait for locks of others.
        sleep: waits that many seconds.

    Attributes:
        connection: None before the first call that needs it, and after closing.
    """

    def __init__(
        self,
        path: str,
        storage: str,
        *,
        prepare: Callable[[sqlite3.Connection], None],
        busy_timeout: float,
        sleep: Callable[[float], None],
    ) -> None:
        self.connection: sqlite3.Connection | None = None
        self._path = path
        self._storage = storage
        self._prepare = prepare
        self._busy_timeout = busy_timeout
        self._sleep = sleep
        self._lock = threading.RLock()
        self._journal = ""
        self._checked: dict[str, int] = {}  # tables that exist, by the version of the schema
        self._in_transaction = False
        self._failed = False
        self._closed = False

    @contextlib.contextmanager
    def reading(self, table: Relation) -> Iterator[sqlite3.Connection | None]:
        """Yield the connection, or None if file or table do not exist.

        Raises:
            StorageError: the database cannot be read.
        """
        with self._errors(), self._lock:
            yield self._connection_to(table)

    def has(self, table: Relation) -> bool:
        """Return whether a table exists.

        Raises:
            StorageError: the database cannot be read.
        """
        with self.reading(table) as connection:
            return connection is not None

    def data_version(self) -> int | None:
        """Return a number that changes when another connection commits; None if the file does not exist.

        Raises:
            StorageError: the database cannot be read.
        """
        with self._errors(), self._lock:
            self._check_open()
            if self.connection is None and not os.path.exists(self._path):
                return None
            return int(self._open(create=False).execute("PRAGMA data_version").fetchone()[0])

    @contextlib.contextmanager
    def writing(self, made: Relation | None = None, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Yield the connection, within a transaction; create a table first, if it is given and does not exist.

        Raises:
            StorageError: the database cannot be written.
        """
        with self._errors(), self._lock:
            connection = self._open(create=True)
            if self._in_transaction:
                with self._part(connection):
                    self._make(connection, made)
                    yield connection
                return
            if made is not None:
                self._connection_to(made)  # what is looked at within the transaction has to be looked at again
            relaxed = not durable and self._journal == "wal"
            if relaxed:
                connection.execute("PRAGMA synchronous = NORMAL")
            try:
                # All within one `try`: an interrupt between two of these lines must not leave a transaction open.
                connection.execute("BEGIN IMMEDIATE")
                self._make(connection, made)
                yield connection
                self._commit(connection)
            except BaseException:
                if connection.in_transaction:  # some failures, such as a full disk, end it
                    connection.execute("ROLLBACK")
                raise
            finally:
                if relaxed:
                    connection.execute("PRAGMA synchronous = FULL")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything done inside atomically on leaving, or undo it on an exception.

        Raises:
            UsageError: one is open already.
            StorageError: it cannot be begun or committed; nothing of it is kept.
        """
        if self._in_transaction:
            message = "a transaction is open already"
            raise UsageError(message, storage=self._storage)
        with self._errors(), self._lock:
            connection = self._open(create=True)
        try:
            # All within one `try`: an interrupt between two of these lines must not leave a transaction open.
            with self._errors(), self._lock:
                self._in_transaction, self._failed = True, False
                connection.execute("BEGIN IMMEDIATE")
            yield
            self._end(connection, "COMMIT")
        except BaseException:
            self._end(connection, "ROLLBACK")
            raise

    def close(self) -> None:
        """Close the database; an uncommitted transaction is undone."""
        with self._lock, self._errors():
            connection, self.connection, self._closed = self.connection, None, True
            if connection is not None:
                connection.close()

    def _connection_to(self, table: Relation) -> sqlite3.Connection | None:
        self._check_open()
        if self.connection is None and not os.path.exists(self._path):
            return None
        connection = self._open(create=False)
        version = connection.execute("PRAGMA schema_version").fetchone()[0]
        if self._checked.get(table.name) != version:
            if not table.exists(connection):
                return None
            if not connection.in_transaction:  # a rollback would undo what has changed the version
                self._checked[table.name] = version
        return connection

    def _make(self, connection: sqlite3.Connection, table: Relation | None) -> None:
        if table is not None and self._connection_to(table) is None:
            connection.execute(table.create)
            table.exists(connection)

    @contextlib.contextmanager
    def _part(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Commit nothing of the transaction once a call within it has failed.

        A savepoint, to undo that call alone, would copy every page that the call changes.
        """
        if self._failed or not connection.in_transaction:
            message = "a call within the transaction failed, which undoes all of it: run again"
            raise StorageError(message, storage=self._storage)
        try:
            yield
        except ObjectMismatch:  # an answer: nothing was written
            raise
        except BaseException:
            self._failed = True
            raise

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
                with self._part(connection):
                    self._commit(connection)
            elif connection.in_transaction:
                connection.execute("ROLLBACK")

    def _open(self, *, create: bool) -> sqlite3.Connection:
        self._check_open()
        if self.connection is None:
            uri = f"file:{quote(self._path)}?mode={'rwc' if create else 'rw'}"
            connection = sqlite3.connect(
                uri, uri=True, timeout=self._busy_timeout, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(connection)
                self._journal = self._set_up(connection, fresh=create)
            except BaseException:
                connection.close()
                raise
            self.connection = connection
        return self.connection

    def _set_up(self, connection: sqlite3.Connection, *, fresh: bool) -> str:
        connection.execute("PRAGMA synchronous = FULL")
        mode = str(connection.execute("PRAGMA journal_mode").fetchone()[0]).lower()
        if fresh and connection.execute("PRAGMA page_count").fetchone()[0] == 0:
            return self._set_wal(connection)
        return mode

    def _set_wal(self, connection: sqlite3.Connection) -> str:
        # SQLite does not wait for locks of others here, even with a busy timeout.
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
            raise StorageError(message, storage=self._storage)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (StorageError, UsageError) as error:
            error.storage = error.storage or self._storage
            raise
        except sqlite3.Error as error:
            raise failure(error, storage=self._storage, path=self._path) from error
