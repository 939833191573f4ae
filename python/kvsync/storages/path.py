"""Paths that go on meaning the same when the process changes its working directory."""

from __future__ import annotations

import os

__all__ = ["absolute"]


def absolute(path: str) -> str:
    """Return a path as it is meant now, from the root of the file system.

    >>> absolute("/var/app.db")
    '/var/app.db'
    """
    # Not `os.path.abspath`: that takes `link/..` for nothing, and it is the parent of what the link leads to.
    return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
