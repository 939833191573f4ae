"""The index objects of a folder: files below `.kvsync/`, changed under an operating-system lock.

`.kvsync/lock` is locked only while an object is compared and renamed. See `kvsync.storages.folder.staging` for the
files that are being written.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from typing import TYPE_CHECKING, TypeVar

from kvsync.errors import StorageError
from kvsync.native import digest_values
from kvsync.storages.contract import RESERVED, ObjectMismatch
from kvsync.storages.folder.safe_tree import NOT_THERE, KeyBlockedError, kind_of
from kvsync.storages.folder.staging import Staging, write_all
from kvsync.types import ABSENT, ANY, Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kvsync.storages.folder.safe_tree import SafeTree
    from kvsync.types import Expectation, Version

__all__ = ["ObjectFiles"]

LOCK = "lock"
LEASE = "lease"
INVENTORY = "inventory"
MANIFEST = "manifest"
_FULL = {errno.ENOSPC, errno.EDQUOT}
_NAME = re.compile(r"[A-Za-z0-9_\-]+(?:/[A-Za-z0-9_\-]+)*\Z", re.ASCII)
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OVERWRITE = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC

T = TypeVar("T")


class ObjectFiles:
    """The objects below `.kvsync/` of one tree."""

    def __init__(self, tree: SafeTree, storage: str) -> None:
        self._tree = tree
        self._storage = storage

    def load(self, name: str) -> Stored | None:
        """Return an object, or None."""
        data = self._read(name, _read_all)
        return None if data is None else Stored(data, digest_values([data])[0])

    def load_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes] | None:
        """Return ranges of an object, each cut at its end, or None."""
        return self._read(name, lambda file: [_pread(file, offset, length) for offset, length in ranges])

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Write an object; see `Storage.store`."""
        try:
            self._replace(name, data, expect)
        except OSError as error:
            # Who cannot release its lease locks out everybody: it is overwritten in the room that it has.
            if error.errno not in _FULL or name != LEASE or not self._overwrite(name, data, expect):
                raise
        # The manifest that names an inventory follows, in the same directory. Any other inventory is not used.
        if name != INVENTORY:
            self._tree.sync()
        return digest_values([data])[0]

    def _replace(self, name: str, data: bytes, expect: Expectation) -> None:
        parent, leaf = self._split(name)
        with Staging(self._tree) as staging:
            temporary, file = staging.create()
            try:
                try:
                    write_all(file, data)
                    os.fsync(file)
                finally:
                    os.close(file)
                with self._locked():
                    self._check(name, expect)
                    target = self._tree.make(parent)
                    os.rename(temporary, leaf, src_dir_fd=staging.directory, dst_dir_fd=target)
                    self._tree.touch(parent)
            except BaseException:
                staging.discard(temporary)
                raise

    def _overwrite(self, name: str, data: bytes, expect: Expectation) -> bool:
        """Write over an object that is there; return whether there is one.

        Unlike a file that is replaced, one that a crash cuts off here is damaged.
        """
        parent, leaf = self._split(name)
        here = self._tree.directory(parent)
        if here is None:
            return False
        with self._locked():
            self._check(name, expect)
            try:
                file = os.open(leaf, _OVERWRITE, dir_fd=here)
            except FileNotFoundError:
                return False
            try:
                write_all(file, data)
                os.ftruncate(file, len(data))
                os.fsync(file)
            finally:
                os.close(file)
        return True

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Remove objects; see `Storage.remove`."""
        with self._locked():
            for name in names:
                self._check(name, expect)
            for name in names:
                self._unlink(name)
            for parent in {self._split(name)[0] for name in names} - {RESERVED}:
                self._tree.prune(parent)
        # A lease that is back after a power cut is that of a process that has ended.
        if LEASE not in names:
            self._tree.sync()

    def is_unused(self) -> bool:
        """Whether no manifest was ever written here; only a look."""
        return self._tree.status(f"{RESERVED}/{MANIFEST}") is None

    def remove_unused(self) -> None:
        """Remove everything that was created for objects, if there are none and nobody else is creating one."""
        with self._locked():
            if self.names() or not Staging.remove_unused(self._tree):
                return
            here = self._tree.directory(RESERVED)
            if here is not None:
                os.unlink(LOCK, dir_fd=here)
            self._tree.prune(RESERVED)
        self._tree.sync()

    def names(self) -> list[str]:
        """Return the names of all objects, ascending."""
        self._tree.check_directory(RESERVED)
        found, pending = [], [RESERVED]
        while pending:
            path = pending.pop()
            for entry in self._tree.entries(path):
                below = f"{path}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    pending.append(below)
                elif entry.is_file(follow_symlinks=False) and _is_name(below[len(RESERVED) + 1 :]):
                    found.append(below[len(RESERVED) + 1 :])
        return sorted(found)

    def _split(self, name: str) -> tuple[str, str]:
        if not _is_name(name):
            message = f"{name!r:.200} is not the name of an index object"
            raise StorageError(message, storage=self._storage)
        parent, _, leaf = f"{RESERVED}/{name}".rpartition("/")
        return parent, leaf

    def _check(self, name: str, expect: Expectation) -> None:
        if expect is ANY:
            return
        data = self._read(name, _read_all)
        if data is None:
            if expect is not ABSENT:
                raise ObjectMismatch(name)
        elif expect is ABSENT or digest_values([data])[0] != expect:
            raise ObjectMismatch(name)

    def _read(self, name: str, read: Callable[[int], T]) -> T | None:
        parent, leaf = self._split(name)
        here = self._tree.directory(parent)
        if here is None:
            self._tree.check_directory(parent)
            return None
        try:
            file = os.open(leaf, _READ, dir_fd=here)
        except OSError as error:
            self._require_file(f"{parent}/{leaf}")
            if error.errno not in NOT_THERE:
                raise
            return None
        try:
            self._require_file(f"{parent}/{leaf}", os.fstat(file))
            return read(file)
        finally:
            os.close(file)

    def _require_file(self, path: str, found: os.stat_result | None = None) -> None:
        """Refuse something else in the place of an object: it proves no absence."""
        found = found or self._tree.status(path)
        if found is not None and not stat.S_ISREG(found.st_mode):
            message = f"{kind_of(found.st_mode)} is at {path!r:.300}, where a file has to be: remove it and run again"
            raise KeyBlockedError(message)

    def _unlink(self, name: str) -> None:
        parent, leaf = self._split(name)
        here = self._tree.directory(parent)
        if here is None:
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(leaf, dir_fd=here)
            self._tree.touch(parent)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        file = self._lock()
        try:
            yield
        finally:
            os.close(file)

    def _lock(self) -> int:
        """Return the descriptor of the locked file."""
        while True:
            here = self._tree.make(RESERVED)
            try:
                file = os.open(LOCK, _LOCK, 0o666, dir_fd=here)
            except FileNotFoundError:  # somebody has just removed the directory that we had open
                self._tree.forget(RESERVED)
                continue
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if os.fstat(file).st_nlink:
                    return file
            except BaseException:
                os.close(file)
                raise
            os.close(file)  # it was removed while we waited, so a lock on it excludes nobody


def _is_name(name: str) -> bool:
    return _NAME.match(name) is not None and name != LOCK and name.partition("/")[0] not in {"tmp", "displaced"}


def _read_all(file: int) -> bytes:
    with open(file, "rb", closefd=False) as opened:
        return opened.read()


def _pread(file: int, offset: int, length: int) -> bytes:
    parts: list[bytes] = []
    while length > 0 and (part := os.pread(file, length, offset)):
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return b"".join(parts)
