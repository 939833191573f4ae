"""A storage that fails once, or permanently, at an operation of your choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar

from kvsync.errors import StorageError
from kvsync.storages.wrapper import WrappedStorage

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvsync.storages.contract import Storage

__all__ = ["FaultyStorage"]

P = ParamSpec("P")
T = TypeVar("T")


class FaultyStorage(WrappedStorage):
    """A storage whose `fail_at`-th operation fails, counted from 1.

    Args:
        inner: the storage that works.
        fail_at: which operation fails; None for none.
        mode: `before` fails without an effect; `after` fails although the effect has happened, like a lost response.
        dead: every later operation fails, too, so that a killed process does not release its lease.
        error: creates the exception.

    Attributes:
        count: operations so far.
        failed: whether the fault has happened.

    >>> from kvsync.storages.mapping import MappingStorage
    >>> storage = FaultyStorage(MappingStorage({}), fail_at=2)
    >>> _ = storage.write(["a"], [b"1"])
    >>> storage.read(["a"])
    Traceback (most recent call last):
    ...
    kvsync.errors.StorageError: the fault that was asked for, at operation 2 (read)
    """

    def __init__(
        self,
        inner: Storage,
        *,
        fail_at: int | None,
        mode: Literal["before", "after"] = "before",
        dead: bool = False,
        error: Callable[[str], BaseException] = StorageError,
    ) -> None:
        super().__init__(inner)
        self.fail_at = fail_at
        self.mode = mode
        self.dead = dead
        self.count = 0
        self.failed = False
        self._error = error

    def around(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call, or fail."""
        self.count += 1
        if self.failed and self.dead:
            raise self._fault(method)
        if self.count != self.fail_at:
            return call(*args, **kwargs)
        self.failed = True
        if self.mode == "after":
            call(*args, **kwargs)
        raise self._fault(method)

    def _fault(self, method: str) -> BaseException:
        return self._error(f"the fault that was asked for, at operation {self.count} ({method})")
