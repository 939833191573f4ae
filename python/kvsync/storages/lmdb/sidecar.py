"""Files beside the data of an LMDB environment, open to whoever may open the data."""

from __future__ import annotations

import os
from contextlib import suppress

__all__ = ["open_sidecar"]

_READ_AND_WRITE = 0o666
# Nobody waits for a pipe of that name, nor is anything written where a link leads.
_SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def open_sidecar(data: str, path: str, flags: int) -> int:
    """Open `path` and return the descriptor; where that makes it, it gets the owner and permissions of the file `data`.

    Else a run of the superuser, or of somebody else in the group, would leave a file that the others cannot open.

    Raises:
        OSError: it cannot be opened.
    """
    while True:
        try:
            return os.open(path, flags & ~os.O_CREAT | _SAFE)
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
        try:
            file = os.open(path, flags | os.O_EXCL | _SAFE, _READ_AND_WRITE)
        except FileExistsError:  # somebody else made it just now
            continue
        try:
            _admit_others(file, data)
        except BaseException:
            os.close(file)
            raise
        return file


def _admit_others(file: int, data: str) -> None:
    if not hasattr(os, "fchmod"):
        return
    with suppress(OSError):  # it is ours at least
        like = os.stat(data)
        os.fchmod(file, like.st_mode & _READ_AND_WRITE)
        if os.geteuid() == 0:
            os.fchown(file, like.st_uid, like.st_gid)
