"""A storage with latency."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from kvsync.storages.wrapper import WrappedStorage

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvsync.storages.contract import Storage

__all__ = ["LatencyStorage"]

P = ParamSpec("P")
T = TypeVar("T")


class LatencyStorage(WrappedStorage):
    """A storage that waits `seconds` before each operation.

    >>> from kvsync.storages.mapping import MappingStorage
    >>> waits = []
    >>> storage = LatencyStorage(MappingStorage({}), seconds=0.03, sleep=waits.append)
    >>> storage.read(["a"]), waits
    ([None], [0.03])
    """

    def __init__(self, inner: Storage, *, seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
        super().__init__(inner)
        self.seconds = seconds
        self._sleep = sleep

    def around(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Wait, then make a call."""
        self._sleep(self.seconds)
        return super().around(method, call, *args, **kwargs)
