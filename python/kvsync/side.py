"""One of the two storages of a run: its lease, its replica, and what a scan found in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from kvsync.errors import ClockError, StorageError, UsageError
from kvsync.expiry import expires_ms, unexpiring, write_until
from kvsync.index.lost import LostValue
from kvsync.index.manifest import Missing
from kvsync.index.segments import changes_of
from kvsync.measuring import BATCH_BYTES, BATCH_COUNT, Measured, pieces
from kvsync.native import Given, Segment, digest_values, stamp_after
from kvsync.probe import require_conditions
from kvsync.replica import Replica
from kvsync.scan import InventoryGuard, scan
from kvsync.storages.contract import has_expiry, has_transaction
from kvsync.transfer import Look, Trust
from kvsync.types import ANY, Change, Delete, Put

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from contextlib import AbstractContextManager

    from kvsync.environment import Environment
    from kvsync.index.manifest import Manifest
    from kvsync.index.recent import Found
    from kvsync.lease import Lease
    from kvsync.native import Cover
    from kvsync.options import Options
    from kvsync.scan import Scan
    from kvsync.storages.contract import Storage
    from kvsync.transfer import Guard
    from kvsync.types import Refusal, Unreadable

__all__ = ["Side", "checked"]


class Side:
    """A storage that takes part in a run.

    Attributes:
        label: "source" or "target".
        replica: its log.
        scanned: what a scan found, where one was made.
        answered: changes, by origin and stamp, that had yet to be met as conflicts, and are in this run.
        given: what the caller gave, once it is committed: pushed from memory, not read back.
        committed: local changes that this run logged.
        unexpiring: how many given values stay here past their time, since this storage cannot keep it.
    """

    def __init__(
        self,
        label: str,
        storage: Storage,
        lease: Lease | None,
        options: Options,
        environment: Environment,
        others: Sequence[Lease] = (),
        seen: Found = None,
    ) -> None:
        self.label = label
        self.storage = storage
        self.lease = lease
        self.others = others
        self.options = options
        self.environment = environment
        known, untouched = (lease.certain(seen), lease.untouched) if lease is not None else (None, False)
        self.replica = Replica(storage, environment, dry=lease is None, seen=seen, known=known, untouched=untouched)
        self.scanned: Scan | None = None
        self.committed = 0
        self.unexpiring = 0
        self.given: Given | None = None
        self.answered: set[tuple[int, int]] = set()
        self._unwritten: dict[str, bytes | None] = {}
        self._versions: dict[str, tuple[bytes, bytes]] = {}

    def settle(self) -> None:
        """Take in what an interrupted run left, and refuse a storage or a clock that cannot be relied on.

        Raises:
            StorageError: this storage is new to kvsync, and was found to ignore conditions.
            IndexDamagedError: it looks new, but for the remains of a log.
            ClockError: this storage's log has a stamp too far in the future.
        """
        if self.lease is not None and not self.replica.manifest.generation:
            self.replica.require_no_remains()
            if self.storage.capabilities.conditions == "claimed":
                require_conditions(self.lease)
        self.replica.recover(self.lease)
        ahead = (self.replica.manifest.clock >> 16) / 1000 - self.environment.clock()
        if ahead > self.options.max_drift_seconds:
            message = (
                f"its newest change is stamped {ahead:.0f} seconds in the future; mend the clock that made it, or "
                "allow "
                "it with a larger max_drift_seconds"
            )
            raise ClockError(message, storage=self.storage.name)

    def before_write(self) -> None:
        """Make sure that the lease still stands, and keep those of the other storages alive meanwhile.

        Raises:
            LockLostError: one was taken over.
        """
        if self.lease is not None:
            self.lease.keep()
            for other in self.others:
                other.refresh()

    def as_one(self) -> AbstractContextManager[None]:
        """Make all writes inside one, where the storage can.

        The manifest is replaced within, on condition: who took the lease over has rewritten it, so all is undone.
        """
        storage = self.storage
        return storage.transaction() if self.lease is not None and has_transaction(storage) else nullcontext()

    @property
    def mark(self) -> bytes:
        """What the last manifest says to give the lease back with it; empty where it stays until it is released.

        Not within a transaction, which may yet be undone; and what a scan found is written after the manifest.
        """
        lease = self.lease if self.scanned is None and not self.replica.transactional else None
        return lease.mark if lease is not None else b""

    def finalise(
        self,
        segment: Segment,
        cover: Cover,
        missing: Sequence[Missing],
        peer: Manifest | None = None,
        *,
        last: bool = False,
    ) -> None:
        """Log what was applied and move to `cover`; the lease may end with it if that is the `last` thing done here."""
        mark = self.mark if last else b""
        if self.replica.finalise(segment, cover, missing, peer, mark) and self.lease is not None and mark:
            self.lease.end()

    def guard(self) -> Guard:
        """Return what protects values that the log does not know."""
        if self.scanned is not None:
            return InventoryGuard(self.scanned)
        return Look(self.replica) if self.options.guard == "check" else Trust()

    def version_of(self, change: Change) -> bytes:
        """Return the version token that a change's value is proven to have here; empty where none is."""
        digest, version = self._versions.get(change.key, (b"", b""))
        if version and digest == change.digest:
            return version
        return self.scanned.version_of(change) if self.scanned is not None else b""

    def leave(self) -> None:
        """Let the lease know the manifest as this run leaves it, for the next run of this process."""
        if self.lease is not None:
            self.lease.left = self.replica.left

    # Step 2

    def commit(self, changes: Sequence[Put | Delete], *, last: bool = False) -> None:
        """Write the caller's values, then log them; it may be the `last` thing that is done here, if all are given.

        A crash leaves an unlogged value, never a logged one that is absent.

        Raises:
            UsageError: a change is malformed, or names a value as stored that is not there.
            StorageError: a value cannot be written; the others are done and logged.
        """
        if not changes:
            return
        manifest = self.replica.manifest
        first = stamp_after(self.environment.now_ms(), manifest.clock)
        given, stored = self._taken(changes, manifest.replica, first)
        logged = cache(lambda: Segment.merge([given.segment, *stored]))
        self.given = given
        if self.lease is None:
            self._unwritten = {c.key: c.value for c in changes if c.deletes or c.value is not None}
        refusals: list[Refusal] = []
        with self.as_one():
            if self.lease is not None:
                self.before_write()
                refusals = self._write_intended(given, logged)
            segment = logged()
            self.unexpiring = unexpiring(segment, self.storage, self.environment.now_ms())
            self.before_write()
            accepted = segment.without([refusal.key for refusal in refusals]) if refusals else segment
            if len(accepted):
                self._log_local(accepted, last=last and not stored and not refusals)
                self._unprove(accepted, accepted.expired(self.environment.now_ms()))
            else:
                self.replica.withdraw()
        for refusal in refusals:
            message = f"cannot change {refusal.key!r}: {refusal.reason}; what it holds of the others is logged"
            raise StorageError(message, storage=self.storage.name, key=refusal.key)

    def scan(self) -> None:
        """Find what changed outside kvsync, without writing anything.

        Raises:
            BudgetError: more than allowed is gone or overwritten.
        """
        if self.replica.manifest.intents:
            self.replica.forget_intents()
        self.scanned = scan(self.replica, self.environment, self.options.budget, self.before_write)

    def commit_scan(self) -> None:
        """Log what the scan found, if there was one and it found something."""
        found = self.scanned
        if found is None or not (found.local or found.landed or found.stale):
            return
        reason = "an interrupted run wrote an older value over it after it had lost its lease"
        lost = [Missing(change, reason, held) for change, held in found.stale]
        self._keep_stale(found.stale)
        with self.as_one():
            self.before_write()
            self._log_local(Segment.from_rows([*found.local, *found.landed]), found.landed, lost)

    def _keep_stale(self, stale: Sequence[tuple[Change, bytes]]) -> None:
        """Keep what a late write put there, before the newest value replaces it: it may be somebody's after all."""
        keys = [change.key for change, held in stale if held]
        if self.lease is None or not keys or not self.options.keep_lost:
            return
        held = {change.key: (change, digest) for change, digest in stale}
        for key, value in zip(keys, self.storage.read(keys), strict=True):
            change, digest = held[key]
            if isinstance(value, bytes) and digest_values([value]) == [digest]:
                self.before_write()
                lost = LostValue.of(change._replace(digest=digest, size=len(value)), value)
                self.storage.store(lost.name, lost.encode(), ANY)

    def decide(self, rows: Sequence[Change], values: Sequence[tuple[str, bytes | None, int]]) -> set[str]:
        """Log decisions whose outcome this side holds, after writing those `values` that neither side holds.

        A value comes with its key and its expiry. Return the keys whose value could not be written: they are not
        decided, and left to plain order.
        """
        if not rows:
            return set()
        segment = Segment.from_rows(rows)
        refused: set[str] = set()
        with self.as_one():
            if values:
                self.before_write()
                self.replica.intend(segment)
                refused = self._write_decided(values)
                segment = segment.without(sorted(refused))
            self.before_write()
            if len(segment):
                self._log_local(segment)
                # Of what was not written now, the scan has seen whether it is there: what is about to expire need not.
                written = {key for key, _, _ in values}
                gone = segment.expired(self.environment.now_ms()) if has_expiry(self.storage) else ()
                self._unprove(segment.without(sorted({row.key for row in rows} - written)), gone)
            else:
                self.replica.withdraw()
        return refused

    def read_pending(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Return values as they are, or in a preview as this run's changes would have made them."""
        values = self.storage.read(keys)
        if self._unwritten:
            values = [self._unwritten.get(key, value) for key, value in zip(keys, values, strict=True)]
        return values

    def _write_decided(self, values: Sequence[tuple[str, bytes | None, int]]) -> set[str]:
        """Write decided values where nobody else wrote meanwhile; return the keys that were not written."""
        if self.lease is None:
            return set()
        puts = {key: value for key, value, _ in values if value is not None}
        expires = {key: time for key, _, time in values}
        deletes = [key for key, value, _ in values if value is None]
        expect, barred = self.guard().examine([*puts, *deletes])
        expected = dict(zip([*puts, *deletes], expect, strict=True)) if expect is not None else None
        refused = set(barred)
        keys = [key for key in puts if key not in barred]
        if keys:
            tokens = [expected[key] for key in keys] if expected is not None else None
            times = [expires[key] for key in keys]
            written = write_until(self.storage, keys, [puts[key] for key in keys], times, tokens)
            refused.update(refusal.key for refusal in written.refused)
        keys = [key for key in deletes if key not in barred]
        if keys:
            tokens = [expected[key] for key in keys] if expected is not None else None
            refused.update(refusal.key for refusal in self.storage.delete(keys, tokens).refused)
        return refused

    def _taken(self, changes: Sequence[Put | Delete], origin: int, first: int) -> tuple[Given, list[Segment]]:
        """Return what is given of the changes, and the rest of them: of values that are stored already."""
        keys, values = [change.key for change in changes], [change.value for change in changes]
        if None not in values or all(change.deletes or change.value is not None for change in changes):
            return Given(keys, values, origin, first, _times(changes)), []
        return self._stored(changes, origin, first)

    def _stored(self, changes: Sequence[Put | Delete], origin: int, first: int) -> tuple[Given, list[Segment]]:
        """Return what is given of the changes, and the rest; values that are stored already are read, not kept.

        Raises:
            UsageError: one that is named as stored is not there.
        """
        newest = list({change.key: change for change in changes}.values())
        known = [change for change in newest if change.deletes or change.value is not None]
        stored = [change.key for change in newest if not change.deletes and change.value is None]
        times = {change.key: expires_ms(change) for change in newest if change.expires is not None}
        known_times = [times.get(change.key, 0) for change in known] if times else None
        given = Given([change.key for change in known], [change.value for change in known], origin, first, known_times)
        parts: list[Segment] = []
        first += len(known)
        # Before the values: asked after one had expired, they would say that it stays for ever.
        until_of = self._times_stored(stored, times)
        for keys, values in pieces(self.storage, stored):
            self.before_write()
            until = [until_of[key] for key in keys] if until_of is not None else None
            if isinstance(values, Measured):
                change = Change(keys[0], origin, first, 0, values.size, values.digest, until[0] if until else 0)
                parts.append(Segment.from_rows([change]))
                self._versions[change.key] = values.digest, values.version
            else:
                present = [value for value in values if isinstance(value, bytes)]
                if len(present) < len(keys):
                    raise self._not_stored(keys, values)
                parts.append(Segment.from_values(keys, present, origin, first, 0, until))
            first += len(keys)
        return given, parts

    def _times_stored(self, keys: Sequence[str], given: Mapping[str, int]) -> dict[str, int] | None:
        """Return when stored values expire: as the storage says, or else as the caller does."""
        storage = self.storage
        if not has_expiry(storage):
            return {key: given.get(key, 0) for key in keys} if given else None
        times: dict[str, int] = {}
        for start in range(0, len(keys), BATCH_COUNT):
            some = keys[start : start + BATCH_COUNT]
            self.before_write()
            times.update(zip(some, storage.expiries(some), strict=True))
        return times

    def _not_stored(self, keys: Sequence[str], values: Sequence[object]) -> UsageError:
        key = next(key for key, value in zip(keys, values, strict=True) if not isinstance(value, bytes))
        message = f"Put({key!r}) has no value and none is stored; give the value, or Delete the key"
        return UsageError(message, storage=self.storage.name, key=key)

    def _write_intended(self, given: Given, logged: Callable[[], Segment]) -> list[Refusal]:
        """Write the caller's values once it is known what will be logged, and return what the storage refused."""
        if not self.replica.transactional:
            self.replica.intend(logged())
        elif len(given) > BATCH_COUNT:
            # Nobody sees them before they are logged: their digests can be taken meanwhile.
            with ThreadPoolExecutor(1, thread_name_prefix="kvsync-digest") as digesting:
                digesting.submit(lambda: self.replica.prepare(logged()))
                return self._write_given(given)
        return self._write_given(given)

    def _write_given(self, given: Given) -> list[Refusal]:
        """Write the caller's values, in the order of their keys, and return what the storage refused."""
        refusals: list[Refusal] = []
        for start, stop in given.batches(BATCH_COUNT, BATCH_BYTES):
            keys, values, times, deletes = given.part(start, stop)
            if times is not None:
                now_ms = self.environment.now_ms()
                rows = [row for row in zip(keys, values, times, strict=True) if not 0 < row[2] <= now_ms]
                live = {key for key, _, _ in rows}
                deletes += [key for key in keys if key not in live]
                keys, values, times = [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]
            self.before_write()
            if keys:
                refusals += write_until(self.storage, keys, values, times).refused
            if deletes:
                refusals += self.storage.delete(deletes).refused
        return refusals

    def _unprove(self, segment: Segment, late: Collection[str]) -> None:
        """Tell the inventory of values written after the scan: known by digest, to be looked at once more.

        Of those that came too `late`, nothing is there.
        """
        if self.scanned is not None:
            late = set(late)
            rows = [(row.key, row.deletes or row.key in late, row.digest) for row in changes_of(segment)]
            self.scanned.record({key: None if empty else (b"", digest) for key, empty, digest in rows})

    def _missing_after(self, segment: Segment, landed: Sequence[Change], lost: Sequence[Missing]) -> list[Missing]:
        """Return what is missing once `segment` is logged.

        A local change to a missing key was made without knowing of the missing one: a conflict, to be met with
        whoever holds it.
        """
        missing = self.replica.manifest.missing
        dots = {change.dot for change in landed}
        replaced = {lack.change.key for lack in lost}
        left = [lack for lack in missing if lack.overtaken]
        lacking = [
            lack
            for lack in self.replica.manifest.lacking
            if lack.change.dot not in dots and lack.change.key not in replaced
        ]
        rows = segment.find([lack.change.key for lack in lacking]) if lacking else []
        left += [
            lack if row is None else replace(lack, held=b"", overtaken=True)
            for lack, row in zip(lacking, rows, strict=True)
        ]
        return sorted([*left, *lost], key=lambda lack: (lack.change.key, lack.change.dot))

    def _log_local(
        self, segment: Segment, landed: Sequence[Change] = (), lost: Sequence[Missing] = (), *, last: bool = False
    ) -> None:
        replica = self.replica
        own = segment.maxima.get(replica.manifest.replica, 0)
        cover = replica.manifest.cover.with_dots([change.dot for change in landed])
        if own:
            cover = cover.with_stamp(replica.manifest.replica, own)
        self.finalise(segment, cover, self._missing_after(segment, landed, lost), last=last)
        self.committed += len(segment) - len(landed)


def _times(changes: Sequence[Put | Delete]) -> list[int] | None:
    """Return when values expire, in wall-clock milliseconds (0: never); None where none of them does."""
    if [change.expires for change in changes].count(None) == len(changes):
        return None
    return [expires_ms(change) for change in changes]


def checked(changes: Iterable[Put | Delete]) -> Sequence[Put | Delete]:
    """Return `changes` as a sequence of changes.

    Raises:
        UsageError: they are something else.
    """
    if isinstance(changes, str | bytes | Mapping | Put | Delete) or not isinstance(changes, Iterable):
        message = f"changes must be a sequence of Put and Delete, not {type(changes).__name__}"
        raise UsageError(message)
    sequence = changes if isinstance(changes, list | tuple) else list(changes)
    if not set(map(type, sequence)) <= {Put, Delete}:
        stranger = next(change for change in sequence if type(change) not in {Put, Delete})
        message = f"changes must be Put or Delete, not {type(stranger).__name__}"
        raise UsageError(message)
    return sequence
