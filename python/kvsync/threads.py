"""Thread pools. Their module takes longer to load than many runs take, so it is loaded where a pool is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

__all__ = ["thread_pool"]


def thread_pool(workers: int, name: str) -> ThreadPoolExecutor:
    """Return a pool of so many threads, whose names begin with `name`."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - see above

    return ThreadPoolExecutor(workers, thread_name_prefix=name)
