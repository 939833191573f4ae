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
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import ModuleType

    from psycopg import Connection

__all__ = ["Connections", "UnreachedError", "atomic", "library"]

IDLE_COUNT = 4
TRANSACTION_IDLE, IN_TRANSACTION = 0, 2  # psycopg.pq.TransactionStatus
IDLE_IN_TRANSACTION_SECONDS = 600

# Everything is set for one transaction only: behind a pooler, the next one on this session is somebody else's.
# Settings of the role or the database must not weaken a write: with "off", a server crash would undo a commit. A
# transaction whose process hangs is ended by the server, so that its locks are released.
_SETTINGS = """
SELECT set_config('lock_timeout', '{lock_milliseconds}', true),
       set_config('idle_in_transaction_session_timeout', '{idle_seconds}s', true),
       set_config('synchronous_commit', replace(current_setting('synchronous_commit'), 'off', 'on'), true)
"""

_UNDONE = "the connection ended within a transaction, which was undone: run again"

# Connections of a parent process: kept, since closing one here would end the parent's session.
_inherited: list[Connection[Any]] = []


def library() -> ModuleType:
    """Import psycopg.

    Raises:
        UsageError: it is not installed, or it finds no libpq.
    """
    try:
        return client("psycopg", "postgresql")
    except ImportError as error:
        message = "psycopg finds no libpq: pip install 'kvsync[postgresql]'"
        raise UsageError(message) from error


class UnreachedError(Exception):
    """No connection could be made, so nothing was sent to the server."""


class Connections:
    """Provides a connection to each thread, for a call or a transaction; any number of threads may use it.

    Args:
        connect: returns a new connection, which is closed here.
        storage: the storage's name, for messages.
        lock_seconds: how long a statement waits for locks of others.
    """

    def __init__(self, connect: Callable[[], Connection[Any]], *, storage: str, lock_seconds: float) -> None:
        self._connect = connect
        self._storage = storage
        self._settings = _SETTINGS.format(
            lock_milliseconds=max(1, int(lock_seconds * 1000)),
            idle_seconds=IDLE_IN_TRANSACTION_SECONDS,
        )
        self._lock = threading.Lock()
        self._idle: list[Connection[Any]] = []
        self._pinned: dict[int, Connection[Any]] = {}
        self._pid = os.getpid()
        self.closed = False

    @contextlib.contextmanager
    def use(self) -> Iterator[Connection[Any]]:
        """Yield the connection of this thread's transaction, or an idle or new one.

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
    def begun(self, connection: Connection[Any], isolation: str = "READ COMMITTED") -> Iterator[None]:
        """Run the body in a transaction of a connection that is in none.

        Raises:
            StorageError: the transaction ended inside, and was undone.
        """
        connection.execute(f"BEGIN ISOLATION LEVEL {isolation};{self._settings}")
        try:
            yield
        except BaseException:
            with contextlib.suppress(Exception):  # what went wrong inside is what counts
                connection.execute("ROLLBACK")
            raise
        if connection.info.transaction_status != IN_TRANSACTION:
            raise StorageError(_UNDONE)
        connection.execute("COMMIT")

    def run(self, connection: Connection[Any], statement: str, values: Mapping[str, Any] | Sequence[Any]) -> int:
        """Run one statement that writes, in a transaction of its own unless one is open; return how many rows it wrote.

        Settings and statement are one message, which the server runs as one transaction: one round trip, not four.
        """
        if connection.info.transaction_status == IN_TRANSACTION:
            return connection.execute(statement, values).rowcount
        cursor = library().ClientCursor(connection)
        cursor.execute(f"{self._settings};{statement}", values)
        cursor.nextset()
        return int(cursor.rowcount)

    @contextlib.contextmanager
    def pin(self) -> Iterator[Connection[Any]]:
        """Yield a connection that belongs to this thread until the end of the block.

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
        """Close every connection; an uncommitted transaction is undone."""
        self.leave_parent()
        with self._lock:
            self.closed = True
            connections = [*self._idle, *self._pinned.values()]
            self._idle.clear()
        for connection in connections:
            connection.close()

    def leave_parent(self) -> None:
        """After a fork, leave the parent's connections alone."""
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
        connection.autocommit = True
        # Behind a pooler, a statement that was prepared is on one session, and the next transaction on another.
        connection.prepare_threshold = None
        return connection

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

    The server sends nothing on it, so if there is something to read, it is most likely the end of the connection.
    """
    if connection.closed:
        return False
    with selectors.DefaultSelector() as selector:
        selector.register(connection.fileno(), selectors.EVENT_READ)
        return not selector.select(0)


@contextlib.contextmanager
def atomic(connection: Connection[Any]) -> Iterator[None]:
    """Run the body in a savepoint of a transaction.

    Raises:
        StorageError: the connection ended inside; psycopg's own block would end silently.
    """
    with connection.transaction() as transaction:
        yield
    if transaction.status.value != "committed":
        raise StorageError(_UNDONE)
