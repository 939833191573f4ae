"""A storage as a mapping that logs what is written through it; any number of threads may share one."""

from __future__ import annotations

import threading
import warnings
from collections.abc import ItemsView, MutableMapping, ValuesView
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias, TypeVar, overload

from kvsync.errors import RefusedError, StorageError, UsageError
from kvsync.expiry import expires_ms
from kvsync.options import Options
from kvsync.pending import Pending, Value, checked_put, is_key
from kvsync.run import steps
from kvsync.storages.contract import has_sizes
from kvsync.types import Delete, Put

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from types import TracebackType

    from kvsync.environment import Environment
    from kvsync.storages.contract import Storage

__all__ = ["OnError", "Store"]

T = TypeVar("T")
OnError: TypeAlias = Literal["discard", "flush"]
"""What becomes of the collected writes if the `with` block of a store fails."""

_NONE: Final[Any] = object()


class Store(MutableMapping[str, bytes]):
    """A mapping over a storage that collects writes, and commits them together on `flush` or at the end of `with`.

    Reads see unflushed writes. Collected writes are also committed when there are 10,000 of them, or 32 MiB. If the
    block of `with` fails, those that are not committed yet are dropped, unless the store was opened with
    `on_error="flush"`.

    Any number of threads may use a store. A loop over it yields each key once, as it was at the start.

    >>> import kvsync
    >>> with kvsync.open({"a": b"1"}) as store:
    ...     store["b"] = b"2"
    ...     sorted(store)
    ['a', 'b']
    """

    def __init__(self, storage: Storage, environment: Environment, *, close: bool, on_error: OnError) -> None:
        if on_error not in ("discard", "flush"):
            message = f"unknown on_error {on_error!r}; choose 'discard' or 'flush'"
            raise UsageError(message)
        self._storage = storage
        self._environment = environment
        self._close = close
        self._on_error = on_error
        self._pending = Pending()
        # Held by the thread that commits, and by one that lists the storage. Taken before the lock of what is pending:
        # nobody who has that one waits for a commit.
        self._committing = threading.Lock()

    def __repr__(self) -> str:
        """Return the storage's name, and how many writes are pending."""
        pending = f", {len(self._pending)} pending" if self._pending else ""
        return f"Store({self._storage.name!r}{', closed' if self._pending.closed else pending})"

    # Reading

    def __getitem__(self, key: str) -> bytes:
        """Return the value of `key`.

        Raises:
            KeyError: there is none.
            StorageError: it cannot be read.
        """
        value = self._value(key)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        """Return whether there is something at `key`; read no value where the storage knows its size."""
        return self._has(key)

    def __iter__(self) -> Iterator[str]:
        """Yield every key that is there now, including unflushed ones; later writes change nothing about that.

        All keys are listed first, so they have to fit into memory.
        """
        with self._committing:
            return iter(list(self._listed()))

    def __len__(self) -> int:
        """Count the keys, by listing the storage."""
        with self._committing:
            return sum(1 for _ in self._listed())

    def __bool__(self) -> bool:
        """Return whether there is any key; stop at the first."""
        return self._first() is not None

    def items(self) -> ItemsView[str, bytes]:
        """Return a view of keys and values; a loop reads one value at a time, and skips what is deleted meanwhile."""
        return _Items(self)

    def values(self) -> ValuesView[bytes]:
        """Return a view of the values; a loop reads one at a time, and skips what is deleted meanwhile."""
        return _Values(self)

    def copy(self) -> dict[str, bytes]:
        """Return a dict of all keys and values."""
        return dict(self.items())

    # Writing

    def __setitem__(self, key: str, value: Value) -> None:
        """Set the value of `key` at the next flush.

        Raises:
            UsageError: the key is reserved, the value is not bytes, or the store is closed.
            RefusedError: the store was full, and a key could not be written; see `flush`.
        """
        self.put(key, value)

    def put(self, key: str, value: Value, *, expires: float | None = None) -> None:
        """Set the value of `key` at the next flush, until `expires`, in wall-clock seconds (None: for ever).

        A storage without support for expiry keeps the value; what it is synced with drops it in time.

        Raises:
            UsageError: the key is reserved, the value is not bytes, the time is none, or the store is closed.
            RefusedError: the store was full, and a key could not be written; see `flush`.
        """
        self._note(checked_put(key, value, expires))
        self._flush_if_full()

    def __delitem__(self, key: str) -> None:
        """Delete `key` at the next flush.

        Raises:
            KeyError: there is nothing at the key.
            UsageError: the store is closed.
        """
        with self._pending.lock:
            if not self._has(key):
                raise KeyError(key)
            self._note(Delete(key))
        self._flush_if_full()

    @overload
    def pop(self, key: str, /) -> bytes: ...
    @overload
    def pop(self, key: str, /, default: bytes) -> bytes: ...
    @overload
    def pop(self, key: str, /, default: T) -> bytes | T: ...
    def pop(self, key: str, /, default: Any = _NONE) -> Any:
        """Delete `key` and return its value, or `default` if it has none.

        Raises:
            KeyError: it has none, and there is no default.
        """
        with self._pending.lock:
            value = self._value(key)
            if value is not None:
                self._note(Delete(key))
        if value is None:
            if default is _NONE:
                raise KeyError(key)
            return default
        self._flush_if_full()
        return value

    def popitem(self) -> tuple[str, bytes]:
        """Delete some key; return it and its value.

        Raises:
            KeyError: there is none.
        """
        while (key := self._first()) is not None:
            value = self.pop(key, None)
            if value is not None:
                return key, value
        message = "the store is empty"
        raise KeyError(message)

    def setdefault(self, key: str, default: Value | None = None, /) -> bytes:
        """Return the value of `key`; if it has none, set it to `default` first.

        Raises:
            UsageError: the key is reserved, or `default`, which is needed, is not bytes.
        """
        with self._pending.lock:
            value = self._value(key)
            if value is not None:
                return value
            change = checked_put(key, default, None)
            self._note(change)
        self._flush_if_full()
        return change.value or b""

    def clear(self) -> None:
        """Delete every key that is there now."""
        for key in self:
            self._note(Delete(key))
            self._flush_if_full()

    def __ior__(self, other: Any) -> Self:
        """Set what `other` has, a mapping or pairs."""
        self.update(other)
        return self

    # Committing

    def flush(self) -> int:
        """Write and log all collected writes; return how many there were.

        Raises:
            RefusedError: the storage refused some keys, which the error lists. They are dropped, and all others are
                written and logged.
            KvsyncError: nothing could be logged; what was collected stays for the next flush.
        """
        with self._committing:
            self._check_open()
            return self._commit()

    def discard(self) -> int:
        """Drop all collected writes; return how many there were."""
        with self._committing:
            count = len(self._pending.take())
            self._pending.settle({})
            return count

    def close(self) -> None:
        """Flush, then close the storage if `kvsync.open` opened it; later writes are an error.

        If the flush fails with writes left, the store stays open with them: call `close` again, or `discard` first.

        Raises:
            KvsyncError: as `flush`.
        """
        with self._committing:
            if self._pending.closed:
                return
            self._pending.closed = True
            try:
                self._commit()
            finally:
                self._pending.closed = not self._pending
                if self._pending.closed and self._close:
                    self._storage.close()

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Close the store; after an exception drop what is not committed yet, unless `on_error` is "flush"."""
        if kind is not None and self._on_error == "discard":
            self.discard()
        self.close()

    def __del__(self) -> None:
        """Warn if writes are lost."""
        if getattr(self, "_pending", None):
            message = f"{self!r} was not closed, so its pending writes are lost"
            warnings.warn(message, ResourceWarning, stacklevel=2, source=self)

    # Within

    def _check_open(self) -> None:
        if self._pending.closed:
            message = "the store is closed: open it again"
            raise UsageError(message, storage=self._storage.name)

    def _held(self, change: Put | Delete) -> bytes | None:
        """Return the value that a write leaves at its key now."""
        if change.expires is not None and expires_ms(change) <= self._environment.now_ms():
            return None
        return change.value

    def _value(self, key: object) -> bytes | None:
        """Return the value of a key, None if nothing is there.

        Raises:
            StorageError: it cannot be read.
        """
        self._check_open()
        if not is_key(key):
            return None
        if (change := self._pending.newest(key)) is not None:
            return self._held(change)
        value = self._storage.read([key])[0]
        if value is None or isinstance(value, bytes):
            return value
        message = f"cannot read {key!r}: {value.reason}"
        raise StorageError(message, storage=self._storage.name, key=key)

    def _has(self, key: object) -> bool:
        """Return whether anything is at a key."""
        self._check_open()
        if not is_key(key):
            return False
        if (change := self._pending.newest(key)) is not None:
            return self._held(change) is not None
        # No size may also mean that the storage does not know it.
        if has_sizes(self._storage) and self._storage.sizes([key])[0] is not None:
            return True
        return self._storage.read([key])[0] is not None

    def _listed(self) -> Generator[str]:
        """Yield every key; the caller holds `_committing`, so nothing moves from here to the storage meanwhile."""
        self._check_open()
        pending = self._pending.writes()
        yield from [key for key, change in pending.items() if self._held(change) is not None]
        for keys, _ in self._storage.scan():
            yield from (key for key in keys if key not in pending)

    def _first(self) -> str | None:
        with self._committing, closing(self._listed()) as keys:
            return next(keys, None)

    def _note(self, change: Put | Delete) -> None:
        with self._pending.lock:
            self._check_open()
            self._pending.note(change)

    def _flush_if_full(self) -> None:
        if self._pending.is_full:
            with self._committing:
                if self._pending.is_full:  # no other thread has committed meanwhile
                    self._commit()

    def _commit(self) -> int:
        """Commit what is pending; the caller holds `_committing`."""
        left = self._pending.take()
        try:
            count = steps.commit(self._storage, [*left.values()], Options(), self._environment) if left else 0
            left = {}
        except RefusedError:
            left = {}  # all but the refused keys are logged, and those are reported now
            raise
        finally:
            self._pending.settle(left)
        return count


class _Items(ItemsView[str, bytes]):
    """Keys and values, without those that are deleted before their turn."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._store = store

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        for key in self._store:
            value = self._store.get(key)
            if value is not None:
                yield key, value


class _Values(ValuesView[bytes]):
    """Values, without those that are deleted before their turn."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._store = store

    def __iter__(self) -> Iterator[bytes]:
        yield from (value for _, value in _Items(self._store))
