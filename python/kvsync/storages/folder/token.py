"""Version tokens of files: what tells a scan that a file changed, and what cannot tell it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

__all__ = ["COARSE_TICK_NS", "Content", "content_of", "directory_token", "is_young", "token_of", "tokens_of"]

TICK_NS = 20_000_000
"""What the kernel's clock may be behind: a file can change twice within that, and show one time."""

COARSE_TICK_NS = 2_020_000_000
"""The same for file systems that keep whole seconds, some of them only even ones."""

_SECOND_NS = 1_000_000_000
_token = struct.Struct("<qqQQ")
_pack = _token.pack
_directory = struct.Struct("<cQ")


class Content(NamedTuple):
    """What a file shows of its content; unlike the token it stays the same when the file is renamed or linked."""

    modified_ns: int
    size: int
    number: int


def content_of(status: os.stat_result) -> Content:
    """Return modification time, size and inode of a file."""
    return Content(status.st_mtime_ns, status.st_size, status.st_ino)


def token_of(status: os.stat_result) -> bytes:
    """Return the version token of a file: modification time, change time, size, inode.

    The kernel sets the change time itself: a write is seen even if its author puts the modification time back.
    """
    modified, changed, size, number = status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
    try:
        return _pack(modified, changed, size, number)
    except struct.error:  # a time before 1678 or after 2261 has more than 64 bits of nanoseconds
        return _pack(_wrapped(modified), _wrapped(changed), size, number)


def tokens_of(statuses: Sequence[os.stat_result]) -> list[bytes]:
    """Return the version tokens of many files."""
    try:
        return [_pack(file.st_mtime_ns, file.st_ctime_ns, file.st_size, file.st_ino) for file in statuses]
    except struct.error:
        return [*map(token_of, statuses)]


def directory_token(status: os.stat_result) -> bytes:
    """Return the version token of an empty directory: its inode. Its times move with entries that come and go."""
    return _directory.pack(b"d", status.st_ino)


def is_young(token: bytes, now_ms: int) -> bool:
    """Return whether a file may have changed once more, up to `now_ms`, and still have this token.

    >>> token = _pack(0, 999_999_000_123_456, 1, 1)
    >>> is_young(token, 1_000_000_000), is_young(token, 999_999_010)
    (False, True)
    """
    if len(token) != _token.size:
        return len(token) != _directory.size  # all empty directories have one value
    modified, changed = _times(token)
    now = now_ms * 1_000_000
    coarse = modified % _SECOND_NS == 0 and changed % _SECOND_NS == 0
    since = now - (COARSE_TICK_NS if coarse else TICK_NS)
    # A modification time in the future was set by hand; then only the change time says when the file changed.
    return changed >= since or since <= modified <= now


def _times(token: bytes) -> tuple[int, int]:
    modified, changed, _, _ = _token.unpack(token)
    return modified, changed


def _wrapped(time_ns: int) -> int:
    return (time_ns + (1 << 63)) % (1 << 64) - (1 << 63)
