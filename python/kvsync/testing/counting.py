"""A storage that counts the calls to it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from kvsync.native import Page
from kvsync.storages.wrapper import WrappedStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.storages.contract import Pages, Storage
    from kvsync.types import Expectation, Stored, Unreadable, Version, Written

__all__ = ["CountingStorage"]

VALUE_METHODS = frozenset(
    {"read", "write", "write_expiring", "write_with_metadata", "delete", "scan", "modified_ms", "expiries"}
)
OBJECT_METHODS = frozenset({"load", "load_ranges", "store", "remove", "objects"})

P = ParamSpec("P")
T = TypeVar("T")


class CountingStorage(WrappedStorage):
    """A storage that counts every call of the protocol.

    Attributes:
        operations: calls of any method, by method; `begin` and `commit` for transactions.
        value_operations: calls for values, by method.
        object_operations: calls for index objects, by method.
        keys: the number of keys read, written, deleted or listed, by method; of ranges, for `load_ranges`.
        value_bytes: bytes of values, for `read` and `write`.
        object_bytes: bytes of index objects, for `load`, `load_ranges` and `store`.
        stored: the objects loaded, stored and removed, in order, as (method, name).

    >>> from kvsync.storages.mapping import MappingStorage
    >>> storage = CountingStorage(MappingStorage({}))
    >>> _ = storage.write(["a", "b"], [b"1", b"2"])
    >>> storage.operations, storage.value_bytes["write"]
    (Counter({'write': 1}), 2)
    """

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.reset()

    def reset(self) -> None:
        """Set every count to zero."""
        self.operations: Counter[str] = Counter()
        self.value_operations: Counter[str] = Counter()
        self.object_operations: Counter[str] = Counter()
        self.keys: Counter[str] = Counter()
        self.value_bytes: Counter[str] = Counter()
        self.object_bytes: Counter[str] = Counter()
        self.stored: list[tuple[str, str]] = []

    def around(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Count a call, then make it."""
        self.operations[method] += 1
        if method in VALUE_METHODS:
            self.value_operations[method] += 1
        elif method in OBJECT_METHODS:
            self.object_operations[method] += 1
        return call(*args, **kwargs)

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Count keys and bytes, too."""
        values = super().read(keys)
        self.keys["read"] += len(keys)
        self.value_bytes["read"] += sum(len(value) for value in values if isinstance(value, bytes))
        return values

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Count keys and bytes, too."""
        self.keys["write"] += len(keys)
        self.value_bytes["write"] += sum(map(len, values))
        return super().write(keys, values, expect)

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Count keys, too."""
        self.keys["delete"] += len(keys)
        return super().delete(keys, expect)

    def scan(self, splits: Sequence[str] = ()) -> Pages:
        """Count keys, too."""
        for page in super().scan(splits):
            self.keys["scan"] += len(page) if isinstance(page, Page) else len(page[0])
            yield page

    def load(self, name: str) -> Stored | None:
        """Count bytes, too."""
        found = super().load(name)
        self.stored.append(("load", name))
        self.object_bytes["load"] += len(found.data) if found else 0
        return found

    def load_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes] | None:
        """Count ranges and bytes, too."""
        found = super().load_ranges(name, ranges)
        self.stored.append(("load_ranges", name))
        self.keys["load_ranges"] += len(ranges)
        self.object_bytes["load_ranges"] += sum(map(len, found or ()))
        return found

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Count bytes, too."""
        self.stored.append(("store", name))
        self.object_bytes["store"] += len(data)
        return super().store(name, data, expect)

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Note the names, too."""
        self.stored += [("remove", name) for name in names]
        super().remove(names, expect)
