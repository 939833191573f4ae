"""Read, write and delete the file of one key, below the root of a folder."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from kvsync.storages.contract import TornRead
from kvsync.storages.folder.keyname import VALUE_SUFFIX, is_reserved
from kvsync.storages.folder.safe_tree import NOT_THERE, KeyBlockedError, kind_of
from kvsync.storages.folder.staging import Staged, write_all
from kvsync.types import AnyVersion, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kvsync.storages.folder.keyname import Naming
    from kvsync.storages.folder.safe_tree import SafeTree
    from kvsync.storages.folder.staging import Staging

__all__ = ["ChangedError", "ValueFiles", "parts_of", "paths_of", "token_of"]

Wanted: TypeAlias = "bytes | AnyVersion | None"

PART_BYTES = 1 << 20
PATH_BYTES_MAX = 4000  # most programs can open that, with some room for the folder's own path
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_token = struct.Struct("<qQQ")


class ChangedError(Exception):
    """The current file of a key is not the expected one."""


class _Found(NamedTuple):
    """What exists at the paths of a key."""

    paths: list[str]
    files: list[tuple[str, os.stat_result]]
    others: dict[str, str]

    @property
    def token(self) -> bytes | None:
        return token_of(self.files[0][1]) if self.files else None


def token_of(status: os.stat_result) -> bytes:
    """Return the version token of a file: modification time, size, inode."""
    return _token.pack(status.st_mtime_ns, status.st_size, status.st_ino)


def paths_of(naming: Naming, key: str) -> list[str]:
    """Return every path where the value of a key may be, the preferred one first.

    Raises:
        KeyBlockedError: no path in this folder can hold it.
    """
    try:
        size = len(key) if key.isascii() else len(key.encode())
    except UnicodeEncodeError:
        raise KeyBlockedError("the key has a lone surrogate, so it cannot be the name of a file") from None
    if size > PATH_BYTES_MAX:
        raise KeyBlockedError(f"the key has {size} bytes; a path can have {PATH_BYTES_MAX}")
    paths = naming.paths(key)
    if paths[0] is not key:
        if is_reserved(key.partition("/")[0]):
            raise KeyBlockedError("keys in `.kvsync` are reserved for the index")
        if len(paths[0].encode()) > PATH_BYTES_MAX:
            raise KeyBlockedError(f"the key's path would have more than {PATH_BYTES_MAX} bytes")
    return paths


class ValueFiles:
    """The files of values below one tree, during one batch."""

    def __init__(self, tree: SafeTree, naming: Naming, clock_ns: Callable[[], int]) -> None:
        self._tree = tree
        self._naming = naming
        self._clock_ns = clock_ns
        self.emptied: set[str] = set()

    def read(self, key: str) -> bytes | Unreadable | None:
        """Return a value; if it changes while it is read, try once more, then give up for now."""
        try:
            for path in paths_of(self._naming, key):
                value = self._read_path(path)
                if value is not None:
                    return value
        except KeyBlockedError:
            return None
        except OSError as error:
            return _unreadable(error)
        return None

    def size(self, key: str) -> int | None:
        """Return the size of a key's value, or None."""
        try:
            found = self._find(key)
        except (KeyBlockedError, OSError):
            return None
        return found.files[0][1].st_size if found.files else None

    def open_value(self, key: str) -> int | Unreadable | None:
        """Open the file of a key for reading, or return None; the caller closes it."""
        try:
            for path in paths_of(self._naming, key):
                file = self._open_path(path)
                if file is not None:
                    return file
        except KeyBlockedError:
            return None
        except OSError as error:
            return _unreadable(error)
        return None

    def modified_ns(self, key: str) -> int | None:
        """Return when the file of a key was last modified, or None."""
        try:
            found = self._find(key)
        except (KeyBlockedError, OSError):
            return None
        return found.files[0][1].st_mtime_ns if found.files else None

    def winner(self, key: str) -> bytes | None:
        """Return the token of the file that counts, if a key has several."""
        return self._find(key).token

    def stage(self, staging: Staging, value: bytes) -> Staged | OSError:
        """Write a value to an unfinished file, durably; several threads may do this at the same time."""
        try:
            return self.stage_parts(staging, (value,))
        except OSError as error:
            return error

    def stage_parts(self, staging: Staging, parts: Iterable[bytes]) -> Staged:
        """Write the parts of a value to an unfinished file, durably; remove it on failure.

        Raises:
            OSError: it cannot be written.
        """
        temporary, file = staging.create()
        try:
            for part in parts:
                write_all(file, part)
            now = self._clock_ns()
            os.utime(file, ns=(now, now))
            os.fsync(file)
            return Staged(temporary, os.fstat(file))
        except BaseException:
            staging.discard(temporary)
            raise
        finally:
            os.close(file)

    def install(self, staging: Staging, staged: Staged | OSError, key: str, wanted: Wanted) -> bytes:
        """Rename a staged file to that of a key, and return its token.

        Raises:
            ChangedError: the current file is not the expected one.
            KeyBlockedError: something prevents the key from being written.
        """
        if isinstance(staged, OSError):
            raise staged
        found = self._find(key)
        _compare(found.token, wanted)
        path = self._choose(found)
        parent, _, leaf = path.rpartition("/")
        if found.files:
            _set_mode(staging, staged, found.files[0][1].st_mode)
        here = self._tree.make(parent, displace=True)
        if isinstance(wanted, AnyVersion):
            os.rename(staged.name, leaf, src_dir_fd=staging.directory, dst_dir_fd=here)
        else:
            self._install_expected(staging, staged.name, path, wanted)
        self._tree.touch(parent)
        for other, _status in found.files:
            if other != path:
                self._unlink(other)
        return token_of(staged.status)

    def delete(self, key: str, wanted: Wanted) -> None:
        """Delete a value, if there is one.

        Raises:
            ChangedError: the current file is not the expected one.
            KeyBlockedError: its name cannot be distinguished from another.
        """
        found = self._find(key)
        if not found.files:
            return
        _compare(found.token, wanted)
        # The file that counts goes last, so that a crash in between does not expose an older one.
        for path, _status in reversed(found.files):
            self._unlink(path)
            self.emptied.add(path.rpartition("/")[0])

    def prune(self) -> None:
        """Remove the directories that are empty after deletes."""
        for path in sorted(self.emptied, key=len, reverse=True):
            self._tree.prune(path)
        self.emptied.clear()

    def _find(self, key: str) -> _Found:
        paths = paths_of(self._naming, key)
        files, others = [], {}
        for path in paths:
            status = self._tree.status(path)
            if status is None:
                continue
            if stat.S_ISREG(status.st_mode):
                files.append((path, status))
            else:
                others[path] = kind_of(status.st_mode)
        return _Found(paths, files, others)

    def _choose(self, found: _Found) -> str:
        """Return the path for a value: its current path, its plain path, or next to the directory of that name."""
        plain = found.paths[0]
        if found.files and found.files[0][0] != plain + VALUE_SUFFIX:
            return found.files[0][0]
        if plain not in found.others:
            if found.files:  # the directory is gone, so the value gets its plain name back
                self._tree.move(plain + VALUE_SUFFIX, plain)
                found.files[0] = (plain, found.files[0][1])
            return plain
        if found.others[plain] != "a directory":
            raise KeyBlockedError(f"{found.others[plain]} is at its path {plain!r:.300}")
        if plain + VALUE_SUFFIX in found.others:
            raise KeyBlockedError(f"{found.others[plain + VALUE_SUFFIX]} is at its path {plain + VALUE_SUFFIX!r:.300}")
        return plain + VALUE_SUFFIX

    def _install_expected(self, staging: Staging, temporary: str, path: str, wanted: bytes | None) -> None:
        """Rename a finished file to its path, if the current file is still the expected one."""
        parent, _, leaf = path.rpartition("/")
        if wanted is None:
            with contextlib.suppress(_NoLinksError):
                self._link(staging, temporary, parent, leaf)
                return
        status = self._tree.status(path)
        _compare(None if status is None else token_of(status), wanted)
        here = self._tree.make(parent)
        os.rename(temporary, leaf, src_dir_fd=staging.directory, dst_dir_fd=here)

    def _link(self, staging: Staging, temporary: str, parent: str, leaf: str) -> None:
        here = self._tree.make(parent)
        try:
            os.link(temporary, leaf, src_dir_fd=staging.directory, dst_dir_fd=here, follow_symlinks=False)
        except FileExistsError:
            raise ChangedError from None
        except OSError as error:
            if error.errno in _NO_LINKS:
                raise _NoLinksError from error
            raise
        staging.discard(temporary)

    def _unlink(self, path: str) -> None:
        parent, _, leaf = path.rpartition("/")
        here = self._tree.directory(parent)
        if here is None:
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(leaf, dir_fd=here)
        self._tree.touch(parent)

    def _read_path(self, path: str) -> bytes | Unreadable | None:
        for _attempt in range(2):
            file = self._open_path(path)
            if file is None:
                return None
            try:
                before = os.fstat(file)
                value = _read_all(file, before.st_size)
                after = os.fstat(file)
            finally:
                os.close(file)
            if token_of(before) == token_of(after) and len(value) == after.st_size:
                return value
        return Unreadable("its file changes while it is read")

    def _open_path(self, path: str) -> int | None:
        """Open a regular file, and nothing else."""
        parent, _, leaf = path.rpartition("/")
        here = self._tree.directory(parent)
        if here is None or (self._tree.folds and not self._tree.is_exact(parent, leaf)):
            return None
        try:
            file = os.open(leaf, _READ, dir_fd=here)
        except OSError as error:
            if error.errno in NOT_THERE or error.errno == errno.ENXIO:  # a link or a socket is not a value
                return None
            raise
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            return None
        return file


def parts_of(file: int) -> Iterator[bytes]:
    """Yield the contents of an open file.

    Raises:
        TornRead: it changed meanwhile, or its rest cannot be read.
    """
    before = os.fstat(file)
    size = 0
    try:
        while part := os.read(file, PART_BYTES):
            size += len(part)
            yield part
    except OSError as error:
        raise TornRead(_unreadable(error).reason) from error
    if token_of(before) != token_of(os.fstat(file)) or size != before.st_size:
        message = "its file changes while it is read"
        raise TornRead(message)


def _unreadable(error: OSError) -> Unreadable:
    """Return a substitute for a value whose file fails; a failure of the whole machine remains an error."""
    if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE}:
        raise error
    return Unreadable(f"its file cannot be read: {error.strerror}")


class _NoLinksError(Exception):
    """The file system has no hard links."""


def _set_mode(staging: Staging, staged: Staged, mode: int) -> None:
    """Give a staged file the permissions of the one that it replaces."""
    if stat.S_IMODE(mode) & 0o777 == stat.S_IMODE(staged.status.st_mode):
        return
    file = os.open(staged.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=staging.directory)
    try:
        os.fchmod(file, stat.S_IMODE(mode) & 0o777)
        os.fsync(file)
    finally:
        os.close(file)


def _compare(token: bytes | None, wanted: Wanted) -> None:
    if not isinstance(wanted, AnyVersion) and token != wanted:
        raise ChangedError


def _read_all(file: int, size: int) -> bytes:
    # Read one byte more than expected: a short result then means the end of the file.
    data = os.read(file, size + 1)
    if len(data) == size:
        return data
    parts = [data]
    while part := os.read(file, 1 << 20):
        parts.append(part)
    return b"".join(parts)
