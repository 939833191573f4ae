"""Paths that keep their meaning when the process changes its working directory."""

from __future__ import annotations

import os

__all__ = ["absolute", "is_full", "is_within"]

FREE_BYTES_MIN = 1 << 20
"""With less free space than this, a file that cannot be written or made means that the disk is full."""


def absolute(path: str) -> str:
    """Return the absolute form that a path has now.

    >>> absolute("/var/app.db")
    '/var/app.db'
    """
    # Not `os.path.abspath`: it removes `link/..`, which is the parent of the link's target.
    return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)


def is_full(path: str) -> bool:
    """Return whether the disk of a file or directory has hardly any space left; not, if that cannot be told."""
    try:
        found = os.statvfs(path if os.path.exists(path) else os.path.dirname(path))
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < FREE_BYTES_MIN


def is_within(path: str, folder: str) -> bool:
    """Return whether `path` is `folder` or below it, by whatever links, mounts or letter case either is spelt.

    >>> is_within("/var/../var/log/x", "/var/log"), is_within("/var/logs", "/var/log")
    (True, False)
    """
    here, top = os.path.realpath(path), os.path.realpath(folder)
    status = _status(top)
    while True:
        if here == top or (status is not None and _is_same(_status(here), status)):
            return True
        parent = os.path.dirname(here)
        if parent == here:
            return False
        here = parent


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _is_same(one: os.stat_result | None, other: os.stat_result) -> bool:
    return one is not None and os.path.samestat(one, other)
