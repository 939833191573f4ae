"""The base of storages around storages: one method sees every call."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from kvsync.storages.base import has_copy, has_expiry, has_sizes, has_streaming, has_transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from kvsync.storages.base import Storage
    from kvsync.types import Capabilities, Expectation, Origin, Stored, Unreadable, Version, Written

__all__ = ["WrappedStorage", "innermost"]

P = ParamSpec("P")
T = TypeVar("T")


class WrappedStorage:
    """A storage around another, `inner`; subclasses override `around`.

    It has `transaction`, and the methods of `SupportsExpiry`, `SupportsSizes`, `SupportsStreaming` and `SupportsCopy`,
    exactly if `inner` has. `origin` is no operation, since it asks nothing. Entering a transaction is the operation
    `begin`, leaving it `commit`. Its capabilities are those that `inner` has at the time, since some storages learn
    from their server what they can do, unless others are set.
    """

    transaction: Callable[[], AbstractContextManager[None]]
    expiries: Callable[[Sequence[str]], list[int]]
    write_expiring: Callable[..., Written]
    sizes: Callable[[Sequence[str]], list[int | None]]
    read_stream: Callable[[str], Iterator[bytes] | Unreadable | None]
    write_stream: Callable[..., Written]
    origin: Callable[[str], Origin | None]
    copy: Callable[..., Written | None]
    _capabilities: Capabilities | None = None

    def __init__(self, inner: Storage) -> None:
        self.inner = inner
        self.name = inner.name
        if has_transaction(inner):
            self.transaction = self._transaction
        if has_expiry(inner):
            self.expiries = lambda keys: self.around("expiries", inner.expiries, keys)
            self.write_expiring = lambda keys, values, expires, expect=None: self.around(
                "write_expiring", inner.write_expiring, keys, values, expires, expect
            )
        if has_sizes(inner):
            self.sizes = lambda keys: self.around("sizes", inner.sizes, keys)
        if has_streaming(inner):
            self.read_stream = lambda key: self.around("read_stream", inner.read_stream, key)
            self.write_stream = lambda key, parts, expect=None: self.around(
                "write_stream", inner.write_stream, key, parts, expect
            )
        if has_copy(inner):
            self.origin = inner.origin
            self.copy = lambda key, origin, version, size, expect=None, *, meanwhile: self.around(
                "copy", inner.copy, key, origin, version, size, expect, meanwhile=meanwhile
            )

    @property
    def capabilities(self) -> Capabilities:
        """What this storage can do."""
        return self._capabilities or self.inner.capabilities

    @capabilities.setter
    def capabilities(self, capabilities: Capabilities) -> None:
        self._capabilities = capabilities

    # Not a closure a call, since even a small run makes twenty of these.
    def around(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:  # noqa: ARG002
        """Make a call of the protocol's `method`."""
        return call(*args, **kwargs)

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Forward `Storage.read`."""
        return self.around("read", self.inner.read, keys)

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Forward `Storage.write`."""
        return self.around("write", self.inner.write, keys, values, expect)

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Forward `Storage.delete`."""
        return self.around("delete", self.inner.delete, keys, expect)

    def scan(self) -> Iterator[tuple[list[str], list[bytes]]]:
        """Forward `Storage.scan`; it is one operation, made when the first batch is asked for."""
        yield from self.around("scan", self.inner.scan)

    def load(self, name: str) -> Stored | None:
        """Forward `Storage.load`."""
        return self.around("load", self.inner.load, name)

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Forward `Storage.store`."""
        return self.around("store", self.inner.store, name, data, expect)

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Forward `Storage.remove`."""
        return self.around("remove", self.inner.remove, names, expect)

    def objects(self) -> list[str]:
        """Forward `Storage.objects`."""
        return self.around("objects", self.inner.objects)

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        """Forward `Storage.modified_ms`."""
        return self.around("modified_ms", self.inner.modified_ms, keys)

    def close(self) -> None:
        """Close `inner`; no operation, since a killed process closes its files, too."""
        self.inner.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        inner = self.inner
        assert has_transaction(inner)  # noqa: S101 - `transaction` is set only if so
        with contextlib.ExitStack() as outside:
            # A commit happens on leaving `stack`; what fails before it happens inside, so it is undone.
            stack = contextlib.ExitStack()
            outside.push(stack)
            self.around("begin", lambda: stack.enter_context(inner.transaction()))
            yield
            self.around("commit", stack.close)


def innermost(storage: object) -> object:
    """Return what all wrappers around a storage stand around; whatever has an `inner` is one."""
    while (inner := getattr(storage, "inner", None)) is not None:
        storage = inner
    return storage
