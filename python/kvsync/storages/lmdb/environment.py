"""LMDB environments of this process: each opened once, whoever asks, and never one of before a fork.

LMDB's locks belong to a process and a file, so a second environment over one file would share the first one's locks,
and closing it would release them.
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
    """Replace, in a forked child, a lock that some other thread of the parent may have held."""
    global _lock  # noqa: PLW0603 - it is the process's, as LMDB's locks are
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def acquire(library: ModuleType, path: str, *, map_size: int, create: bool) -> SharedEnvironment | None:
    """Return the process's environment over `path`, or None where there is none and none is to be made.

    Whoever gets it calls `release` once.
    """
    place = os.path.realpath(path)
    with _lock:
        _leave_parent()
        shared = _open.get(place)
        if shared is None:
            if not create and not _is_environment(place):
                return None
            environment = _environment(library, place, map_size)
            shared = _open[place] = SharedEnvironment(library, environment, place, closes=True)
        shared.users += 1
        return shared


def adopt(library: ModuleType, environment: lmdb.Environment, path: str) -> SharedEnvironment:
    """Return what all storages over an environment share that is open already at `path`, and its owner's to close."""
    place = os.path.realpath(path)
    with _lock:
        _leave_parent()
        shared = _open.get(place)
        if shared is None or shared.environment is not environment:
            shared = _open[place] = SharedEnvironment(library, environment, place, closes=False)
        shared.users += 1
        return shared


def _leave_parent() -> None:
    """After a fork, have LMDB forget the parent's environments; the parent's own are not touched."""
    for place, shared in list(_open.items()):
        if shared.pid != os.getpid():
            del _open[place]
            shared.environment.close()


def _is_environment(place: str) -> bool:
    return os.path.isfile(place) or os.path.exists(os.path.join(place, "data.mdb"))


def _environment(library: ModuleType, place: str, map_size: int) -> lmdb.Environment:
    is_file = os.path.isfile(place)
    if not is_file:
        os.makedirs(place, exist_ok=True)
    environment: lmdb.Environment = library.open(
        place,
        subdir=not is_file,
        map_size=map_size,
        max_dbs=DATABASES_MAX,
        max_readers=READERS_MAX,
    )
    environment.reader_check()  # a killed process may have left its place in the table of readers
    return environment


class SharedEnvironment:
    """An environment, the handles of its databases, and its one writer.

    Attributes:
        environment: itself.
        data: the path of the file that holds it.

    Args:
        library: the module `lmdb`.
        environment: the environment itself.
        place: its path.
        closes: the last user that releases it closes it.
    """

    def __init__(self, library: ModuleType, environment: lmdb.Environment, place: str, *, closes: bool) -> None:
        self.environment = environment
        self.pid = os.getpid()
        self.users = 0
        self._library = library
        self._place = place
        is_folder = os.path.isdir(place)
        self._beside = os.path.join(place, "") if is_folder else f"{place}-"
        self.data = os.path.join(place, "data.mdb") if is_folder else place
        self._closes = closes
        self._handles: dict[bytes | None, Any] = {}
        self._handles_lock = threading.Lock()
        self._writer_lock = threading.Lock()
        self._writer: int | None = None

    def release(self) -> None:
        """Give it back; the last user closes it."""
        with _lock:
            self.users -= 1
            if self.users > 0 or _open.get(self._place) is not self:
                return
            del _open[self._place]
            if self._closes:
                self.environment.close()

    def reading(
        self, names: Sequence[bytes | None], *, buffers: bool = False
    ) -> AbstractContextManager[tuple[lmdb.Transaction[Any], list[Any | None]]]:
        """Begin a snapshot, and give it with its handles of the databases `names`; None where there is none.

        With `buffers`, it gives views of the map where it would give bytes; they are good until its end.

        A handle that lasts is opened by a write transaction only, and who reads must not wait for the writer. Until
        then, each snapshot opens handles of its own, one snapshot at a time: two that open handles at once may be given
        the same number.
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
        return self._beside + name

    def databases(self) -> list[bytes]:
        """Return the names of all databases."""
        with self._handles_lock:
            return list(self.environment.dbs())

    @contextlib.contextmanager
    def writing(self, names: Sequence[bytes | None]) -> Iterator[tuple[lmdb.Transaction[bytes], list[Any]]]:
        """Give the one write transaction, committed on leaving or undone on an exception, and handles of `names`.

        Databases that are not there are made, and stay, whatever becomes of the transaction.

        Raises:
            StorageError: this thread has one open, for another database; or another thread does not end its own.
        """
        self._claim()
        turn = None
        try:
            turn = self._wait_for_others()
            self._make([name for name in names if name not in self._handles])
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

    def _make(self, names: Sequence[bytes | None]) -> None:
        if not names:
            return
        # The writer first: who waits for it must not keep readers from their handles.
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
        except self._library.MapResizedError:  # another process needed more room
            self.environment.set_mapsize(0)
            return begin(**options)

    def _claim(self) -> None:
        # LMDB itself would wait for ever, also for the same thread.
        own = self._writer == threading.get_ident()
        if own or not self._writer_lock.acquire(timeout=WAIT_SECONDS):
            who = "this thread has a transaction open in another database of it" if own else "another thread holds it"
            message = f"the environment is busy: {who}; run again"
            raise StorageError(message)
        self._writer = threading.get_ident()

    def _wait_for_others(self) -> int | None:
        """Wait for writers of other processes, with an end, and return the descriptor that has our turn.

        LMDB's own lock has no end: a process that was stopped within a transaction would keep all others waiting. So
        writers of ours take turns by a lock on a file beside, before they ask it. Not on LMDB's own lock file: closing
        that would release the locks that LMDB has there.

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
    """A snapshot that has begun, with its handles; a generator would cost four times as much, five times a run."""

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
        message = f"database {shown} is {odd[0]}: it has to be one value a key, ordered by the keys' bytes"
        raise UsageError(message)
    return handle
