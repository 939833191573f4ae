"""The way to a database of an LMDB environment: its snapshots and write transactions, and what their errors mean."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from kvsync.errors import StorageError, UsageError
from kvsync.storages.lmdb.environment import acquire, adopt
from kvsync.storages.lmdb.failure import Failures
from kvsync.storages.lmdb.values import Values

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    import lmdb

    from kvsync.storages.lmdb.environment import SharedEnvironment
    from kvsync.storages.lmdb.names import Names

__all__ = ["Database"]


class _Own(NamedTuple):
    """The transaction of a thread, which no other thread and no forked child may use."""

    process: int
    thread: int
    values: Values


class Database:
    """The way to one database and those beside it; several threads may use it.

    Args:
        library: the module `lmdb`.
        path: the environment's absolute path.
        names: of the databases.
        storage: the storage's name, for messages.
        map_size: how many bytes the environment may hold, where it is opened here.
        given: the environment, if it is open already; it stays its owner's.
        assumed: nobody has named the database, so values that lie in the unnamed one are refused, not passed over.
    """

    def __init__(
        self,
        library: ModuleType,
        path: str,
        names: Names,
        *,
        storage: str,
        map_size: int,
        given: lmdb.Environment | None,
        assumed: bool,
    ) -> None:
        self.errors = Failures(library, storage)
        self._lmdb = library
        self._path = path
        self._names = names
        self._all = names.all
        self._storage = storage
        self._map_size = map_size
        self._given = given
        self._assumed = assumed
        self._shared: SharedEnvironment | None = None
        self._own: _Own | None = None
        self._barred: frozenset[bytes] | None = None
        self._closed = False

    @property
    def size_error(self) -> type[Exception]:
        """What LMDB raises for a key or value of a size that it does not take."""
        error: type[Exception] = self._lmdb.BadValsizeError
        return error

    @contextlib.contextmanager
    def reading(self) -> Iterator[Values | None]:
        """Give the values as they are, or as this thread's transaction has made them; None where nothing is there.

        Raises:
            StorageError: the environment cannot be read.
        """
        with self.errors:
            own = self._own_values()
            shared = self._found(create=False)
            if shared is None:
                yield None
            elif own is not None:
                yield own
            else:
                with shared.reading(self._all) as (transaction, handles):
                    yield Values(transaction, *handles)

    @contextlib.contextmanager
    def viewing(self) -> Iterator[Values | None]:
        """Give what `reading` gives, with views of the map instead of bytes.

        Raises:
            StorageError: the environment cannot be read.
        """
        with self.errors:
            own = self._own_values()
            shared = self._found(create=False)
            if shared is None:
                yield None
            elif own is not None:
                # What it has written so far is seen only from within: by a child, which is undone.
                child = shared.environment.begin(parent=own.transaction, write=True, buffers=True)
                try:
                    yield replace(own, transaction=child)
                finally:
                    child.abort()
            else:
                with shared.reading(self._all, buffers=True) as (transaction, handles):
                    yield Values(transaction, *handles)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Values]:
        """Give the values in this thread's transaction, or in one that is committed on leaving.

        Raises:
            StorageError: the environment cannot be written.
        """
        with self.errors:
            shared = self._made()
            own = self._own_values()
            if own is not None:
                yield own
                return
            with shared.writing(self._all) as (transaction, handles):
                yield Values(transaction, *handles)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all that this thread does inside as one on leaving, or undo it on an exception.

        Raises:
            UsageError: one is open already.
            StorageError: it cannot be begun or committed; nothing of it remains.
        """
        if self._own is not None and self._own.process == os.getpid():
            message = "a transaction is open already"
            raise UsageError(message, storage=self._storage)
        try:
            with self.errors, self._made().writing(self._all) as (transaction, handles):
                self._own = _Own(os.getpid(), threading.get_ident(), Values(transaction, *handles))
                try:
                    yield
                    self._check_open()
                finally:
                    self._own = None
        finally:
            if self._closed:
                self._release()

    def in_transaction(self) -> bool:
        """Whether this thread has a transaction open."""
        return self._own_values() is not None

    def sidecar_path(self, name: str, *, create: bool) -> tuple[str, str] | None:
        """Return the paths of a file beside the data, and of the data.

        None where there is no environment, and none is to be made.

        Raises:
            StorageError: the environment cannot be opened.
        """
        with self.errors:
            shared = self._found(create=create)
            return (shared.sidecar_path(name), shared.data) if shared is not None else None

    def barred(self, *, again: bool = False) -> frozenset[bytes]:
        """Return the keys of the unnamed database that are names of others; what is known is looked up `again`.

        Raises:
            StorageError: the environment cannot be read.
        """
        if self._names.database:
            return frozenset()
        if self._barred is None or again:
            with self.errors:
                shared = self._found(create=False)
                self._barred = self._names.barred(shared.databases() if shared is not None else [])
        return self._barred

    def close(self) -> None:
        """Close the environment, if nobody else uses it; what a transaction has not committed is undone at its end."""
        self._closed = True
        if self._own is None:
            self._release()

    def _own_values(self) -> Values | None:
        """Return the values in the transaction of this thread, if it has one."""
        own = self._own
        if own is None or own[:2] != (os.getpid(), threading.get_ident()):
            return None
        return own.values

    def _made(self) -> SharedEnvironment:
        shared = self._found(create=True)
        if shared is None:
            raise AssertionError
        return shared

    def _found(self, *, create: bool) -> SharedEnvironment | None:
        self._check_open()
        shared = self._shared
        if shared is not None and shared.pid == os.getpid():
            return shared
        if self._given is not None:
            if shared is not None:
                message = "an environment that was handed over does not survive a fork: open it anew in the child"
                raise StorageError(message)
            shared = adopt(self._lmdb, self._given, self._path)
        else:
            shared = acquire(self._lmdb, self._path, map_size=self._map_size, create=create)
        if shared is not None and self._assumed:
            self._check_assumed(shared)
        self._shared = shared
        return shared

    def _check_assumed(self, shared: SharedEnvironment) -> None:
        """Refuse an environment whose values lie elsewhere than where we would look, rather than find it empty."""
        with shared.reading(self._all[:1]) as (transaction, handles):
            # Of this snapshot: what the environment says may be ahead of what anybody can read.
            count = transaction.stat()["entries"] if handles == [None] else 0
        if count and count > len(shared.databases()):
            shared.release()
            message = "its values lie in its unnamed database: name that with ?db=, or another with ?db=name"
            raise UsageError(message)

    def _release(self) -> None:
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.release()

    def _check_open(self) -> None:
        if self._closed:
            message = "the storage is closed: open it again"
            raise StorageError(message)
