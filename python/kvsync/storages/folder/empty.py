"""Empty directories as values: with `empty_dirs=keep`, an empty directory `a` is the key `a/` with an empty value.

A directory is such a key only while nothing is in it. A key that ends with `/` can always have a file, too: that of
`a/` is `a/%`. So where `a/` and `a/b` are both keys, `a/` is an empty file `a/%`; as soon as nothing else is left in
the directory, that file is removed, and the directory itself is the key.

A directory that kvsync makes for a file is empty for a moment. Until its file is there, it is on a list in
`.kvsync/tmp/`: a scan does not take it for a key, and the next writer removes what a crash left of it.
"""

from __future__ import annotations

import stat
from functools import cached_property
from typing import TYPE_CHECKING

from kvsync.storages.folder.listing import Listing
from kvsync.storages.folder.paths import paths_of
from kvsync.storages.folder.reading import ValueReader, substitute
from kvsync.storages.folder.safe_tree import KeyBlockedError
from kvsync.storages.folder.staging import Staged, unfinished_directories
from kvsync.storages.folder.token import directory_token
from kvsync.storages.folder.values import ValueFiles
from kvsync.types import Unreadable

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from kvsync.storages.folder.keyname import Naming
    from kvsync.storages.folder.links import Links
    from kvsync.storages.folder.safe_tree import SafeTree
    from kvsync.storages.folder.staging import Staging
    from kvsync.storages.folder.values import Found, Wanted

__all__ = ["KeepingFiles", "KeepingListing", "KeepingReader", "WaryReader"]


def _paths_of(naming: Naming, key: str) -> list[str]:
    """Return where the directory of a key that ends with `/` may be, the preferred path first."""
    return [path for path in paths_of(naming, key[:-1]) if not naming.is_suffixed(path)]


def _key_of(naming: Naming, path: str) -> str | None:
    """Return the key of a directory; None if it cannot have one."""
    key = naming.decode(path) + "/"
    try:
        return key if path in _paths_of(naming, key) else None
    except KeyBlockedError:
        return None


def _is_empty(tree: SafeTree, path: str) -> bool:
    return next(tree.entries(path), None) is None


def _empty_directory(tree: SafeTree, naming: Naming, key: str) -> tuple[str, os.stat_result] | None:
    """Return path and status of the empty directory of a key, if there is one."""
    if not key.endswith("/"):
        return None
    for path in _paths_of(naming, key):
        status = tree.status(path)
        if status is not None and stat.S_ISDIR(status.st_mode) and _is_empty(tree, path):
            return path, status
    return None


class WaryReader(ValueReader):
    """Takes no directory for a value, and says so where a key had one."""

    def without_file(self, key: str) -> bytes | Unreadable | None:
        """Return that an empty directory is in the place of a key's file, since it may be a value to others."""
        place = self._empty_directory(key)
        if not isinstance(place, str):
            return place
        return Unreadable(f"an empty directory is at {place!r:.300}, which is a value with `empty_dirs=keep` only")

    def _empty_directory(self, key: str) -> str | Unreadable | None:
        try:
            found = _empty_directory(self._tree, self._naming, key)
        except KeyBlockedError:
            return None
        except OSError as error:
            return substitute(error)
        return None if found is None else found[0]


class KeepingReader(WaryReader):
    """Reads empty directories as empty values."""

    def without_file(self, key: str) -> bytes | Unreadable | None:
        """Return the empty value of a key that has an empty directory."""
        place = self._empty_directory(key)
        return b"" if isinstance(place, str) else place

    def _is_no_value(self, _path: str) -> bool:
        """Return False: a directory at the path of a key is one of another key."""
        return False


class KeepingListing(Listing):
    """A listing with the empty directories."""

    def _list(self, path: str, place: str, parents: tuple[str, ...]) -> None:
        if path and _is_empty(self._tree, place):
            self._add_empty(path)
        else:
            super()._list(path, place, parents)

    @cached_property
    def _unfinished(self) -> set[str]:
        return unfinished_directories(self._tree)

    def _add_empty(self, path: str) -> None:
        status = self._tree.status(path)
        if status is None or path in self._unfinished:
            return
        key = _key_of(self._naming, path)
        if key is None:
            self._skip(path, "an empty directory of this name cannot be a key", harmless=True)
            return
        self._doubtful = self._doubtful or key != f"{path}/" or self._naming.is_special(path)
        self.keys.append((key, directory_token(status)))


class KeepingFiles(ValueFiles):
    """The files of values below one tree, and the empty directories that are values."""

    def __init__(self, tree: SafeTree, naming: Naming, links: Links, clock_ns: Callable[[], int]) -> None:
        super().__init__(tree, naming, links, clock_ns)
        self._kept: set[str] = set()  # the directories that are values since this batch
        self._filled: set[str] = set()  # the directories that are no value any more

    def begin(self, staging: Staging) -> None:
        """Announce each directory before it is made."""
        self._tree.announce = staging.announce

    def finish(self, staging: Staging, *, all_done: bool) -> None:
        """Remove the directories that were made in vain; the others are there for good."""
        if not all_done:
            for path in reversed(self._tree.made):
                if path not in self._kept:
                    self._tree.prune(path, path.__eq__)
        self._tree.sync()
        staging.forget_announced()

    def install(self, staging: Staging, staged: Staged | OSError, key: str, wanted: Wanted) -> bytes:
        """Give a key its value: make an empty directory, if that is its value and can be, or else install its file.

        Raises:
            ChangedError: the current value is not the expected one.
            KeyBlockedError: something prevents the key from being written.
        """
        if key.endswith("/") and isinstance(staged, Staged) and not staged.status.st_size:
            made = self._make(staging, key, wanted)
            if made is not None:
                return made
        path = paths_of(self._naming, key)[0]
        self._hold(staging, path.rpartition("/")[0], key)
        return super().install(staging, staged, key, wanted)

    def delete(self, key: str, wanted: Wanted, staging: Staging | None) -> None:
        """Delete a value: its file, and its empty directory.

        Raises:
            ChangedError: the current value is not the expected one.
            KeyBlockedError: something is there that is no value, or its name cannot be distinguished from another.
        """
        if not key.endswith("/"):
            super().delete(key, wanted, staging)
            return
        found = self._find(key)
        if found.empty is None:
            super().delete(key, wanted, staging)
            found = self._find(key)  # a directory that its file was beside, or in
            if found.empty is None:
                return
        else:
            self._compare(found.token, wanted)
        path, _ = found.empty
        self._tree.prune(path, path.__eq__)  # if it is not empty any more, the key is gone as well
        self.emptied |= {path, path.rpartition("/")[0]}

    def prune(self, _removable: Callable[[str], bool]) -> list[str]:
        """Remove the directories that are empty after deletes, whoever made them, but for those that are values."""
        return super().prune(lambda path: not self._is_kept(path))

    def _find(self, key: str) -> Found:
        found = super()._find(key)
        if found.files or found.blocked is not None:
            return found
        return found._replace(empty=_empty_directory(self._tree, self._naming, key))

    def _clear(self, _path: str) -> bool:
        """Return False: an empty directory is a value, and so is one below."""
        return False

    def _is_no_value(self, _path: str) -> bool:
        return False

    def _make(self, staging: Staging, key: str, wanted: Wanted) -> bytes | None:
        """Make the empty directory of a key, and return its token; None if only a file can be its value."""
        found = self._find(key)
        path = _paths_of(self._naming, key)[0]
        if found.files or found.blocked is not None:
            return None
        self._compare(found.token, wanted)
        if found.empty is None:
            if self._tree.directory(path) is not None:
                return None
            self._hold(staging, path.rpartition("/")[0], key)
            self._tree.make(path, displace=True)
            found = self._find(key)
        if found.empty is not None:
            self._kept.add(found.empty[0])
        return found.token

    def _hold(self, staging: Staging, directory: str, key: str) -> None:
        """Give the key of an empty directory a file, before it gets its first entry, which is for `key`."""
        while directory and self._tree.directory(directory) is None:
            directory = directory.rpartition("/")[0]
        if not directory or directory in self._filled:
            return
        self._filled.add(directory)
        held = _key_of(self._naming, directory)
        if held is None or held == key or not _is_empty(self._tree, directory):
            return
        if directory in self._tree.made and directory not in self._kept:
            return
        before = self._find(held).token
        if before is None:
            return
        staged = self.stage(staging, b"")
        try:
            self._tree.renamed[super().install(staging, staged, held, before)] = before
        finally:
            if isinstance(staged, Staged):
                staging.discard(staged.name)

    def _is_kept(self, path: str) -> bool:
        """Return whether a directory stays as that of a key; if its key has a file beside nothing else, remove that."""
        if path in self._kept:
            return True
        key = _key_of(self._naming, path)
        try:
            found = self._find(key) if key is not None else None
        except KeyBlockedError:
            return True
        if found is None or not found.files:
            return False
        file, status = found.files[0]
        if status.st_size or len(found.files) > 1 or not self._holds_only(path, file):
            return True
        self._unlink(file)
        self._kept.add(path)
        self._note_settled(path, found.token)
        place = file.rpartition("/")[0]
        if place != path:
            self._tree.prune(place, lambda above: not self._is_kept(above))
        return True

    def _holds_only(self, path: str, file: str) -> bool:
        place, _, leaf = file.rpartition("/")
        return {entry.name for entry in self._tree.entries(path)} == ({leaf} if place == path else set())

    def _note_settled(self, path: str, before: bytes | None) -> None:
        status = self._tree.status(path)
        if status is not None and before is not None:
            self._tree.renamed[directory_token(status)] = before
