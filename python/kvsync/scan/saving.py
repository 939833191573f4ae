"""Saving an inventory: its new pieces first, then the inventory itself, which alone says what counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.index.inventory import Inventory
from kvsync.index.objects import INVENTORY
from kvsync.scan.folding import Folding
from kvsync.scan.known import patch_of
from kvsync.types import ANY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kvsync.environment import Environment
    from kvsync.scan.known import Known, Noted
    from kvsync.storages.contract import Storage

__all__ = ["save"]

GARBAGE_COUNT_MAX = 16
"""Pieces that no run has any more and that may pile up before one call removes them."""


def save(known: Known, changes: Mapping[str, Noted], environment: Environment, keep: Callable[[], None]) -> Inventory:
    """Store what is known, and then changed, as the next inventory.

    A crash leaves the inventory that was there before, or the new one, and pieces that neither lists.

    Raises:
        StorageError: the storage failed.
        LockLostError: from `keep`, which is called before each write.
    """
    storage, old = known.pieces.storage, known.stored
    noted = known.noted
    if changes:
        noted.append(patch_of(changes))
    garbage = _left(storage, old.garbage) if old is not None else known.garbage
    runs = old.runs if old is not None else ((),)
    folding = Folding(known.pieces, environment, keep)
    if noted:
        runs = folding.next_runs(runs, noted)
    new = Inventory(environment.nonce(), runs)
    listed = {entry.name for entry in new.stored}
    before = [entry.name for entry in old.stored] if old is not None else []
    new = new._replace(garbage=(*garbage, *(name for name in [*before, *folding.stored] if name not in listed)))
    keep()
    storage.store(INVENTORY, new.encode(), ANY)
    return new


def _left(storage: Storage, garbage: tuple[str, ...]) -> tuple[str, ...]:
    """Remove garbage if there is enough of it, and return what is left."""
    if len(garbage) < GARBAGE_COUNT_MAX:
        return garbage
    storage.remove(garbage, ANY)
    return ()
