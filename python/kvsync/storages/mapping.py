"""Any `MutableMapping[str, bytes]` as a storage; the index is in the same mapping, below `.kvsync/`.

The mapping must be private to this process. All `MappingStorage` objects over one mapping share one lock, so
compare-and-swap is exact among them. An object's version is its data.

A mapping of somebody else's may raise anything, keep what it likes, and hold what is no key or no value. That is
refused, or reported, for the key alone (`kvsync.storages.entries`).
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from kvsync.errors import StorageError
from kvsync.native import Page, digest_values
from kvsync.storages.batch import Batch
from kvsync.storages.contract import Capabilities, ObjectMismatch, Support, Tier
from kvsync.storages.entries import PREFIX, Entries
from kvsync.storages.url import parse_url
from kvsync.types import ABSENT, ANY, Stored, Unreadable, Written

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

    from kvsync.storages.contract import Pages
    from kvsync.storages.entries import Listing
    from kvsync.types import Expectation, Skipped, Version

__all__ = ["MappingStorage", "open_url"]

SCAN_COUNT = 512
"""So many keys of a scan, with their values, fit into a processor's cache."""

_ABSENT: Final = object()

_UNREADABLE_TOKEN = b"unreadable"
"""Equal to no token that anybody expects."""

_IN_MEMORY = Capabilities(
    Tier.TRANSACTIONAL, distance="memory", supports=frozenset({Support.IDENTITY, Support.SKIPPED, Support.RANGES})
)
_MAY_BE_INTERRUPTED = replace(
    _IN_MEMORY, tier=Tier.CONDITIONAL, supports=frozenset({Support.IDENTITY, Support.SKIPPED})
)
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
        self._entries = Entries(mapping)
        self._skipped: tuple[Skipped, ...] = ()
        self._guard = _guard_of(mapping)
        self._plain = type(mapping) is dict
        if not self._plain:
            self.capabilities = _MAY_BE_INTERRUPTED

    def __repr__(self) -> str:
        """Return the class and the storage's name."""
        return f"MappingStorage({self.name!r})"

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What the last scan met that cannot be a key; the first hundred."""
        return self._skipped

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Return the values of `keys`, in their order; None for a key that is absent.

        Any number of threads may read a dict. Of another mapping nobody knows that.
        """
        if self._plain:
            return self._entries.get(keys)
        with self._guard.lock:
            return self._entries.get(keys)

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Write `values[i]` at `keys[i]`, with `expect` only where the current value has that BLAKE3."""
        if self._plain and expect is None and not _any_reserved(keys):
            self.mapping.update(zip(keys, values, strict=True))
            return Written()
        batch = Batch(keys, values, expect)
        with self._guard.lock:
            self._refuse_reserved(batch)
            if batch.expect is not None:
                batch.compare(self._tokens(batch.keys))
                batch.drop_refused()
            self._entries.put(batch)
        return batch.written()

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Delete `keys`, with `expect` only where the current value has that BLAKE3."""
        batch = Batch(keys, expect=expect)
        with self._guard.lock:
            self._refuse_reserved(batch, deletes=True)
            if batch.expect is not None:
                batch.compare(self._tokens(batch.keys), deletes=True)
                batch.drop_refused()
            self._entries.drop(batch)
        return batch.written()

    def scan(self) -> Pages:
        """Yield every key with the BLAKE3 of its value, in code point order, which is UTF-8 byte order.

        Raises:
            StorageError: the mapping cannot be listed.
        """
        keys, _, self._skipped = self._listing()
        for start in range(0, len(keys), SCAN_COUNT):
            batch = keys[start : start + SCAN_COUNT]
            values = self.read(batch)
            if type(None) in {*map(type, values)}:  # deleted since the keys were listed
                batch = [key for key, value in zip(batch, values, strict=True) if value is not None]
                values = [value for value in values if value is not None]
            yield Page(batch, values)

    def load(self, name: str) -> Stored | None:
        """Return an index object, or None.

        Raises:
            StorageError: it cannot be read.
        """
        if self._plain:
            found = self.mapping.get(PREFIX + name, _ABSENT)
            if type(found) is bytes:
                return Stored(found, found)
            if found is _ABSENT:
                return None
        data = self.read([PREFIX + name])[0]
        if isinstance(data, Unreadable):
            message = f"cannot read {PREFIX}{name}: {data.reason}; remove it from the mapping"
            raise StorageError(message, storage=self.name, key=PREFIX + name)
        return None if data is None else Stored(data, data)

    def load_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes] | None:
        """Return ranges of an index object, or None; see `SupportsRanges`.

        Raises:
            StorageError: it cannot be read.
        """
        found = self.load(name)
        return None if found is None else [found.data[offset : offset + length] for offset, length in ranges]

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Write an index object and return its new version.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was written.
            StorageError: the mapping refused it.
        """
        with self._guard.lock:
            self._check(name, expect)
            if self._plain:
                self.mapping[PREFIX + name] = data
                return data
            batch = Batch([PREFIX + name], [data])
            self._entries.put(batch)
        self._raise_refused(batch)
        return data

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Remove index objects; skip absent ones, unless a version is expected.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was removed.
            StorageError: the mapping refused it.
        """
        batch = Batch([PREFIX + name for name in names])
        with self._guard.lock:
            for name in names:
                self._check(name, expect)
            self._entries.drop(batch)
        self._raise_refused(batch)

    def objects(self) -> list[str]:
        """Return the names of all index objects, ascending.

        Raises:
            StorageError: the mapping cannot be listed.
        """
        return self._listing().objects

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        """Return None for each key: a mapping does not record it."""
        return [None] * len(keys)

    def close(self) -> None:
        """Do nothing: the mapping belongs to its owner."""

    def _check(self, name: str, expect: Expectation) -> None:
        if expect is ANY:
            return
        there = self.load(name)
        if (ABSENT if there is None else there.version) != expect:
            raise ObjectMismatch(name)

    def _listing(self) -> Listing:
        try:
            with self._guard.lock:
                return self._entries.listing()
        except Exception as error:
            message = f"the mapping could not list its keys: {error!r:.500}"
            raise StorageError(message, storage=self.name) from error

    def _refuse_reserved(self, batch: Batch, *, deletes: bool = False) -> None:
        if not _any_reserved(batch.keys):
            return
        reserved = [key for key in batch.keys if key.startswith(PREFIX)]
        for key, value in zip(reserved, self._entries.get(reserved), strict=True):
            if value is not None or not deletes:
                batch.refuse(key, f"keys below {PREFIX} are reserved for the index")
        batch.drop_refused()

    def _tokens(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the BLAKE3 of each value, None where nothing is."""
        return _tokens_of(self.read(keys), unreadable=_UNREADABLE_TOKEN)

    def _raise_refused(self, batch: Batch) -> None:
        for refusal in batch.refused.values():
            raise StorageError(refusal.reason, storage=self.name, key=refusal.key)


def _tokens_of(values: Sequence[bytes | Unreadable | None], *, unreadable: bytes) -> list[bytes | None]:
    """Return the BLAKE3 of each value, None where nothing is."""
    digests = iter(digest_values([value for value in values if isinstance(value, bytes)]))
    return [None if v is None else next(digests) if isinstance(v, bytes) else unreadable for v in values]


def _any_reserved(keys: Sequence[str]) -> bool:
    # One search over all keys at once; a match may also be inside a key, or span two of them.
    return PREFIX in "\n".join(keys)
