"""How leases end where their objects stay, and those that this process gave back.

Where a lease object stays, the lease is marked as released; or, which takes no write of its own, the manifest
that its holder writes last names the version of the lease that ends with it. As long as a lease object is just as it
was left, nobody had it since.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from kvsync.index.recent import load_manifest
from kvsync.storages.wrapper import innermost

if TYPE_CHECKING:
    from kvsync.index.recent import Found
    from kvsync.storages.contract import Storage
    from kvsync.types import Stored, Version

__all__ = ["Left", "ended_by", "ends_with_manifest", "manifest_left", "recall", "remember", "stays"]


class Left(NamedTuple):
    """A lease object that was given back, clean, and the manifest as it was then, with its version.

    The version has a random token in it. The manifest is None where it is not known.
    """

    version: Version
    manifest: Found


def stays(storage: Storage) -> bool:
    """Whether the lease object stays where it is when the lease is given back."""
    return storage.capabilities.lease_stays


def ends_with_manifest(storage: Storage) -> bool:
    """Whether a manifest can give the lease back: the object stays, and its version is a condition that holds."""
    return stays(storage) and storage.capabilities.conditions != "advisory"


def ended_by(storage: Storage, there: Stored) -> Found:
    """Return the manifest that gave back the lease object that is `there`, with its version; None where none did.

    To be asked after the object was read: its holder wrote that manifest last of all.

    Raises:
        IndexDamagedError: the manifest fails its checks.
    """
    found = load_manifest(storage) if stays(storage) else None
    return found if found is not None and found[0].lease == there.version else None


_left: WeakKeyDictionary[object, Left] = WeakKeyDictionary()


def remember(storage: Storage, left: Left) -> None:
    """Note how a lease was left; not where conditions do not hold.

    Not what manifest, where to read that costs nothing: the lease may lie apart from what it guards, as beside an LMDB
    environment, and stay as it was when that is restored from a backup.
    """
    if storage.capabilities.conditions != "advisory":
        known = None if storage.capabilities.distance == "mapped" else left.manifest
        with suppress(TypeError):  # a storage that cannot be referred to weakly
            _left[innermost(storage)] = Left(left.version, known)


def recall(storage: Storage) -> Left | None:
    """Return how a lease was left, once, or None."""
    with suppress(TypeError):
        return _left.pop(innermost(storage), None)
    return None


def manifest_left(storage: Storage) -> Found:
    """Return the manifest as this process left it, with its version, or None where it does not know.

    Somebody else may have written it since: whoever relies on it has to take the lease again first. Whoever reads that
    it is another one by now has to `recall` how the lease was left.
    """
    with suppress(TypeError):
        left = _left.get(innermost(storage))
        return left.manifest if left is not None else None
    return None
