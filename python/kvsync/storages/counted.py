"""Count the operations of a run on a storage."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from kvsync.storages.wrapper import WrappedStorage

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvsync.storages.contract import Storage
    from kvsync.types import Expectation, Version

__all__ = ["CountedStorage"]

P = ParamSpec("P")
T = TypeVar("T")


class CountedStorage(WrappedStorage):
    """Counts calls by method in `operations`, and the bytes of index objects stored as `store_bytes`."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.operations: Counter[str] = Counter()

    def around(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Count a call, then make it."""
        self.operations[method] += 1
        return call(*args, **kwargs)

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Count bytes, too."""
        self.operations["store"] += 1
        self.operations["store_bytes"] += len(data)
        return self.inner.store(name, data, expect)
