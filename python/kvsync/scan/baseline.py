"""What a storage held when it was last in step with its log."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvsync.errors import FormatError, IndexDamagedError
from kvsync.expiry import CLOCK_SKEW_MS
from kvsync.index.objects import INVENTORY, reading
from kvsync.native import TOMBSTONE, Inventory, Segment
from kvsync.storages.contract import has_expiry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kvsync.replica.log import Log
    from kvsync.storages.contract import Storage

__all__ = ["Baseline", "baseline"]


class Baseline(NamedTuple):
    """What a storage held when it was last in step with its log.

    Attributes:
        inventory: every key with its token and digest.
        expired: digests of logged values that have expired: each may still be there, and need not.
        in_step: the last scan saw just that.
    """

    inventory: Inventory
    expired: Mapping[str, bytes]
    in_step: bool


def baseline(log: Log, now_ms: int) -> Baseline:
    """Return what the storage held when it was last in step with its log."""
    old = _last_inventory(log.storage) if log.may_have(INVENTORY) else None
    if old is not None and old.nonce == log.manifest.inventory:
        return Baseline(old, {}, in_step=True)
    if old is None and not log.manifest.segments:
        return Baseline(Inventory.build([], [], []), {}, in_step=False)
    return Baseline(*_rebuilt(log, old, now_ms), in_step=False)


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


def _rebuilt(log: Log, old: Inventory | None, now_ms: int) -> tuple[Inventory, dict[str, bytes]]:
    """Derive the baseline from the log: runs without a scan have moved on since the last one."""
    merged = Segment.merge(log.all_segments())
    missing = {entry.change.key: entry.held for entry in log.manifest.knowledge.missing}
    live = {
        key: digest
        for key, _, _, flags, _, digest, _ in merged.rows(0, len(merged))
        if not flags & TOMBSTONE and key not in missing
    }
    expired = {key: live.pop(key) for key in merged.expired(now_ms + CLOCK_SKEW_MS) if key in live}
    # Where the newest value is missing, the manifest says what is held instead.
    live.update((key, held) for key, held in missing.items() if held)
    keys, digests = list(live), list(live.values())
    if old is None or has_expiry(log.storage):
        # The token of an expiring value may name another time than the log: those values are read again.
        return Inventory.build(keys, [b""] * len(keys), digests), expired
    # A token stays proof only where the log still names the value that the token was taken from.
    pairs = zip(old.tokens(keys), old.digests(keys), digests, strict=True)
    tokens = [(token or b"") if was == digest else b"" for token, was, digest in pairs]
    return Inventory.build(keys, tokens, digests), expired
