"""Unfinished files: each is written durably here, then renamed to its place.

A writer holds a shared lock on the directory. If a process gets an exclusive lock, a crash left all of the files in it.
Most are unfinished and go. Those that were about to be exchanged with a file of the folder may hold its last version:
they are kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import unicodedata
from itertools import count
from typing import TYPE_CHECKING, NamedTuple, Self

from kvsync.storages.contract import RESERVED
from kvsync.storages.folder.durable import SYNCERS
from kvsync.threads import thread_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from kvsync.storages.folder.safe_tree import SafeTree

__all__ = ["DISPLACED", "Staged", "Staging", "stage_all", "unfinished_directories", "write_all"]

STAGING = f"{RESERVED}/tmp"  # noqa: S108 - below the folder itself
DISPLACED = f"{RESERVED}/displaced"
OUTGOING = "out-"
MAKING = "making-"
ATTEMPTS = 8
GROUP_COUNT = 128
GROUP_BYTES = 32 << 20

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_numbers = count()


class Staged(NamedTuple):
    """A finished file that does not have its final name yet.

    Attributes:
        name: in the staging directory.
        status: of the file.
        exact: the file system keeps the modification time that we set, by less than a millisecond.
    """

    name: str
    status: os.stat_result
    exact: bool


def write_all(file: int, data: bytes) -> None:
    """Write all of `data` where the file stands, in as many calls as necessary."""
    written = os.write(file, data)
    while written < len(data):
        written += os.write(file, memoryview(data)[written:])


class Staging:
    """The directory of unfinished files; holds a shared lock on it."""

    def __init__(self, tree: SafeTree) -> None:
        self._tree = tree
        self._making: tuple[str, int] | None = None
        self._outgoing = f"{OUTGOING}{os.urandom(8).hex()}-"
        self.directory = self._locked()
        for _attempt in range(ATTEMPTS):
            if os.fstat(self.directory).st_nlink:
                break
            os.close(self.directory)  # it was removed before we had the lock
            tree.forget(RESERVED)
            self.directory = self._locked()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the lock."""
        # The descriptor is a duplicate: closing it would not release the lock.
        fcntl.flock(self.directory, fcntl.LOCK_UN)
        os.close(self.directory)
        if self._making is not None:  # what failed may have left directories: the next writer removes them
            os.close(self._making[1])

    @staticmethod
    def remove_unused(tree: SafeTree) -> bool:
        """Remove the directory, unless somebody is writing there; return whether it is gone."""
        here = tree.directory(STAGING)
        if here is None:
            return True
        try:
            fcntl.flock(here, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rmdir(STAGING.rpartition("/")[2], dir_fd=tree.make(RESERVED))
        except OSError:
            return False
        return True

    def create(self, mode: int = 0o666) -> tuple[str, int]:
        """Return the name and the descriptor of a new empty file; the umask takes away from its mode."""
        while True:
            name = f"{os.getpid():x}-{next(_numbers):x}"
            try:
                return name, os.open(name, _CREATE, mode, dir_fd=self.directory)
            except FileExistsError:
                continue  # a process of the same number on another host

    def discard(self, name: str) -> None:
        """Remove an unfinished file."""
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=self.directory)

    def discard_all(self, names: Iterable[str]) -> None:
        """Remove those unfinished files that are still here."""
        left = set(os.listdir(self.directory))
        for name in names:
            if name in left:
                self.discard(name)

    def outgoing_name(self) -> str:
        """Return a new name for a file that is taken from its place in the folder."""
        return f"{self._outgoing}{next(_numbers):x}"

    def announce(self, path: str) -> None:
        """Note, durably, a directory that is about to be made for a file: it is no value while it is empty."""
        if self._making is None:
            name = f"{MAKING}{os.urandom(8).hex()}"
            self._making = name, os.open(name, _CREATE, 0o666, dir_fd=self.directory)
        _, file = self._making
        write_all(file, os.fsencode(path) + b"\0")
        os.fsync(file)
        os.fsync(self.directory)

    def forget_announced(self) -> None:
        """Forget the directories that were announced: all of them are made, or gone."""
        if self._making is not None:
            name, file = self._making
            os.close(file)
            self.discard(name)
            self._making = None

    def keep(self, name: str) -> str:
        """Keep a file that was taken from its place and belongs nowhere now; return its path in the folder."""
        os.rename(name, name, src_dir_fd=self.directory, dst_dir_fd=self._tree.make(DISPLACED))
        self._tree.touch(DISPLACED)
        return f"{DISPLACED}/{name}"

    def probe(self) -> tuple[bool, bool]:
        """Return whether the file system changes the Unicode form of names, and whether it folds names."""
        composed = unicodedata.normalize("NFC", f"Probe-é-{os.getpid():x}-{next(_numbers):x}")
        decomposed = unicodedata.normalize("NFD", composed)
        os.close(os.open(composed, _CREATE, 0o666, dir_fd=self.directory))
        try:
            normalises = composed not in os.listdir(self.directory)
            folds = any(self._has(name) for name in (composed.upper(), decomposed))
        finally:
            self.discard(composed)
        return normalises, folds

    def _has(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self.directory, follow_symlinks=False)
        except OSError:
            return False
        return True

    def _unmake(self, name: str) -> None:
        """Remove the directories that a crash left empty."""
        for path in sorted(_announced(self.directory, name), key=len, reverse=True):
            self._tree.prune(path, path.__eq__)
        self.discard(name)

    def _locked(self) -> int:
        """Return a descriptor of the directory, with a shared lock; clean up first if nobody is writing."""
        self.directory = os.dup(self._tree.make(STAGING))
        try:
            self._clean_up()
            fcntl.flock(self.directory, fcntl.LOCK_SH)
        except BaseException:
            os.close(self.directory)  # or else an exclusive lock would stay
            raise
        return self.directory

    def _clean_up(self) -> None:
        """Remove what a crash left, or keep it, unless somebody is writing: then the files may be theirs."""
        try:
            fcntl.flock(self.directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        for name in os.listdir(self.directory):
            if name.startswith(OUTGOING):
                self.keep(name)
            elif name.startswith(MAKING):
                self._unmake(name)
            else:
                self.discard(name)


def unfinished_directories(tree: SafeTree) -> set[str]:
    """Return the directories that a writer is making, or was making when it crashed."""
    here = tree.directory(STAGING)
    names = [] if here is None else [name for name in os.listdir(here) if name.startswith(MAKING)]
    return set().union(*(_announced(here, name) for name in names if here is not None))


def _announced(directory: int, name: str) -> set[str]:
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return set()
    with open(file, "rb") as opened:
        return set(map(os.fsdecode, opened.read().split(b"\0")[:-1]))


def stage_all(
    stage: Callable[..., Staged | OSError], staging: Staging, values: Sequence[bytes], *beside: Sequence[object]
) -> Generator[Staged | OSError, None, None]:
    """Yield a finished file for each value, as `stage` writes it, in their order; remove those that get no final name.

    `stage` gets one value, and what is `beside` it in each further column.

    Several threads write them, since file systems combine concurrent `fsync` calls.
    """
    if len(values) == 1:
        yield from _discarding(staging, [stage(values[0], *(column[0] for column in beside))])
        return
    with thread_pool(SYNCERS, "kvsync-write") as pool:
        for start, stop in _groups(values):
            group = list(pool.map(stage, *(column[start:stop] for column in (values, *beside))))
            yield from _discarding(staging, group)


def _discarding(staging: Staging, group: Sequence[Staged | OSError]) -> Iterator[Staged | OSError]:
    try:
        yield from group
    finally:
        staging.discard_all(staged.name for staged in group if isinstance(staged, Staged))


def _groups(values: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    start, size = 0, 0
    for position, value in enumerate(values):
        if position > start and (position - start >= GROUP_COUNT or size + len(value) > GROUP_BYTES):
            yield start, position
            start, size = position, 0
        size += len(value)
    if start < len(values):
        yield start, len(values)
