"""What a file keeps when its content is replaced, and what a new one gets of the file that its value comes from.

Owner, group, permissions, extended attributes and access lists stay. Whether a file is executable, and its time, are
carried where both folders ask for it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from kvsync.types import Metadata

if TYPE_CHECKING:
    from collections.abc import Collection

    from kvsync.storages.folder.staging import Staged, Staging

__all__ = ["EXECUTABLE", "keep_metadata", "shown_metadata", "wanted_metadata"]

_DROPPED = {"security.capability", "security.ima", "security.evm"}
"""Attributes that vouch for a content, or give it rights: the kernel, too, drops them when somebody writes."""

_PERMISSIONS = 0o777  # a content that came from elsewhere runs as nobody else: no set-user-ID, no set-group-ID


EXECUTABLE = 0o111


def shown_metadata(status: os.stat_result | None, meta: Collection[str]) -> Metadata | None:
    """Return what `meta` names of a file."""
    if status is None or not stat.S_ISREG(status.st_mode):
        return None
    mode = status.st_mode & EXECUTABLE if "mode" in meta else None
    return Metadata(mode, status.st_mtime_ns if "mtime" in meta else None)


def wanted_metadata(given: Metadata | None, meta: Collection[str]) -> Metadata | None:
    """Return the part of what is given that `meta` names."""
    if given is None:
        return None
    mode = given.executable if "mode" in meta else None
    return Metadata(mode, given.modified_ns if "mtime" in meta else None)


def keep_metadata(old: int, staged: Staged, staging: Staging) -> None:
    """Give a staged file the owner, group, permissions and extended attributes of an open one, as far as we may."""
    before, now, names = os.fstat(old), staged.status, _attributes(old)
    owned = (before.st_uid, before.st_gid) == (now.st_uid, now.st_gid)
    mode = stat.S_IMODE(before.st_mode) & _PERMISSIONS
    if owned and mode == stat.S_IMODE(now.st_mode) and not names:
        return
    file = os.open(staged.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=staging.directory)
    try:
        if not owned:
            _change_owner(file, before)
        os.fchmod(file, mode)
        for name in names:
            _copy_attribute(old, file, name)
        os.fsync(file)
    finally:
        os.close(file)


def _change_owner(file: int, before: os.stat_result) -> None:
    try:
        os.fchown(file, before.st_uid, before.st_gid)
    except PermissionError:  # only root may give a file away; the group may still be one of ours
        with contextlib.suppress(PermissionError):
            os.fchown(file, -1, before.st_gid)


def _copy_attribute(old: int, file: int, name: str) -> None:
    """Copy one attribute, unless it may not be set, such as a label that the new file already has, or has just gone."""
    try:
        os.setxattr(file, name, os.getxattr(old, name))
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENODATA}:
            raise


def _attributes(file: int) -> list[str]:
    """Return the names of the extended attributes to keep; none where there are no such attributes."""
    if not hasattr(os, "listxattr"):
        return []
    try:
        return [name for name in os.listxattr(file) if name not in _DROPPED]
    except OSError as error:
        if error.errno in {errno.EOPNOTSUPP, errno.ENOSYS}:
            return []
        raise
