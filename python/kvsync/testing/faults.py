"""Faults on purpose: a run that fails, loses an answer or is killed at an operation of your choice."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, ParamSpec, TypeAlias, TypeVar

from kvsync.errors import StorageError
from kvsync.storages.wrapper import WrappedStorage
from kvsync.types import Written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.storages.contract import Storage
    from kvsync.types import Metadata

__all__ = ["FAULT_MODES", "Fault", "FaultError", "FaultMode", "FaultyStorage", "Killed"]

P = ParamSpec("P")
T = TypeVar("T")

FaultMode: TypeAlias = Literal["killed", "raises", "lost", "killed-after"]
FAULT_MODES: Final[tuple[FaultMode, ...]] = ("killed", "raises", "lost", "killed-after")


class Killed(BaseException):
    """The process is dead: none of its later operations reaches a storage, so it does not even release its lease."""


class FaultError(StorageError):
    """An operation failed on purpose; the process lives on."""


@dataclass
class Fault:
    """One fault in one run, at its `at`-th operation, counted from 1 over all storages that share this object.

    Attributes:
        at: which operation fails; None for none. It may be set at any time.
        mode: `raises`: the operation fails and has no effect. `lost`: it takes effect, but the answer is lost, so it
            fails all the same. `killed`, `killed-after`: the process is killed before or after the effect.
        before: called before each operation with its number, to do something in between.
        count: operations so far.
        happened: whether the fault has occurred.

    >>> Fault(at=3, mode="lost")
    Fault(at=3, mode='lost')
    """

    at: int | None = None
    mode: FaultMode = "raises"
    before: Callable[[int], None] | None = field(default=None, repr=False)
    count: int = field(default=0, init=False, repr=False)
    happened: bool = field(default=False, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    @property
    def kills(self) -> bool:
        """Whether this fault kills the process."""
        return self.mode in {"killed", "killed-after"}

    def call(self, method: str, operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Perform an operation, or fail.

        Raises:
            FaultError: this is the operation that fails.
            Killed: this is the operation at which the process is killed, or a later one.
        """
        if self.happened and self.kills:
            raise Killed
        with self._lock:
            self.count += 1
            number = self.count
        if self.before is not None:
            self.before(number)
        if number != self.at:
            return operation(*args, **kwargs)
        self.happened = True
        if self.mode in {"lost", "killed-after"}:
            operation(*args, **kwargs)
        if self.kills:
            raise Killed
        message = f"planted fault at operation {number} ({method})"
        raise FaultError(message)


class FaultyStorage(WrappedStorage):
    """A storage whose operations fail where a `Fault` says.

    Each value of a batch is an operation of its own, since a real batch may be cut anywhere.

    >>> from kvsync.storages.mapping import MappingStorage
    >>> storage = FaultyStorage(MappingStorage({}), Fault(at=3))
    >>> _ = storage.write(["a", "b"], [b"1", b"2"])
    >>> storage.read(["a"])
    Traceback (most recent call last):
    ...
    kvsync.testing.faults.FaultError: planted fault at operation 3 (read)
    """

    def __init__(self, inner: Storage, fault: Fault) -> None:
        super().__init__(inner)
        self.fault = fault

    def around(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call, or fail."""
        return self.fault.call(method, call, *args, **kwargs)

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Write each value as an operation of its own."""
        batch = zip(keys, values, _each(expect, len(keys)), strict=True)
        return _joined([self.around("write", self.inner.write, [key], [value], wanted) for key, value, wanted in batch])

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Delete each key as an operation of its own."""
        batch = zip(keys, _each(expect, len(keys)), strict=True)
        return _joined([self.around("delete", self.inner.delete, [key], wanted) for key, wanted in batch])

    def write_with_metadata(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        metadata: Sequence[Metadata | None],
        expect: Sequence[bytes | None] | None = None,
    ) -> Written:
        """Write each value as an operation of its own."""
        write = self._complete.write_with_metadata
        batch = zip(keys, values, metadata, _each(expect, len(keys)), strict=True)
        return _joined(
            [
                self.around("write_with_metadata", write, [key], [value], [beside], token)
                for key, value, beside, token in batch
            ]
        )

    def write_expiring(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        expires: Sequence[int],
        expect: Sequence[bytes | None] | None = None,
    ) -> Written:
        """Write each value as an operation of its own."""
        write = self._complete.write_expiring
        batch = zip(keys, values, expires, _each(expect, len(keys)), strict=True)
        return _joined(
            [self.around("write_expiring", write, [key], [value], [due], wanted) for key, value, due, wanted in batch]
        )


def _each(expect: Sequence[bytes | None] | None, count: int) -> Sequence[list[bytes | None] | None]:
    return [None] * count if expect is None else [[token] for token in expect]


def _joined(written: Sequence[Written]) -> Written:
    """Return the results of single operations as that of one batch."""
    refused = tuple(refusal for one in written for refusal in one.refused)
    tokens = [token for one in written for token in one.tokens or ()]
    return Written(refused, tuple(tokens) if len(tokens) == len(written) else None)
