"""A database of an LMDB environment as a storage.

`lmdb:///dir` is a path relative to the working directory, `lmdb:////var/dir` an absolute one. Values are stored in the
named database `kv`, or in the one that `?db=` names; `?db=` alone names the unnamed one. The index has a named database
of its own. The first write creates them. `?map_size=64G` limits the size of the environment, by default to 1 TiB if the
platform has sparse files. Keys that LMDB cannot hold, longer than 511 bytes or empty, have a database of their own.

Every commit is durable. There is one writer at a time, among all processes; readers wait for nobody. The lease is a
file beside the data (`kvsync.storages.lmdb.lease`); on a system without such locks (Windows) it is kept with the other
objects.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, TypeVar

from kvsync.native import Page
from kvsync.storages.batch import Batch
from kvsync.storages.contract import Capabilities, Support, Tier
from kvsync.storages.extras import client
from kvsync.storages.lmdb.database import Database
from kvsync.storages.lmdb.index import Index
from kvsync.storages.lmdb.keys import decoded, encoded
from kvsync.storages.lmdb.lease import is_supported
from kvsync.storages.lmdb.lease_rollback import TransactionalLease
from kvsync.storages.lmdb.names import Names, environment_files
from kvsync.storages.lmdb.refusals import IS_DATABASE, refuse_changed, refuse_impossible
from kvsync.storages.lmdb.values import DAMAGED, Values, parts
from kvsync.storages.path import absolute
from kvsync.storages.skips import NO_TEXT, Skips
from kvsync.storages.wording import escaped
from kvsync.types import Unreadable, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    import lmdb

    from kvsync.storages.contract import Pages
    from kvsync.types import Expectation, Skipped, Stored, Version

__all__ = ["MAP_BYTES", "LmdbStorage"]

T = TypeVar("T")

SPARSE = sys.platform != "win32" and sys.maxsize > 1 << 32
MAP_BYTES = 1 << 40 if SPARSE else 1 << 30


class LmdbStorage:
    """A database of an LMDB environment as a storage; several threads may use it.

    All storages over one path share one environment within a process.

    Args:
        path: the environment's path, or an open environment, which its owner closes.
        database: the database's name; an empty one means the unnamed database; None means `kv`.
        map_size: how many bytes the environment may hold, if it is opened here.
        name: what messages call it; by default its URL.
        random_bytes: returns that many random bytes, for the versions of index objects.
    """

    capabilities = Capabilities(
        Tier.TRANSACTIONAL,
        distance="mapped",
        lease_stays=True,
        supports=frozenset(
            {Support.TRANSACTION, Support.IDENTITY, Support.FILES, Support.SIZES, Support.SKIPPED, Support.DRY_PROBE}
        ),
    )

    def __init__(
        self,
        path: str | os.PathLike[str] | lmdb.Environment,
        *,
        database: str | None = None,
        map_size: int = MAP_BYTES,
        name: str | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        library = client("lmdb", "lmdb")
        given: lmdb.Environment | None = None
        if isinstance(path, str | os.PathLike):
            self.path = os.fspath(path)
        else:
            self.path, given = str(path.path()), path
        names = self._names = Names() if database is None else Names(database)
        self.name = name or f"lmdb:///{self.path}"
        self.identity = f"lmdb:{os.path.realpath(self.path)}?{names.database}"
        self._absolute_path = absolute(self.path)
        self._database = Database(
            library,
            self._absolute_path,  # opened on first use, and again after a fork
            names,
            storage=self.name,
            map_size=map_size,
            given=given,
            assumed=database is None,
        )
        self._skips = Skips()
        self._lease = TransactionalLease(self._database, names.lease, random_bytes)
        self._index = Index(self._database, names.index.decode(), self._lease if is_supported() else None, random_bytes)

    def __repr__(self) -> str:
        """Return the class and the storage's name."""
        return f"LmdbStorage({self.name!r})"

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Keys that the last scan skipped: not UTF-8, names of other databases, long ones with a damaged record."""
        return self._skips.all

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Return the values of `keys`, in their order; None for a key that is absent.

        Raises:
            StorageError: the environment cannot be read.
        """
        found: list[bytes | Unreadable | None] = self._of_each(keys, self._database.reading, Values.get)
        for position in self._databases_among(keys):
            found[position] = Unreadable(IS_DATABASE)
        return found

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Write `values[i]` at `keys[i]`, with `expect` only where the current value has that BLAKE3.

        Raises:
            StorageError: the environment cannot be written.
        """
        if not keys:
            return Written()
        raw, whole = encoded(keys)
        with self._database.writing() as stored:
            reserved_keys = self._database.reserved_keys()
            if expect is None and whole and not reserved_keys and self._put(stored, raw, values):
                return Written()
            batch = Batch(keys, values, expect)
            refuse_impossible(batch, raw, reserved_keys)
            if expect is not None:
                refuse_changed(batch, stored)
            stored.put([key.encode() for key in batch.keys], batch.values)
        return batch.written()

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Delete `keys`, with `expect` only where the current value has that BLAKE3.

        Raises:
            StorageError: the environment cannot be written.
        """
        with self._database.reading() as values:
            if not keys or values is None or (values.ordinary is None and values.special is None):
                return Written()
        raw, _ = encoded(keys)
        batch = Batch(keys, expect=expect)
        with self._database.writing() as stored:
            batch.drop({key for key, k in zip(keys, raw, strict=True) if k is None})
            for position in self._databases_among(keys):
                batch.refuse(keys[position], IS_DATABASE)
            batch.drop_refused()
            if expect is not None:
                refuse_changed(batch, stored, deletes=True)
            stored.delete([key.encode() for key in batch.keys])
        return batch.written()

    def scan(self) -> Pages:
        """Yield every key with the BLAKE3 of its value, in UTF-8 byte order.

        Raises:
            StorageError: the environment cannot be read.
        """
        skips = self._skips = Skips()
        with self._database.reading() as values:
            special, damaged = values.special_keys() if values is not None else ([], [])
        for digest in damaged:
            skips.add(f"long key {digest.hex()[:16]}", DAMAGED, harmless=False)
        reserved_keys = self._database.reserved_keys(refresh=True)
        for name in self._database.others():
            skips.add(f"{name.decode(errors='replace')!s:.200}", IS_DATABASE)
        last: bytes | None = None
        while True:
            with self._database.reading() as values:
                if values is None:
                    return
                page = Page() if special or reserved_keys else values.plain_page(last)
                keys, found = ([], []) if page else values.page(last, reserved_keys)
            if page:
                last = (page.last or "").encode()
                yield page
                continue
            special_before = special if not keys else [key for key in special if key <= keys[-1]]
            special = special[len(special_before) :]
            for start, stop, key in parts(keys, special_before):
                if start < stop:
                    yield _listed(keys[start:stop], found[start:stop], skips)
                yield from self._one(key, skips)
            if not keys:
                return
            last = keys[-1]

    def load(self, name: str) -> Stored | None:
        """Return an index object, or None.

        Raises:
            StorageError: it cannot be read.
        """
        return self._index.load(name)

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Write an index object and return its new version.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was written.
            StorageError: the environment cannot be written.
        """
        return self._index.store(name, data, expect)

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Remove index objects; skip absent ones, unless a version is expected.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was removed.
            StorageError: the environment cannot be written.
        """
        self._index.remove(names, expect)

    def objects(self) -> list[str]:
        """Return the names of all index objects, ascending.

        Raises:
            StorageError: the environment cannot be read.
        """
        return self._index.names()

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        """Return None for each key: LMDB does not record it."""
        return [None] * len(keys)

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Return the size of each value, without copying it out of the map; None if it is absent.

        Raises:
            StorageError: the environment cannot be read.
        """
        return self._of_each(keys, self._database.viewing, Values.sizes)

    def transaction(self) -> AbstractContextManager[None]:
        """Commit everything that this thread does inside atomically on leaving, or undo it on an exception.

        Changes of the lease are visible to others at once. Of these, replacing it is not undone.

        Raises:
            UsageError: one is open already.
            StorageError: it cannot be begun or committed; nothing of it is kept.
        """
        return self._lease.within(self._database.transaction())

    def files(self) -> list[str]:
        """Return the paths of the environment's files, and of the leases of all databases in it."""
        return environment_files(os.path.realpath(self._absolute_path))

    def unmade(self) -> str:
        """Return that the environment, or its database, does not exist, if so.

        Raises:
            StorageError: the environment cannot be read.
        """
        with self._database.reading() as values:
            if values is None:
                return f"the LMDB environment {self.path!r:.300}"
            found = [database for database in (values.ordinary, values.special) if database is not None]
        return "" if found else f"the database {self._names.database!r:.100} in {self.path!r:.300}"

    @contextlib.contextmanager
    def dry_probe(self) -> Iterator[str]:
        """Probe without leaving anything behind: created databases stay, so probe only if there is an index.

        Raises:
            StorageError: the environment cannot be read.
        """
        with self._database.reading() as values:
            exists = values is not None and values.index is not None
        yield "" if exists else f"the databases of the values and of their index, in {self.path!r:.300}"

    def close(self) -> None:
        """Close the environment, if no other storage uses it; an uncommitted transaction is undone."""
        self._database.close()

    def _put(self, stored: Values, keys: Sequence[bytes | None], values: Sequence[bytes]) -> bool:
        """Write all values if LMDB accepts their keys as they are; return whether it does."""
        try:
            stored.put_ordinary(keys, values)  # type: ignore[arg-type]  # all of them are bytes
        except self._database.size_error:
            return False
        return True

    def _of_each(
        self,
        keys: Sequence[str],
        looking: Callable[[], AbstractContextManager[Values | None]],
        method: Callable[[Values, Sequence[bytes]], list[T]],
    ) -> list[T | None]:
        """Return what a method of `Values` returns for each key; None for keys that cannot exist."""
        raw, whole = encoded(keys)
        reserved_keys = self._database.reserved_keys()
        with looking() as values:
            if values is None:
                return [None] * len(keys)
            if whole and not reserved_keys:
                return [*method(values, raw)]  # type: ignore[arg-type]
            wanted = [key for key in raw if key is not None and key not in reserved_keys]
            found = dict(zip(wanted, method(values, wanted), strict=True))
        return [found.get(key) if key is not None else None for key in raw]

    def _databases_among(self, keys: Sequence[str]) -> list[int]:
        """Return the positions of keys that are names of databases: something is there, and it is no value."""
        reserved_keys = self._database.reserved_keys()
        if not reserved_keys:
            return []
        raw, _ = encoded(keys)
        return [position for position, key in enumerate(raw) if key in reserved_keys]

    def _one(self, key: bytes | None, skips: Skips) -> Pages:
        if key is None:
            return
        with self._database.reading() as values:
            found = values.get([key])[0] if values is not None else None
        if isinstance(found, bytes):
            yield _listed([key], [found], skips)


def _listed(keys: Sequence[bytes], values: Sequence[bytes], skips: Skips) -> Page:
    """Return a page of records, without those whose keys are not text."""
    texts = decoded(keys)
    for key, text in zip(keys, texts, strict=True):
        if text is None:
            skips.add(escaped(key), NO_TEXT, harmless=False)
    pairs = [(text, value) for text, value in zip(texts, values, strict=True) if text is not None]
    return Page([text for text, _ in pairs], [value for _, value in pairs])
