"""A scan: a storage compared with what its last one saw, two sorted streams, merged in Rust."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kvsync.index.objects import INVENTORY
from kvsync.scan import explaining, reading
from kvsync.scan.baseline import baseline
from kvsync.scan.budget import check_budget
from kvsync.types import ANY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.environment import Environment
    from kvsync.native import Inventory
    from kvsync.replica import Replica
    from kvsync.scan.budget import Budget
    from kvsync.storages.contract import Storage
    from kvsync.types import Change

__all__ = ["InventoryGuard", "Scan", "scan"]

REFRESH_COUNT = 256
"""Re-read but unchanged entries that make a new inventory worth a write."""

NO_DIGEST = bytes(32)


@dataclass(slots=True)
class Scan:
    """What a scan found.

    Attributes:
        local: changes made outside kvsync, stamped.
        landed: changes of interrupted runs that turned out to be in the storage.
        stale: newest changes whose value such a run put an older one over, after it had lost its lease, with the
            digest of what is there now (empty: nothing).
        current: every key with its token and digest, as it is now.
    """

    local: list[Change]
    landed: list[Change]
    stale: list[tuple[Change, bytes]]
    current: Inventory
    fresh: bool
    basis: bytes
    touched: dict[str, bytes]
    racy: set[str] = field(default_factory=set)

    def record(self, tokens: dict[str, tuple[bytes, bytes] | None]) -> None:
        """Take in what a push wrote: {key: (token, digest), or None where it was deleted}."""
        if not tokens:
            return
        written = {key: entry for key, entry in tokens.items() if entry is not None}
        removed = [key for key, entry in tokens.items() if entry is None]
        entries = list(written.values())
        self.current = self.current.updated(
            list(written), [token for token, _ in entries], [digest for _, digest in entries], removed
        )
        self.racy.difference_update(tokens)
        self.fresh = False

    def version_of(self, change: Change) -> bytes:
        """Return the version token that a change's value is proven to have; empty where none is."""
        keys = [change.key]
        if change.key in self.racy or self.current.digests(keys) != [change.digest]:
            return b""
        return self.current.tokens(keys)[0] or b""

    def save(self, storage: Storage, nonce: bytes) -> None:
        """Write the inventory down, if anything in it is new."""
        if not nonce or (self.fresh and self.basis == nonce and len(self.touched) < REFRESH_COUNT):
            return
        racy = sorted(self.racy)
        digests = [digest or NO_DIGEST for digest in self.current.digests(racy)]
        proven = self.current.updated(racy, [b""] * len(racy), digests, []) if racy else self.current
        storage.store(INVENTORY, proven.encode(nonce, storage.capabilities.distance == "network"), ANY)


class InventoryGuard:
    """Expects every key to be as the scan saw it: what changed since is a local change, not ours to overwrite."""

    def __init__(self, scan_: Scan) -> None:
        self._scan = scan_

    def examine(self, keys: Sequence[str]) -> tuple[Sequence[bytes | None], dict[str, str]]:
        """Expect the scanned version of every key."""
        return self._scan.current.tokens(keys), {}


def scan(replica: Replica, environment: Environment, budget: Budget, on_batch: Callable[[], None]) -> Scan:
    """Find what changed in a storage since its last scan, without writing anything.

    `on_batch` is called between batches, to keep the lease.

    Raises:
        BudgetError: more is gone or overwritten than the budget allows, or everything is gone.
        StorageError: the storage cannot be listed completely.
    """
    storage = replica.storage
    started_ms = environment.now_ms()
    before, expired, fresh = baseline(replica, started_ms)
    keys, tokens = reading.listing(storage, on_batch)
    positions, gone = before.compare(keys, tokens)
    listed = {keys[i]: tokens[i] for i in positions}
    times = reading.times_of(storage, list(listed))
    found = reading.found_values(storage, listed, times, reading.read_changed(storage, list(listed), on_batch))
    known = dict(zip(found, before.digests(list(found)), strict=True))
    touched = {key: entry.token for key, entry in found.items() if entry.digest in {known[key], expired.get(key)}}
    retimed = explaining.retimed(replica, [(key, found[key]) for key in touched])
    for key in retimed:
        del touched[key]
    puts = {key: entry for key, entry in found.items() if key not in touched}
    absent = reading.confirm_gone(storage, gone)
    # By now, not by when the scan began: to list many keys takes longer than clocks may differ.
    now_ms = environment.now_ms()
    lapsed = explaining.lapsed(replica, absent, now_ms)
    deletes = [key for key in absent if key not in lapsed]
    # A life made longer takes nothing from anybody.
    overwritten = [key for key in puts if known[key] is not None and retimed.get(key, True)]
    check_budget(storage.name, budget, len(before), deletes, overwritten, emptied=not keys)
    entries = list(found.values())
    # What has expired, is there and could not be read now is still no news to the next scan.
    unread = {key: digest for key, digest in expired.items() if key in listed and key not in found}
    current = before.updated(
        [*found, *unread],
        [*(entry.token for entry in entries), *(b"" for _ in unread)],
        [*(entry.digest for entry in entries), *unread.values()],
        absent,
    )
    landed, stale = explaining.late_writes(replica, puts, deletes, now_ms)
    explained = {change.key for change in landed} | {change.key for change, _ in stale}
    local = explaining.stamped(
        replica,
        environment,
        {key: entry for key, entry in puts.items() if key not in explained},
        [key for key in deletes if key not in explained],
    )
    racy = reading.racy(storage, list(found), started_ms)
    unchanged = fresh and not puts and not absent
    return Scan(local, landed, stale, current, unchanged, replica.manifest.nonce, touched, racy)
