"""A scan: the listing of a storage compared with what its last scan saw, page by page and piece by piece."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from kvsync.errors import IndexDamagedError
from kvsync.index.inventory import is_piece_error
from kvsync.scan import attribution, reading
from kvsync.scan.baseline import baseline
from kvsync.scan.budget import check_budget
from kvsync.scan.known import Known
from kvsync.scan.listing import compare
from kvsync.scan.saving import save
from kvsync.scan.splits import list_storage
from kvsync.scan.stamping import Unstamped
from kvsync.storages.contract import OpaqueTokens

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from kvsync.environment import Environment
    from kvsync.replica.history import VectorException
    from kvsync.replica.log import Log
    from kvsync.replica.recovery import FoundValue
    from kvsync.scan.baseline import Baseline
    from kvsync.scan.budget import Budget
    from kvsync.scan.known import Noted
    from kvsync.scan.listing import Listing
    from kvsync.scan.vouching import Voucher
    from kvsync.storages.contract import Storage
    from kvsync.types import Change

__all__ = ["Scan", "scan"]

REFRESH_COUNT = 256
"""Values that were read again and are unchanged: so many make a new inventory worth a write."""

NO_DIGEST = bytes(32)


@dataclass(slots=True)
class Scan:
    """What a scan found.

    Attributes:
        found: changes made outside kvsync.
        applied: changes of interrupted runs that turned out to be in the storage.
        exceptions: those of them that were not known yet.
        current: every key with its token and digest, as it is now.
        nonce: of the stored inventory, where `current` is still that; else empty.
        reread: how many values were read again and are unchanged, but for their tokens.
        unreadable: {key or name: why} of what is there, and is no value that can be read now. It is no change.
        racy: keys whose token is too young to prove anything.
        local: what was `found`, once it is stamped.
        written: keys that this run wrote after the scan.
        started_ms: when the scan began.
        is_first: no scan was noted before, so what was found may be older than the log.
    """

    found: Unstamped
    applied: list[Change]
    exceptions: list[VectorException]
    current: Known
    nonce: bytes
    reread: int
    unreadable: Mapping[str, str] = field(default_factory=dict)
    racy: set[str] = field(default_factory=set)
    local: list[Change] = field(default_factory=list)
    written: set[str] = field(default_factory=set)
    started_ms: int = 0
    is_first: bool = False

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

        `keep` is called before each write, to keep the lease.
        """
        if self.nonce and self.reread < REFRESH_COUNT:
            return self.nonce
        known, racy = self.current, sorted(self.racy)
        unproven = {key: (b"", digest or NO_DIGEST) for key, digest in zip(racy, known.digests(racy), strict=True)}
        saved = save(known, known.changes | unproven, environment, keep)
        self.current = Known(known.pieces, saved, changes=known.changes)
        self.nonce, self.reread = saved.nonce, 0
        return self.nonce


def scan(log: Log, origin: int, budget: Budget, on_batch: Callable[[], None], voucher: Voucher | None = None) -> Scan:
    """Find what changed in a storage since its last scan, without writing or stamping anything.

    Args:
        log: of the storage.
        origin: the id under which local changes are stamped.
        budget: how much may be deleted or overwritten.
        on_batch: called between batches, to keep the lease.
        voucher: the other side, if it may vouch for values here, which are then not read.

    Raises:
        BudgetError: more is gone or overwritten than the budget allows, or everything is gone.
        StorageError: the storage cannot be listed completely.
    """
    started_ms = log.environment.now_ms()
    seen = _look(log, started_ms, on_batch, voucher)
    # By now, not by when the scan began: listing many keys takes longer than clocks may differ.
    now_ms = log.environment.now_ms()
    by_expiry = attribution.expired(log, seen.absent, now_ms)
    deletes = [key for key in seen.absent if key not in by_expiry]
    listing = seen.listing
    check_budget(log.storage.name, budget, listing.known, deletes, seen.overwritten, emptied=listing.is_empty)
    late, exceptions = attribution.late_writes(log, seen.puts, deletes, now_ms)
    attributed = {change.key for change in late}
    puts = {key: value for key, value in seen.puts.items() if key not in attributed}
    read = [key for key in puts if key not in seen.vouched]
    times = dict(zip(read, log.storage.modified_ms(read), strict=True)) if read else {}
    found = Unstamped(log, origin, puts, list(map(times.get, puts)), [key for key in deletes if key not in attributed])
    unchanged = seen.baseline.in_step and not seen.puts and not seen.absent
    return Scan(
        found,
        late,
        exceptions,
        current=seen.current(),
        nonce=log.manifest.inventory if unchanged else b"",
        reread=len(seen.found) - len(seen.puts),
        unreadable=seen.unreadable,
        racy=reading.racy(
            log.storage, {key: value.token for key, value in seen.found.items() if key not in seen.vouched}, started_ms
        ),
        started_ms=started_ms,
        is_first=seen.baseline.is_first,
    )


class _Seen(NamedTuple):
    """What a look at a storage showed.

    Attributes:
        baseline: what was there before.
        listing: which keys are new, or have a new token, and which are gone.
        found: what was read at these keys.
        puts: the part of `found` that is not as it was.
        overwritten: keys whose value, or expiry, somebody has changed to the worse.
        absent: keys that are gone.
        unreadable: {key or name: why} of what cannot be read now.
        vouched: keys of what was `found` without being read.
    """

    baseline: Baseline
    listing: Listing
    found: Mapping[str, FoundValue]
    puts: Mapping[str, FoundValue]
    overwritten: Sequence[str]
    absent: Sequence[str]
    unreadable: Mapping[str, str]
    vouched: Collection[str]

    def current(self) -> Known:
        """Return every key with its token and digest, as it is now."""
        known = self.baseline.known
        # What has expired, is there and could not be read now is still no news to the next scan.
        expired, listed = self.baseline.expired, self.listing.tokens
        unread = {key: digest for key, digest in expired.items() if key in listed and key not in self.found}
        known.changes.update((key, (b"", digest)) for key, digest in unread.items())
        known.changes.update((key, (value.token, value.digest)) for key, value in self.found.items())
        known.changes.update(dict.fromkeys(self.absent))
        return known


def _look(log: Log, now_ms: int, on_batch: Callable[[], None], voucher: Voucher | None) -> _Seen:
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
    return _read(log, before, listing, on_batch, voucher)


def _read(log: Log, before: Baseline, listing: Listing, on_batch: Callable[[], None], voucher: Voucher | None) -> _Seen:
    """Read what is new or changed, and make sure of what is gone."""
    storage, listed = log.storage, listing.tokens
    times = reading.times_of(storage, list(listed))
    vouched = voucher.of(storage, listed, on_batch) if voucher is not None else {}
    read = reading.read_changed(storage, [key for key in listed if key not in vouched], on_batch)
    found = reading.found_values(storage, listed, times, read.seen | vouched)
    known = listing.digests
    same = [(key, value) for key, value in found.items() if value.digest in {known.get(key), before.expired.get(key)}]
    ttl_changed = attribution.ttl_changed(log, same)
    unchanged = {key for key, _ in same if key not in ttl_changed}
    puts = {key: value for key, value in found.items() if key not in unchanged}
    # Extending a TTL is not charged to the budget.
    overwritten = [key for key in puts if key in known and ttl_changed.get(key, True)]
    absent, replaced = reading.confirm_gone(storage, listing.gone)
    unreadable = read.unreadable | replaced | reading.skipped(storage)
    return _Seen(before, listing, found, puts, overwritten, absent, unreadable, vouched.keys())
