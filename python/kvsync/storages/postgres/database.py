"""Access to a PostgreSQL database: calls, transactions and snapshots, and their errors."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any, TypeVar

from kvsync.errors import StorageError, UsageError
from kvsync.storages.postgres.connections import UnreachedError, atomic
from kvsync.storages.postgres.failure import failure, is_passing, unreached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from psycopg import Connection

    from kvsync.storages.postgres.connections import Connections
    from kvsync.storages.postgres.tables import Tables

__all__ = ["Database"]

T = TypeVar("T")

ATTEMPTS = 4
UNDEFINED_TABLE = "42P01"


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

    def call(
        self,
        work: Callable[[Connection[Any]], T],
        *,
        writes: bool = False,
        undefined: Callable[[], T] | None = None,
    ) -> T:
        """Do `work` on a connection; if it `writes` in several statements, in a transaction. If it fails, undo it.

        If one of its tables does not exist and `undefined` is given, return what that returns.

        Raises:
            StorageError: the server failed or refused.
        """
        with self._errors():
            try:
                return self._call(work, writes=writes)
            except self._psycopg.errors.UndefinedTable:
                if undefined is None:
                    raise
                return undefined()

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
            try:
                with self._connections.begun(connection):
                    yield
                    self._connections.pinned()  # raises if it has been closed meanwhile
            finally:
                self._tables.forget_uncommitted()

    def _call(self, work: Callable[[Connection[Any]], T], *, writes: bool) -> T:
        """Do `work`.

        Repeat it if the server has undone it because of others: then the outcome is certain, unlike after a lost
        connection.
        """
        if self._connections.pinned() is not None:
            with self._connections.use() as connection, atomic(connection):
                return work(connection)
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
            raise failure(error, storage=self._storage, text=self._scrub(str(error))) from error
