"""Make many files durable at once.

`fsync` makes one file durable, and file systems combine calls that come at the same time: so several threads call it.
`syncfs` makes everything durable that was written to a file system, by one call. It pays for many files only, since it
also waits for what other programs have written. And only some systems tell by it that a file could not be written:

- Linux reports such a failure since 5.8, and a failure of the journal since 5.17, to whoever had a descriptor open by
  then.
- Of the file systems, those here are known to. Others, such as overlays, network file systems and FUSE, may report
  less by `syncfs` than by `fsync`.
"""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from kvsync.threads import thread_pool

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BULK_COUNT", "SYNCERS", "can_sync_all", "sync_all", "sync_each"]

BULK_COUNT = 512
"""So many files are worth one `syncfs`."""

SYNCERS = 8

_FEW = 2
_KERNEL_MIN = (5, 17)
_KINDS = {0xEF53, 0x58465342, 0x9123683E, 0x01021994}  # ext4 and its elder brothers, xfs, btrfs, tmpfs
_STATFS_BYTES = 512  # more than the structure has anywhere


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


def can_sync_all(directory: int) -> bool:
    """Return whether `sync_all` is as sure as an `fsync` of each file, on the file system of an open directory."""
    if sys.platform != "linux" or _kernel(os.uname().release) < _KERNEL_MIN:
        return False
    import ctypes  # noqa: PLC0415 - takes milliseconds, and most runs write few files

    described = ctypes.create_string_buffer(_STATFS_BYTES)
    if _library().fstatfs(directory, described) != 0:
        return False
    kind = int.from_bytes(described.raw[: ctypes.sizeof(ctypes.c_long)], sys.byteorder)
    return kind & 0xFFFFFFFF in _KINDS


def sync_all(directory: int) -> None:
    """Make everything durable that was written to the file system of a directory since that was opened.

    Raises:
        OSError: something could not be written, which may be another program's.
    """
    import ctypes  # noqa: PLC0415 - takes milliseconds, and most runs write few files

    if _library().syncfs(directory) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _kernel(release: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", release)[:2]))


@cache
def _library() -> Any:
    import ctypes  # noqa: PLC0415 - takes milliseconds, and most runs write few files

    return ctypes.CDLL(None, use_errno=True)
