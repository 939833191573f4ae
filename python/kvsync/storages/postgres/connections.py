"""Connections to a PostgreSQL server: a few idle ones, one for each open transaction, none from before a fork."""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
from typing import TYPE_CHECKING, Any

from kvsync.errors import StorageError, UsageError
from kvsync.storages.extras import client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from psycopg import Connection

__all__ = ["Connections", "UnreachedError", "atomic", "library"]

IDLE_COUNT = 4
TRANSACTION_IDLE = 0  # psycopg.pq.TransactionStatus.IDLE
IDLE_IN_TRANSACTION_SECONDS = 600

# What others may have set for the role or the database must not weaken a write: "off" would make a commit that a
# crash of the server takes back. A holder that hangs within a transaction is cut off, so that its locks end.
_SETTINGS = """
SELECT set_config('lock_timeout', %s, false),
       set_config('idle_in_transaction_session_timeout', %s, false),
       set_config('default_transaction_isolation', 'read committed', false),
       set_config('synchronous_commit', replace(current_setting('synchronous_commit'), 'off', 'on'), false)
"""

# Connections of a parent process: kept, since closing one here would end the parent's session.
_inherited: list[Connection[Any]] = []


def library() -> ModuleType:
    """Import psycopg.

    Raises:
        UsageError: it is not installed, or without libpq.
    """
    try:
        return client("psycopg", "postgresql")
    except ImportError as error:
        message = "psycopg finds no libpq: pip install 'kvsync[postgresql]'"
        raise UsageError(message) from error


class UnreachedError(Exception):
    """No connection could be made, so nothing was asked of the server."""


class Connections:
    """Gives each thread a connection for a call or a transaction; any number of threads may ask.

    Args:
        connect: returns a new connection; what it returns is ours to close.
        storage: what messages call the storage.
        lock_seconds: how long a statement waits for others' locks.
    """

    def __init__(self, connect: Callable[[], Connection[Any]], *, storage: str, lock_seconds: float) -> None:
        self._connect = connect
        self._storage = storage
        self._lock_seconds = lock_seconds
        self._lock = threading.Lock()
        self._idle: list[Connection[Any]] = []
        self._pinned: dict[int, Connection[Any]] = {}
        self._pid = os.getpid()
        self.closed = False

    @contextlib.contextmanager
    def use(self) -> Iterator[Connection[Any]]:
        """Give the connection of this thread's transaction, else an idle or a new one.

        Raises:
            StorageError: the storage is closed.
        """
        pinned = self.pinned()
        if pinned is not None:
            yield pinned
            return
        connection = self._take()
        try:
            yield connection
        finally:
            self._give_back(connection)

    @contextlib.contextmanager
    def pin(self) -> Iterator[Connection[Any]]:
        """Give a connection that stays this thread's until the end of the block.

        Raises:
            UsageError: this thread has one already.
            StorageError: the storage is closed.
        """
        if self.pinned() is not None:
            message = "a transaction is open already"
            raise UsageError(message, storage=self._storage)
        connection = self._take()
        thread = threading.get_ident()
        try:
            self._pinned[thread] = connection
            yield connection
        finally:
            self._pinned.pop(thread, None)
            self._give_back(connection)

    def pinned(self) -> Connection[Any] | None:
        """Return the connection of this thread's transaction, if it has one."""
        self._check()
        return self._pinned.get(threading.get_ident())

    def close(self) -> None:
        """Close every connection; what a transaction has not committed is undone."""
        self.leave_parent()
        with self._lock:
            self.closed = True
            connections = [*self._idle, *self._pinned.values()]
            self._idle.clear()
        for connection in connections:
            connection.close()

    def leave_parent(self) -> None:
        """After a fork, leave alone what is the parent's."""
        if os.getpid() == self._pid:
            return
        _inherited.extend([*self._idle, *self._pinned.values()])
        self._lock = threading.Lock()  # a thread of the parent may have held it
        self._idle, self._pinned = [], {}
        self._pid = os.getpid()

    def _check(self) -> None:
        self.leave_parent()
        if self.closed:
            message = "the storage is closed: open it again"
            raise StorageError(message, storage=self._storage)

    def _take(self) -> Connection[Any]:
        while True:
            with self._lock:
                self._check()
                if not self._idle:
                    break
                connection = self._idle.pop()
            if _lives(connection):
                return connection
            connection.close()
        try:
            connection = self._connect()
        except Exception as error:
            raise UnreachedError(str(error)) from error
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: Connection[Any]) -> None:
        connection.autocommit = True
        milliseconds = str(max(1, int(self._lock_seconds * 1000)))
        connection.execute(_SETTINGS, (milliseconds, f"{IDLE_IN_TRANSACTION_SECONDS}s"))

    def _give_back(self, connection: Connection[Any]) -> None:
        if os.getpid() != self._pid or connection in _inherited:
            return
        idle = connection.info.transaction_status == TRANSACTION_IDLE
        with self._lock:
            if idle and not self.closed and len(self._idle) < IDLE_COUNT:
                self._idle.append(connection)
                return
        connection.close()


def _lives(connection: Connection[Any]) -> bool:
    """Whether an idle connection is still open, without asking the server.

    The server has nothing to say on it, so if there is something to read, that is most likely its end.
    """
    if connection.closed:
        return False
    with selectors.DefaultSelector() as selector:
        selector.register(connection.fileno(), selectors.EVENT_READ)
        return not selector.select(0)


@contextlib.contextmanager
def atomic(connection: Connection[Any]) -> Iterator[None]:
    """Make what is done inside one: a transaction, or a savepoint within one.

    Raises:
        StorageError: the connection ended inside; psycopg's own block would end without a commit and without a word.
    """
    with connection.transaction() as transaction:
        yield
    if transaction.status.value != "committed":
        message = "the connection ended within a transaction, and nothing of that remains: run again"
        raise StorageError(message)
