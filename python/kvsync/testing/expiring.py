"""A storage in memory whose values expire by the test's own clock."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from kvsync.native import Page, digest_values
from kvsync.storages.batch import Batch
from kvsync.storages.contract import Capabilities, ObjectMismatch, Support, Tier
from kvsync.storages.expiry import token_of, written_with_digests
from kvsync.types import ABSENT, ANY, Stored

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping, Sequence

    from kvsync.storages.contract import Pages
    from kvsync.types import Expectation, Unreadable, Version, Written

__all__ = ["ExpiringStorage"]

_lock = threading.RLock()
"""One lock for all: two storages over the same mappings exclude each other."""


class ExpiringStorage:
    """Values that expire, in a dict of {key: (value, expiry)}, and index objects in another dict.

    Args:
        values: the values and when they expire, wall-clock milliseconds (0: never); two storages may share it.
        objects: the index objects; two storages may share it.
        clock: returns wall-clock seconds.
        name: what messages call it.

    >>> now = [1_700_000_000.0]
    >>> storage = ExpiringStorage(clock=lambda: now[0])
    >>> _ = storage.write_expiring(["session", "user"], [b"open", b"Ada"], [1_700_000_060_000, 0])
    >>> storage.expiries(["session", "user"])
    [1700000060000, 0]
    >>> now[0] += 60
    >>> storage.read(["session", "user"])
    [None, b'Ada']
    """

    capabilities = Capabilities(
        Tier.CONDITIONAL, distance="memory", supports=frozenset({Support.EXPIRY, Support.IDENTITY})
    )

    def __init__(
        self,
        values: MutableMapping[str, tuple[bytes, int]] | None = None,
        objects: MutableMapping[str, bytes] | None = None,
        *,
        clock: Callable[[], float] = time.time,
        name: str = "expiring:",
    ) -> None:
        self.values = {} if values is None else values
        self.index = {} if objects is None else objects
        self.name = name
        self.identity = f"expiring:{id(self.values)}"
        self._clock = clock

    def __repr__(self) -> str:
        """Return the class and the storage's name."""
        return f"ExpiringStorage({self.name!r})"

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Return the values of `keys`, in their order; None for a key that is absent."""
        with _lock:
            return [found[0] if found else None for found in self._found(keys)]

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Write values that never expire, with `expect` only where the current value has that token."""
        batch = Batch(keys, values, expect, [0] * len(keys))
        self._put(batch)
        return batch.written()

    def write_expiring(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        expires: Sequence[int],
        expect: Sequence[bytes | None] | None = None,
    ) -> Written:
        """Write values that expire at `expires[i]` (0: never), with `expect` only where it is the current token."""
        batch = Batch(keys, values, expect, expires)
        self._put(batch)
        return written_with_digests(batch)

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Delete `keys`, with `expect` only where the current value has that token."""
        batch = Batch(keys, expect=expect)
        with _lock:
            if expect is not None:
                batch.compare(self._tokens(keys), deletes=True)
                batch.drop_refused()
            for key in batch.keys:
                self.values.pop(key, None)
        return batch.written()

    def expiries(self, keys: Sequence[str]) -> list[int]:
        """Return when each value expires, wall-clock milliseconds; 0 if never, or if the key is absent."""
        with _lock:
            return [found[1] if found else 0 for found in self._found(keys)]

    def scan(self) -> Pages:
        """Yield every key with its token, ascending."""
        with _lock:
            keys = sorted(self.values)
            there = {key: found for key, found in zip(keys, self._found(keys), strict=True) if found is not None}
        if there:
            yield Page(list(there), [value for value, _ in there.values()], [due for _, due in there.values()])

    def load(self, name: str) -> Stored | None:
        """Return an index object, or None; its version is its data."""
        data = self.index.get(name)
        return None if data is None else Stored(data, data)

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Write an index object and return its new version.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was written.
        """
        with _lock:
            self._check(name, expect)
            self.index[name] = data
        return data

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Remove index objects; skip absent ones, unless a version is expected.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was removed.
        """
        with _lock:
            for name in names:
                self._check(name, expect)
            for name in names:
                self.index.pop(name, None)

    def objects(self) -> list[str]:
        """Return the names of all index objects, ascending."""
        return sorted(self.index)

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        """Return None for each key: it is not recorded."""
        return [None] * len(keys)

    def close(self) -> None:
        """Do nothing: the mappings belong to their owner."""

    def _put(self, batch: Batch) -> None:
        with _lock:
            if batch.expect is not None:
                batch.compare(self._tokens(batch.keys))
                batch.drop_refused()
            for key, value, due in zip(batch.keys, batch.values, batch.expires, strict=True):
                self.values[key] = (value, due)
            self._found(batch.keys)

    def _found(self, keys: Sequence[str]) -> list[tuple[bytes, int] | None]:
        """Return current values, after removing what has expired."""
        now_ms = int(self._clock() * 1000)
        found = [self.values.get(key) for key in keys]
        for key, entry in zip(keys, found, strict=True):
            if entry is not None and entry[1] and entry[1] <= now_ms:
                self.values.pop(key, None)
        return [None if entry and entry[1] and entry[1] <= now_ms else entry for entry in found]

    def _tokens(self, keys: Sequence[str]) -> list[bytes | None]:
        found = self._found(keys)
        digests = iter(digest_values([entry[0] for entry in found if entry]))
        return [token_of(next(digests), entry[1]) if entry else None for entry in found]

    def _check(self, name: str, expect: Expectation) -> None:
        if expect is not ANY and self.index.get(name) != (None if expect is ABSENT else expect):
            raise ObjectMismatch(name)
