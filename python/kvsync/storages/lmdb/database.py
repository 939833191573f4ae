"""Access to a database of an LMDB environment: snapshots, write transactions, and their errors."""

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
    """The transaction of a thread; no other thread and no forked child may use it."""

    process: int
    thread: int
    values: Values


class Database:
    """Access to one database and those that belong to it; several threads may use it.

    Args:
        library: the module `lmdb`.
        path: the environment's absolute path.
        names: of the databases.
        storage: the storage's name, for messages.
        map_size: how many bytes the environment may hold, if it is opened here.
        given: the environment, if it is already open; its owner closes it.
        assumed: the user named no database, so an environment whose values are in the unnamed one is refused.
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
        self.errors = Failures(library, storage, path)
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
        self._reserved_keys: frozenset[bytes] | None = None
        self._closed = False

    @property
    def size_error(self) -> type[Exception]:
        """What LMDB raises if it does not accept the size of a key or value."""
        error: type[Exception] = self._lmdb.BadValsizeError
        return error

    @contextlib.contextmanager
    def reading(self) -> Iterator[Values | None]:
        """Yield the values, including changes by this thread's transaction; None if there is no environment.

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
        """Yield what `reading` yields, with views of the map instead of bytes.

        Raises:
            StorageError: the environment cannot be read.
        """
        with self.errors:
            own = self._own_values()
            shared = self._found(create=False)
            if shared is None:
                yield None
            elif own is not None:
                # Its uncommitted changes are visible only inside it: to a child, which is aborted.
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
        """Yield the values in this thread's transaction, or in one that is committed on leaving.

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
        """Commit everything that this thread does inside atomically on leaving, or undo it on an exception.

        Raises:
            UsageError: one is open already.
            StorageError: it cannot be begun or committed; nothing of it is kept.
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

        Return None if there is no environment, and `create` does not ask for one.

        Raises:
            StorageError: the environment cannot be opened.
        """
        with self.errors:
            shared = self._found(create=create)
            return (shared.sidecar_path(name), shared.data) if shared is not None else None

    def reserved_keys(self, *, refresh: bool = False) -> frozenset[bytes]:
        """Return the keys of the unnamed database that are names of databases; `refresh` looks them up again.

        Raises:
            StorageError: the environment cannot be read.
        """
        if self._names.database:
            return frozenset()
        if self._reserved_keys is None or refresh:
            with self.errors:
                shared = self._found(create=False)
                self._reserved_keys = self._names.reserved_keys(shared.databases() if shared is not None else [])
        return self._reserved_keys

    def others(self) -> list[bytes]:
        """Return the names of other databases, if they are among the keys of this one.

        Raises:
            StorageError: the environment cannot be read.
        """
        if self._names.database:
            return []
        with self.errors:
            shared = self._found(create=False)
            names = shared.databases() if shared is not None else []
        return [name for name in names if not self._names.is_ours(name)]

    def close(self) -> None:
        """Close the environment, if nobody else uses it; an open transaction is undone when it ends."""
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
                message = "an environment that was passed in does not survive a fork: open it again in the child"
                raise StorageError(message)
            shared = adopt(self._lmdb, self._given, self._path)
        else:
            shared = acquire(self._lmdb, self._path, map_size=self._map_size, create=create)
        if shared is not None and self._assumed:
            self._check_assumed(shared)
        self._shared = shared
        return shared

    def _check_assumed(self, shared: SharedEnvironment) -> None:
        """Refuse an environment whose values are in its unnamed database, instead of finding it empty."""
        with shared.reading(self._all[:1]) as (transaction, handles):
            # Ask this snapshot: the environment's own count may be ahead of what can be read.
            count = transaction.stat()["entries"] if handles == [None] else 0
        if count and count > len(shared.databases()):
            shared.release()
            message = "its values are in its unnamed database: name that with ?db=, or another one with ?db=name"
            raise UsageError(message)

    def _release(self) -> None:
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.release()

    def _check_open(self) -> None:
        if self._closed:
            message = "the storage is closed: open it again"
            raise StorageError(message)
