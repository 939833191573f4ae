"""A database of an LMDB environment as a storage.

`lmdb:///dir` is a path relative to the working directory, `lmdb:////var/dir` an absolute one. Values lie in the named
database `kv`, or in the one that `?db=` names; `?db=` alone names the unnamed one. The index lies in a named database
of its own. All are made by the first write. `?map_size=64G` says how much the environment may hold, by default 1 TiB
where files can have holes. Keys that LMDB cannot hold, longer than 511 bytes or empty, lie in a database beside.

Every commit is durable. There is one writer at a time, in all processes; who reads waits for nobody. The lease lies in
a file beside, `kvsync.storages.lmdb.lease`; where the system has no such locks (Windows), with the other objects.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, TypeVar

from kvsync.native import digest_values
from kvsync.storages.batch import Batch
from kvsync.storages.contract import Capabilities, Support, Tier
from kvsync.storages.extras import client
from kvsync.storages.lmdb.database import Database
from kvsync.storages.lmdb.index import Index
from kvsync.storages.lmdb.keys import decoded, encoded
from kvsync.storages.lmdb.lease import are_possible
from kvsync.storages.lmdb.lease_rollback import TransactionalLease
from kvsync.storages.lmdb.names import Names
from kvsync.storages.lmdb.refusals import refuse_changed, refuse_impossible
from kvsync.storages.lmdb.values import Values, parts
from kvsync.storages.path import absolute
from kvsync.types import Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    import lmdb

    from kvsync.types import Expectation, Stored, Unreadable, Version

__all__ = ["MAP_BYTES", "LmdbStorage"]

T = TypeVar("T")

SPARSE = sys.platform != "win32" and sys.maxsize > 1 << 32
MAP_BYTES = 1 << 40 if SPARSE else 1 << 30


class LmdbStorage:
    """A database of an LMDB environment as a storage; several threads may use it.

    All storages over one path share one environment within a process.

    Args:
        place: the environment's path, or an environment that is open, which then stays its owner's.
        database: the database's name; an empty one means the unnamed database; None means `kv`.
        map_size: how many bytes the environment may hold, where it is opened here.
        name: what messages call it; by default its URL.
        random_bytes: gives that many random bytes; versions of index objects are made of them.
    """

    capabilities = Capabilities(
        Tier.TRANSACTIONAL,
        distance="mapped",
        lease_stays=True,
        supports=frozenset({Support.TRANSACTION, Support.IDENTITY, Support.SIZES, Support.DRY_PROBE}),
    )

    def __init__(
        self,
        place: str | os.PathLike[str] | lmdb.Environment,
        *,
        database: str | None = None,
        map_size: int = MAP_BYTES,
        name: str | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        library = client("lmdb", "lmdb")
        given: lmdb.Environment | None = None
        if isinstance(place, str | os.PathLike):
            self.path = os.fspath(place)
        else:
            self.path, given = str(place.path()), place
        names = Names() if database is None else Names(database)
        self.name = name or f"lmdb:///{self.path}"
        self.identity = f"lmdb:{os.path.realpath(self.path)}?{names.database}"
        self._database = Database(
            library,
            absolute(self.path),  # it is opened when first needed, and again after a fork
            names,
            storage=self.name,
            map_size=map_size,
            given=given,
            assumed=database is None,
        )
        self._lease = TransactionalLease(self._database, names.lease, random_bytes)
        self._index = Index(self._database, names.index.decode(), self._lease if are_possible() else None, random_bytes)

    def __repr__(self) -> str:
        """Return the class and the storage's name."""
        return f"LmdbStorage({self.name!r})"

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Return the values of `keys`, in their order; None where there is none.

        Raises:
            StorageError: the environment cannot be read.
        """
        return self._of_each(keys, self._database.reading, Values.get)  # type: ignore[return-value]

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Write `values[i]` at `keys[i]`, with `expect` only where the value there has that BLAKE3.

        Raises:
            StorageError: the environment cannot be written.
        """
        if not keys:
            return Written()
        raw, whole = encoded(keys)
        with self._database.writing() as there:
            barred = self._database.barred()
            if expect is None and whole and not barred and self._put(there, raw, values):
                return Written()
            batch = Batch(keys, values, expect)
            refuse_impossible(batch, raw, barred)
            if expect is not None:
                refuse_changed(batch, there)
            there.put([key.encode() for key in batch.keys], batch.values)
        return batch.written()

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Delete `keys`, with `expect` only where the value there has that BLAKE3.

        Raises:
            StorageError: the environment cannot be written.
        """
        with self._database.reading() as values:
            if not keys or values is None or (values.ordinary is None and values.special is None):
                return Written()
        raw, _ = encoded(keys)
        batch = Batch(keys, expect=expect)
        with self._database.writing() as there:
            barred = self._database.barred()
            batch.drop({key for key, k in zip(keys, raw, strict=True) if k is None or k in barred})
            if expect is not None:
                refuse_changed(batch, there, deletes=True)
            there.delete([key.encode() for key in batch.keys])
        return batch.written()

    def scan(self) -> Iterator[tuple[list[str], list[bytes]]]:
        """Yield every key with the BLAKE3 of its value, ascending by UTF-8 bytes.

        Raises:
            StorageError: the environment cannot be read, or a key in it is no text.
        """
        with self._database.reading() as values:
            special = values.special_keys() if values is not None else []
        barred = self._database.barred(again=True)
        last: bytes | None = None
        while True:
            with self._database.reading() as values:
                if values is None:
                    return
                keys, found = values.page(last, barred)
            due = special if not keys else [key for key in special if key <= keys[-1]]
            special = special[len(due) :]
            for start, stop, key in parts(keys, due):
                if start < stop:
                    yield decoded(keys[start:stop], storage=self.name), digest_values(found[start:stop])
                yield from self._one(key)
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
            ObjectMismatch: it is not as expected; nothing was written.
            StorageError: the environment cannot be written.
        """
        return self._index.store(name, data, expect)

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Remove index objects; absent ones are passed over, where `expect` allows it.

        Raises:
            ObjectMismatch: one is not as expected; nothing was removed.
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
        """Return None for each key: LMDB does not say."""
        return [None] * len(keys)

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Return the bytes of each value, without copying it out of the map; None where it is absent.

        Raises:
            StorageError: the environment cannot be read.
        """
        return self._of_each(keys, self._database.viewing, Values.sizes)

    def transaction(self) -> AbstractContextManager[None]:
        """Commit all that this thread does inside as one on leaving, or undo it on an exception.

        Others see at once what it does to the lease; of that, it is not undone that one replaced another.

        Raises:
            UsageError: one is open already.
            StorageError: it cannot be begun or committed; nothing of it remains.
        """
        return self._lease.within(self._database.transaction())

    @contextlib.contextmanager
    def dry_probe(self) -> Iterator[str]:
        """See `kvsync.storages.dry_probe`: databases that are made stay, so none is made where there is no index.

        Raises:
            StorageError: the environment cannot be read.
        """
        with self._database.reading() as values:
            there = values is not None and values.index is not None
        yield "" if there else f"the databases of the values and of their index, in {self.path!r:.300}"

    def close(self) -> None:
        """Close the environment, if no other storage uses it; what a transaction has not committed is undone."""
        self._database.close()

    def _put(self, there: Values, keys: Sequence[bytes | None], values: Sequence[bytes]) -> bool:
        """Write without a look at any of them; return whether LMDB takes them all as they are."""
        try:
            there.put_ordinary(keys, values)  # type: ignore[arg-type]  # all of them are bytes
        except self._database.size_error:
            return False
        return True

    def _of_each(
        self,
        keys: Sequence[str],
        looking: Callable[[], AbstractContextManager[Values | None]],
        method: Callable[[Values, Sequence[bytes]], list[T | None]],
    ) -> list[T | None]:
        """Return what a method of the values says of each key; None where none can be there."""
        raw, whole = encoded(keys)
        barred = self._database.barred()
        with looking() as values:
            if values is None:
                return [None] * len(keys)
            if whole and not barred:
                return method(values, raw)  # type: ignore[arg-type]
            wanted = [key for key in raw if key is not None and key not in barred]
            found = dict(zip(wanted, method(values, wanted), strict=True))
        return [found.get(key) if key is not None else None for key in raw]

    def _one(self, key: bytes | None) -> Iterator[tuple[list[str], list[bytes]]]:
        if key is None:
            return
        with self._database.reading() as values:
            found = values.get([key])[0] if values is not None else None
        if found is not None:
            yield decoded([key], storage=self.name), digest_values([found])
