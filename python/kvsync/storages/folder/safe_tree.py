"""A directory tree, walked one component at a time, never through a symbolic link and never out of the tree.

A path is relative here, names joined by `/`; the empty path is the root. Each directory is opened relative to its
parent's descriptor with `O_NOFOLLOW` and stays open during a batch. So nobody can replace a directory by a link between
a check and a write, and a batch opens each directory once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from itertools import islice
from typing import TYPE_CHECKING, Self

from kvsync.storages.folder.durable import sync_each
from kvsync.storages.folder.keyname import VALUE_SUFFIX
from kvsync.storages.folder.token import token_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

__all__ = ["NOT_THERE", "KeyBlockedError", "NoValueError", "SafeTree", "kind_of"]

OPEN_MAX = 200
SYNC_COUNT = 64
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}


class KeyBlockedError(Exception):
    """Something at a path prevents a key from being written or deleted; the text says what."""


class NoValueError(KeyBlockedError):
    """Something is at the path of a key, or at a parent, that is no value; the text says what."""


def kind_of(mode: int) -> str:
    """Describe a file of this mode to people."""
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFLNK: "a symbolic link", stat.S_IFREG: "a file"}
    return kinds.get(stat.S_IFMT(mode), "a special file")


def _advice(mode: int) -> str:
    return " (`links=follow` follows links that stay in the folder)" if stat.S_ISLNK(mode) else ""


class SafeTree:
    """The tree below an open directory, during one batch.

    Attributes:
        folds: the file system treats different names as equal. Then a name exists only if its directory lists exactly
            that name.
        made: the directories that `make` created.
        announce: is told each directory before it is made.
        renamed: {version token: the one before}, of files that were renamed here: a rename moves the change time.
    """

    def __init__(self, root: int, *, folds: bool = False, renamed: dict[bytes, bytes] | None = None) -> None:
        self.folds = folds
        self.renamed = {} if renamed is None else renamed
        self._root = root
        self._open: dict[str, int] = {"": root}
        self.made: list[str] = []
        self.announce: Callable[[str], None] | None = None
        self._touched: set[str] = set()
        self._listed: dict[str, set[str]] = {}

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every descriptor, including the root's."""
        self._close_all_but_root()
        os.close(self._root)

    def directory(self, path: str) -> int | None:
        """Return a descriptor that is valid until the next call, or None if no directory has this path."""
        found = self._open.get(path)
        if found is not None:
            return found
        # Start at the nearest open directory: opening another one may close those further up.
        parent, names = path, []
        while (here := self._open.get(parent)) is None:
            parent, _, name = parent.rpartition("/")
            names.append(name)
        for name in reversed(names):
            opened = self._descend(here, parent, name)
            if opened is None:
                return None
            parent = f"{parent}/{name}" if parent else name
            self._keep(parent, opened)
            here = opened
        return here

    def make(self, path: str, *, displace: bool = False) -> int:
        """Return a descriptor of the directory `path`; create it if it is missing.

        With `displace`, a file that is in the way gets the name of a value next to a directory.

        Raises:
            KeyBlockedError: something else is in its way.
        """
        found = self.directory(path)
        if found is not None:
            return found
        here, parent = self._root, ""
        for name in path.split("/"):
            below = f"{parent}/{name}" if parent else name
            opened = self.directory(below)
            if opened is None:
                self._clear_way(parent, name, displace=displace)
                if self.announce is not None:
                    self.announce(below)
                with contextlib.suppress(FileExistsError):  # somebody else created it
                    os.mkdir(name, dir_fd=here)
                    self.made.append(below)
                self.touch(parent)
                opened = self.directory(below)
                if opened is None:
                    raise KeyBlockedError(f"{below!r:.300} cannot become a directory")
            here, parent = opened, below
        return here

    def status(self, path: str) -> os.stat_result | None:
        """Return the status of the file at a path, without following a link, or None.

        Raises:
            KeyBlockedError: only a name that differs in case or Unicode form exists.
        """
        if not path:
            return os.fstat(self._root)
        parent, _, name = path.rpartition("/")
        here = self._open.get(parent) or self.directory(parent)
        if here is None:
            return None
        try:
            found = os.stat(name, dir_fd=here, follow_symlinks=False)
        except OSError as error:
            if error.errno in NOT_THERE:
                return None
            raise
        if self.folds and not self.is_exact(parent, name):
            raise KeyBlockedError(
                "the file system treats its name as equal to another, which differs in case or Unicode form"
            )
        return found

    def is_exact(self, parent: str, name: str) -> bool:
        """Return whether the directory `parent` lists exactly `name`."""
        names = self._listed.get(parent)
        if names is None:
            here = self.directory(parent)
            names = self._listed[parent] = set() if here is None else set(os.listdir(here))
        return name in names

    def move(self, source: str, target: str) -> None:
        """Rename a file within its directory; its version token before counts as its token from now on."""
        parent, _, name = source.rpartition("/")
        leaf = target.rpartition("/")[2]
        here = self.make(parent)
        before = token_of(os.stat(name, dir_fd=here, follow_symlinks=False))
        os.rename(name, leaf, src_dir_fd=here, dst_dir_fd=here)
        after = token_of(os.stat(leaf, dir_fd=here, follow_symlinks=False))
        if after != before:
            self.renamed[after] = before
        self.touch(parent)

    def touch(self, path: str) -> None:
        """Note that the entries of a directory have changed."""
        self._touched.add(path)
        self._listed.pop(path, None)

    def prune(self, path: str, removable: Callable[[str], bool] = lambda _: True) -> list[str]:
        """Remove the directory `path` if it is empty, then its parent if that is empty, up to the root.

        Stop at the first one that is not `removable`; return those that are gone.
        """
        removed = []
        while path and removable(path) and self._remove(path):
            removed.append(path)
            path = path.rpartition("/")[0]
        return removed

    def holds_files(self, path: str) -> bool:
        """Return whether anything but directories is below the directory `path`."""
        pending = [path]
        while pending:
            here = pending.pop()
            for entry in list(self.entries(here)):
                if not entry.is_dir(follow_symlinks=False):
                    return True
                pending.append(f"{here}/{entry.name}")
        return False

    def remove_empty(self, path: str) -> bool:
        """Remove the directory `path` if nothing but empty directories is below it; return whether it is gone."""
        if self.holds_files(path):
            return False
        below = [entry.name for entry in self.entries(path)]
        return all(self.remove_empty(f"{path}/{name}") for name in below) and self._remove(path)

    def check_passable(self, path: str) -> None:
        """Check that what is at `path` and its parents are directories, as far as anything is there.

        Nothing can be below a file, so a file is as good as nothing.

        Raises:
            NoValueError: a link or a special file is there, and what may be behind it is not known.
        """
        so_far = ""
        for name in path.split("/") if path else ():
            so_far = f"{so_far}/{name}" if so_far else name
            found = self.status(so_far)
            if found is None or stat.S_ISREG(found.st_mode):
                return
            if not stat.S_ISDIR(found.st_mode):
                raise NoValueError(f"{kind_of(found.st_mode)} is at {so_far!r:.300}{_advice(found.st_mode)}")

    def forget(self, path: str) -> None:
        """Close what is open of a directory, and of those below it, since somebody has removed it."""
        for known in [known for known in self._open if known == path or known.startswith(f"{path}/")]:
            os.close(self._open.pop(known))

    def sync(self) -> None:
        """Make all changes of entries durable, with one `fsync` for each directory."""
        touched = iter(sorted(self._touched))
        while some := list(islice(touched, SYNC_COUNT)):
            with contextlib.ExitStack() as stack:
                sync_each([file for path in some if (file := self._held(path, stack)) is not None])
        self._touched.clear()

    def _held(self, path: str, stack: contextlib.ExitStack) -> int | None:
        """Return a descriptor of a directory that stays valid until the stack is unwound."""
        opened = self.directory(path)
        if opened is None:
            return None
        held = os.dup(opened)
        stack.callback(os.close, held)
        return held

    def check_directory(self, path: str) -> None:
        """Check that `path` is missing or a directory.

        Raises:
            KeyBlockedError: something else is at that path or at a parent.
        """
        so_far = ""
        for name in path.split("/"):
            so_far = f"{so_far}/{name}" if so_far else name
            found = self.status(so_far)
            if found is not None and not stat.S_ISDIR(found.st_mode):
                kind = kind_of(found.st_mode)
                raise KeyBlockedError(f"{kind} is at {so_far!r:.300}, where a directory has to be")

    def entries(self, path: str) -> Iterator[os.DirEntry[str]]:
        """Yield the entries of a directory; none if it is gone."""
        with self.listed(path) as found:
            yield from found

    @contextlib.contextmanager
    def listed(self, path: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        """Give the entries of a directory, none if it is gone, and keep it open: entries ask it for their status."""
        with contextlib.ExitStack() as stack:
            opened = self._held(path, stack)
            yield iter(()) if opened is None else stack.enter_context(os.scandir(opened))

    def _remove(self, path: str) -> bool:
        """Remove a directory if it is empty; return whether it is gone."""
        opened = self._open.pop(path, None)
        if opened is not None:
            os.close(opened)
        parent, _, name = path.rpartition("/")
        here = self.directory(parent)
        try:
            if here is None:
                return False
            os.rmdir(name, dir_fd=here)
        except OSError:
            return False  # not empty, or not ours to remove: both are fine
        self._touched.discard(path)
        self.touch(parent)
        return True

    def _descend(self, here: int, parent: str, name: str) -> int | None:
        try:
            opened = os.open(name, _DIRECTORY, dir_fd=here)
        except OSError as error:
            if error.errno in NOT_THERE:
                return None
            raise
        if self.folds and not self.is_exact(parent, name):
            os.close(opened)
            return None
        return opened

    def _clear_way(self, parent: str, name: str, *, displace: bool) -> None:
        path = f"{parent}/{name}" if parent else name
        found = self.status(path)
        if found is None or stat.S_ISDIR(found.st_mode):  # somebody else has just created it
            return
        if not (displace and stat.S_ISREG(found.st_mode)):
            kind = kind_of(found.st_mode)
            raise KeyBlockedError(f"{kind} is at {path!r:.300}, where a directory has to be")
        if name.endswith(VALUE_SUFFIX) or self.status(path + VALUE_SUFFIX) is not None:
            raise KeyBlockedError(f"a file is at {path!r:.300}, where a directory has to be")
        self.move(path, path + VALUE_SUFFIX)

    def _keep(self, path: str, opened: int) -> None:
        if len(self._open) >= OPEN_MAX:
            self._close_all_but_root()
        self._open[path] = opened

    def _close_all_but_root(self) -> None:
        for path, opened in self._open.items():
            if path:
                os.close(opened)
        self._open = {"": self._root}
