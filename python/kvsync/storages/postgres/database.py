"""Access to a PostgreSQL database: calls, transactions and snapshots, and their errors."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from kvsync.errors import StorageError, UsageError
from kvsync.storages.postgres.connections import UnreachedError, atomic
from kvsync.storages.postgres.failure import failure, is_passing, unreached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from psycopg import Connection, Error

    from kvsync.storages.postgres.connections import Connections
    from kvsync.storages.postgres.tables import Tables

__all__ = ["Database"]

T = TypeVar("T")

ATTEMPTS = 4
UNDEFINED_TABLE = "42P01"
FAILED_TRANSACTION = "25P02"


class Database:
    """Access to one database; several threads may use it.

    Args:
        psycopg: the module.
        connections: to its server.
        tables: what is known about them.
        storage: the storage's name, for messages.
        scrub: removes secrets from a message.
    """

    def __init__(
        self,
        psycopg: ModuleType,
        connections: Connections,
        tables: Tables,
        *,
        storage: str,
        scrub: Callable[[str], str],
    ) -> None:
        self._psycopg = psycopg
        self._connections = connections
        self._tables = tables
        self._storage = storage
        self._scrub = scrub
        self._failures: WeakKeyDictionary[Connection[Any], StorageError] = WeakKeyDictionary()

    def call(
        self,
        work: Callable[[Connection[Any]], T],
        *,
        writes: bool = False,
        undefined: Callable[[], T] | None = None,
    ) -> T:
        """Do `work` on a connection; if it `writes` in several statements, in a transaction. If it fails, undo it.

        If it is on the index, `undefined` is what to do and return where the index table does not exist.

        Within a transaction, a call that fails is undone with all of it: a savepoint for each would take as long as the
        statements between.

        Raises:
            StorageError: the server failed or refused.
        """
        with self._errors():
            if undefined is None or (self._tables.has_index and self._connections.pinned() is not None):
                return self._call(work, writes=writes)
            try:
                found = self._call(work, writes=writes, may_fail=True)
            except self._psycopg.errors.UndefinedTable:
                return undefined()
            self._tables.note_index()
            return found

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Connection[Any]]:
        """Yield a connection that sees one state of the database, or that of this thread's transaction.

        Raises:
            StorageError: the server failed or refused.
        """
        with self._errors(), self._connections.use() as connection, contextlib.ExitStack() as stack:
            if connection is not self._connections.pinned():
                stack.enter_context(self._connections.begun(connection, "REPEATABLE READ, READ ONLY"))
            yield connection

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything that this thread does inside atomically on leaving, or undo it on an exception.

        Raises:
            UsageError: this thread has one open already.
            StorageError: it cannot be begun or committed; or the connection was lost during the commit, and the
                outcome is unknown.
        """
        with self._errors(), self._connections.pin() as connection:
            self._failures.pop(connection, None)
            try:
                with self._connections.begun(connection):
                    yield
                    self._connections.pinned()  # raises if it has been closed meanwhile
            finally:
                self._tables.forget_uncommitted()

    def _call(self, work: Callable[[Connection[Any]], T], *, writes: bool, may_fail: bool = False) -> T:
        """Do `work`; within a transaction that goes on if `work` fails, it `may_fail`.

        Repeat it if the server has undone it because of others: then the outcome is certain, unlike after a lost
        connection.
        """
        pinned = self._connections.pinned()
        if pinned is not None:
            with atomic(pinned) if may_fail else contextlib.nullcontext():
                return work(pinned)
        for attempt in itertools.count(1):
            try:
                with self._connections.use() as connection, self._begun(connection, writes=writes):
                    return work(connection)
            except self._psycopg.Error as error:
                if attempt == ATTEMPTS or not is_passing(error):
                    raise
        raise AssertionError

    def _begun(self, connection: Connection[Any], *, writes: bool) -> contextlib.AbstractContextManager[None]:
        return self._connections.begun(connection) if writes else contextlib.nullcontext()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (StorageError, UsageError) as error:
            error.storage = error.storage or self._storage
            raise
        except UnreachedError as error:
            raise unreached(storage=self._storage, text=self._scrub(str(error))) from error
        except self._psycopg.Error as error:
            if error.sqlstate == UNDEFINED_TABLE:
                self._tables.forget()
            raise self._failure(error) from error

    def _failure(self, error: Error) -> StorageError:
        """Return the error to raise: within a transaction that has failed, what it failed for."""
        pinned = self._connections.pinned() if not self._connections.closed else None
        if pinned is not None and error.sqlstate == FAILED_TRANSACTION and pinned in self._failures:
            return self._failures[pinned]
        found = failure(error, storage=self._storage, text=self._scrub(str(error)))
        if pinned is not None:
            self._failures[pinned] = found
        return found
