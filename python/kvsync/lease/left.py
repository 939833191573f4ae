"""The leases that this process gave back: as long as one is just as it was left, nobody had it since."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from kvsync.storages.wrapping import innermost

if TYPE_CHECKING:
    from kvsync.storages.base import Storage
    from kvsync.types import Version

__all__ = ["recall", "remember"]

_left: WeakKeyDictionary[object, Version] = WeakKeyDictionary()
"""The version of each lease object that was marked as released, clean; each has a random token in it."""


def remember(storage: Storage, version: Version) -> None:
    """Note how a lease was left; not where conditions do not hold."""
    if storage.capabilities.conditions != "advisory":
        with suppress(TypeError):  # a storage that cannot be referred to weakly
            _left[innermost(storage)] = version


def recall(storage: Storage) -> Version | None:
    """Return how a lease was left, once, or None."""
    with suppress(TypeError):
        return _left.pop(innermost(storage), None)
    return None
