"""Paths that keep their meaning when the process changes its working directory."""

from __future__ import annotations

import os

__all__ = ["absolute"]


def absolute(path: str) -> str:
    """Return the absolute form that a path has now.

    >>> absolute("/var/app.db")
    '/var/app.db'
    """
    # Not `os.path.abspath`: it removes `link/..`, which is the parent of the link's target.
    return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
