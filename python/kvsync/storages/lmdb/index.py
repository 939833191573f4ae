"""The index objects of an LMDB storage: the lease in a file if the system supports that, the others in a database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.errors import StorageError
from kvsync.storages.contract import ObjectMismatch
from kvsync.storages.lmdb.lease import LEASE, VERSION_BYTES
from kvsync.types import ABSENT, ANY, Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.storages.lmdb.database import Database
    from kvsync.storages.lmdb.lease_rollback import TransactionalLease
    from kvsync.storages.lmdb.values import Values
    from kvsync.types import Expectation, Version

__all__ = ["Index"]


class Index:
    """The index objects for one database of values.

    Args:
        database: access to that database.
        name: of the database of the objects, for messages.
        lease: the lease file; None: the lease is kept with the other objects.
        random_bytes: returns that many random bytes, for versions.
    """

    def __init__(
        self, database: Database, name: str, lease: TransactionalLease | None, random_bytes: Callable[[int], bytes]
    ) -> None:
        self._database = database
        self._name = name
        self._lease = lease
        self._random_bytes = random_bytes

    def load(self, name: str) -> Stored | None:
        """Return an object, or None.

        Raises:
            StorageError: it cannot be read.
        """
        if name == LEASE and self._lease is not None:
            return self._lease.load()
        with self._database.reading() as values:
            data, version = values.load(name.encode()) if values is not None else (None, None)
            if data is None and version is None:
                return None
            if data is None or version is None or len(version) != VERSION_BYTES:
                message = f"object {name!r:.200} was changed by another program: delete it from {self._name}"
                raise StorageError(message)
        return Stored(data, version)

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Write an object and return its new version.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was written.
            StorageError: the environment cannot be written.
        """
        if name == LEASE and self._lease is not None:
            return self._lease.store(data, expect)
        if not self._database.in_transaction():
            # Check first, so that nobody has to wait for the writer to learn that a lease is held.
            with self._database.reading() as values:
                _check(name, expect, values)
        version = self._random_bytes(VERSION_BYTES)
        with self._database.writing() as values:
            _check(name, expect, values)
            values.store(name.encode(), data, version)
        return version

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Remove objects; skip absent ones, unless a version is expected.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was removed.
            StorageError: the environment cannot be written.
        """
        if self._lease is not None and list(names) == [LEASE]:
            self._lease.remove(expect)
            return
        held = {name: self.load(name) for name in names}
        for name, current in held.items():
            _compare(name, expect, current.version if current is not None else None)
        if held.get(LEASE) is not None and self._lease is not None:
            self._lease.remove(expect)
            del held[LEASE]
        if not any(held.values()):
            return
        with self._database.writing() as values:
            for name in held:
                _check(name, expect, values)
            for name in held:
                values.remove(name.encode())

    def names(self) -> list[str]:
        """Return the names of all objects, ascending.

        Raises:
            StorageError: the environment cannot be read.
        """
        with self._database.reading() as values:
            names = values.objects() if values is not None else []
        has_lease = self._lease is not None and self._lease.load() is not None
        return sorted([*names, LEASE]) if has_lease else names


def _check(name: str, expect: Expectation, values: Values | None) -> None:
    version = values.version(name.encode()) if values is not None else None
    if version is None and values is not None and values.load(name.encode())[0] is not None:
        version = b""  # another program removed it: no expectation is met, and `load` says what to do
    _compare(name, expect, version)


def _compare(name: str, expect: Expectation, version: Version | None) -> None:
    if expect is not ANY and (ABSENT if version is None else version) != expect:
        raise ObjectMismatch(name)
