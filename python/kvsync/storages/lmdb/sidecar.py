"""Files beside the data of an LMDB environment, accessible to everybody who can access the data."""

from __future__ import annotations

import os
from contextlib import suppress

__all__ = ["open_sidecar"]

_READ_AND_WRITE = 0o666
# Never wait for a pipe of that name, and never follow a link.
_SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def open_sidecar(data: str, path: str, flags: int) -> int:
    """Open `path` and return the descriptor; a new file gets the owner and permissions of the file `data`.

    Otherwise a run of the superuser, or of another member of the group, would leave a file that others cannot open.

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
        except FileExistsError:  # somebody else has just created it
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
    with suppress(OSError):  # at least it is ours
        like = os.stat(data)
        os.fchmod(file, like.st_mode & _READ_AND_WRITE)
        if os.geteuid() == 0:
            os.fchown(file, like.st_uid, like.st_gid)
