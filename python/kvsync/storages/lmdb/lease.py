"""The lease of an LMDB storage: a small file beside the data, not durable.

LMDB makes every commit durable, which a lease does not need: after a power failure its holder is dead, too. The file
contains a BLAKE3 of the rest, the version, the object's length and the object, and zeros up to a whole block. An empty
file, or one whose BLAKE3 does not match, was left by a power failure and counts as absent.

It is compared and changed under an operating-system lock on itself, and overwritten in place by one call. It stays from
run to run, since creating and removing it each time takes three times as long. A reader needs the lock only if the
BLAKE3 does not match, since the file may be half written at that moment. A process that waited for the lock of a file
that has been removed meanwhile starts again.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING

from kvsync.errors import StorageError
from kvsync.native import digest_values
from kvsync.storages.contract import ObjectMismatch
from kvsync.storages.lmdb.sidecar import open_sidecar
from kvsync.types import ABSENT, ANY, Stored

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has none
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvsync.types import Expectation, Version

__all__ = ["LEASE", "VERSION_BYTES", "LeaseFile", "is_supported"]

LEASE = "lease"
VERSION_BYTES = 8
DIGEST_BYTES = 32
LENGTH_BYTES = 4
BLOCK_BYTES = 512
WAIT_SECONDS = 30.0
PAUSE_SECONDS = 0.001
READ_BYTES = 4096

# A forked child has copies of all descriptors, and a lock is held until the last of them is closed. So nothing forks
# while the lock is held. A signal handler may fork, but in the same thread.
_unforked = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_unforked.acquire, after_in_parent=_unforked.release, after_in_child=_unforked.release)


def is_supported() -> bool:
    """Whether this system has the locks that a lease in a file needs."""
    return fcntl is not None


class LeaseFile:
    """A lease in a file.

    Args:
        path: the file; it does not exist if there is no lease.
        data: the file with the data, whose owner and permissions it gets.
        random_bytes: returns that many random bytes, for versions, so that no version is used twice.
    """

    def __init__(self, path: str, data: str, random_bytes: Callable[[int], bytes]) -> None:
        self.path = path
        self._data = data
        self._random_bytes = random_bytes

    def load(self) -> Stored | None:
        """Return the lease, or None.

        Raises:
            StorageError: somebody does not release the lock.
        """
        try:
            file = open_sidecar(self._data, self.path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            record = _contents(file)
        finally:
            os.close(file)
        current = _unpacked(record)
        if current is None and record:
            with self._locked(os.O_RDONLY) as locked:
                current = _unpacked(_contents(locked)) if locked is not None else None
        return current

    def store(self, data: bytes, expect: Expectation) -> tuple[Version, Stored | None]:
        """Write the lease; return its new version, and the lease before it.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was written.
            StorageError: somebody does not release the lock.
        """
        version = self._random_bytes(VERSION_BYTES)
        record = _packed(version, data)
        with self._locked(os.O_RDWR if isinstance(expect, bytes) else os.O_RDWR | os.O_CREAT) as file:
            old, current = _checked(file, expect)
            if file is None:
                raise AssertionError
            self._fill(file, record, old)
        return version, current

    def remove(self, expect: Expectation) -> Stored | None:
        """Remove the lease; return the lease before it.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was removed.
            StorageError: somebody does not release the lock.
        """
        with self._locked(os.O_RDWR) as file:
            _, current = _checked(file, expect)
            if file is not None:
                os.unlink(self.path)
        return current

    def _fill(self, file: int, record: bytes, old: bytes) -> None:
        """Write `record` over the current contents `old`; on failure, restore those."""
        try:
            _write_all(file, record)
        except BaseException:
            with contextlib.suppress(OSError):  # a record that is not restored fails its check, so it counts as absent
                if old:
                    _write_all(file, old)
                else:
                    os.unlink(self.path)
            raise

    @contextlib.contextmanager
    def _locked(self, flags: int) -> Iterator[int | None]:
        """Yield the locked file, opened with `flags`, or None if it does not exist and they do not create it."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            with _unforked:
                try:
                    file = open_sidecar(self._data, self.path, flags)
                except FileNotFoundError:
                    if flags & os.O_CREAT:
                        raise
                    yield None
                    return
                try:
                    if _try_lock(file, fcntl.LOCK_SH if flags == os.O_RDONLY else fcntl.LOCK_EX):
                        yield file
                        return
                finally:
                    os.close(file)
            if time.monotonic() > deadline:
                message = "the lease is busy: a process that has stopped holds its lock; end it, or run again"
                raise StorageError(message)
            time.sleep(PAUSE_SECONDS)


def _try_lock(file: int, kind: int) -> bool:
    """Try to lock a file that still exists; return whether it was locked."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(file).st_nlink > 0


def _checked(file: int | None, expect: Expectation) -> tuple[bytes, Stored | None]:
    """Return the bytes of the file, and the lease in it, if it has the expected version."""
    old = _contents(file) if file is not None else b""
    current = _unpacked(old)
    if expect is not ANY and (current.version if current is not None else ABSENT) != expect:
        raise ObjectMismatch(LEASE)
    return old, current


def _packed(version: Version, data: bytes) -> bytes:
    rest = version + len(data).to_bytes(LENGTH_BYTES, "little") + data
    record = digest_values([rest])[0] + rest
    return record + bytes(-len(record) % BLOCK_BYTES)


def _unpacked(record: bytes) -> Stored | None:
    """Return the lease in a file; anything after it is a rest of a longer one."""
    start = DIGEST_BYTES + VERSION_BYTES + LENGTH_BYTES
    stop = start + int.from_bytes(record[start - LENGTH_BYTES : start], "little")
    if not start <= len(record) >= stop or digest_values([record[DIGEST_BYTES:stop]])[0] != record[:DIGEST_BYTES]:
        return None
    return Stored(record[start:stop], record[DIGEST_BYTES : DIGEST_BYTES + VERSION_BYTES])


def _contents(file: int) -> bytes:
    """Return all of a file that is read from its beginning; making a file object would take longer than reading."""
    parts = []
    while part := os.read(file, READ_BYTES):
        parts.append(part)
    return b"".join(parts)


def _write_all(file: int, data: bytes) -> None:
    """Write `data` at the beginning of a file, usually in one call."""
    done = 0
    while done < len(data):
        done += os.pwrite(file, data[done:], done)
