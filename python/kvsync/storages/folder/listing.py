"""The listing of a folder: every key with its token, in UTF-8 byte order."""

from __future__ import annotations

import stat
from itertools import islice
from typing import TYPE_CHECKING

from kvsync.storages.contract import RESERVED, SKIPPED_MAX
from kvsync.storages.folder.keyname import is_reserved
from kvsync.storages.folder.links import DanglingLinkError
from kvsync.storages.folder.paths import PATH_BYTES_MAX, paths_of
from kvsync.storages.folder.reading import MACHINE_FAILURES
from kvsync.storages.folder.safe_tree import KeyBlockedError, kind_of
from kvsync.storages.folder.token import token_of, tokens_of
from kvsync.storages.wording import escaped
from kvsync.types import Skipped

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from kvsync.storages.folder.keyname import Naming
    from kvsync.storages.folder.links import Links
    from kvsync.storages.folder.safe_tree import SafeTree
    from kvsync.storages.folder.values import ValueFiles

__all__ = ["Listing"]

CHUNK_COUNT = 1024

UNKNOWN = b""
"""The token of a file whose status cannot be read; `read` then says why."""


class Listing:
    """One listing of a tree.

    Attributes:
        keys: every key with its token, ascending by path; a key may be there twice.
    """

    def __init__(self, tree: SafeTree, naming: Naming, links: Links) -> None:
        self.keys: list[tuple[str, bytes]] = []
        self._tree = tree
        self._naming = naming
        self._links = links
        self._doubtful = False
        self._skipped: dict[bool, list[Skipped]] = {True: [], False: []}
        # A directory: its path in keys, its path without links, and those of its parents where links are followed.
        self._pending: list[tuple[str, str, tuple[str, ...]]] = [("", "", ("",))]

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What is neither a file nor a directory, or cannot be a key, by name."""
        return tuple(sorted(self._skipped[True] + self._skipped[False]))

    def walk(self, files: ValueFiles) -> Iterator[tuple[str, bytes]]:
        """Return every key with its token, ascending.

        Names in a directory sort differently from keys in a tree (`a.b` and `a/b`), so collect all of them first.

        Raises:
            OSError: the folder itself cannot be listed, or the machine fails.
        """
        while self._pending:
            path, place, parents = self._pending.pop()
            try:
                self._list(path, place, parents)
            except OSError as error:
                if not path or error.errno in MACHINE_FAILURES:
                    raise
                self._skip(path, f"the directory cannot be listed: {error.strerror}", harmless=False)
        self.keys.sort()
        return self._without_doubles(files) if self._doubtful else iter(self.keys)

    def _list(self, path: str, place: str, parents: tuple[str, ...]) -> None:
        with self._tree.listed(place) as found:
            while entries := list(islice(found, CHUNK_COUNT)):
                self._add_all(entries, path, place, parents)

    def _add_all(self, entries: list[os.DirEntry[str]], path: str, place: str, parents: tuple[str, ...]) -> None:
        files = [entry for entry in entries if entry.name != RESERVED and entry.is_file(follow_symlinks=False)]
        names = [entry.name for entry in files]
        if self._naming.are_plain([path, *names] if path else names):
            self._add_files(f"{path}/" if path else "", names, files)
            taken = set(files)
            entries = [entry for entry in entries if entry not in taken]
        for entry in entries:
            self._add(entry, path, place, parents)

    def _add(self, entry: os.DirEntry[str], path: str, place: str, parents: tuple[str, ...]) -> None:
        name = entry.name
        below = f"{path}/{name}" if path else name
        if not name.isascii() and not self._is_text(below):
            return
        if is_reserved(name):
            self._pass_over(below, entry)
        elif entry.is_file(follow_symlinks=False):
            self._add_file(below, entry)
        elif entry.is_dir(follow_symlinks=False):
            self._add_directory(below, f"{place}/{name}" if place else name, parents)
        elif self._links.follow and entry.is_symlink():
            self._add_link(below, parents)
        else:
            self._skip(below, _kind(entry), harmless=True)

    def _add_files(self, prefix: str, names: Sequence[str], files: Sequence[os.DirEntry[str]]) -> None:
        """Add files whose paths are their keys."""
        try:
            tokens: list[bytes | None] = [*tokens_of([file.stat(follow_symlinks=False) for file in files])]
        except OSError:
            tokens = [*map(_token, files)]
        pairs = zip(names, tokens, strict=True)
        self.keys += [(prefix + name, token) for name, token in pairs if token is not None]

    def _add_file(self, path: str, entry: os.DirEntry[str]) -> None:
        token = _token(entry)
        if token is not None:
            self._add_key(path, token)

    def _add_key(self, path: str, token: bytes) -> None:
        key = self._naming.decode(path)
        self._doubtful = self._doubtful or key != path or self._naming.is_special(key)
        self.keys.append((key, token))

    def _add_directory(self, path: str, place: str, parents: tuple[str, ...]) -> None:
        self._pending.append((path, place, (*parents, place) if self._links.follow else parents))

    def _add_link(self, path: str, parents: tuple[str, ...]) -> None:
        """Add what a link leads to."""
        try:
            place = self._links.target(path)
            status = self._tree.status(place)
        except DanglingLinkError as error:
            self._skip(path, str(error), harmless=True)
        except KeyBlockedError as error:
            self._skip(path, str(error), harmless=False)
        except OSError as error:
            self._skip(path, f"the symbolic link cannot be followed: {error.strerror}", harmless=False)
        else:
            if status is None:
                return
            if stat.S_ISREG(status.st_mode):
                self._add_key(path, token_of(status))
            elif not stat.S_ISDIR(status.st_mode):
                self._skip(path, f"it leads to {kind_of(status.st_mode)}", harmless=True)
            elif place in parents:
                self._skip(path, "the symbolic link leads to a directory that it is in", harmless=False)
            else:
                self._add_directory(path, place, parents)

    def _pass_over(self, path: str, entry: os.DirEntry[str]) -> None:
        """Pass over our own index, and that of a folder within this one, which is synced by itself; name all else."""
        ours = entry.name == RESERVED or self._naming.folds
        if not (ours and entry.is_dir(follow_symlinks=False)):
            self._skip(path, f"names like {RESERVED} are reserved for an index: rename or move it", harmless=False)

    def _is_text(self, path: str) -> bool:
        try:
            path.encode()
        except UnicodeEncodeError:
            name = escaped(path.encode(errors="surrogateescape"), PATH_BYTES_MAX)
            self._skip(name, "its name is not UTF-8, so it cannot be a key: rename or move it", harmless=False)
            return False
        return True

    def _skip(self, path: str, reason: str, *, harmless: bool) -> None:
        if len(self._skipped[harmless]) < SKIPPED_MAX:
            self._skipped[harmless].append(Skipped(path, reason, harmless))

    def _without_doubles(self, files: ValueFiles) -> Iterator[tuple[str, bytes]]:
        """Yield each key once; if it has several files, the first of its paths counts."""
        last: str | None = None
        for position, (key, token) in enumerate(self.keys):
            if key == last:
                continue
            last = key
            double = position + 1 < len(self.keys) and self.keys[position + 1][0] == key
            counted = files.winner(key) if double and paths_of(self._naming, key) else token
            if counted is not None:
                yield key, counted


def _token(entry: os.DirEntry[str]) -> bytes | None:
    """Return the token of a file; None if it was deleted since it was listed."""
    try:
        return token_of(entry.stat(follow_symlinks=False))
    except FileNotFoundError:
        return None
    except OSError:
        return UNKNOWN


def _kind(entry: os.DirEntry[str]) -> str:
    return "it is a symbolic link" if entry.is_symlink() else "it is a special file"
