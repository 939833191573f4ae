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
import re
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from kvsync.errors import StorageError, UsageError
from kvsync.native import digest_values
from kvsync.storages.base import ObjectMismatch
from kvsync.storages.extras import client
from kvsync.storages.lmdb.environment import acquire, adopt
from kvsync.storages.lmdb.failure import failure
from kvsync.storages.lmdb.lease import LEASE, VERSION_BYTES, LeaseFile, are_possible
from kvsync.storages.lmdb.values import Values, parts
from kvsync.storages.url import parse_url
from kvsync.types import ABSENT, ANY, Capabilities, Refusal, Stored, Unreadable, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    import lmdb

    from kvsync.storages.lmdb.environment import SharedEnvironment
    from kvsync.types import Expectation, Version

__all__ = ["LmdbStorage", "open_url"]

T = TypeVar("T")

DATABASE = "kv"
OURS = ".kvsync/"
NAME_BYTES_MAX = 400
LOOK_COUNT = 100
VALUE_BYTES_MAX = (1 << 32) - (1 << 16)
SPARSE = sys.platform != "win32" and sys.maxsize > 1 << 32
MAP_BYTES = 1 << 40 if SPARSE else 1 << 30

_SIZE = re.compile(r"([1-9][0-9]{0,18})\s*(?:([KMGTP])i?)?B?\Z", re.IGNORECASE | re.ASCII)


def open_url(url: str) -> LmdbStorage:
    """Return the storage of a `lmdb:///dir` URL.

    Raises:
        UsageError: the URL names a host, no directory, or a parameter that is not known.
    """
    parsed = parse_url(url)
    options = parsed.options("db", "map_size")
    path = parsed.path[1:]
    if parsed.authority or not path:
        message = "an environment's URL is lmdb:///relative or lmdb:////absolute"
        raise UsageError(message, storage=str(parsed))
    try:
        map_size = parse_size(options["map_size"]) if "map_size" in options else MAP_BYTES
        return LmdbStorage(path, database=options.get("db"), map_size=map_size, name=str(parsed))
    except UsageError as error:
        error.storage = str(parsed)
        raise


def parse_size(text: str) -> int:
    """Return a number of bytes.

    >>> parse_size("64G"), parse_size("10 MiB"), parse_size("4096")
    (68719476736, 10485760, 4096)

    Raises:
        UsageError: it is none, or more than 64 bits hold.
    """
    found = _SIZE.match(text)
    size = int(found[1]) << (10 * (" KMGTP".index(found[2].upper()) if found[2] else 0)) if found else 0
    if not 0 < size < 1 << 62:
        message = f"map_size={text!r:.100} is no number of bytes: use 4096, 512M, 64G"
        raise UsageError(message)
    return size


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

    capabilities = Capabilities(tier="T1", transactional=True, blocking=True, cached=True, versions=False)

    def __init__(
        self,
        place: str | os.PathLike[str] | lmdb.Environment,
        *,
        database: str | None = None,
        map_size: int = MAP_BYTES,
        name: str | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._lmdb = client("lmdb", "lmdb")
        self._given: lmdb.Environment | None = None
        if isinstance(place, str | os.PathLike):
            self.path = os.fspath(place)
        else:
            self.path, self._given = str(place.path()), place
        self._shared: SharedEnvironment | None = None
        self._map_size = map_size
        self._random_bytes = random_bytes
        self._assumed = database is None
        self._database = _checked_name(DATABASE if database is None else database)
        self._index = f"{OURS}index/{self._database}".encode()
        self._special = f"{OURS}long/{self._database}".encode()
        self._names = (self._database.encode() or None, self._special, self._index)
        self._lease_name = _lease_name(self._database)
        self._lease_changes: list[tuple[Stored | None, Version | None]] = []
        self._transaction: tuple[int, int, Values] | None = None
        self._names_there: frozenset[bytes] | None = None
        self._closed = False
        self.name = name or f"lmdb:///{self.path}"
        self.identity = f"lmdb:{os.path.realpath(self.path)}?{self._database}"

    def __repr__(self) -> str:
        """Return the class and the storage's name."""
        return f"LmdbStorage({self.name!r})"

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Return the values of `keys`, in their order; None where there is none.

        Raises:
            StorageError: the environment cannot be read.
        """
        return self._of_each(keys, self._reading, Values.get)  # type: ignore[return-value]

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Write `values[i]` at `keys[i]`, with `expect` only where the value there has that BLAKE3.

        Raises:
            StorageError: the environment cannot be written.
        """
        if not keys:
            return Written()
        raw, whole = _encoded(keys)
        with self._writing() as there:
            barred = self._barred()
            refused = {}
            if barred or not whole or max(map(len, values)) > VALUE_BYTES_MAX:
                refused = _refusals(keys, raw, values, barred)
            if expect is not None:
                able = [(key, k) for key, k in zip(keys, raw, strict=True) if k is not None and key not in refused]
                refused |= _unexpected(there, able, dict(zip(keys, expect, strict=True)))
            if refused:
                kept = [i for i, key in enumerate(keys) if key not in refused]
                raw, values = [raw[i] for i in kept], [values[i] for i in kept]
            there.put(raw, values)  # type: ignore[arg-type]  # what has no key is refused
        return _written(keys, refused)

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Delete `keys`, with `expect` only where the value there has that BLAKE3.

        Raises:
            StorageError: the environment cannot be written.
        """
        with self._reading() as values:
            if not keys or values is None or (values.ordinary is None and values.special is None):
                return Written()
        raw, _ = _encoded(keys)
        with self._writing() as there:
            barred = self._barred()
            present = [(key, k) for key, k in zip(keys, raw, strict=True) if k is not None and k not in barred]
            refused: dict[str, Refusal] = {}
            if expect is not None:
                expected = dict(zip(keys, expect, strict=True))
                refused = _unexpected(there, present, expected, absent_is_fine=True)
            there.delete([k for key, k in present if key not in refused])
        return _written(keys, refused)

    def scan(self) -> Iterator[tuple[list[str], list[bytes]]]:
        """Yield every key with the BLAKE3 of its value, ascending by UTF-8 bytes.

        Raises:
            StorageError: the environment cannot be read, or a key in it is no text.
        """
        with self._reading() as values:
            special = values.special_keys() if values is not None else []
        with self._errors():
            barred = self._barred(again=True)
        last: bytes | None = None
        while True:
            with self._reading() as values:
                if values is None:
                    return
                keys, found = values.page(last, barred)
            due = special if not keys else [key for key in special if key <= keys[-1]]
            special = special[len(due) :]
            for start, stop, key in parts(keys, due):
                if start < stop:
                    yield self._texts(keys[start:stop]), digest_values(found[start:stop])
                yield from self._one(key)
            if not keys:
                return
            last = keys[-1]

    def load(self, name: str) -> Stored | None:
        """Return an index object, or None.

        Raises:
            StorageError: it cannot be read.
        """
        if name == LEASE and are_possible():
            return self._load_lease()
        with self._reading() as values:
            record = values.load(name.encode()) if values is not None else None
        if record is None:
            return None
        if len(record) < VERSION_BYTES:
            message = f"object {name!r:.200} was changed by another program: delete it from {self._index.decode()}"
            raise StorageError(message, storage=self.name)
        return Stored(record[VERSION_BYTES:], record[:VERSION_BYTES])

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Write an index object and return its new version.

        Raises:
            ObjectMismatch: it is not as expected; nothing was written.
            StorageError: the environment cannot be written.
        """
        if name == LEASE and are_possible():
            return self._store_lease(data, expect)
        # Whoever only looks need not wait for the writer: a lease that is held is seen at once.
        self._check(name, expect, self.load(name))
        version = self._random_bytes(VERSION_BYTES)
        with self._writing(durable=name != LEASE) as there:
            self._check(name, expect, self.load(name))
            there.transaction.put(name.encode(), version + data, db=there.index)
        return version

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Remove index objects; absent ones are passed over, where `expect` allows it.

        Raises:
            ObjectMismatch: one is not as expected; nothing was removed.
            StorageError: the environment cannot be written.
        """
        held = {name: self.load(name) for name in names}
        for name, there in held.items():
            self._check(name, expect, there)
        if held.get(LEASE) is not None and are_possible():
            self._remove_lease(expect)
            del held[LEASE]
        if not any(held.values()):
            return
        with self._writing(durable=list(names) != [LEASE]) as values:
            for name in held:
                self._check(name, expect, self.load(name))
            for name in held:
                values.transaction.delete(name.encode(), db=values.index)

    def objects(self) -> list[str]:
        """Return the names of all index objects, ascending.

        Raises:
            StorageError: the environment cannot be read.
        """
        with self._reading() as values:
            names = values.objects() if values is not None else []
        return sorted([*names, LEASE]) if are_possible() and self.load(LEASE) is not None else names

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        """Return None for each key: LMDB does not say."""
        return [None] * len(keys)

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Return the bytes of each value, without copying it out of the map; None where it is absent.

        Raises:
            StorageError: the environment cannot be read.
        """
        return self._of_each(keys, self._viewing, Values.sizes)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all that this thread does inside as one on leaving, or undo it on an exception.

        Others see at once what it does to the lease; of that, renewals are not undone.

        Raises:
            UsageError: one is open already.
            StorageError: it cannot be begun or committed; nothing of it remains.
        """
        if self._transaction is not None and self._transaction[0] == os.getpid():
            message = "a transaction is open already"
            raise UsageError(message, storage=self.name)
        changes: list[tuple[Stored | None, Version | None]] = []
        try:
            with self._errors(), self._environment().writing(self._names) as (transaction, handles):
                self._lease_changes = changes
                self._transaction = os.getpid(), threading.get_ident(), Values(transaction, *handles)
                try:
                    yield
                    self._check_open()
                finally:
                    self._transaction = None
        except BaseException:
            self._undo_lease(changes)
            raise
        finally:
            if self._closed:
                self._release()

    @contextlib.contextmanager
    def rehearsal(self) -> Iterator[str]:
        """See `kvsync.storages.rehearsal`: databases that are made stay, so none is made where there is no index.

        Raises:
            StorageError: the environment cannot be read.
        """
        with self._reading() as values:
            there = values is not None and values.index is not None
        yield "" if there else f"the databases of the values and of their index, in {self.path!r:.300}"

    def close(self) -> None:
        """Close the environment, if no other storage uses it; what a transaction has not committed is undone."""
        self._closed = True
        if self._transaction is None:
            self._release()

    # The lease

    def _lease(self, shared: SharedEnvironment) -> LeaseFile:
        return LeaseFile(shared.beside(self._lease_name), self._random_bytes)

    def _load_lease(self) -> Stored | None:
        with self._errors():
            shared = self._found(create=False)
            return self._lease(shared).load() if shared is not None else None

    def _store_lease(self, data: bytes, expect: Expectation) -> Version:
        with self._errors():
            version, before = self._lease(self._environment()).store(data, expect)
        self._note_lease(before, version)
        return version

    def _remove_lease(self, expect: Expectation) -> None:
        with self._errors():
            before = self._lease(self._environment()).remove(expect)
        self._note_lease(before, None)

    def _note_lease(self, before: Stored | None, version: Version | None) -> None:
        if self._own() is not None:
            self._lease_changes.append((before, version))

    def _undo_lease(self, changes: Sequence[tuple[Stored | None, Version | None]]) -> None:
        """Undo what a transaction did to the lease, unless somebody else has it by now."""
        if not changes or self._shared is None:
            return
        lease = self._lease(self._shared)
        (first, _), (_, last) = changes[0], changes[-1]
        with contextlib.suppress(ObjectMismatch, OSError):  # what brought us here is the error to report
            if first is None and last is not None:
                lease.remove(last)
            elif first is not None and last is None:
                lease.store(first.data, ABSENT)

    # Environment and transactions

    def _of_each(
        self,
        keys: Sequence[str],
        looking: Callable[[], AbstractContextManager[Values | None]],
        method: Callable[[Values, Sequence[bytes]], list[T | None]],
    ) -> list[T | None]:
        """Return what a method of the values says of each key; None where none can be there."""
        raw, whole = _encoded(keys)
        with self._errors():
            barred = self._barred()
        with looking() as values:
            if values is None:
                return [None] * len(keys)
            if whole and not barred:
                return method(values, raw)  # type: ignore[arg-type]
            wanted = [key for key in raw if key is not None and key not in barred]
            found = dict(zip(wanted, method(values, wanted), strict=True))
        return [found.get(key) if key is not None else None for key in raw]

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Values | None]:
        """Give the values as they are, or as this thread's transaction has made them; None where nothing is there."""
        with self._errors():
            own = self._own()
            shared = self._found(create=False)
            if shared is None:
                yield None
            elif own is not None:
                yield own
            else:
                with shared.reading(self._names) as (transaction, handles):
                    yield Values(transaction, *handles)

    @contextlib.contextmanager
    def _viewing(self) -> Iterator[Values | None]:
        """Give what `_reading` gives, with views of the map instead of bytes."""
        with self._errors():
            own = self._own()
            shared = self._found(create=False)
            if shared is None:
                yield None
            elif own is not None:
                # What it has written so far is seen only from within: by a child, which is undone.
                child = shared.environment.begin(parent=own.transaction, write=True, buffers=True)
                try:
                    yield replace(own, transaction=child)
                finally:
                    child.abort()
            else:
                with shared.reading(self._names, buffers=True) as (transaction, handles):
                    yield Values(transaction, *handles)

    @contextlib.contextmanager
    def _writing(self, *, durable: bool = True) -> Iterator[Values]:
        with self._errors():
            shared = self._environment()
            own = self._own()
            if own is not None:
                yield own
                return
            with shared.writing(self._names, durable=durable) as (transaction, handles):
                yield Values(transaction, *handles)

    def _own(self) -> Values | None:
        """Return the values in the transaction of this thread, if it has one."""
        if self._transaction is None or self._transaction[:2] != (os.getpid(), threading.get_ident()):
            return None
        return self._transaction[2]

    def _environment(self) -> SharedEnvironment:
        shared = self._found(create=True)
        if shared is None:
            raise AssertionError
        return shared

    def _found(self, *, create: bool) -> SharedEnvironment | None:
        self._check_open()
        shared = self._shared
        if shared is not None and shared.pid == os.getpid():
            return shared
        if self._given is not None:
            if shared is not None:
                message = "an environment that was handed over does not survive a fork: open it anew in the child"
                raise StorageError(message)
            shared = adopt(self._lmdb, self._given)
        else:
            shared = acquire(self._lmdb, self.path, map_size=self._map_size, create=create)
        if shared is not None and self._assumed:
            self._check_assumed(shared)
        self._shared = shared
        return shared

    def _check_assumed(self, shared: SharedEnvironment) -> None:
        """Refuse an environment whose values lie elsewhere than where we would look, rather than find it empty."""
        with shared.reading(self._names[:1]) as (_, handles):
            count = shared.environment.stat()["entries"] if handles == [None] else 0
        if count and count > len(shared.databases()):
            shared.release()
            message = "its values lie in its unnamed database: name that with ?db=, or another with ?db=name"
            raise UsageError(message)

    def _release(self) -> None:
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.release()

    def _check_open(self) -> None:
        if self._closed:
            message = "the storage is closed: open it again"
            raise StorageError(message)

    def _check(self, name: str, expect: Expectation, there: Stored | None) -> None:
        if expect is not ANY and (there.version if there is not None else ABSENT) != expect:
            raise ObjectMismatch(name)

    # Keys and values

    def _barred(self, *, again: bool = False) -> frozenset[bytes]:
        """Return the keys of the unnamed database that are names of others."""
        if self._database:
            return frozenset()
        if self._names_there is None or again:
            shared = self._found(create=False)
            there = [*(shared.databases() if shared is not None else []), self._index, self._special]
            self._names_there = frozenset([*there, *(name + b"\0" for name in there)])  # LMDB 1.0 ends names with NUL
        return self._names_there

    def _one(self, key: bytes | None) -> Iterator[tuple[list[str], list[bytes]]]:
        if key is None:
            return
        with self._reading() as values:
            found = values.get([key])[0] if values is not None else None
        if found is not None:
            yield self._texts([key]), digest_values([found])

    def _texts(self, keys: Sequence[bytes]) -> list[str]:
        try:
            return [key.decode() for key in keys]
        except UnicodeDecodeError as error:
            message = f"it has a key that is no UTF-8: {error.object!r:.200}; delete it, or name another database"
            raise StorageError(message, storage=self.name) from error

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (StorageError, UsageError) as error:
            error.storage = error.storage or self.name
            raise
        except (self._lmdb.Error, OSError) as error:
            raise failure(error, storage=self.name) from error


def _checked_name(database: str) -> str:
    if database.startswith(OURS) or len(database.encode(errors="replace")) > NAME_BYTES_MAX:
        message = f"db={database!r:.200} is reserved, or too long: name another database"
        raise UsageError(message)
    return database


def _lease_name(database: str) -> str:
    """Return the name of the file beside the data that holds a database's lease."""
    # By digest: a database may have any name, and a folder may take `KV` and `kv` for one.
    return (
        "kvsync.lease" if database == DATABASE else f"kvsync-{digest_values([database.encode()])[0].hex()[:16]}.lease"
    )


def _encoded(keys: Sequence[str]) -> tuple[list[bytes | None], bool]:
    """Return keys as bytes, None for those that have none, and whether all have some."""
    try:
        return [key.encode() for key in keys], True
    except UnicodeEncodeError:
        return [_encoded_one(key) for key in keys], False


def _encoded_one(key: str) -> bytes | None:
    try:
        return key.encode()
    except UnicodeEncodeError:
        return None


def _refusals(
    keys: Sequence[str], raw: Sequence[bytes | None], values: Sequence[bytes], barred: frozenset[bytes]
) -> dict[str, Refusal]:
    """Return refusals of what LMDB cannot hold, and of keys that are names of databases."""
    refused = {}
    for key, k, value in zip(keys, raw, values, strict=True):
        if k is None:
            refused[key] = Refusal(key, "it has a lone surrogate", changed=False)
        elif k in barred:
            refused[key] = Refusal(key, "it is the name of a database of this environment", changed=False)
        elif len(value) > VALUE_BYTES_MAX:
            refused[key] = Refusal(key, "a value of LMDB ends below 4 GiB", changed=False)
    return refused


def _unexpected(
    there: Values,
    keys: Sequence[tuple[str, bytes]],
    expected: dict[str, bytes | None],
    *,
    absent_is_fine: bool = False,
) -> dict[str, Refusal]:
    """Return refusals of the keys whose value is not the expected one."""
    refused: dict[str, Refusal] = {}
    for start in range(0, len(keys), LOOK_COUNT):  # what is there may be larger than what is written
        some = keys[start : start + LOOK_COUNT]
        found = there.get([k for _, k in some])
        digests = iter(digest_values([value for value in found if value is not None]))
        for (key, _), value in zip(some, found, strict=True):
            token = next(digests) if value is not None else None
            if token != expected[key] and not (absent_is_fine and token is None):
                refused[key] = Refusal(key, "the value there is not the expected one", changed=True)
    return refused


def _written(keys: Sequence[str], refused: dict[str, Refusal]) -> Written:
    return Written(tuple(refused[key] for key in dict.fromkeys(keys) if key in refused)) if refused else Written()
