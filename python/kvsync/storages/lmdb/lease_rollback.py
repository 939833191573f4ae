"""The lease of an LMDB storage within a transaction: others see it at once, and a rollback undoes it.

A replacement is not undone: a renewal stays valid, and a released lease stays free.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from kvsync.storages.contract import ObjectMismatch
from kvsync.storages.lmdb.lease import LEASE, LeaseFile
from kvsync.types import ABSENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from kvsync.storages.lmdb.database import Database
    from kvsync.types import Expectation, Stored, Version

__all__ = ["TransactionalLease"]


class _Change(NamedTuple):
    """A change of the lease: the lease before it, and the version after it."""

    file: LeaseFile
    before: Stored | None
    after: Version | None


class TransactionalLease:
    """A lease in a file beside a database.

    Args:
        database: access to that database.
        name: of the file.
        random_bytes: returns that many random bytes, for versions.
    """

    def __init__(self, database: Database, name: str, random_bytes: Callable[[int], bytes]) -> None:
        self._database = database
        self._name = name
        self._random_bytes = random_bytes
        self._changes: list[_Change] = []

    def load(self) -> Stored | None:
        """Return the lease, or None.

        Raises:
            StorageError: it cannot be read.
        """
        with self._database.errors:
            file = self._file(create=False)
            return file.load() if file is not None else None

    def store(self, data: bytes, expect: Expectation) -> Version:
        """Write the lease and return its new version.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was written.
            StorageError: it cannot be written.
        """
        with self._database.errors:
            file = self._made_file()
            version, before = file.store(data, expect)
        self._note(_Change(file, before, version))
        return version

    def remove(self, expect: Expectation) -> None:
        """Remove the lease.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was removed.
            StorageError: it cannot be removed.
        """
        with self._database.errors:
            file = self._file(create=False)
            if file is None:  # there is no environment yet
                if isinstance(expect, bytes):
                    raise ObjectMismatch(LEASE)
                return
            before = file.remove(expect)
        self._note(_Change(file, before, None))

    @contextlib.contextmanager
    def within(self, transaction: AbstractContextManager[None]) -> Iterator[None]:
        """Run the body in a transaction; if that is undone, undo creating and removing the lease, too."""
        changes: list[_Change] = []
        try:
            with transaction:
                self._changes = changes
                yield
        except BaseException:
            _undo(changes)
            raise

    def _note(self, change: _Change) -> None:
        if self._database.in_transaction():
            self._changes.append(change)

    def _made_file(self) -> LeaseFile:
        file = self._file(create=True)
        if file is None:
            raise AssertionError
        return file

    def _file(self, *, create: bool) -> LeaseFile | None:
        paths = self._database.sidecar_path(self._name, create=create)
        return LeaseFile(*paths, self._random_bytes) if paths is not None else None


def _undo(changes: Sequence[_Change]) -> None:
    """Undo changes of the lease, unless somebody else has it by now."""
    if not changes:
        return
    file, first, _ = changes[0]
    last = changes[-1].after
    with contextlib.suppress(ObjectMismatch, OSError):  # report the original error
        if first is None and last is not None:
            file.remove(last)
        elif first is not None and last is None:
            file.store(first.data, ABSENT)
