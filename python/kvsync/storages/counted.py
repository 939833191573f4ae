"""A storage that counts what is asked of it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from kvsync.storages.base import SupportsTransaction

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from kvsync.storages.base import Storage
    from kvsync.types import Expectation, Stored, Unreadable, Version, Written

__all__ = ["CountedStorage", "counted"]


class CountedStorage:
    """Passes every call on to `inner`, counting it in `operations` by the method's name."""

    def __init__(self, inner: Storage) -> None:
        self.inner = inner
        self.name = inner.name
        self.capabilities = inner.capabilities
        self.operations: Counter[str] = Counter()

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Count and pass on."""
        self.operations["read"] += 1
        return self.inner.read(keys)

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Count and pass on."""
        self.operations["write"] += 1
        return self.inner.write(keys, values, expect)

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Count and pass on."""
        self.operations["delete"] += 1
        return self.inner.delete(keys, expect)

    def scan(self) -> Iterator[tuple[list[str], list[bytes]]]:
        """Count and pass on."""
        self.operations["scan"] += 1
        return self.inner.scan()

    def load(self, name: str) -> Stored | None:
        """Count and pass on."""
        self.operations["load"] += 1
        return self.inner.load(name)

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Count and pass on."""
        self.operations["store"] += 1
        self.operations["store_bytes"] += len(data)
        return self.inner.store(name, data, expect)

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Count and pass on."""
        self.operations["remove"] += 1
        self.inner.remove(names, expect)

    def objects(self) -> list[str]:
        """Count and pass on."""
        self.operations["objects"] += 1
        return self.inner.objects()

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        """Count and pass on."""
        self.operations["modified_ms"] += 1
        return self.inner.modified_ms(keys)

    def close(self) -> None:
        """Pass on."""
        self.inner.close()


class _CountedTransactional(CountedStorage):
    """A counted storage whose inner one has transactions."""

    def transaction(self) -> AbstractContextManager[None]:
        """Count and pass on."""
        inner = self.inner
        assert isinstance(inner, SupportsTransaction)  # noqa: S101 - the class is chosen by that
        self.operations["transaction"] += 1
        return inner.transaction()


def counted(inner: Storage) -> CountedStorage:
    """Wrap `inner`; the wrapper has transactions just where `inner` has."""
    return _CountedTransactional(inner) if isinstance(inner, SupportsTransaction) else CountedStorage(inner)
