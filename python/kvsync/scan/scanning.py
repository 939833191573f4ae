"""A scan: the listing of a storage compared with what its last scan saw, page by page and piece by piece."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from kvsync.digesting import BATCH_COUNT
from kvsync.errors import IndexDamagedError
from kvsync.index.inventory import is_piece_error
from kvsync.native import FoundValues, Segment
from kvsync.scan import attribution, reading
from kvsync.scan.baseline import baseline, baseline_at
from kvsync.scan.budget import check_budget
from kvsync.scan.known import Known
from kvsync.scan.listing import compare
from kvsync.scan.saving import save
from kvsync.scan.splits import list_storage
from kvsync.scan.stamping import Unstamped
from kvsync.scan.tracking import may_exceed, missed, read_journal
from kvsync.storages.contract import OpaqueTokens
from kvsync.storages.journal import has_journal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from kvsync.environment import Environment
    from kvsync.filters import KeyFilter
    from kvsync.replica.history import VectorException
    from kvsync.replica.log import Log
    from kvsync.scan.baseline import Baseline
    from kvsync.scan.budget import Budget
    from kvsync.scan.known import Noted
    from kvsync.scan.listing import Listing
    from kvsync.scan.stamping import Stamped
    from kvsync.scan.vouching import Voucher
    from kvsync.storages.contract import Storage
    from kvsync.storages.journal import Journal
    from kvsync.types import Change

__all__ = ["Scan", "scan"]

REFRESH_COUNT = 256
"""Values that were read again and are unchanged: so many make a new inventory worth a write."""

NO_DIGEST = bytes(32)


@dataclass(slots=True)
class Scan:
    """What a scan found.

    Attributes:
        found: changes made outside kvsync, until they are stamped.
        applied: changes of interrupted runs that turned out to be in the storage.
        exceptions: those of them that were not known yet.
        current: every key with its token and digest, as it is now.
        nonce: of the stored inventory, where `current` is still that; else empty.
        reread: how many values were read again and are unchanged, but for their tokens.
        unreadable: {key or name: why} of what is there, and is no value that can be read now. It is no change.
        racy: keys whose token is too young to prove anything.
        local: what was `found`, once it is stamped.
        shared: the least and the greatest stamp of those of its changes that are the other side's.
        written: keys that this run wrote after the scan.
        started_ms: when the scan began.
        is_first: no scan was noted before, so what was found may be older than the log.
        is_tracked: only those keys were looked at that the journal of the storage names, so no inventory is made.
        position: how far the journal was read, if there is anything to settle; else empty.
        scope: what it looked at: the scope of its filter, if it had one.
        fault: what is wrong with the journal, and what to do; empty if nothing is.
    """

    found: Unstamped | None
    applied: list[Change]
    exceptions: list[VectorException]
    current: Known
    nonce: bytes
    reread: int
    unreadable: Mapping[str, str] = field(default_factory=dict)
    racy: set[str] = field(default_factory=set)
    local: Segment = field(default_factory=lambda: Segment.from_rows([]))
    shared: tuple[int, int] | None = None
    written: set[str] = field(default_factory=set)
    started_ms: int = 0
    is_first: bool = False
    is_tracked: bool = False
    position: bytes = b""
    scope: bytes = b""
    fault: str = ""

    def stamped(self, stamped: Stamped) -> Scan:
        """Return the scan once what it found is stamped."""
        local = stamped.changes
        found, current = self.found, self.current
        if found is not None and found.puts is current.found and found.log.storage.capabilities.tokens == "blake3":
            current.found = local  # says the same, and has to be in memory anyway
        return replace(self, found=None, local=local, shared=stamped.shared)

    def record(self, tokens: Mapping[str, Noted]) -> None:
        """Take in what a push wrote: {key: (token, digest), or None where it was deleted}."""
        if not tokens:
            return
        self.current.changes.update(tokens)
        self.racy.difference_update(tokens)
        self.written.update(key for key, entry in tokens.items() if entry is not None)
        self.nonce = b""

    def unproven(self, storage: Storage, keys: Sequence[str]) -> list[str]:
        """Return the keys whose token does not prove that their value is still the one with the digest known here."""
        declared = storage.capabilities.tokens
        if not isinstance(declared, OpaqueTokens) or not (declared.racy_ms or declared.is_young):
            return []
        pairs = zip(keys, self.current.tokens(keys), strict=True)
        there = {key: token for key, token in pairs if token is not None}
        unsure = {key for key in there if key in self.racy or key in self.written}
        if storage.capabilities.distance != "network":  # there a token is made of the contents, and a look is dear
            sure = {key: token for key, token in there.items() if key not in unsure}
            unsure |= reading.racy(storage, sure, self.started_ms)
        return [key for key in there if key in unsure]

    def distrust(self, keys: Collection[str]) -> None:
        """Have the next scan read these keys again, though their token will be the one that is known."""
        if keys:
            self.racy.update(keys)
            self.nonce = b""

    def version_of(self, change: Change) -> bytes:
        """Return the version token that a change's value is proven to have; empty where none is."""
        keys = [change.key]
        if change.key in self.racy or self.current.digests(keys) != [change.digest]:
            return b""
        return self.current.tokens(keys)[0] or b""

    def save(self, environment: Environment, keep: Callable[[], None]) -> bytes:
        """Store the inventory, if anything in it is new; return its nonce, which the manifest has to name.

        Where a journal tells what has changed, none is made: the next scan of everything goes by the log.

        `keep` is called before each write, to keep the lease.
        """
        if self.is_tracked or (self.nonce and self.reread < REFRESH_COUNT):
            return self.nonce
        known, racy = self.current, sorted(self.racy)
        unproven = {key: (b"", digest or NO_DIGEST) for key, digest in zip(racy, known.digests(racy), strict=True)}
        saved = save(known, known.changes | unproven, environment, keep)
        self.current = Known(known.pieces, saved, changes=known.changes)
        self.nonce, self.reread = saved.nonce, 0
        return self.nonce


def scan(
    log: Log,
    origin: int,
    budget: Budget,
    on_batch: Callable[[], None],
    voucher: Voucher | None = None,
    keys_filter: KeyFilter | None = None,
    *,
    full: bool = False,
) -> Scan:
    """Find what changed in a storage since its last scan, without writing or stamping anything.

    Args:
        log: of the storage.
        origin: the id under which local changes are stamped.
        budget: how much may be deleted or overwritten.
        on_batch: called between batches, to keep the lease.
        voucher: the other side, if it may vouch for values here, which are then not read.
        keys_filter: which keys to leave out: whatever is there, or not, is no change.
        full: look at everything, even if the storage has a journal.

    Raises:
        BudgetError: more is gone or overwritten than the budget allows, or everything is gone.
        StorageError: the storage cannot be listed completely.
    """
    scope = keys_filter.scope if keys_filter is not None else b""
    journal = read_journal(log, scope)
    started_ms = log.environment.now_ms()
    if journal is not None and journal.changed is not None and not full:
        seen = _look_at(log, list(journal.changed), started_ms, on_batch, voucher, keys_filter)
        deletes = _deletes(log, seen)
        if not may_exceed(budget, log, deletes, seen.overwritten):
            return _found(log, origin, seen, deletes, started_ms, journal, scope, is_tracked=True)
    seen = _look(log, started_ms, on_batch, voucher, keys_filter)
    deletes = _deletes(log, seen)
    listing = seen.listing
    check_budget(log.storage.name, budget, listing.known, deletes, seen.overwritten, emptied=listing.is_empty)
    return _found(log, origin, seen, deletes, started_ms, journal, scope)


def _deletes(log: Log, seen: _Seen) -> list[str]:
    """Return the keys that are gone, but for those that the storage removed itself."""
    # By now, not by when the scan began: listing many keys takes longer than clocks may differ.
    by_expiry = attribution.expired(log, seen.absent, log.environment.now_ms())
    return [key for key in seen.absent if key not in by_expiry]


def _found(
    log: Log,
    origin: int,
    seen: _Seen,
    deletes: Sequence[str],
    started_ms: int,
    journal: Journal | None,
    scope: bytes,
    *,
    is_tracked: bool = False,
) -> Scan:
    """Return what a look at a storage showed to have changed."""
    late, exceptions = attribution.late_writes(log, seen.puts, deletes, log.environment.now_ms())
    attributed = {change.key for change in late}
    puts = seen.puts.without(list(attributed)) if attributed else seen.puts
    deletes = [key for key in deletes if key not in attributed]
    noted = journal.changed or {} if journal is not None else {}
    _add_times(log.storage, puts, seen.vouched, noted)
    deleted_ms = list(map(noted.get, deletes)) if noted else []
    unchanged = seen.baseline.in_step and not len(seen.puts) and not seen.absent
    found = Scan(
        Unstamped(log, origin, puts, deletes, deleted_ms),
        late,
        exceptions,
        current=seen.current(),
        nonce=log.manifest.inventory if unchanged else b"",
        reread=len(seen.found) - len(seen.puts),
        unreadable=seen.unreadable,
        racy=seen.racy,
        started_ms=started_ms,
        is_first=seen.baseline.is_first,
        is_tracked=is_tracked,
    )
    if journal is not None:
        _note_journal(log, found, journal, scope)
    return found


def _note_journal(log: Log, found: Scan, journal: Journal, scope: bytes) -> None:
    """Note how far the journal was read, and what is wrong with it."""
    found.fault = journal.fault
    if found.found is not None and not found.is_tracked:
        unnamed = missed(log, [*found.found.puts.keys(0, len(found.found.puts)), *found.found.deletes], journal)
        if unnamed:
            found.fault = (
                f"its journal did not name {len(unnamed)} of the keys that have changed, among them {unnamed[0]!r}: "
                "something writes to it without its triggers. Scan in full while that goes on"
            )
    # What cannot be read stays noted, so that each run looks at it. Nothing is to be settled where nothing was noted.
    if not journal.fault and not found.unreadable and journal.changed != {}:
        found.position, found.scope = journal.position, scope


def _add_times(storage: Storage, puts: FoundValues, vouched: Collection[str], noted: Mapping[str, int | None]) -> None:
    """Say of values when they were last modified, where storage or journal tell; not of those `vouched` for."""
    for start in range(0, len(puts), BATCH_COUNT):
        keys = puts.keys(start, start + BATCH_COUNT)
        if vouched or noted:
            read = [key for key in keys if key not in vouched]
            times = dict(zip(read, storage.modified_ms(read), strict=True)) if read else {}
            puts.add_times([time if (time := times.get(key)) is not None else noted.get(key) for key in keys])
        else:
            puts.add_times(storage.modified_ms(keys))


class _Seen(NamedTuple):
    """What a look at a storage showed.

    Attributes:
        baseline: what was there before.
        listing: which keys are new, or have a new token, and which are gone.
        found: what is there at the former.
        puts: the part of `found` that is not as it was.
        overwritten: keys whose value, or expiry, somebody has changed to the worse.
        absent: keys that are gone.
        unread: keys of values that had expired, are there and could not be read.
        racy: keys whose token is too young to prove anything.
        unreadable: {key or name: why} of what cannot be read now.
        vouched: keys of what was `found` without being read.
    """

    baseline: Baseline
    listing: Listing
    found: FoundValues
    puts: FoundValues
    overwritten: Sequence[str]
    absent: Sequence[str]
    unread: Sequence[str]
    racy: set[str]
    unreadable: Mapping[str, str]
    vouched: Collection[str]

    def current(self) -> Known:
        """Return every key with its token and digest, as it is now."""
        known = self.baseline.known
        known.found = self.found
        # What has expired, is there and could not be read now is still no news to the next scan.
        known.changes.update((key, (b"", self.baseline.expired[key])) for key in self.unread)
        known.changes.update(dict.fromkeys(self.absent))
        return known


def _look(
    log: Log,
    now_ms: int,
    on_batch: Callable[[], None],
    voucher: Voucher | None,
    keys_filter: KeyFilter | None,
) -> _Seen:
    """List a storage, compare it with what was there before, and read what is new or changed."""
    try:
        before = baseline(log, now_ms)
        listing = compare(before.known, list_storage(log.storage, before.known), on_batch)
    except IndexDamagedError as error:
        if not is_piece_error(error):
            raise
        # What the last scan saw can be found again.
        before = baseline(log, now_ms, from_log=True)
        listing = compare(before.known, list_storage(log.storage, before.known), on_batch)
    return _read(log, before, listing, now_ms, on_batch, voucher, keys_filter)


def _look_at(
    log: Log,
    keys: Sequence[str],
    now_ms: int,
    on_batch: Callable[[], None],
    voucher: Voucher | None,
    keys_filter: KeyFilter | None,
) -> _Seen:
    """Look at some keys of a storage, compare what is there with what was there before, and read what is new."""
    storage = log.storage
    assert has_journal(storage)  # noqa: S101 - it has told the keys
    keys = sorted(keys)
    before = baseline_at(log, keys, now_ms)
    listing = compare(before.known, storage.listed(keys), on_batch)
    return _read(log, before, listing, now_ms, on_batch, voucher, keys_filter, is_whole=False)


def _read(
    log: Log,
    before: Baseline,
    listing: Listing,
    started_ms: int,
    on_batch: Callable[[], None],
    voucher: Voucher | None,
    keys_filter: KeyFilter | None,
    *,
    is_whole: bool = True,
) -> _Seen:
    """Read what is new or changed and was not read while it was listed, and make sure of what is gone.

    Digest, size and token are of one and the same read, as what is there may change at any time.
    """
    storage = log.storage
    asked = before.expired.keys()
    read = reading.read_unread(
        storage, listing.unread, started_ms, on_batch, asked=asked, voucher=voucher, keys_filter=keys_filter
    )
    parts = [part for part in (_kept(listing.found, keys_filter), read.found) if len(part)]
    found = parts[0] if len(parts) == 1 else FoundValues.merge(parts)
    known_same = found.same
    same = reading.look_up(storage, found, [*known_same, *before.expired]) if known_same or before.expired else {}
    same = {key: value for key, value in same.items() if before.expired.get(key, value.digest) == value.digest}
    ttl_changed = attribution.ttl_changed(log, list(same.items()))
    unchanged = [key for key in same if key not in ttl_changed]
    puts = found.without(unchanged) if unchanged else found
    # Extending a TTL is not charged to the budget.
    shortened = [key for key in known_same if ttl_changed.get(key, False)]
    absent, replaced = reading.confirm_gone(storage, _passing(listing.gone, keys_filter))
    unreadable = read.unreadable | replaced | (reading.skipped(storage) if is_whole else {})
    return _Seen(
        before,
        listing,
        found,
        puts,
        [*found.changed, *shortened],
        absent,
        read.left,
        read.racy,
        {key: unreadable[key] for key in _passing(list(unreadable), keys_filter)},
        read.vouched,
    )


def _kept(found: FoundValues, keys_filter: KeyFilter | None) -> FoundValues:
    """Return what a listing has read, but for keys to leave out."""
    if keys_filter is None or not len(found):
        return found
    left_out = keys_filter.excluded_of(found)
    return found.without(sorted(left_out)) if left_out else found


def _passing(keys: Sequence[str], keys_filter: KeyFilter | None) -> Sequence[str]:
    """Return some keys but for those to leave out."""
    if keys_filter is None or not keys:
        return keys
    left_out = keys_filter.excluded(keys)
    return [key for key in keys if key not in left_out]
