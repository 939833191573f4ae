"""A lease that we hold: it is kept while there is progress, and given back."""

from __future__ import annotations

import dataclasses
import enum
from contextlib import suppress
from typing import TYPE_CHECKING

from kvsync.errors import LockLostError, StorageError
from kvsync.index.objects import LEASE, replace
from kvsync.lease.left import Left, ends_with_manifest, remember, stays
from kvsync.lease.record import LeaseRecord, LeaseState
from kvsync.storages.contract import ObjectMismatch

if TYPE_CHECKING:
    from kvsync.environment import Environment
    from kvsync.index.recent import Found
    from kvsync.storages.contract import Storage
    from kvsync.types import Expectation, Stored, Version

__all__ = ["Inheritance", "Lease"]

RENEW_AT = 1 / 3
STOP_AT = 0.8
"""Parts of a lease's life after which `keep` renews it, and after which it is given up."""


class Inheritance(enum.Enum):
    """How the last holder left the storage."""

    CLEAN = "clean"
    INTERRUPTED = "interrupted"
    """It stopped with an error and writes nothing more; an intent may be left."""
    TAKEN = "taken"
    """It never released; its last write may still land."""


class Lease:
    """A lease that we hold.

    Attributes:
        inheritance: how the last holder left the storage.
        outlived: the last holder is known to be dead, so that nothing of it can land any more.
        untouched: there was no object, in a storage where one that was ever held stays.
        known: the manifest and its version, where nobody can have written it since this process did.
        nonce: of the manifest as the last holder left it; empty where it did not say so.
        left: the manifest and its version as this holder leaves it; it has to say so itself.
        ended: the lease was given back already, by the manifest.
    """

    def __init__(
        self,
        storage: Storage,
        environment: Environment,
        record: LeaseRecord,
        version: Version,
        inheritance: Inheritance,
        *,
        outlived: bool = False,
        untouched: bool = False,
    ) -> None:
        self.storage = storage
        self.inheritance = inheritance
        self.outlived = outlived
        self.untouched = untouched
        self.known: Found = None
        self.nonce = b""
        self.left: Found = None
        self.ended = False
        self._environment = environment
        self._record = record
        self._version = version
        self._start(self._now())
        self._refresh_after = 0.0
        self._doubtful = False

    def certain(self, seen: Found) -> Found:
        """Return the manifest if it needs no look: as this process left it, or as `seen` if the last holder left that.

        Nobody can have written it without the lease.
        """
        return self.known or (seen if seen is not None and seen[0].nonce == self.nonce else None)

    @property
    def mark(self) -> bytes:
        """What the holder's last manifest says to give this lease back with it; empty where that is not to be done."""
        sure = self.inheritance is Inheritance.CLEAN and not self._doubtful
        return self._version if sure and ends_with_manifest(self.storage) else b""

    def end(self) -> None:
        """Note that a manifest with the `mark` was written: the lease is not ours any more."""
        self.ended = True

    def keep(self) -> None:
        """Make sure that the lease still stands; call before each batch of writes.

        Late in its life it is renewed by a conditional write, which succeeds only if nobody took over meanwhile.

        Raises:
            LockLostError: it was taken over, or renewing it took too long; write nothing more.
        """
        if self.ended:
            raise AssertionError
        if not self._is_late():
            return
        life = self._record.life_seconds
        self._renew()
        if self._elapsed() >= life * STOP_AT:
            message = f"renewing it took {self._elapsed():.1f} of its {life:.0f} seconds"
            raise self._lost(message)

    def refresh(self) -> None:
        """Renew the lease if it is time and can be done now; for a storage that is only read at the moment.

        Raises:
            LockLostError: it was taken over.
        """
        if not self.ended and self._is_late() and self._environment.monotonic() >= self._refresh_after:
            try:
                self._renew()
            except StorageError:
                # It may be busy with our own writes, as the other table of one database file is. `keep` decides.
                self._doubtful = True
                pause = self._record.life_seconds * RENEW_AT / 2
                self._refresh_after = self._environment.monotonic() + pause

    def renew(self) -> Version:
        """Renew the lease at once, and return the version that is none any more.

        Raises:
            LockLostError: it was taken over.
        """
        version = self._version
        self._renew()
        return version

    def stands(self) -> bool:
        """Look whether the lease that is there is ours."""
        return self._current() is not None

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

    def release(self, *, interrupted: bool) -> None:
        """Give the lease back if it is still ours.

        A clean release removes it. After an error it is left marked, so that the next holder looks for what
        this run was about to write.
        """
        if self.ended:
            remember(self.storage, Left(self._version, self.left))
            return
        try:
            self._release(self._version, interrupted=interrupted)
        except (ObjectMismatch, StorageError):
            # Renewed in a transaction that was undone, or lost; or given back, and only the answer was lost.
            # The storage knows.
            current = self._current()
            if current is not None:
                with suppress(ObjectMismatch):  # the first attempt got there after all, or somebody took it over
                    self._release(current.version, interrupted=interrupted)

    def settled(self) -> None:
        """Note that what the last holder left has been dealt with."""
        self.inheritance = Inheritance.CLEAN

    def _release(self, version: Version, *, interrupted: bool) -> None:
        if self.inheritance is Inheritance.TAKEN:
            # The old holder is not fenced yet: whoever comes next must still take over from it.
            record = dataclasses.replace(self._record_with(LeaseState.HELD), acquired=0, expires=0)
            self._replace(record, version)
        elif interrupted:
            self._replace(self._record_with(LeaseState.INTERRUPTED), version)
        elif stays(self.storage):
            nonce = self.left[0].nonce if self.left is not None else b""
            self._replace(dataclasses.replace(self._record_with(LeaseState.RELEASED), manifest=nonce), version)
            remember(self.storage, Left(self._version, self.left))
        else:
            self.storage.remove([LEASE], version)

    def _renew(self) -> None:
        started = self._now()
        try:
            self._replace(self._record_with(LeaseState.HELD), self._version)
        except ObjectMismatch:
            message = "it was taken over"
            raise self._lost(message) from None
        self._start(started)

    def _replace(self, record: LeaseRecord, expect: Version) -> None:
        self._version = replace(self.storage, LEASE, record.encode(), expect)
        self._record = record

    def _record_with(self, state: LeaseState) -> LeaseRecord:
        now_ms = self._environment.now_ms()
        life_ms = self._record.expires - self._record.acquired
        old = self._record
        return LeaseRecord(state, old.token, old.owner, old.renewals + 1, now_ms, now_ms + life_ms)

    def _current(self) -> Stored | None:
        there = self.storage.load(LEASE)
        if there is None:
            return None
        record = LeaseRecord.decode(there.data, self.storage.name)
        return there if record.token == self._record.token and record.state is LeaseState.HELD else None

    def _start(self, now: tuple[float, float]) -> None:
        pause = self._record.life_seconds * RENEW_AT
        self._started = now
        self._late_from = now[0] + pause, now[1] + pause

    def _now(self) -> tuple[float, float]:
        return self._environment.monotonic(), self._environment.clock()

    def _is_late(self) -> bool:
        """Whether it is time to renew it, on the clock that went further."""
        monotonic, wall = self._late_from
        return self._environment.monotonic() >= monotonic or self._environment.clock() >= wall

    def _elapsed(self) -> float:
        # A machine that slept has a monotonic clock that stood still: believe the one that went further.
        (monotonic, wall), (monotonic_then, wall_then) = self._now(), self._started
        return max(monotonic - monotonic_then, wall - wall_then)

    def _lost(self, why: str) -> LockLostError:
        message = f"lost the lease: {why}; this run stopped there, run again"
        return LockLostError(message, storage=self.storage.name)
