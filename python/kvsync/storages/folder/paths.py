"""The paths of a key in a folder, for the keys that can have one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.storages.folder.keyname import has_reserved
from kvsync.storages.folder.safe_tree import KeyBlockedError

if TYPE_CHECKING:
    from kvsync.storages.folder.keyname import Naming

__all__ = ["paths_of"]

PATH_BYTES_MAX = 4000  # most programs can open that, with some room for the folder's own path


def paths_of(naming: Naming, key: str) -> list[str]:
    """Return every path where the value of a key may be, the preferred one first.

    Raises:
        KeyBlockedError: no path in this folder can hold it.
    """
    try:
        size = len(key) if key.isascii() else len(key.encode())
    except UnicodeEncodeError:
        raise KeyBlockedError("the key has a lone surrogate, so it cannot be the name of a file") from None
    if size > PATH_BYTES_MAX:
        raise KeyBlockedError(f"the key has {size} bytes; a path can have {PATH_BYTES_MAX}")
    if has_reserved(key):
        raise KeyBlockedError("a component of the key is `.kvsync`, which is reserved for an index")
    paths = naming.paths(key)
    if paths[0] is not key and len(paths[0].encode()) > PATH_BYTES_MAX:
        raise KeyBlockedError(f"the key's path would have more than {PATH_BYTES_MAX} bytes")
    return paths
