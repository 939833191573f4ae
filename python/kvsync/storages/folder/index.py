"""The index of a folder, and how the folder is opened for each call."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from kvsync.storages.contract import RESERVED, ObjectMismatch
from kvsync.storages.folder.failure import storage_errors
from kvsync.storages.folder.keyname import Naming
from kvsync.storages.folder.objects import ObjectFiles
from kvsync.storages.folder.root import Root
from kvsync.storages.folder.safe_tree import SafeTree
from kvsync.storages.path import absolute

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvsync.storages.folder.staging import Staging
    from kvsync.types import Expectation, Stored, Version

__all__ = ["FolderIndex"]


class FolderIndex:
    """A folder with its index objects, below `.kvsync/`.

    Args:
        path: the folder; it may be a symbolic link.
        create: create the folder at the first write; until then it reads as empty.
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool) -> None:
        self.path = os.fspath(path)
        self.name = self.path
        self.absolute_path = absolute(self.path)  # each call opens it
        self.identity = f"file:{os.path.realpath(self.path)}"
        self._root = Root(self.absolute_path, create=create)
        self._renamed: dict[bytes, bytes] = {}
        self._naming: Naming | None = None

    def load(self, name: str) -> Stored | None:
        """Return an index object, or None.

        Raises:
            StorageError: it cannot be read.
        """
        with self._reading() as (tree, _):
            return None if tree is None else ObjectFiles(tree, self.name).load(name)

    def load_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes] | None:
        """Return ranges of an index object, or None; see `SupportsRanges`.

        Raises:
            StorageError: it cannot be read.
        """
        with self._reading() as (tree, _):
            return None if tree is None else ObjectFiles(tree, self.name).load_ranges(name, ranges)

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Write an index object, durably, and return its new version.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was written.
            StorageError: it cannot be written.
        """
        with self._writing() as tree:
            return ObjectFiles(tree, self.name).store(name, data, expect)

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Remove index objects; skip absent ones, unless a version is expected.

        Where no manifest was ever written, nothing is left of the index after the last one, nor of a folder that we
        created for it.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was removed.
            StorageError: they cannot be removed.
        """
        with self._reading() as (tree, _):
            if tree is not None and tree.directory(RESERVED) is not None:
                files = ObjectFiles(tree, self.name)
                files.remove(names, expect)
                if files.is_unused():
                    files.remove_unused()
                    self._root.remove_made()
            elif isinstance(expect, bytes):
                raise ObjectMismatch(names[0])

    def objects(self) -> list[str]:
        """Return the names of all index objects, ascending.

        Raises:
            StorageError: they cannot be listed.
        """
        with self._reading() as (tree, _):
            return [] if tree is None else ObjectFiles(tree, self.name).names()

    def unmade(self) -> str:
        """Return that the folder does not exist, if so."""
        return "" if os.path.lexists(self.absolute_path) else f"the folder {self.path!r:.300}"

    @contextlib.contextmanager
    def dry_probe(self) -> Iterator[str]:
        """Probe without leaving anything behind: remove the index directory if it was created inside.

        Raises:
            StorageError: the folder cannot be read.
        """
        with self._reading() as (tree, _):
            exists, used = tree is not None, tree is not None and tree.status(RESERVED) is not None
        if not exists:
            yield self.unmade()
            return
        try:
            yield ""
        finally:
            if not used:
                with self._reading() as (tree, _):
                    if tree is not None and tree.directory(RESERVED) is not None:
                        ObjectFiles(tree, self.name).remove_unused()

    def close(self) -> None:
        """Do nothing: descriptors are closed at the end of each call."""

    @contextlib.contextmanager
    def _reading(self) -> Iterator[tuple[SafeTree | None, Naming]]:
        with storage_errors(self.name):
            root = self._root.opened()
            if root is None:
                yield None, Naming()
                return
            with SafeTree(root, renamed=self._renamed) as tree:
                naming = self._naming or _guessed_naming(tree)
                tree.folds = naming.folds
                yield tree, naming

    @contextlib.contextmanager
    def _writing(self) -> Iterator[SafeTree]:
        with storage_errors(self.name):
            root = self._root.made()
            with SafeTree(root, renamed=self._renamed) as tree:
                tree.make(RESERVED)
                yield tree

    def _probed(self, staging: Staging) -> Naming:
        normalises, folds = staging.probe()
        self._naming = Naming(normalises=normalises, folds=folds)
        return self._naming


def _guessed_naming(tree: SafeTree) -> Naming:
    """Return the rules that can be found out without writing: whether `.KVSYNC` is `.kvsync`."""
    ours, other = tree.status(RESERVED), tree.status(RESERVED.upper())
    folds = ours is not None and other is not None and os.path.samestat(ours, other)
    return Naming(folds=folds)
