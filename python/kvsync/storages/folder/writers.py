"""Whether another program has a file open for writing: what it writes would be lost if the file were removed."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvsync.storages.folder.staging import Staging

__all__ = ["is_being_written"]


def is_being_written(file: int, staging: Staging) -> bool:
    """Return whether another program has this file open for writing; False where the system does not tell.

    Linux grants a read lease on a file only if nobody has it open for writing. `file` is open for reading only.
    """
    if not hasattr(fcntl, "F_SETLEASE") or _leases(file):
        return False
    # Some network file systems refuse every lease, so try a file that nobody else knows.
    name, probe = staging.create()
    os.close(probe)
    probe = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=staging.directory)
    try:
        return _leases(probe)
    finally:
        os.close(probe)
        staging.discard(name)


def _leases(file: int) -> bool:
    """Return whether a read lease is granted, or nobody can say."""
    try:
        # A program that opens the file meanwhile breaks the lease, which would kill us by SIGIO.
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno != errno.EAGAIN
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True
