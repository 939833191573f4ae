"""Splits: the keys at which a storage may begin to list, where it lists faster by several requests at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.index.inventory import PieceEntry
from kvsync.storages.contract import has_splits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.scan.known import Known
    from kvsync.scan.pieces import Source
    from kvsync.storages.contract import Pages, Storage

__all__ = ["list_storage"]

PART_COUNT_MIN = 500
"""There are so many keys at least between two splits: half a page of a bucket."""

PARTS_MAX = 64
"""A storage is divided into so many parts at most; it makes as many ranges of them as it likes."""


def list_storage(storage: Storage, known: Known) -> Pages:
    """Scan a storage, between keys that are known of it where that helps.

    Raises:
        IndexDamagedError: a piece of the inventory cannot be read.
        StorageError: the storage cannot be listed completely.
    """
    return storage.scan(_splits(known)) if has_splits(storage) else storage.scan()


def _splits(known: Known) -> Sequence[str]:
    """Return keys with about as many known ones between one and the next."""
    run = max(known.runs, key=_count)
    count = _count(run)
    parts = min(count // PART_COUNT_MIN, PARTS_MAX)
    if parts <= 1:
        return ()
    if len(run) >= parts:
        keys = [source.first or "" for source in run]
    else:
        # So few pieces stay in memory until the listing is compared with them.
        known.pieces.load(run)
        keys = [key for source in run for key in known.pieces.of(source).every(count // parts)]
    return [keys[len(keys) * number // parts] for number in range(1, parts)]


def _count(run: Sequence[Source]) -> int:
    return sum(source.length if isinstance(source, PieceEntry) else len(source) for source in run)
