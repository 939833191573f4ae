"""The directories that kvsync made: only these are removed when a delete empties them.

They are listed in `.kvsync/made.list`, each path ended by NUL. Without the list, directories stay. Programs look for
some directories even if they are empty: those stay, too, whoever made them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kvsync.storages.contract import RESERVED
from kvsync.storages.folder.staging import write_all

if TYPE_CHECKING:
    from collections.abc import Collection

    from kvsync.storages.folder.safe_tree import SafeTree
    from kvsync.storages.folder.staging import Staging

__all__ = ["MADE", "MadeDirectories", "is_needed"]

MADE = "made.list"  # the name of an index object has no dot

_NEEDED = {"refs": "HEAD", "objects": "HEAD", "cur": "new", "new": "cur", "tmp": "cur"}
"""{name: what is beside it}: without `refs` and `objects` there is no git repository, without `cur` no Maildir."""

_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class MadeDirectories:
    """The list of the directories that kvsync made in one tree."""

    def __init__(self, tree: SafeTree) -> None:
        self._tree = tree
        self._paths: set[str] | None = None

    def add(self, paths: Collection[str]) -> None:
        """Add directories, durably once the tree is synced."""
        paths = [path for path in paths if path.partition("/")[0] != RESERVED]
        if not paths:
            return
        file = os.open(MADE, _APPEND, 0o666, dir_fd=self._tree.make(RESERVED))
        try:
            write_all(file, _lines(paths))
            os.fsync(file)
        finally:
            os.close(file)
        self._tree.touch(RESERVED)

    def __contains__(self, path: str) -> bool:
        """Whether kvsync made a directory."""
        if self._paths is None:
            self._paths = self._listed()
        return path in self._paths

    def discard(self, paths: Collection[str], staging: Staging) -> None:
        """Take directories off the list that are gone."""
        left = self._listed() - set(paths)
        name, file = staging.create()
        try:
            write_all(file, _lines(sorted(left)))
            os.fsync(file)
        finally:
            os.close(file)
        os.rename(name, MADE, src_dir_fd=staging.directory, dst_dir_fd=self._tree.make(RESERVED))
        self._tree.touch(RESERVED)

    def _listed(self) -> set[str]:
        here = self._tree.directory(RESERVED)
        if here is None:
            return set()
        try:
            file = os.open(MADE, _READ, dir_fd=here)
        except OSError:
            return set()
        with open(file, "rb") as opened:
            return set(opened.read().decode(errors="replace").split("\0")[:-1])


def is_needed(tree: SafeTree, path: str) -> bool:
    """Return whether a directory belongs to a git repository or a Maildir, which is none without it."""
    parent, _, name = path.rpartition("/")
    beside = _NEEDED.get(name)
    return beside is not None and tree.status(f"{parent}/{beside}" if parent else beside) is not None


def _lines(paths: Collection[str]) -> bytes:
    return "".join(f"{path}\0" for path in paths).encode()
