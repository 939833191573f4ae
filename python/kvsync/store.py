"""A storage as a mapping that logs what is written through it."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Self

from kvsync.errors import StorageError, UsageError
from kvsync.native import check_key
from kvsync.options import Options
from kvsync.run import steps
from kvsync.types import Delete, Put

if TYPE_CHECKING:
    from types import TracebackType

    from kvsync.environment import Environment
    from kvsync.storages.contract import Storage

__all__ = ["Store"]

PENDING_COUNT = 10_000
PENDING_BYTES = 32 << 20
"""How many writes, or bytes of them, are collected before they are committed."""


class Store(MutableMapping[str, bytes]):
    """A mapping over a storage that collects writes, and commits them together on `flush` or at the end of `with`.

    Reads see unflushed writes. Collected writes are also committed when there are 10,000 of them, or 32 MiB.
    """

    def __init__(self, storage: Storage, environment: Environment, *, close: bool) -> None:
        self._storage = storage
        self._environment = environment
        self._close = close
        self._pending: dict[str, Put | Delete] = {}
        self._pending_bytes = 0

    def __getitem__(self, key: str) -> bytes:
        """Return the value of `key`.

        Raises:
            KeyError: there is none.
            StorageError: it cannot be read.
        """
        if (pending := self._pending.get(key)) is not None:
            if pending.value is None:
                raise KeyError(key)
            return pending.value
        value = self._storage.read([key])[0]
        if value is None:
            raise KeyError(key)
        if not isinstance(value, bytes):
            message = f"cannot read {key!r}: {value.reason}"
            raise StorageError(message, storage=self._storage.name, key=key)
        return value

    def __setitem__(self, key: str, value: bytes) -> None:
        """Set the value of `key` at the next flush.

        Raises:
            UsageError: the key is reserved, or the value is not bytes.
        """
        if not isinstance(key, str):
            message = f"a key must be a str, not {type(key).__name__}"
            raise UsageError(message)
        check_key(key)
        if not isinstance(value, bytes):
            message = f"the value of {key!r} must be bytes, not {type(value).__name__}"
            raise UsageError(message, key=key)
        self._note(Put(key, value), len(value))

    def __delitem__(self, key: str) -> None:
        """Delete `key` at the next flush.

        Raises:
            KeyError: there is none.
        """
        self[key]
        self._note(Delete(key), 0)

    def __iter__(self) -> Iterator[str]:
        """Yield all keys, including unflushed ones."""
        for keys, _ in self._storage.scan():
            yield from (key for key in keys if key not in self._pending)
        yield from [key for key, change in self._pending.items() if not change.deletes]

    def __len__(self) -> int:
        """Count the keys, by listing the storage."""
        return sum(1 for _ in self)

    def flush(self) -> int:
        """Write and log all collected writes; return how many there were."""
        if not self._pending:
            return 0
        count = steps.commit(self._storage, list(self._pending.values()), Options(), self._environment)
        self._pending.clear()
        self._pending_bytes = 0
        return count

    def close(self) -> None:
        """Flush, then close the storage if `kvsync.open` opened it."""
        try:
            self.flush()
        finally:
            if self._close:
                self._storage.close()

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Flush, even after an error: the writes before it were intended."""
        self.close()

    def _note(self, change: Put | Delete, size: int) -> None:
        self._pending[change.key] = change
        self._pending_bytes += size
        if len(self._pending) >= PENDING_COUNT or self._pending_bytes >= PENDING_BYTES:
            self.flush()
