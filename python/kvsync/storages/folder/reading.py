"""Read the file of one key, below the root of a folder."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from kvsync.storages.contract import TornRead
from kvsync.storages.folder.paths import paths_of
from kvsync.storages.folder.safe_tree import KeyBlockedError, NoValueError
from kvsync.storages.folder.token import token_of
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvsync.storages.folder.keyname import Naming
    from kvsync.storages.folder.links import Links
    from kvsync.storages.folder.safe_tree import SafeTree

__all__ = ["MACHINE_FAILURES", "ValueReader", "parts_of", "substitute"]

MACHINE_FAILURES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE}
"""What says nothing about one file."""

PART_BYTES = 1 << 20
CHANGES = "its file changes while it is read"
_NO_FILE = {errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.ENOTDIR}  # a link, or a socket
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class ValueReader:
    """Reads the files of values below one tree, during one batch."""

    def __init__(self, tree: SafeTree, naming: Naming, links: Links) -> None:
        self._tree = tree
        self._naming = naming
        self._links = links

    def read(self, key: str) -> bytes | Unreadable | None:
        """Return a value; if it changes while it is read, try once more, then give up for now."""
        for _attempt in range(2):
            file = self.open_value(key)
            if file is None:
                return self.without_file(key)
            if not isinstance(file, int):
                return file
            value = _whole(file)
            if value is not None:
                return value
        return Unreadable(CHANGES)

    def without_file(self, key: str) -> bytes | Unreadable | None:  # noqa: ARG002
        """Return what is at a key that has no file."""
        return None

    def open_value(self, key: str) -> int | Unreadable | None:
        """Open the file of a key for reading; return None where nothing is. The caller closes it."""
        try:
            return self._opened(key)
        except NoValueError as error:
            return Unreadable(str(error))
        except KeyBlockedError:
            return None  # no file can be that of this key
        except OSError as error:
            return substitute(error)

    def _opened(self, key: str) -> int | None:
        """Open the first file of a key.

        Raises:
            NoValueError: something is there that is no value.
            KeyBlockedError: no file can be that of this key.
            OSError: a file is there, and cannot be opened.
        """
        empty = None
        for path in paths_of(self._naming, key):
            try:
                file = self._open_path(self._links.target(path))
            except IsADirectoryError:
                # With values below, it is a part of the folder's structure, which has replaced the value of this key.
                empty = empty or (path if self._is_no_value(path) else None)
            else:
                if file is not None:
                    return file
        if empty is not None:
            message = f"an empty directory is at {empty!r:.300}"
            raise NoValueError(message)
        return None

    def _is_no_value(self, path: str) -> bool:
        """Return whether the directory at the path of a key is there in its place, and not for other keys."""
        return not self._tree.holds_files(path)

    def _open_path(self, path: str) -> int | None:
        """Open a regular file, and nothing else."""
        parent, _, leaf = path.rpartition("/")
        here = self._tree.directory(parent)
        if here is None:
            self._tree.check_passable(parent)
            return None
        if self._tree.folds and not self._tree.is_exact(parent, leaf):
            return None
        try:
            file = os.open(leaf, _READ, dir_fd=here)
        except OSError as error:
            if error.errno in _NO_FILE:
                self._tree.check_passable(path)
            elif error.errno not in {errno.ENOENT, errno.ENAMETOOLONG}:
                raise
            return None
        mode = os.fstat(file).st_mode
        if stat.S_ISREG(mode):
            return file
        os.close(file)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError
        self._tree.check_passable(path)
        return None


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
        raise TornRead(substitute(error).reason) from error
    if token_of(before) != token_of(os.fstat(file)) or size != before.st_size:
        raise TornRead(CHANGES)


def _whole(file: int) -> bytes | None:
    """Return the contents of an open file, and close it; None if it changed meanwhile."""
    try:
        before = os.fstat(file)
        value = _read_all(file, before.st_size)
        after = os.fstat(file)
    finally:
        os.close(file)
    return value if token_of(before) == token_of(after) and len(value) == after.st_size else None


def _read_all(file: int, size: int) -> bytes:
    # Read one byte more than expected: a short result then means the end of the file.
    data = os.read(file, size + 1)
    if len(data) == size:
        return data
    parts = [data]
    while part := os.read(file, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def substitute(error: OSError) -> Unreadable:
    """Return a substitute for a value whose file fails; a failure of the whole machine remains an error."""
    if error.errno in MACHINE_FAILURES:
        raise error
    return Unreadable(f"its file cannot be read: {error.strerror}")
