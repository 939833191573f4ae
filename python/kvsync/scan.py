"""Finding changes by comparing a storage with what its last scan saw: two sorted streams, merged in Rust."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from kvsync.errors import BudgetError, FormatError, IndexDamagedError
from kvsync.expiry import CLOCK_SKEW_MS, may_be_gone
from kvsync.index.objects import INVENTORY, reading
from kvsync.measuring import Measured, measured
from kvsync.native import TOMBSTONE, Inventory, Segment, stamp_after
from kvsync.storages.base import has_expiry
from kvsync.storages.expiry import parts_of
from kvsync.types import ANY, Change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kvsync.environment import Environment
    from kvsync.replica import Replica
    from kvsync.storages.base import Storage

__all__ = ["Budget", "InventoryGuard", "Scan", "scan"]

FLOOR_COUNT = 3
"""The default budget allows so many whatever the part: who edits one note of one has lost nothing."""

READ_COUNT = 256
"""Changed values between two looks at the lease, and absent ones looked for at a time."""

REFRESH_COUNT = 256
"""Re-read but unchanged entries that make a new inventory worth a write."""

NO_DIGEST = bytes(32)


@dataclass(frozen=True, slots=True)
class Budget:
    """How many keys a scan may find deleted or overwritten: a number, or a part of the keys last seen."""

    count: int | None = None
    part: float = 0.5
    floor: int = 0

    @classmethod
    def parse(cls, text: str | int | None) -> Budget:
        """Read `N`, `"N"` or `"P%"`; None is the default, half of the keys.

        Raises:
            ValueError: it is neither.
        """
        if text is None:
            return cls(floor=FLOOR_COUNT)
        words = str(text).strip()
        if words.endswith("%"):
            part = float(words[:-1]) / 100
            if not 0 <= part <= 1:
                message = f"not a percentage: {text!r}"
                raise ValueError(message)
            return cls(part=part)
        if int(words) < 0:
            message = f"not a number of keys: {text!r}"
            raise ValueError(message)
        return cls(count=int(words))

    def allows(self, touched: int, known: int) -> bool:
        """Whether `touched` of `known` keys may be deleted or overwritten."""
        return touched <= max(self.floor, self.count if self.count is not None else known * self.part)

    @property
    def everything(self) -> bool:
        """Whether even an empty listing is to be believed."""
        return self.count is None and self.part >= 1


class FoundValue(NamedTuple):
    """A value that a scan read.

    `expires` is in wall-clock milliseconds, 0: never; None where the storage does not keep it.
    """

    token: bytes
    digest: bytes
    size: int
    expires: int | None = None


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

    def save(self, storage: Storage, nonce: bytes) -> None:
        """Write the inventory down, if anything in it is new."""
        if not nonce or (self.fresh and self.basis == nonce and len(self.touched) < REFRESH_COUNT):
            return
        racy = sorted(self.racy)
        digests = [digest or NO_DIGEST for digest in self.current.digests(racy)]
        proven = self.current.updated(racy, [b""] * len(racy), digests, []) if racy else self.current
        storage.store(INVENTORY, proven.encode(nonce, storage.capabilities.compress), ANY)


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
    baseline, expired, fresh = _baseline(replica, started_ms)
    keys, tokens = _listing(storage, on_batch)
    positions, gone = baseline.compare(keys, tokens)
    listed = {keys[i]: tokens[i] for i in positions}
    times = _times(storage, list(listed))
    found = _found(storage, listed, times, _read_changed(storage, list(listed), on_batch))
    known = dict(zip(found, baseline.digests(list(found)), strict=True))
    touched = {key: entry.token for key, entry in found.items() if entry.digest in {known[key], expired.get(key)}}
    retimed = _retimed(replica, [(key, found[key]) for key in touched])
    for key in retimed:
        del touched[key]
    puts = {key: entry for key, entry in found.items() if key not in touched}
    absent = _confirm_gone(storage, gone)
    # By now, not by when the scan began: to list many keys takes longer than clocks may differ.
    now_ms = environment.now_ms()
    lapsed = _lapsed(replica, absent, now_ms)
    deletes = [key for key in absent if key not in lapsed]
    # A life made longer takes nothing from anybody.
    overwritten = [key for key in puts if known[key] is not None and retimed.get(key, True)]
    _check_budget(storage.name, budget, len(baseline), deletes, overwritten, emptied=not keys)
    entries = list(found.values())
    # What has expired, is there and could not be read now is still no news to the next scan.
    unread = {key: digest for key, digest in expired.items() if key in listed and key not in found}
    current = baseline.updated(
        [*found, *unread],
        [*(entry.token for entry in entries), *(b"" for _ in unread)],
        [*(entry.digest for entry in entries), *unread.values()],
        absent,
    )
    landed, stale = _late_writes(replica, puts, deletes, now_ms)
    explained = {change.key for change in landed} | {change.key for change, _ in stale}
    local = _stamped(
        replica,
        environment,
        {key: entry for key, entry in puts.items() if key not in explained},
        [key for key in deletes if key not in explained],
    )
    racy = _racy(storage, list(found), started_ms)
    unchanged = fresh and not puts and not absent
    return Scan(local, landed, stale, current, unchanged, replica.manifest.nonce, touched, racy)


def _baseline(replica: Replica, now_ms: int) -> tuple[Inventory, dict[str, bytes], bool]:
    """Return what the storage held when it was last in step with its log, and whether a scan saw just that.

    Between the two: the digests of logged values that have expired. They may still be there, and need not.
    """
    old = _last_inventory(replica.storage)
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


def _listing(storage: Storage, on_batch: Callable[[], None]) -> tuple[list[str], list[bytes]]:
    keys: list[str] = []
    tokens: list[bytes] = []
    for some_keys, some_tokens in storage.scan():
        on_batch()
        keys += some_keys
        tokens += some_tokens
    return keys, tokens


def _batches(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), READ_COUNT):
        yield keys[start : start + READ_COUNT]


def _read_changed(storage: Storage, keys: Sequence[str], on_batch: Callable[[], None]) -> dict[str, tuple[bytes, int]]:
    """Return {key: (digest, size)}; a value that is gone again or cannot be read now waits for the next scan."""
    seen: dict[str, tuple[bytes, int]] = {}
    for number, (key, found) in enumerate(measured(storage, keys)):
        if number % READ_COUNT == 0:
            on_batch()
        if isinstance(found, Measured):
            seen[key] = (found.digest, found.size)
    return seen


def _times(storage: Storage, keys: Sequence[str]) -> dict[str, int]:
    """Return when values expire where tokens do not say so; asked before they are read, since then they are gone."""
    if not has_expiry(storage) or not storage.capabilities.versions:
        return {}
    return {key: time for some in _batches(keys) for key, time in zip(some, storage.expiries(some), strict=True)}


def _found(
    storage: Storage,
    listed: Mapping[str, bytes],
    times: Mapping[str, int],
    seen: Mapping[str, tuple[bytes, int]],
) -> dict[str, FoundValue]:
    """Return what was read, with tokens that are of just that."""
    if storage.capabilities.versions:
        return {key: FoundValue(listed[key], *measure, times.get(key)) for key, measure in seen.items()}
    if not has_expiry(storage):
        # The value may have changed since it was listed. What was read is what is known; its token is its digest.
        return {key: FoundValue(digest, digest, size) for key, (digest, size) in seen.items()}
    # The listing says when a value expires, for that value alone: another one waits for the next scan.
    parts = {key: parts_of(listed[key]) for key in seen}
    return {
        key: FoundValue(listed[key], digest, size, parts[key][1])
        for key, (digest, size) in seen.items()
        if digest == parts[key][0]
    }


def _retimed(replica: Replica, unchanged: Sequence[tuple[str, FoundValue]]) -> dict[str, bool]:
    """Return the keys whose value is the one that is known, and whose time another one; and whether that is sooner."""
    if not unchanged or not has_expiry(replica.storage):
        return {}
    # Of what is held in place of a missing value, no time is known.
    lacking = {lack.change.key for lack in replica.manifest.lacking}
    logged = replica.newest([key for key, _ in unchanged])
    return {
        key: bool(entry.expires) and not 0 < change.expires < (entry.expires or 0)
        for (key, entry), change in zip(unchanged, logged, strict=True)
        if change is not None and change.expires != entry.expires and key not in lacking
    }


def _lapsed(replica: Replica, absent: Sequence[str], now_ms: int) -> set[str]:
    """Return the absent keys whose values the storage took away itself, since they had expired."""
    if not absent or not has_expiry(replica.storage):
        return set()
    # What is held in place of a missing value may have had a time, too. Its newest value is on its way anyway.
    lapsed = {lack.change.key for lack in replica.manifest.lacking}
    logged = zip(absent, replica.newest(absent), strict=True)
    return lapsed | {key for key, change in logged if change is not None and may_be_gone(change.expires, now_ms)}


def _confirm_gone(storage: Storage, keys: Sequence[str]) -> list[str]:
    """Return the keys that a direct read does not find either: a listing alone proves no delete."""
    return [
        key for some in _batches(keys) for key, value in zip(some, storage.read(some), strict=True) if value is None
    ]


def _check_budget(
    name: str, budget: Budget, known: int, deletes: Sequence[str], overwritten: Sequence[str], *, emptied: bool
) -> None:
    touched = len(deletes) + len(overwritten)
    if deletes and emptied and not budget.everything:
        message = (
            f"all {known} keys are gone; if that is meant, allow it with max_delete='100%', else check that the right "
            "storage is mounted and named; if it lost them, remove its index too, as docs/storages.md says, and the "
            "next run fills it again from the other storage"
        )
    elif not budget.allows(touched, known):
        message = (
            f"{len(deletes)} of {known} keys are deleted and {len(overwritten)} overwritten since the last scan, more "
            "than allowed; if that is meant, raise max_delete"
        )
    else:
        return
    raise BudgetError(message, storage=name, deleted=deletes, overwritten=overwritten, known=known)


def _late_writes(
    replica: Replica, puts: dict[str, FoundValue], deletes: Sequence[str], now_ms: int
) -> tuple[list[Change], list[tuple[Change, bytes]]]:
    """Explain what was found by what runs were about to write, and by what is known to be missing.

    Return the changes that landed: late writes of runs that had lost their lease, and missing values that a run
    brought before it was interrupted. And the newest changes that a late write put an older value over: nobody made
    that older value now, so it is no local change, and the newest value is missing.
    """
    gone = set(deletes)
    lacking = [lack.change for lack in replica.manifest.lacking]
    landed = {change.key: change for change in lacking if _fits(change, puts, gone, now_ms)}
    stale: dict[str, tuple[Change, bytes]] = {}
    candidates = [*puts, *deletes]
    intents = replica.intents()
    newest = replica.newest(candidates) if intents else []
    for intent, lost_ms in intents:
        for row, logged in zip(intent.find(candidates), newest, strict=True):
            if row is None:
                continue
            change = Change._make(row)
            fits = _fits(change, puts, gone, lost_ms)
            if fits and (logged is None or change.order > logged.order):
                landed[change.key] = change
            elif fits and logged is not None:
                stale[change.key] = (logged, puts[change.key].digest if change.key in puts else b"")
    return list(landed.values()), [entry for key, entry in stale.items() if key not in landed]


def _fits(change: Change, puts: dict[str, FoundValue], gone: set[str], now_ms: int) -> bool:
    """Whether what was found at a key is what `change` made of it: nothing, too, if it had expired by `now_ms`."""
    if change.key in gone:
        return change.deletes or may_be_gone(change.expires, now_ms)
    entry = puts.get(change.key)
    return entry is not None and entry.digest == change.digest and entry.expires in {None, change.expires}


def _stamped(
    replica: Replica, environment: Environment, puts: dict[str, FoundValue], deletes: Sequence[str]
) -> list[Change]:
    """Stamp local changes in the order in which the storage says they were made, none in the future."""
    now_ms = environment.now_ms()
    keys = list(puts)
    times = replica.storage.modified_ms(keys) if keys else []
    # A value of unknown age that no log knows counts as old: it must not beat what a peer knows to be newer.
    unknown_ms = now_ms if replica.manifest.segments else 0
    made = [(unknown_ms if t is None else min(t, now_ms), key) for t, key in zip(times, keys, strict=True)]
    made += [(now_ms, key) for key in deletes]
    stamp = replica.manifest.clock
    origin = replica.manifest.replica
    changes = []
    for time_ms, key in sorted(made):
        stamp = stamp_after(max(time_ms, 0), stamp)
        if key in puts:
            entry = puts[key]
            changes.append(Change(key, origin, stamp, 0, entry.size, entry.digest, entry.expires or 0))
        else:
            changes.append(Change(key, origin, stamp, TOMBSTONE, 0, NO_DIGEST))
    return changes


def _racy(storage: Storage, keys: Sequence[str], started_ms: int) -> set[str]:
    """Return the keys whose token is too young to prove that the value does not change again unnoticed."""
    capabilities = storage.capabilities
    if not capabilities.versions or not capabilities.racy_ms:
        return set()
    times = storage.modified_ms(keys)
    return {k for k, t in zip(keys, times, strict=True) if t is None or t >= started_ms - capabilities.racy_ms}
