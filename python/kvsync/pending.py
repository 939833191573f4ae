"""The writes that a store has collected and not committed yet, for any number of threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from kvsync.errors import UsageError
from kvsync.expiry import expires_ms
from kvsync.native import check_key
from kvsync.types import Delete, Put

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Pending", "Value", "checked_put", "is_key"]

Value: TypeAlias = bytes | bytearray | memoryview

PENDING_COUNT = 10_000
PENDING_BYTES = 32 << 20
"""How many writes, or bytes of them, are collected before they are committed."""


class Pending:
    """Collected writes, the last one of each key, and beside them those of a commit that is under way.

    Attributes:
        lock: guards them; whoever looks at a key and then writes it holds the lock meanwhile.
        closed: an open store takes writes.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.closed = False
        self._writes: dict[str, Put | Delete] = {}
        self._bytes = 0
        self._in_commit: dict[str, Put | Delete] = {}

    def __len__(self) -> int:
        """Count the writes that no commit has taken."""
        return len(self._writes)

    @property
    def is_full(self) -> bool:
        """Whether it is time for a commit."""
        return len(self._writes) >= PENDING_COUNT or self._bytes >= PENDING_BYTES

    def newest(self, key: str) -> Put | Delete | None:
        """Return the last write to a key that the storage may not have yet."""
        with self.lock:
            return self._writes.get(key) or self._in_commit.get(key)

    def note(self, change: Put | Delete) -> None:
        """Collect a write."""
        with self.lock:
            replaced = self._writes.get(change.key)
            self._writes[change.key] = change
            self._bytes += _size(change) - (_size(replaced) if replaced is not None else 0)

    def writes(self) -> dict[str, Put | Delete]:
        """Return the writes by key; while no commit is under way, the storage has all others."""
        with self.lock:
            return dict(self._writes)

    def take(self) -> dict[str, Put | Delete]:
        """Return the writes for a commit, which begins with that; new ones are collected for the next."""
        with self.lock:
            self._in_commit, self._writes, self._bytes = self._writes, {}, 0
            return self._in_commit

    def settle(self, left: Mapping[str, Put | Delete]) -> None:
        """End a commit; what it `left` waits for the next, unless it was written again meanwhile."""
        with self.lock:
            self._in_commit = {}
            self._writes = {**left, **self._writes}
            self._bytes = sum(map(_size, self._writes.values()))


def is_key(key: object) -> TypeGuard[str]:
    """Whether there can be a value at `key`: a text that is valid and not reserved."""
    if not isinstance(key, str):
        return False
    try:
        check_key(key)
    except UsageError:
        return False
    return True


def checked_put(key: object, value: object, expires: float | None) -> Put:
    """Return a put.

    Raises:
        UsageError: the key is no text or reserved, the value is not bytes, or the time is none.
    """
    if not isinstance(key, str):
        message = f"a key must be a str, not {type(key).__name__}"
        raise UsageError(message)
    check_key(key)
    if not isinstance(value, Value):
        message = f"the value of {key!r} must be bytes, not {type(value).__name__}"
        raise UsageError(message, key=key)
    put = Put(key, bytes(value), expires)
    expires_ms(put)
    return put


def _size(change: Put | Delete) -> int:
    return 0 if change.value is None else len(change.value)
