"""Failures of files: refuse the key if only its file is at fault, otherwise say what to do."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING, TypeVar

from kvsync.errors import StorageError
from kvsync.storages.batch import NOT_EXPECTED
from kvsync.storages.contract import RESERVED
from kvsync.storages.folder.replacing import ChangedError
from kvsync.storages.folder.safe_tree import KeyBlockedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvsync.storages.batch import Batch

__all__ = ["attempt", "storage_errors"]

_T = TypeVar("_T")
_KEY_ONLY = {
    errno.EACCES,
    errno.EBUSY,
    errno.EEXIST,
    errno.EFBIG,
    errno.EILSEQ,
    errno.EINVAL,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ENOTEMPTY,
    errno.EPERM,
    errno.EXDEV,
}
_ADVICE = {
    errno.EACCES: "change its permissions, or run as its owner",
    errno.EDQUOT: "the quota is used up: make room, or raise it, and run again",
    errno.ELOOP: "a symbolic link is where a directory has to be: remove the link",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENOENT: "create it, or mount it, and run again",
    errno.ENOLCK: "this file system has no locks: use a folder on another one",
    errno.ENOSPC: "the disk is full: make room and run again",
    errno.ENOTDIR: "name a folder",
    errno.EPERM: "change its permissions, or run as its owner",
    errno.EROFS: "mount it for writing, or name another folder",
    errno.ESTALE: "mount it again",
}


def attempt(batch: Batch, key: str, action: Callable[..., _T], *args: object) -> _T | None:
    """Return what an action on the file of a key returns; refuse the key if only that file is at fault."""
    try:
        return action(*args)
    except ChangedError as error:
        batch.refuse(key, str(error) or NOT_EXPECTED, changed=True)
    except KeyBlockedError as error:
        batch.refuse(key, str(error))
    except OSError as error:
        if error.errno not in _KEY_ONLY:
            raise
        batch.refuse(key, f"its file cannot be changed: {error.strerror}")
    return None


@contextlib.contextmanager
def storage_errors(storage: str) -> Iterator[None]:
    """Turn errors of the operating system into those of the storage, with advice."""
    try:
        yield
    except StorageError:
        raise
    except KeyBlockedError as error:
        message = f"the index cannot be kept in `{RESERVED}`: {error}"
        raise StorageError(message, storage=storage) from error
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "fix that and run again")
        path = f" ({error.filename!r:.300})" if isinstance(error.filename, str) else ""
        message = f"{error.strerror or error}{path}: {advice}"
        raise StorageError(message, storage=storage) from error
