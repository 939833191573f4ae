"""The LMDB environments of this process: each is opened once for all its users, and never used after a fork.

LMDB's locks belong to a process and a file. A second environment over one file would share the locks of the first, and
closing it would release them.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from kvsync.errors import StorageError, UsageError
from kvsync.storages.lmdb.sidecar import open_sidecar

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has none
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from types import ModuleType

    import lmdb

__all__ = ["SharedEnvironment", "acquire", "adopt"]

DATABASES_MAX = 64
READERS_MAX = 512
WAIT_SECONDS = 30.0
PAUSE_SECONDS = 0.02

_lock = threading.Lock()
_open: dict[str, SharedEnvironment] = {}


def _renew_lock() -> None:
    """Replace, in a forked child, a lock that another thread of the parent may have held."""
    global _lock  # noqa: PLW0603 - it is the process's, as LMDB's locks are
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def acquire(library: ModuleType, path: str, *, map_size: int, create: bool) -> SharedEnvironment | None:
    """Return the process's environment over `path`, or None if it does not exist and `create` does not ask for it.

    Every caller calls `release` once.
    """
    path = os.path.realpath(path)
    with _lock:
        _leave_parent()
        shared = _open.get(path)
        if shared is None:
            if not create and not _is_environment(path):
                return None
            environment = _environment(library, path, map_size)
            shared = _open[path] = SharedEnvironment(library, environment, path, closes=True)
        shared.users += 1
        return shared


def adopt(library: ModuleType, environment: lmdb.Environment, path: str) -> SharedEnvironment:
    """Return the shared part of an environment that is already open at `path`; its owner closes it."""
    path = os.path.realpath(path)
    with _lock:
        _leave_parent()
        shared = _open.get(path)
        if shared is None or shared.environment is not environment:
            shared = _open[path] = SharedEnvironment(library, environment, path, closes=False)
        shared.users += 1
        return shared


def _leave_parent() -> None:
    """After a fork, have LMDB forget the parent's environments; the parent keeps its own."""
    for path, shared in list(_open.items()):
        if shared.pid != os.getpid():
            del _open[path]
            shared.environment.close()


def _is_environment(path: str) -> bool:
    return os.path.isfile(path) or os.path.exists(os.path.join(path, "data.mdb"))


def _environment(library: ModuleType, path: str, map_size: int) -> lmdb.Environment:
    is_file = os.path.isfile(path)
    if not is_file:
        os.makedirs(path, exist_ok=True)
    environment: lmdb.Environment = library.open(
        path,
        subdir=not is_file,
        map_size=map_size,
        max_dbs=DATABASES_MAX,
        max_readers=READERS_MAX,
    )
    environment.reader_check()  # a killed process may have left its entry in the table of readers
    return environment


class SharedEnvironment:
    """An environment, the handles of its databases, and its one writer.

    Attributes:
        environment: the environment itself.
        data: the path of the file that holds it.

    Args:
        library: the module `lmdb`.
        environment: the environment itself.
        path: its path.
        closes: the last user that releases it closes it.
    """

    def __init__(self, library: ModuleType, environment: lmdb.Environment, path: str, *, closes: bool) -> None:
        self.environment = environment
        self.pid = os.getpid()
        self.users = 0
        self._library = library
        self._path = path
        is_folder = os.path.isdir(path)
        self._sidecar_prefix = os.path.join(path, "") if is_folder else f"{path}-"
        self.data = os.path.join(path, "data.mdb") if is_folder else path
        self._closes = closes
        self._handles: dict[bytes | None, Any] = {}
        self._handles_lock = threading.Lock()
        self._writer_lock = threading.Lock()
        self._writer: int | None = None

    def release(self) -> None:
        """Release the environment; the last user closes it."""
        with _lock:
            self.users -= 1
            if self.users > 0 or _open.get(self._path) is not self:
                return
            del _open[self._path]
            if self._closes:
                self.environment.close()

    def reading(
        self, names: Sequence[bytes | None], *, buffers: bool = False
    ) -> AbstractContextManager[tuple[lmdb.Transaction[Any], list[Any | None]]]:
        """Begin a snapshot; return it and its handles of the databases `names`, None for those that do not exist.

        `buffers` returns views of the map instead of bytes, valid until the snapshot ends.

        Only a write transaction can open a handle that lasts, and readers must not wait for the writer. Until then,
        each snapshot opens handles of its own, one snapshot at a time: two that open handles at once may get the same
        number.
        """
        handles = self._handles
        if all(name in handles for name in names):
            return _Snapshot(self._begin(buffers=buffers), [handles[name] for name in names])
        return self._reading_with_own_handles(names, buffers=buffers)

    @contextlib.contextmanager
    def _reading_with_own_handles(
        self, names: Sequence[bytes | None], *, buffers: bool
    ) -> Iterator[tuple[lmdb.Transaction[Any], list[Any | None]]]:
        with self._handles_lock, self._begin(buffers=buffers) as transaction:
            yield transaction, [self._handle(name, transaction) for name in names]

    def sidecar_path(self, name: str) -> str:
        """Return the path of a file beside the data: in the environment's directory, or next to its single file."""
        return self._sidecar_prefix + name

    def databases(self) -> list[bytes]:
        """Return the names of all databases."""
        with self._handles_lock:
            return list(self.environment.dbs())

    @contextlib.contextmanager
    def writing(self, names: Sequence[bytes | None]) -> Iterator[tuple[lmdb.Transaction[bytes], list[Any]]]:
        """Yield the one write transaction, committed on leaving or undone on an exception, and handles of `names`.

        Create missing databases; they stay even if the transaction is undone.

        Raises:
            StorageError: this thread or another one has a transaction open.
        """
        self._claim_writer()
        turn = None
        try:
            turn = self._wait_for_others()
            self._create_databases([name for name in names if name not in self._handles])
            transaction = self._begin(write=True)
            try:
                yield transaction, [self._handles[name] for name in names]
            except BaseException:
                transaction.abort()
                raise
            transaction.commit()
        finally:
            if turn is not None:
                fcntl.flock(turn, fcntl.LOCK_UN)  # a forked child may have a copy of the descriptor
                os.close(turn)
            self._writer = None
            self._writer_lock.release()

    def _create_databases(self, names: Sequence[bytes | None]) -> None:
        if not names:
            return
        # Lock the writer first: waiting for it must not keep readers from their handles.
        with self._begin(write=True) as transaction, self._handles_lock:
            found = [_checked(name, self.environment.open_db(name, txn=transaction, create=True)) for name in names]
            transaction.commit()
            self._handles.update(zip(names, found, strict=True))

    def _handle(self, name: bytes | None, transaction: lmdb.Transaction[bytes]) -> Any | None:
        if name in self._handles:
            return self._handles[name]
        try:
            return _checked(name, self.environment.open_db(name, txn=transaction, create=False))
        except self._library.NotFoundError:
            return None

    def _begin(self, **options: bool) -> lmdb.Transaction[Any]:
        begin: Callable[..., lmdb.Transaction[Any]] = self.environment.begin
        try:
            return begin(**options)
        except self._library.MapResizedError:  # another process enlarged the map
            self.environment.set_mapsize(0)
            return begin(**options)

    def _claim_writer(self) -> None:
        # LMDB itself would wait for ever, even for the same thread.
        own = self._writer == threading.get_ident()
        if own or not self._writer_lock.acquire(timeout=WAIT_SECONDS):
            who = "this thread has a transaction open in another database of it" if own else "another thread is writing"
            message = f"the environment is busy: {who}; run again"
            raise StorageError(message)
        self._writer = threading.get_ident()

    def _wait_for_others(self) -> int | None:
        """Wait for writers of other processes, for a limited time; return the descriptor that holds the lock.

        LMDB's own lock has no timeout: a process that is stopped within a transaction would block all others for ever.
        So our writers lock a file beside the data first. Not LMDB's own lock file: closing that would release LMDB's
        locks.

        Raises:
            StorageError: another process does not end its transaction.
        """
        if fcntl is None:
            return None
        file = open_sidecar(self.data, self.sidecar_path("kvsync.lock"), os.O_RDWR | os.O_CREAT)
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(file)
                    message = "the environment is busy: another process has a transaction open; end it, or run again"
                    raise StorageError(message) from None
                time.sleep(PAUSE_SECONDS)
            except BaseException:
                os.close(file)
                raise
            else:
                return file


class _Snapshot:
    """A snapshot with its handles. A generator would cost four times as much, five times a run."""

    __slots__ = ("_handles", "_transaction")

    def __init__(self, transaction: lmdb.Transaction[Any], handles: list[Any | None]) -> None:
        self._transaction = transaction
        self._handles = handles

    def __enter__(self) -> tuple[lmdb.Transaction[Any], list[Any | None]]:
        return self._transaction, self._handles

    def __exit__(self, *_error: object) -> None:
        self._transaction.abort()


def _checked(name: bytes | None, handle: Any) -> Any:
    odd = [flag for flag in ("dupsort", "integerkey", "reverse_key") if handle.flags()[flag]]
    if odd:
        shown = repr(name.decode(errors="replace")) if name else "the unnamed one"
        message = f"database {shown} is {odd[0]}: it has to hold one value for each key, in byte order"
        raise UsageError(message)
    return handle
