"""What a storage held when it was last in step with its log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.errors import FormatError, IndexDamagedError
from kvsync.expiry import CLOCK_SKEW_MS
from kvsync.index.objects import INVENTORY, reading
from kvsync.native import TOMBSTONE, Inventory, Segment
from kvsync.storages.contract import has_expiry

if TYPE_CHECKING:
    from kvsync.replica import Replica
    from kvsync.storages.contract import Storage

__all__ = ["baseline"]


def baseline(replica: Replica, now_ms: int) -> tuple[Inventory, dict[str, bytes], bool]:
    """Return what the storage held when it was last in step with its log, and whether a scan saw just that.

    Between the two: the digests of logged values that have expired. They may still be there, and need not.
    """
    old = None if replica.lacks(INVENTORY) else _last_inventory(replica.storage)
    if old is not None and old.nonce == replica.manifest.nonce:
        return old, {}, True
    if old is None and not replica.manifest.segments:
        return Inventory.build([], [], []), {}, False
    return *_rebuilt(replica, old, now_ms), False


def _last_inventory(storage: Storage) -> Inventory | None:
    """Return what the last scan wrote down; None where it cannot be read, since it can be found again.

    Raises:
        FormatError: a newer kvsync wrote it.
    """
    there = storage.load(INVENTORY)
    if there is None:
        return None
    try:
        with reading(INVENTORY, storage.name):
            return Inventory.decode(there.data)
    except FormatError:
        raise
    except IndexDamagedError:
        return None


def _rebuilt(replica: Replica, old: Inventory | None, now_ms: int) -> tuple[Inventory, dict[str, bytes]]:
    """Derive the baseline from the log: a run without a scan moved on since the last one."""
    merged = Segment.merge(replica.everything())
    missing = {lack.change.key for lack in replica.manifest.lacking}
    live = {
        key: digest
        for key, _, _, flags, _, digest, _ in merged.rows(0, len(merged))
        if not flags & TOMBSTONE and key not in missing
    }
    expired = {key: live.pop(key) for key in merged.expired(now_ms + CLOCK_SKEW_MS) if key in live}
    # Where the newest value is missing, the manifest says what is held instead.
    live.update((lack.change.key, lack.held) for lack in replica.manifest.lacking if lack.held)
    keys, digests = list(live), list(live.values())
    if old is None or has_expiry(replica.storage):
        # A token with a time in it may be of another time than the log says: those values are read again.
        return Inventory.build(keys, [b""] * len(keys), digests), expired
    # A token stays proof only where the log still names the value that the token was taken from.
    pairs = zip(old.tokens(keys), old.digests(keys), digests, strict=True)
    tokens = [(token or b"") if was == digest else b"" for token, was, digest in pairs]
    return Inventory.build(keys, tokens, digests), expired
