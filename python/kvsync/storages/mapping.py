"""Any `MutableMapping[str, bytes]` as a storage; the index is in the same mapping, below `.kvsync/`.

The mapping must be private to this process. All `MappingStorage` objects over one mapping share one lock, so
compare-and-swap is exact among them. An object's version is its data.

A plain `dict` takes shortcuts, since a dict of a million keys is ordinary: no Python call for each key.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from kvsync.errors import StorageError
from kvsync.native import digest_values
from kvsync.storages.batch import Batch
from kvsync.storages.contract import RESERVED, Capabilities, ObjectMismatch, Support, Tier
from kvsync.storages.url import parse_url
from kvsync.types import ABSENT, ANY, Stored, Unreadable, Written

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping, Sequence

    from kvsync.types import Expectation, Version

__all__ = ["MappingStorage", "open_url"]

PREFIX = RESERVED + "/"
PREFIX_END = RESERVED + "0"  # "0" follows "/"
SCAN_COUNT = 10_000


_IN_MEMORY = Capabilities(Tier.TRANSACTIONAL, distance="memory", supports=frozenset({Support.IDENTITY}))
_MAY_BE_INTERRUPTED = replace(_IN_MEMORY, tier=Tier.CONDITIONAL)
"""A mapping that outlives the process, such as a `shelve`, keeps the first of two writes if it is killed in between."""


class _Guard:
    """The lock of one mapping; it keeps the mapping alive, so that its `id` is not reused."""

    def __init__(self, mapping: MutableMapping[str, bytes]) -> None:
        self.mapping = mapping
        self.lock = threading.RLock()


_guards: WeakValueDictionary[int, _Guard] = WeakValueDictionary()
_guards_lock = threading.Lock()
_named: dict[str, dict[str, bytes]] = {}


def _guard_of(mapping: MutableMapping[str, bytes]) -> _Guard:
    # A dict cannot be referenced weakly. Its guard can, and lives as long as any storage over that dict.
    with _guards_lock:
        guard = _guards.get(id(mapping))
        if guard is None:
            guard = _guards[id(mapping)] = _Guard(mapping)
        return guard


def open_url(url: str) -> MappingStorage:
    """Return a new private dict for `memory:`, and the process's dict of that name for `memory:name`.

    Raises:
        UsageError: the URL has more than a name.
    """
    parsed = parse_url(url)
    parsed.options()
    name = (parsed.authority + parsed.path).strip("/")
    return MappingStorage(_named.setdefault(name, {}) if name else {}, name=f"memory:{name}")


class MappingStorage:
    """A mapping as a storage.

    >>> data = {"user/1": b"Ada"}
    >>> MappingStorage(data).read(["user/1", "user/2"])
    [b'Ada', None]
    """

    capabilities = _IN_MEMORY

    def __init__(self, mapping: MutableMapping[str, bytes], *, name: str | None = None) -> None:
        self.mapping = mapping
        self.name = name or f"{type(mapping).__name__} at {id(mapping):#x}"
        self.identity = f"mapping:{id(mapping)}"
        self._guard = _guard_of(mapping)
        self._plain = type(mapping) is dict
        if not self._plain:
            self.capabilities = _MAY_BE_INTERRUPTED

    def __repr__(self) -> str:
        """Return the class and the storage's name."""
        return f"MappingStorage({self.name!r})"

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Return the values of `keys`, in their order; None for a key that is absent.

        Raises:
            StorageError: the mapping failed.
        """
        found = self._get(keys)
        if set(map(type, found)) <= {bytes, type(None)}:
            return found  # type: ignore[return-value]
        return [value if isinstance(value, bytes | None) else _unreadable(value) for value in found]

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Write `values[i]` at `keys[i]`, with `expect` only where the current value has that BLAKE3.

        Raises:
            StorageError: the mapping failed.
        """
        if self._plain and expect is None and not _any_reserved(keys):
            self.mapping.update(zip(keys, values, strict=True))
            return Written()
        batch = Batch(keys, values, expect)
        with self._guard.lock:
            self._refuse_reserved(batch)
            if batch.expect is not None:
                batch.compare(self._tokens(batch.keys))
                batch.drop_refused()
            self._put(batch)
        return batch.written()

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Delete `keys`, with `expect` only where the current value has that BLAKE3.

        Raises:
            StorageError: the mapping failed.
        """
        batch = Batch(keys, expect=expect)
        with self._guard.lock:
            self._refuse_reserved(batch, deletes=True)
            if batch.expect is not None:
                batch.compare(self._tokens(batch.keys), deletes=True)
                batch.drop_refused()
            for key in batch.keys:
                self._drop(key)
        return batch.written()

    def scan(self) -> Iterator[tuple[list[str], list[bytes]]]:
        """Yield every key with the BLAKE3 of its value, in code point order, which is UTF-8 byte order.

        Raises:
            StorageError: a key is not text, or a value is not bytes; the text names the key.
        """
        keys = self._keys()
        for start in range(0, len(keys), SCAN_COUNT):
            batch = keys[start : start + SCAN_COUNT]
            values = self._get(batch)
            kinds = set(map(type, values))
            if type(None) in kinds:  # deleted since the keys were listed
                batch = [key for key, value in zip(batch, values, strict=True) if value is not None]
                values = [value for value in values if value is not None]
                kinds.discard(type(None))
            if kinds - {bytes}:
                self._reject_foreign(batch, values)
            yield batch, digest_values(values)  # type: ignore[arg-type]

    def load(self, name: str) -> Stored | None:
        """Return an index object, or None.

        Raises:
            StorageError: it is not bytes.
        """
        data = self._object(name)
        if data is None:
            return None
        if not isinstance(data, bytes):
            message = f"{PREFIX}{name} holds {_kind(data)}, not bytes: remove it from the mapping"
            raise StorageError(message, storage=self.name, key=PREFIX + name)
        return Stored(data, data)

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Write an index object and return its new version.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was written.
            StorageError: the mapping failed.
        """
        with self._guard.lock:
            self._check(name, expect)
            if self._plain:
                self.mapping[PREFIX + name] = data
                return data
            batch = Batch([PREFIX + name], [data])
            self._put(batch)
        for refusal in batch.refused.values():
            raise StorageError(refusal.reason, storage=self.name, key=refusal.key)
        return data

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Remove index objects; skip absent ones, unless a version is expected.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was removed.
            StorageError: the mapping failed.
        """
        with self._guard.lock:
            for name in names:
                self._check(name, expect)
            for name in names:
                self._drop(PREFIX + name)

    def objects(self) -> list[str]:
        """Return the names of all index objects, ascending.

        Raises:
            StorageError: the mapping failed.
        """
        return sorted(key[len(PREFIX) :] for key in self._list() if isinstance(key, str) and key.startswith(PREFIX))

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        """Return None for each key: a mapping does not record it."""
        return [None] * len(keys)

    def close(self) -> None:
        """Do nothing: the mapping belongs to its owner."""

    def _check(self, name: str, expect: Expectation) -> None:
        if expect is ANY:
            return
        if self._object(name) != (None if expect is ABSENT else expect):
            raise ObjectMismatch(name)

    def _object(self, name: str) -> object:
        return self.mapping.get(PREFIX + name) if self._plain else self._get([PREFIX + name])[0]

    def _keys(self) -> list[str]:
        keys = self._list()
        if set(map(type, keys)) - {str}:
            for key in keys:
                if not isinstance(key, str):
                    message = f"the mapping has a key that is {_kind(key)}, not str: {key!r:.200}; remove it"
                    raise StorageError(message, storage=self.name)
        keys.sort()
        del keys[bisect_left(keys, PREFIX) : bisect_left(keys, PREFIX_END)]
        for start in range(0, len(keys), SCAN_COUNT):
            _check_text(keys[start : start + SCAN_COUNT], self.name)
        return keys

    def _reject_foreign(self, keys: Sequence[str], values: Sequence[object]) -> None:
        for key, value in zip(keys, values, strict=True):
            if _foreign(value):
                message = f"the mapping holds {_kind(value)}, not bytes, at {key!r:.200}: remove it"
                raise StorageError(message, storage=self.name, key=key)

    def _refuse_reserved(self, batch: Batch, *, deletes: bool = False) -> None:
        if not _any_reserved(batch.keys):
            return
        reserved = [key for key in batch.keys if key.startswith(PREFIX)]
        for key, value in zip(reserved, self._get(reserved), strict=True):
            if value is not None or not deletes:
                batch.refuse(key, f"keys below {PREFIX} are reserved for the index")
        batch.drop_refused()

    def _tokens(self, keys: Sequence[str]) -> list[bytes | None]:
        values = self._get(keys)
        digests = iter(digest_values([value for value in values if isinstance(value, bytes)]))
        # Something that is not bytes is never what was expected, and not absent either.
        return [None if value is None else next(digests) if isinstance(value, bytes) else b"" for value in values]

    # Methods that touch the mapping itself. It may raise anything; all becomes StorageError or a Refusal.

    def _list(self) -> list[str]:
        try:
            return list(self.mapping)
        except Exception as error:
            raise self._failed("list its keys", error) from error

    def _get(self, keys: Sequence[str]) -> list[object]:
        get = self.mapping.get
        if self._plain:
            return [get(key) for key in keys]
        try:
            return [get(key) for key in keys]
        except Exception as error:
            raise self._failed("read", error) from error

    def _put(self, batch: Batch) -> None:
        for key, value in zip(batch.keys, batch.values, strict=True):
            try:
                self.mapping[key] = value
            except (KeyError, TypeError, ValueError) as error:
                batch.refuse(key, f"the mapping refused it: {error!r:.500}")
            except Exception as error:
                raise self._failed("write", error) from error

    def _drop(self, key: str) -> None:
        try:
            del self.mapping[key]
        except KeyError:
            pass
        except Exception as error:
            raise self._failed("delete", error) from error

    def _failed(self, what: str, error: Exception) -> StorageError:
        return StorageError(f"the mapping could not {what}: {error!r:.500}", storage=self.name)


def _any_reserved(keys: Sequence[str]) -> bool:
    # One search over all keys at once; a match may also be inside a key, or span two of them.
    return PREFIX in "\n".join(keys)


def _foreign(value: object) -> bool:
    return value is not None and not isinstance(value, bytes)


def _unreadable(value: object) -> Unreadable:
    return Unreadable(f"the mapping holds {_kind(value)}, not bytes, at this key")


def _kind(value: object) -> str:
    return f"a {type(value).__name__}" if value is not None else "None"


def _check_text(keys: Sequence[str], storage: str) -> None:
    if "".join(keys).isascii():
        return
    for key in keys:
        try:
            key.encode()
        except UnicodeEncodeError as error:
            message = f"the mapping has a key with a lone surrogate: {key!r:.200}; remove it"
            raise StorageError(message, storage=storage, key=key) from error
