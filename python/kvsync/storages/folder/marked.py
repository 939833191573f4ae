"""Files of a folder that no key may lead to: those of a database that the folder is synced with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["MarkedFiles"]


class MarkedFiles:
    """Some files, by their paths and by what is there now: links and hard links are other paths of the same file.

    Args:
        root: the absolute path of the folder, without links.
        files: the absolute paths of the files, without links; they need not exist.

    Attributes:
        have_other_names: one of them has a hard link.
    """

    def __init__(self, root: str, files: Sequence[str]) -> None:
        self._paths = {os.path.relpath(file, root).replace(os.sep, "/") for file in files}
        found = [status for file in files if (status := _status(file)) is not None]
        self._there = {(status.st_dev, status.st_ino) for status in found}
        self.have_other_names = any(status.st_nlink > 1 for status in found)

    def may_be_above(self, key: str) -> bool:
        """Return whether one of them is at a directory of the plain path of a key."""
        return any(key.startswith(f"{path}/") for path in self._paths)

    def include(self, paths: Iterable[str], statuses: Iterable[os.stat_result]) -> bool:
        """Return whether one of them is at one of some paths without links, above one, or has one of some statuses."""
        if any((status.st_dev, status.st_ino) in self._there for status in statuses):
            return True
        return any(path in self._paths or self.may_be_above(path) for path in paths)


def _status(file: str) -> os.stat_result | None:
    try:
        return os.stat(file)
    except OSError:
        return None
