"""Atomic exchange of two files, and renames that replace nothing, where the file system has them.

Python has neither, so both are called in the C library: `renameat2` on Linux, `renameatx_np` on macOS.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["exchange", "rename_new"]

_EXCHANGE = 2  # RENAME_EXCHANGE on Linux, RENAME_SWAP on macOS
_NEW = 4 if sys.platform == "darwin" else 1  # RENAME_EXCL, RENAME_NOREPLACE
_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}


def exchange(source: str, target: str, *, source_at: int, target_at: int) -> bool:
    """Exchange two files, in one step for everybody else; return False if that is not possible here.

    Raises:
        OSError: it failed; nothing is changed.
    """
    return _rename(source, target, source_at, target_at, _EXCHANGE)


def rename_new(source: str, target: str, *, source_at: int, target_at: int) -> None:
    """Rename a file to a name that is free.

    Raises:
        FileExistsError: it is not.
        OSError: it failed; nothing is changed.
    """
    if _link(source, target, source_at, target_at):
        os.unlink(source, dir_fd=source_at)
    elif not _rename(source, target, source_at, target_at, _NEW):
        with contextlib.suppress(FileNotFoundError):
            os.stat(target, dir_fd=target_at, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        os.rename(source, target, src_dir_fd=source_at, dst_dir_fd=target_at)


def _link(source: str, target: str, source_at: int, target_at: int) -> bool:
    try:
        os.link(source, target, src_dir_fd=source_at, dst_dir_fd=target_at, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_LINKS:
            return False
        raise
    return True


def _rename(source: str, target: str, source_at: int, target_at: int, flag: int) -> bool:
    function, last_errno = _renameat()
    if function is None:
        return False
    if function(source_at, os.fsencode(source), target_at, os.fsencode(target), flag) == 0:
        return True
    code = last_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), target)


@cache
def _renameat() -> tuple[Callable[[int, bytes, int, bytes, int], int] | None, Callable[[], int]]:
    """Return the function of the C library, and what tells why it failed."""
    import ctypes  # noqa: PLC0415 - takes milliseconds, and many runs replace nothing

    library = ctypes.CDLL(None, use_errno=True)
    for name in ("renameat2", "renameatx_np"):
        function = getattr(library, name, None)
        if function is not None:
            function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
            return function, ctypes.get_errno
    return None, ctypes.get_errno
