"""Concurrent requests: a bounded number of threads, each making one request after another."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["map_concurrently"]

T = TypeVar("T")
R = TypeVar("R")


def map_concurrently(call: Callable[[T], R], items: Sequence[T], concurrency: int) -> list[R]:
    """Return `call` of every item, in their order.

    After a failure, start nothing new, wait for what is in progress, and raise the failure.

    Raises:
        Exception: what the first failing call raised.
    """
    count = min(concurrency, len(items))
    if count <= 1:
        return [call(item) for item in items]
    batch = _Batch(call, items)
    with ThreadPoolExecutor(count, thread_name_prefix="kvsync-bucket") as threads:
        workers = [threads.submit(batch.work) for _ in range(count)]
        try:
            for worker in workers:
                worker.result()
        finally:
            batch.stopped.set()  # if the waiting thread is interrupted, the others end soon
    return batch.results


class _Batch(Generic[T, R]):
    def __init__(self, call: Callable[[T], R], items: Sequence[T]) -> None:
        self.results: list[R] = [None] * len(items)  # type: ignore[list-item]
        self.stopped = Event()
        self._call = call
        self._items = items
        self._positions: Iterator[int] = iter(range(len(items)))
        self._lock = Lock()

    def work(self) -> None:
        while not self.stopped.is_set():
            with self._lock:
                position = next(self._positions, None)
            if position is None:
                return
            try:
                self.results[position] = self._call(self._items[position])
            except BaseException:
                self.stopped.set()
                raise
