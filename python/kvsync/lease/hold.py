"""A lease that we hold: it is kept as long as there is progress, and released."""

from __future__ import annotations

import enum
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from kvsync.errors import KvsyncError, LockLostError, StorageError
from kvsync.index.objects import LEASE, store_if
from kvsync.lease.record import LeaseRecord, LeaseState
from kvsync.process import UNKNOWN
from kvsync.storages.contract import ObjectMismatch, has_transaction

if TYPE_CHECKING:
    from kvsync.environment import Environment
    from kvsync.process import Process
    from kvsync.storages.contract import Storage
    from kvsync.types import Expectation, Stored, Version

__all__ = ["FINISHED", "Lease", "Previous", "PreviousHolder", "abandoned", "named_process"]

RENEW_AT = 1 / 3
STOP_AT = 0.8
"""Parts of a lease's life after which `keep` renews it, and after which it is given up."""

abandoned: Final[set[bytes]] = set()
"""Tokens of leases that this process acquired, or may have, and could not release: nobody holds them any more."""


class Previous(enum.Enum):
    """How the previous holder left the storage."""

    RELEASED = "released"
    """It had finished, or nobody was there before."""
    INTERRUPTED = "interrupted"
    """It stopped with an error and writes nothing more; an intent may be left."""
    LOST = "lost"
    """It never released the lease; its last write may still land."""


class PreviousHolder(NamedTuple):
    """How the previous holder left the storage, and whether its process is known to be gone: then it writes no more."""

    how: Previous
    is_known_gone: bool = False

    @property
    def may_write(self) -> bool:
        """Whether its last write may still land."""
        return self.how is Previous.LOST and not self.is_known_gone


FINISHED: Final = PreviousHolder(Previous.RELEASED)
"""Nothing is left to be dealt with."""


def named_process(environment: Environment, previous: PreviousHolder) -> Process:
    """Return the process that a lease names as its holder.

    None as long as the previous holder may write and is not fenced: once we have ended ourselves, nothing must follow
    from that for whoever came before us.
    """
    return UNKNOWN if previous.may_write else environment.process()


class Lease:
    """A lease that we hold.

    Attributes:
        storage: whose lease it is.
        previous: how the previous holder left the storage, until that is dealt with.
        released: it is not ours any more.
    """

    def __init__(
        self,
        storage: Storage,
        environment: Environment,
        record: LeaseRecord,
        version: Version,
        previous: PreviousHolder,
    ) -> None:
        self.storage = storage
        self.previous = previous
        self.released = False
        self._environment = environment
        self._record = record
        self._version = version
        self._version_is_certain = True
        self._refresh_after = 0.0
        self._start(self._now())

    # Keeping

    def keep(self) -> None:
        """Make sure that the lease is still ours; call before each batch of writes.

        Late in its life it is renewed by a conditional write, which succeeds only if nobody took it over meanwhile.

        Raises:
            LockLostError: it was taken over, or renewing it took too long; write nothing more.
        """
        if self.released:
            raise AssertionError
        if not self._is_late():
            return
        life = self._record.life_seconds
        self._renew()
        if self._elapsed() >= life * STOP_AT:
            message = f"the renewal took {self._elapsed():.1f} of its {life:.0f} seconds"
            raise self._lost(message)

    def refresh(self) -> None:
        """Renew the lease if it is time and can be done now; for a storage that is only read at the moment.

        Raises:
            LockLostError: it was taken over.
        """
        if not self.released and self._is_late() and self._environment.monotonic() >= self._refresh_after:
            try:
                self._renew()
            except StorageError:
                # Our own writes may keep it busy, as to another table of the same database file. `keep` decides.
                self._version_is_certain = False
                pause = self._record.life_seconds * RENEW_AT / 2
                self._refresh_after = self._environment.monotonic() + pause

    def mark_settled(self) -> None:
        """Note that what the previous holder left has been dealt with."""
        self.previous = FINISHED

    # Trying whether the storage keeps conditions

    def renew(self) -> Version:
        """Renew the lease at once, and return the version that is not current any more.

        Raises:
            LockLostError: it was taken over.
        """
        version = self._version
        self._renew()
        return version

    def stands(self) -> bool:
        """Look whether the lease that is there is ours."""
        return self._current() is not None

    def confirm(self) -> None:
        """Look whether the lease is still ours.

        Raises:
            LockLostError: it was taken over.
        """
        if not (self.released or self.stands()):
            message = "another run took it over"
            raise self._lost(message)

    def refuses(self, expect: Expectation) -> bool:
        """Whether the storage refuses to write this lease where it expects what is not so; it stays ours either way.

        Raises:
            StorageError: whether it did is not known.
        """
        self._record = self._record_with(LeaseState.HELD)
        try:
            self._version = self.storage.store(LEASE, self._record.encode(), expect)
        except ObjectMismatch:
            return True
        return False

    def refuses_removal(self, expect: Version) -> bool:
        """Whether the storage refuses to remove this lease by a version that is not the current one."""
        try:
            self.storage.remove([LEASE], expect)
        except ObjectMismatch:
            return True
        return False

    # Releasing

    @property
    def release_token(self) -> Version:
        """The version that a manifest names to release this lease; empty where it has to be released by itself.

        A manifest can release it where the object stays in any case, and conditions hold. Not within a transaction,
        which may yet be undone; nor before the previous holder is dealt with.
        """
        storage = self.storage
        by_manifest = storage.capabilities.lease_stays and storage.capabilities.conditions != "advisory"
        settled = self.previous.how is Previous.RELEASED and self._version_is_certain and not self.released
        return self._version if by_manifest and settled and not has_transaction(storage) else b""

    def mark_released(self) -> None:
        """Note that a manifest with the `release_token` was written: the lease is not ours any more."""
        self.released = True

    def release(self, *, interrupted: bool) -> None:
        """Release the lease if it is still ours.

        After an error it is left marked, so that the next holder looks for what this run was about to write.

        Raises:
            StorageError: whether it was released is not known; the next run of this process need not wait for it.
        """
        if self.released:
            return
        try:
            self._try_release(interrupted=interrupted)
        except KvsyncError:
            abandoned.add(self._record.token)
            raise
        self.released = True  # only now: an attempt that Ctrl-C cuts off is made again

    def _try_release(self, *, interrupted: bool) -> None:
        try:
            self._release(self._version, interrupted=interrupted)
        except (ObjectMismatch, StorageError):
            # Renewed in a transaction that was undone, or lost; or released, and only the answer was lost.
            current = self._current()
            if current is not None:
                with suppress(ObjectMismatch):  # the first attempt succeeded after all, or somebody took it over
                    self._release(current.version, interrupted=interrupted)

    def _release(self, version: Version, *, interrupted: bool) -> None:
        if self.previous.how is Previous.LOST:
            # The old holder is not fenced yet: whoever comes next must still take over from it.
            record = self._record_with(LeaseState.HELD)._replace(acquired=0, expires=0)
            self._replace(record, version)
        elif interrupted:
            self._replace(self._record_with(LeaseState.INTERRUPTED), version)
        elif self.storage.capabilities.lease_stays:
            self._replace(self._record_with(LeaseState.RELEASED), version)
        else:
            self.storage.remove([LEASE], version)

    # The object

    def _renew(self) -> None:
        started = self._now()
        if not self._renewed(self._version):
            # A renewal before may have landed although its answer was lost: then it is still ours, at another version.
            current = self._current()
            if current is None or not self._renewed(current.version):
                message = "another run took it over"
                raise self._lost(message)
        self._start(started)

    def _renewed(self, version: Version) -> bool:
        """Renew it on condition of its version; return whether that was still so."""
        try:
            self._replace(self._record_with(LeaseState.HELD), version)
        except ObjectMismatch:
            return False
        self._version_is_certain = True
        return True

    def _replace(self, record: LeaseRecord, expect: Version) -> None:
        self._version = store_if(self.storage, LEASE, record.encode(), expect)
        self._record = record

    def _record_with(self, state: LeaseState) -> LeaseRecord:
        now_ms = self._environment.now_ms()
        life_ms = self._record.expires - self._record.acquired
        old = self._record
        return old._replace(
            state=state,
            renewals=old.renewals + 1,
            acquired=now_ms,
            expires=now_ms + life_ms,
            process=named_process(self._environment, self.previous),
        )

    def _current(self) -> Stored | None:
        """Return the lease object where it is ours, else None."""
        there = self.storage.load(LEASE)
        if there is None:
            return None
        record = LeaseRecord.decode(there.data, self.storage.name)
        return there if record.token == self._record.token and record.state is LeaseState.HELD else None

    # Time

    def _start(self, now: tuple[float, float]) -> None:
        pause = self._record.life_seconds * RENEW_AT
        self._started = now
        self._late_from = now[0] + pause, now[1] + pause

    def _now(self) -> tuple[float, float]:
        return self._environment.monotonic(), self._environment.clock()

    def _is_late(self) -> bool:
        """Whether it is time to renew it, by the clock that went further."""
        monotonic, wall = self._late_from
        return self._environment.monotonic() >= monotonic or self._environment.clock() >= wall

    def _elapsed(self) -> float:
        # A machine that slept has a monotonic clock that stood still: believe the one that went further.
        (monotonic, wall), (monotonic_then, wall_then) = self._now(), self._started
        return max(monotonic - monotonic_then, wall - wall_then)

    def _lost(self, why: str) -> LockLostError:
        message = f"lost the lease: {why}; the run stopped, run again"
        return LockLostError(message, storage=self.storage.name)
