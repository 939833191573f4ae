"""Make several files durable: file systems combine calls of `fsync` that come at the same time, so threads call it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kvsync.threads import thread_pool

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SYNCERS", "sync_each"]

SYNCERS = 8
_FEW = 2


def sync_each(files: Sequence[int]) -> None:
    """Make some open files or directories durable.

    Raises:
        OSError: one of them could not be written.
    """
    if len(files) <= _FEW:
        for file in files:
            os.fsync(file)
        return
    with thread_pool(min(SYNCERS, len(files)), "kvsync-sync") as pool:
        list(pool.map(os.fsync, files))
