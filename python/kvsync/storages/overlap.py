"""What the two storages of a run share: nothing, or the run is refused, or the shared files are left out.

Storages that share values or an index would sync a storage with itself, and take in its index, more of it in every
run. Three questions find that out before anything is written: whether both are one (`identity`), whether one is within
the other (`contains`), and whether the files of one are in a folder that is the other (`files`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kvsync.errors import SameStorageError
from kvsync.storages.contract import RESERVED, has_files, has_identity, has_nesting
from kvsync.storages.partial import PartialStorage
from kvsync.storages.wrapper import innermost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.storages.contract import Storage

__all__ = ["folder_around", "left_out", "separated"]


def separated(one: Storage, other: Storage) -> tuple[Storage, Storage]:
    """Return two storages that share nothing: a folder is returned without the files of a database within it.

    Raises:
        SameStorageError: they are the same storage, or one is within the other.
        StorageError: a server that has to be asked does not answer.
    """
    if has_identity(one) and has_identity(other) and one.identity == other.identity:
        message = "source and target are the same storage; name two different ones"
        raise SameStorageError(message, storage=other.name)
    if _contains(one, other) or _contains(other, one):
        message = "one storage is inside the other and would sync itself; name two separate ones"
        raise SameStorageError(message, storage=other.name)
    return _without_files_of(one, other), _without_files_of(other, one)


def left_out(storage: Storage) -> list[str]:
    """Return the keys that `separated` has left out of a storage, ascending."""
    return sorted(storage.left_out) if isinstance(storage, PartialStorage) else []


def folder_around(storage: Storage) -> str | None:
    """Return the folder that kvsync has synced and that the files of a storage are in, or None."""
    folder = os.path.dirname(storage.files()[0]) if has_files(storage) else ""
    while folder and not os.path.isdir(os.path.join(folder, RESERVED)):
        parent = os.path.dirname(folder)
        folder = parent if parent != folder else ""
    return folder or None


def _contains(outer: Storage, inner: Storage) -> bool:
    return has_nesting(outer) and outer.contains(innermost(inner))


def _without_files_of(storage: Storage, other: Storage) -> Storage:
    if not has_files(other):
        return storage
    from kvsync.storages.folder import FolderStorage  # noqa: PLC0415 - adapters are imported when used

    folder = innermost(storage)
    if not isinstance(folder, FolderStorage):
        return storage
    keys = [folder.key_at(path) for path in other.files()]
    whose = f"a file of {other.name}, which this run syncs with the folder"
    reason, indirect = f"it is {whose}", f"it leads to, or is below, {whose}"
    found = {key: reason for key in keys if key is not None}
    if not found:
        return storage

    def others(keys: Sequence[str]) -> dict[str, str]:
        return dict.fromkeys(folder.leading_to(keys, other.files()), indirect)

    return PartialStorage(storage, found, others)
