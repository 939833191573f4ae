"""The leases that this process gave back: as long as one is just as it was left, nobody had it since."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from kvsync.storages.wrapping import innermost

if TYPE_CHECKING:
    from kvsync.index.manifest import Manifest
    from kvsync.storages.base import Storage
    from kvsync.types import Expectation, Version

__all__ = ["Left", "manifest_left", "recall", "remember"]


class Left(NamedTuple):
    """A lease object that was marked as released, clean, and the manifest as it was then, with its version.

    The version has a random token in it. The manifest is None where it is not known.
    """

    version: Version
    manifest: tuple[Manifest, Expectation] | None


_left: WeakKeyDictionary[object, Left] = WeakKeyDictionary()


def remember(storage: Storage, left: Left) -> None:
    """Note how a lease was left; not where conditions do not hold."""
    if storage.capabilities.conditions != "advisory":
        with suppress(TypeError):  # a storage that cannot be referred to weakly
            _left[innermost(storage)] = left


def recall(storage: Storage) -> Left | None:
    """Return how a lease was left, once, or None."""
    with suppress(TypeError):
        return _left.pop(innermost(storage), None)
    return None


def manifest_left(storage: Storage) -> tuple[Manifest, Expectation] | None:
    """Return the manifest as this process left it, with its version, or None where it does not know.

    Somebody else may have written it since: whoever relies on it has to take the lease again first. Whoever reads that
    it is another one by now has to `recall` how the lease was left.
    """
    with suppress(TypeError):
        left = _left.get(innermost(storage))
        return left.manifest if left is not None else None
    return None
