"""The folder itself: opened anew for each call, and created at the first write."""

from __future__ import annotations

import contextlib
import os

__all__ = ["Root"]

_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Root:
    """The directory at an absolute path; it may be a symbolic link.

    Args:
        path: the absolute path.
        create: `made` creates it; until then it may be missing.
    """

    def __init__(self, path: str, *, create: bool) -> None:
        self._path = path
        self._create = create
        self._made: list[str] = []

    def opened(self) -> int | None:
        """Return a descriptor of the directory; None if it is missing and may be.

        Raises:
            OSError: it cannot be opened.
        """
        try:
            return os.open(self._path, _ROOT)
        except FileNotFoundError:
            if not self._create:
                raise
            return None

    def made(self) -> int:
        """Return a descriptor of the directory; create it, durably, if it is missing.

        Raises:
            OSError: it cannot be opened or created.
        """
        root = self.opened()
        if root is not None:
            return root
        path = self._path
        while not os.path.lexists(path):
            self._made.append(path)
            path = os.path.dirname(path)
        os.makedirs(self._path, exist_ok=True)
        parent = os.open(os.path.dirname(os.path.realpath(self._path)), _ROOT)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
        return os.open(self._path, _ROOT)

    def remove_made(self) -> None:
        """Remove the directories that we created, from the folder upward, as far as they are empty."""
        with contextlib.suppress(OSError):
            for path in self._made:
                os.rmdir(path)
        self._made.clear()
