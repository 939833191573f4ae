"""Symbolic links: where they lead, as long as they stay below the root of the folder."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from kvsync.storages.folder.keyname import is_reserved
from kvsync.storages.folder.safe_tree import NoValueError

if TYPE_CHECKING:
    from kvsync.storages.folder.safe_tree import SafeTree

__all__ = ["DanglingLinkError", "Links"]

LINKS_MAX = 40
"""Links in one path, as in the kernel."""


class DanglingLinkError(NoValueError):
    """A symbolic link leads to nothing."""


class Links:
    """The links of one tree, during one batch; they are followed only if `follow` says so.

    A path is resolved to one without links, which is then opened as any other: never through a link. So what is
    replaced by a link between the look and the opening is not followed out of the folder either.

    Args:
        tree: the tree.
        root: the absolute path of its root, without links; links may name it.
        follow: follow links.
    """

    def __init__(self, tree: SafeTree, root: str, *, follow: bool) -> None:
        self.follow = follow
        self._tree = tree
        self._root = root.rstrip("/")
        self._directories: dict[str, str] = {"": ""}

    def target(self, path: str) -> str:
        """Return the path of what is at `path`, without links.

        Raises:
            NoValueError: a link leads to nothing, out of the folder, into the index, or in a circle.
        """
        if not self.follow:
            return path
        place = self.place(path)
        status = self._tree.status(place)
        if status is None or not stat.S_ISLNK(status.st_mode):
            return place
        found = self._resolved(place)
        if self._tree.status(found) is None:
            message = f"the symbolic link {path!r:.300} leads to nothing"
            raise DanglingLinkError(message)
        return found

    def place(self, path: str) -> str:
        """Return the path of the entry at `path`, which may be a link itself, in a directory that is none.

        Raises:
            NoValueError: a link among the directories cannot be followed.
        """
        if not self.follow:
            return path
        parent, _, leaf = path.rpartition("/")
        found = self._directories.get(parent)
        if found is None:
            found = self._directories[parent] = self._resolved(parent)
        return f"{found}/{leaf}" if found else leaf

    def is_link(self, path: str) -> bool:
        """Return whether the entry at `path` is a link."""
        status = self._tree.status(self.place(path))
        return status is not None and stat.S_ISLNK(status.st_mode)

    def _resolved(self, path: str) -> str:
        pending, done, followed = path.split("/")[::-1], list[str](), 0
        while pending:
            name = pending.pop()
            if name == "..":
                if not done:
                    raise _outside(path)
                done.pop()
            elif name not in {"", "."}:
                link = self._link_at([*done, name])
                if link is None:
                    done.append(name)
                    continue
                followed += 1
                if followed > LINKS_MAX:
                    message = f"the symbolic link {path!r:.300} leads in a circle"
                    raise NoValueError(message)
                if link.startswith("/"):
                    link, done = self._below_root(link, path), []
                pending += link.split("/")[::-1]
        if followed and done and is_reserved(done[0]):
            message = f"the symbolic link {path!r:.300} leads into the index"
            raise NoValueError(message)
        return "/".join(done)

    def _link_at(self, names: list[str]) -> str | None:
        """Return what the link at a path says, or None if none is there."""
        status = self._tree.status("/".join(names))
        if status is None or not stat.S_ISLNK(status.st_mode):
            return None
        return os.readlink(names[-1], dir_fd=self._tree.directory("/".join(names[:-1])))

    def _below_root(self, link: str, path: str) -> str:
        if link != self._root and not link.startswith(self._root + "/"):
            raise _outside(path)
        return link[len(self._root) :]


def _outside(path: str) -> NoValueError:
    return NoValueError(f"the symbolic link {path!r:.300} leads out of the folder")
