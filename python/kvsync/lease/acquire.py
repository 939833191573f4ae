"""Acquiring the lease of one storage, over several attempts: it is free, or its holder is dead, or it is held."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from kvsync.errors import IndexDamagedError, LockHeldError, StorageError
from kvsync.index.objects import LEASE, store_if
from kvsync.lease.hold import FINISHED, Lease, Previous, PreviousHolder, abandoned, named_process
from kvsync.lease.record import LIFE_SECONDS_MAX, SKEW_SECONDS, LeaseRecord, LeaseState
from kvsync.process import owner
from kvsync.storages.contract import ObjectMismatch
from kvsync.types import ABSENT

if TYPE_CHECKING:
    from kvsync.environment import Environment
    from kvsync.storages.contract import Storage
    from kvsync.types import Expectation, Stored, Version

__all__ = ["Acquirer", "Held"]


class Held(NamedTuple):
    """A lease that somebody else holds: its version, and what its record says."""

    version: Version
    record: LeaseRecord


class Acquirer:
    """Acquires the lease of one storage; remembers between attempts how long it was seen unchanged."""

    def __init__(self, storage: Storage, environment: Environment, life_seconds: float) -> None:
        self.storage = storage
        self.token = environment.nonce()
        self._environment = environment
        self._life_ms = int(min(life_seconds, LIFE_SECONDS_MAX) * 1000)
        self._first_seen: tuple[Version, float] | None = None

    def take(self, expect: Expectation, previous: PreviousHolder = FINISHED) -> Lease | None:
        """Acquire the lease on condition that its object is as expected; None where it is not."""
        record = self._record(previous)
        try:
            version = store_if(self.storage, LEASE, record.encode(), expect)
        except ObjectMismatch:
            return None
        except StorageError:
            abandoned.add(self.token)  # it may have been acquired, and only the answer was lost
            raise
        except BaseException:
            self._give_back(record, previous)
            raise
        abandoned.discard(self.token)
        return Lease(self.storage, self._environment, record, version, previous)

    def _give_back(self, record: LeaseRecord, previous: PreviousHolder) -> None:
        """Release the lease if the write that acquires it took effect, although Ctrl-C cut it off."""
        lease = Lease(self.storage, self._environment, record, b"", previous)
        with suppress(StorageError, IndexDamagedError, ObjectMismatch):
            lease.release(interrupted=previous.how is not Previous.RELEASED)

    def look(self) -> Lease | Held:
        """Read the lease object; acquire the lease where that says that it is free, else say who holds it.

        Raises:
            IndexDamagedError: it cannot be read.
        """
        # It goes round only where somebody else acquired and released the lease in between.
        while (there := self.storage.load(LEASE)) is None:
            if (lease := self.take(ABSENT)) is not None:
                return lease
        record = LeaseRecord.decode(there.data, self.storage.name)
        if record.state is LeaseState.HELD:
            return Held(there.version, record)
        how = Previous.RELEASED if record.state is LeaseState.RELEASED else Previous.INTERRUPTED
        return self.take(there.version, PreviousHolder(how)) or Held(there.version, record)

    def take_over(self, held: Held) -> Lease | Held:
        """Acquire a lease whose holder is dead, or counts as dead; return `held` where it does not."""
        record = held.record
        if record.state is not LeaseState.HELD:
            return held
        is_gone = self._environment.is_gone(record.process)
        if not (is_gone or self._counts_as_dead(held)):
            return held
        return self.take(held.version, PreviousHolder(Previous.LOST, is_gone)) or held

    def seize(self, there: Stored) -> Lease:
        """Acquire the lease whoever holds it, readable or not.

        Raises:
            LockHeldError: it changed hands just now.
        """
        record = _record_of(there)
        lease = self.take(there.version, self._left_by(record))
        if lease is None:
            message = "another run took the lease a moment ago, so its holder is alive; run again later"
            now = self._environment.clock()
            holder = "somebody" if record is None else record.owner
            raise LockHeldError(message, storage=self.storage.name, owner=holder, expires=now)
        return lease

    def _left_by(self, record: LeaseRecord | None) -> PreviousHolder:
        if record is None:
            return PreviousHolder(Previous.LOST)
        if record.state is LeaseState.INTERRUPTED:
            return PreviousHolder(Previous.INTERRUPTED)
        return PreviousHolder(Previous.LOST, self._environment.is_gone(record.process))

    def _counts_as_dead(self, held: Held) -> bool:
        # What the holder before an abandoned lease left is not known any more.
        expired = held.record.expired(self._environment.now_ms())
        return held.record.token in abandoned or expired or self._is_unchanged(held)

    def _is_unchanged(self, held: Held) -> bool:
        """Whether it was seen unchanged for its whole life, on our own monotonic clock."""
        now = self._environment.monotonic()
        if self._first_seen is None or self._first_seen[0] != held.version:
            self._first_seen = held.version, now
        return now - self._first_seen[1] > held.record.life_seconds + SKEW_SECONDS

    def _record(self, previous: PreviousHolder) -> LeaseRecord:
        now_ms, process = self._environment.now_ms(), named_process(self._environment, previous)
        return LeaseRecord(LeaseState.HELD, self.token, owner(), 0, now_ms, now_ms + self._life_ms, process)


def _record_of(there: Stored) -> LeaseRecord | None:
    """Return what a lease object says; None where it is damaged."""
    try:
        return LeaseRecord.decode(there.data, "")
    except IndexDamagedError:
        return None
