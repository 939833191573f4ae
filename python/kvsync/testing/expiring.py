"""A storage in memory whose values expire, by a clock of the test's own."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from kvsync.native import digest_values
from kvsync.storages.contract import Capabilities, ObjectMismatch, Support, Tier
from kvsync.storages.expiry import noted, token_of
from kvsync.types import ABSENT, ANY, Refusal, Stored, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping, Sequence

    from kvsync.types import Expectation, Unreadable, Version

__all__ = ["ExpiringStorage"]

_lock = threading.RLock()
"""One for all: two storages over the same mappings exclude each other, and nobody is in a hurry here."""


class ExpiringStorage:
    """Values that expire, in a dict of {key: (value, expiry)}, and index objects in a dict of their own.

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
        """Return the values of `keys`, in their order; None where there is none."""
        with _lock:
            return [found[0] if found else None for found in self._found(keys)]

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Write values that stay for ever, with `expect` only where the value there has that token."""
        return Written(self._put(keys, values, [0] * len(keys), expect).refused)

    def write_expiring(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        expires: Sequence[int],
        expect: Sequence[bytes | None] | None = None,
    ) -> Written:
        """Write values, each until `expires[i]` (0: for ever), with `expect` only where there is that token."""
        return self._put(keys, values, expires, expect)

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Delete `keys`, with `expect` only where the value there has that token."""
        with _lock:
            there = self._there(keys)
            refused = self._refusals(keys, expect, absent_is_fine=True)
            for key in there - refused.keys():
                del self.values[key]
        return Written(tuple(refused.values()))

    def expiries(self, keys: Sequence[str]) -> list[int]:
        """Return when each value expires, wall-clock milliseconds; 0 where never, or where there is none."""
        with _lock:
            return [found[1] if found else 0 for found in self._found(keys)]

    def scan(self) -> Iterator[tuple[list[str], list[bytes]]]:
        """Yield every key with its token, ascending."""
        with _lock:
            keys = sorted(self.values)
            there = {key: token for key, token in zip(keys, self._tokens(keys), strict=True) if token is not None}
        if there:
            yield list(there), list(there.values())

    def load(self, name: str) -> Stored | None:
        """Return an index object, or None; its version is its data."""
        data = self.index.get(name)
        return None if data is None else Stored(data, data)

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Write an index object and return its new version.

        Raises:
            ObjectMismatch: it is not as expected; nothing was written.
        """
        with _lock:
            self._check(name, expect)
            self.index[name] = data
        return data

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Remove index objects; absent ones are passed over, where `expect` allows it.

        Raises:
            ObjectMismatch: one is not as expected; nothing was removed.
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
        """Return None for each key: it is not noted."""
        return [None] * len(keys)

    def close(self) -> None:
        """Do nothing: the mappings are their owner's."""

    def _put(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        expires: Sequence[int],
        expect: Sequence[bytes | None] | None,
    ) -> Written:
        with _lock:
            refused = self._refusals(keys, expect)
            for key, value, due in zip(keys, values, expires, strict=True):
                if key not in refused:
                    self.values[key] = (value, due)
            self._found(keys)
        return noted(keys, values, expires, list(refused.values()))

    def _found(self, keys: Sequence[str]) -> list[tuple[bytes, int] | None]:
        """Return what is there, having dropped what has expired."""
        now_ms = int(self._clock() * 1000)
        found = [self.values.get(key) for key in keys]
        for key, entry in zip(keys, found, strict=True):
            if entry is not None and entry[1] and entry[1] <= now_ms:
                self.values.pop(key, None)
        return [None if entry and entry[1] and entry[1] <= now_ms else entry for entry in found]

    def _there(self, keys: Sequence[str]) -> set[str]:
        return {key for key, found in zip(keys, self._found(keys), strict=True) if found is not None}

    def _tokens(self, keys: Sequence[str]) -> list[bytes | None]:
        found = self._found(keys)
        digests = iter(digest_values([entry[0] for entry in found if entry]))
        return [token_of(next(digests), entry[1]) if entry else None for entry in found]

    def _refusals(
        self, keys: Sequence[str], expect: Sequence[bytes | None] | None, *, absent_is_fine: bool = False
    ) -> dict[str, Refusal]:
        if expect is None:
            return {}
        return {
            key: Refusal(key, "the value there is not the expected one", changed=True)
            for key, wanted, token in zip(keys, expect, self._tokens(keys), strict=True)
            if wanted != token and not (absent_is_fine and token is None)
        }

    def _check(self, name: str, expect: Expectation) -> None:
        if expect is not ANY and self.index.get(name) != (None if expect is ABSENT else expect):
            raise ObjectMismatch(name)
