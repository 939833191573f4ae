"""The file `kvsync.toml`: named storages, and pairs of them with their options.

This module finds it, upwards from the working directory; `kvsync.config.file` reads it.
"""

from __future__ import annotations

import os
import stat

from kvsync.errors import UsageError

__all__ = ["FILE_NAME", "found_file"]

FILE_NAME = "kvsync.toml"


def found_file() -> str | None:
    """Return the path of the file in the working directory or the nearest one above it; None if there is none.

    Whoever can write the file can have commands run, so one that is found must belong to the user or to root.

    Raises:
        UsageError: it belongs to somebody else, or anybody may write it.
    """
    try:
        folder = os.getcwd()
    except OSError:  # it is gone
        return None
    while True:
        path = os.path.join(folder, FILE_NAME)
        if os.path.isfile(path):
            _check_owner(path)
            return path
        parent = os.path.dirname(folder)
        if parent == folder:
            return None
        folder = parent


def _check_owner(path: str) -> None:
    if not hasattr(os, "geteuid"):
        return
    status = os.stat(path)
    if status.st_uid not in {0, os.geteuid()}:
        message = f"{path} belongs to another user, and may run commands: if you trust it, name it with --config"
    elif status.st_mode & stat.S_IWOTH:
        message = f"anybody may write {path}, and it may run commands: run `chmod o-w` on it, or name it with --config"
    else:
        return
    raise UsageError(message)
