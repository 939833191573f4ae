"""Disks: where the bytes of a simulated storage are, index and all, so that they can be copied and put back."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from kvsync.storages import open_storage
from kvsync.storages.contract import Support
from kvsync.storages.mapping import MappingStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvsync.storages.contract import Storage

__all__ = ["DISKS", "BucketDisk", "DatabaseDisk", "DictDisk", "Disk", "FolderDisk", "MakeDisk", "SqliteDisk"]

RESERVED = ".kvsync/"


class Disk(Protocol):
    """What holds all bytes of one storage: its values and its index.

    `copy` may be called at any moment, also between two operations of a run: it returns what a backup taken then would
    hold. `put_back` is called only while nothing is open.
    """

    @property
    def is_writable(self) -> bool:
        """Whether an application may write now: no transaction keeps it out."""

    def open(self) -> Storage:
        """Open the storage; the simulator closes it."""

    def values(self) -> dict[str, bytes]:
        """Return all values by key, without the index."""

    def copy(self) -> Any:
        """Return a copy of all bytes, for this disk or another of its kind to put back."""

    def put_back(self, copy: Any) -> None:
        """Replace all bytes by a copy."""

    def empty(self) -> None:
        """Remove everything, as if this were a new disk."""


MakeDisk: TypeAlias = "Callable[[str], Disk]"
"""Makes a new disk; it is given the path of a new directory, which it may create for itself."""


class DictDisk:
    """A disk that is a dict."""

    def __init__(self, directory: str = "") -> None:  # noqa: ARG002 - it keeps nothing in files
        self.data: dict[str, bytes] = {}

    @property
    def is_writable(self) -> bool:
        return True

    def open(self) -> Storage:
        return MappingStorage(self.data)

    def values(self) -> dict[str, bytes]:
        return {key: value for key, value in self.data.items() if not key.startswith(RESERVED)}

    def copy(self) -> dict[str, bytes]:
        return dict(self.data)

    def put_back(self, copy: dict[str, bytes]) -> None:
        self.data.clear()
        self.data.update(copy)

    def empty(self) -> None:
        self.data.clear()


class BucketDisk(DictDisk):
    """A dict that acts as a bucket does: its lease object stays, and its conditions are only claimed.

    Two processes take turns, and each keeps the storage open: they go on remembering how they left it, also after it
    was put back to a copy.
    """

    def __init__(self, directory: str = "") -> None:
        super().__init__(directory)
        self._open = [self._opened(), self._opened()]
        self._turn = 0

    def open(self) -> Storage:
        self._turn += 1
        # In no order that a run could rely on.
        return self._open[self._turn * 0x9E3779B9 >> 16 & 1]

    def _opened(self) -> Storage:
        storage = MappingStorage(self.data)
        storage.capabilities = replace(storage.capabilities, lease_stays=True, conditions="claimed")
        return storage


class DatabaseDisk(DictDisk):
    """A dict with transactions, as a database has them."""

    def __init__(self, directory: str = "") -> None:
        super().__init__(directory)
        self.committed: dict[str, bytes] | None = None

    @property
    def is_writable(self) -> bool:
        return self.committed is None

    def open(self) -> Storage:
        return _TransactionalStorage(self)

    def copy(self) -> dict[str, bytes]:
        return dict(self.data if self.committed is None else self.committed)


class _TransactionalStorage(MappingStorage):
    def __init__(self, disk: DatabaseDisk) -> None:
        super().__init__(disk.data)
        self.capabilities = replace(self.capabilities, supports=self.capabilities.supports | {Support.TRANSACTION})
        self._disk = disk

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Undo everything where an error leaves the block."""
        before = self._disk.committed = dict(self._disk.data)
        try:
            yield
        except BaseException:
            self._disk.put_back(before)
            raise
        finally:
            self._disk.committed = None


class _FileDisk:
    """A disk that is a path: what a URL names there is opened for each use."""

    url: str

    @property
    def is_writable(self) -> bool:
        return True

    def open(self) -> Storage:
        return open_storage(self.url)[0]

    def values(self) -> dict[str, bytes]:
        with closing(self.open()) as storage:
            keys = [key for batch, _ in storage.scan() for key in batch]
            return {key: value for key, value in zip(keys, storage.read(keys), strict=True) if type(value) is bytes}


class FolderDisk(_FileDisk):
    """A disk that is a folder."""

    def __init__(self, directory: str) -> None:
        self.path = os.path.join(directory, "values")
        self.url = f"file://{self.path}"
        self._directory = directory
        self._copies = 0
        os.makedirs(self.path)

    def copy(self) -> str:
        self._copies += 1
        copy = os.path.join(self._directory, f"copy {self._copies}")
        shutil.copytree(self.path, copy, symlinks=True)
        return copy

    def put_back(self, copy: str) -> None:
        shutil.rmtree(self.path)
        shutil.copytree(copy, self.path, symlinks=True)

    def empty(self) -> None:
        shutil.rmtree(self.path)
        os.makedirs(self.path)


class SqliteDisk(_FileDisk):
    """A disk that is an SQLite file; copied as `sqlite3 FILE .backup` does, which sees what is committed."""

    def __init__(self, directory: str) -> None:
        os.makedirs(directory)
        self.path = os.path.join(directory, "values.db")
        self.url = f"sqlite:///{self.path}"
        self._copies = 0
        self._make()

    @property
    def is_writable(self) -> bool:
        with closing(sqlite3.connect(self.path, timeout=0)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            connection.rollback()
            return True

    def copy(self) -> str:
        self._copies += 1
        copy = f"{self.path}.copy{self._copies}"
        with closing(sqlite3.connect(self.path, timeout=0)) as here, closing(sqlite3.connect(copy)) as there:
            here.backup(there)
        return copy

    def put_back(self, copy: str) -> None:
        self._remove()
        shutil.copyfile(copy, self.path)

    def empty(self) -> None:
        self._remove()
        self._make()

    def _make(self) -> None:
        """Make the file, which the first write does otherwise: a backup needs one."""
        with closing(self.open()) as storage:
            storage.write(["made"], [b""])
            storage.delete(["made"])

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm", "-journal"):
            if os.path.exists(self.path + suffix):
                os.unlink(self.path + suffix)


DISKS: dict[str, MakeDisk] = {
    "dict": DictDisk,
    "bucket": BucketDisk,
    "database": DatabaseDisk,
    "folder": FolderDisk,
    "sqlite": SqliteDisk,
}
"""The kinds of disks that have a name."""
