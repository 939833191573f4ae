"""Replace the file of a value, or take it away, only if it is still the expected one, whoever else writes.

To look first and then rename would lose what is written in between. So the new file and the old one are exchanged in
one step, and the old one is looked at when nobody can open it by its name any more. If it is another one than expected,
or a program still has it open for writing, the two are exchanged back; until then, for some microseconds, others see
the new value.

A file system that cannot exchange files leaves a window of some microseconds between the look and the rename.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from kvsync.storages.folder.exchange import exchange, rename_new
from kvsync.storages.folder.metadata import keep_metadata
from kvsync.storages.folder.token import content_of, token_of
from kvsync.storages.folder.writers import is_being_written

if TYPE_CHECKING:
    from kvsync.storages.folder.staging import Staged, Staging
    from kvsync.storages.folder.token import Content

__all__ = ["ChangedError", "create", "remove", "replace"]

ROUNDS = 16
"""Exchanges until the newest file is in its place, beside writers that replace it all the time."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class ChangedError(Exception):
    """The current file of a key is not the expected one; the text, if there is one, says what to know about that."""


def create(staging: Staging, staged: Staged, here: int, leaf: str) -> None:
    """Give a staged file its final name, which nothing else may have.

    Raises:
        ChangedError: something has it.
    """
    try:
        rename_new(staged.name, leaf, source_at=staging.directory, target_at=here)
    except FileExistsError:
        raise ChangedError from None


def replace(staging: Staging, staged: Staged, here: int, leaf: str, expected: os.stat_result | None) -> None:
    """Put a staged file in the place of another, which has to be `expected` (None: any); keep its metadata.

    Raises:
        ChangedError: it is not the expected one, or a program has it open for writing.
    """
    try:
        old = os.open(leaf, _READ, dir_fd=here)
    except FileNotFoundError:
        raise ChangedError from None
    try:
        keep_metadata(old, staged, staging)
        if expected is None:
            os.rename(staged.name, leaf, src_dir_fd=staging.directory, dst_dir_fd=here)
        else:
            _Exchange(staging, here, leaf).replace(staged, old, expected)
    finally:
        os.close(old)


def remove(staging: Staging, here: int, leaf: str, expected: os.stat_result) -> None:
    """Delete a file that has to be `expected`; it may be gone.

    Raises:
        ChangedError: it is not the expected one, or a program has it open for writing.
    """
    out = staging.outgoing_name()
    try:
        os.rename(leaf, out, src_dir_fd=here, dst_dir_fd=staging.directory)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        os.unlink(leaf, dir_fd=here)  # of another file system, which is mounted in the folder
        return
    if _content(staging, out) == content_of(expected) and not _is_open(staging, out):
        staging.discard(out)
        return
    try:
        rename_new(out, leaf, source_at=staging.directory, target_at=here)
    except OSError:  # above all: its name is taken again
        raise ChangedError(_kept(staging, out)) from None
    raise ChangedError


class _Exchange:
    """The exchange of a staged file with the one that has a name in a directory."""

    def __init__(self, staging: Staging, here: int, leaf: str) -> None:
        self._staging = staging
        self._here = here
        self._leaf = leaf
        self._out = staging.outgoing_name()

    def replace(self, staged: Staged, old: int, expected: os.stat_result) -> None:
        """Put the staged file in the place of the expected one, which is open as `old`."""
        directory = self._staging.directory
        os.rename(staged.name, self._out, src_dir_fd=directory, dst_dir_fd=directory)
        try:
            # Nearly all changes are seen here. To exchange and put back would show our value to others for a moment.
            self._look(expected)
            exchanged = exchange(self._out, self._leaf, source_at=directory, target_at=self._here)
        except FileNotFoundError:
            self._staging.discard(self._out)
            raise ChangedError from None
        except (OSError, ChangedError):
            self._staging.discard(self._out)
            raise
        if not exchanged:
            self._rename(old, expected)
        elif self._out_content() != content_of(expected) or is_being_written(old, self._staging):
            self._put_back(content_of(staged.status))
        else:
            self._staging.discard(self._out)

    def _look(self, expected: os.stat_result, *, is_open: bool = False) -> None:
        now = os.stat(self._leaf, dir_fd=self._here, follow_symlinks=False)
        if is_open or token_of(now) != token_of(expected):
            raise ChangedError

    def _rename(self, old: int, expected: os.stat_result) -> None:
        """Look, then rename: the best that can be had without exchange."""
        is_open = is_being_written(old, self._staging)
        try:
            self._look(expected, is_open=is_open)
            os.rename(self._out, self._leaf, src_dir_fd=self._staging.directory, dst_dir_fd=self._here)
        except (OSError, ChangedError):
            self._staging.discard(self._out)
            raise

    def _put_back(self, ours: Content) -> None:
        """Exchange again until the newest file has the name: until what comes out is what was put in last.

        Raises:
            ChangedError: always, in the end.
        """
        put: Content | None = ours
        for _ in range(ROUNDS):
            held = self._out_content()
            try:
                exchange(self._out, self._leaf, source_at=self._staging.directory, target_at=self._here)
            except FileNotFoundError:
                break  # somebody has deleted it since
            if self._out_content() == put and not _is_open(self._staging, self._out):
                break
            put = held
        if self._out_content() != ours or _is_open(self._staging, self._out):
            raise ChangedError(_kept(self._staging, self._out))
        self._staging.discard(self._out)
        raise ChangedError

    def _out_content(self) -> Content | None:
        return _content(self._staging, self._out)


def _content(staging: Staging, name: str) -> Content | None:
    """Return what a file shows of its content; None if it is no regular file."""
    status = os.stat(name, dir_fd=staging.directory, follow_symlinks=False)
    return content_of(status) if stat.S_ISREG(status.st_mode) else None


def _is_open(staging: Staging, name: str) -> bool:
    """Return whether a program has a file open for writing."""
    try:
        file = os.open(name, _READ, dir_fd=staging.directory)
    except OSError:
        return False  # no file, or one that is not ours to read
    try:
        return is_being_written(file, staging)
    finally:
        os.close(file)


def _kept(staging: Staging, name: str) -> str:
    return f"its file was changed twice at this moment; the version in between is kept as `{staging.keep(name)}`"
