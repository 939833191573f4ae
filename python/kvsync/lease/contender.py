"""One run that wants the lease of one storage: creating it, taking it over, or seizing it from a dead holder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvsync.errors import FormatError, IndexDamagedError, LockHeldError
from kvsync.index.objects import LEASE, replace
from kvsync.index.recent import load_manifest
from kvsync.lease.holding import Inheritance, Lease
from kvsync.lease.left import ended_by, ends_with_manifest, recall, stays
from kvsync.lease.owner import is_dead, owner
from kvsync.lease.record import LIFE_SECONDS_MAX, SKEW_SECONDS, LeaseRecord, LeaseState, is_free
from kvsync.storages.contract import ObjectMismatch
from kvsync.types import ABSENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvsync.environment import Environment
    from kvsync.index.recent import Found
    from kvsync.storages.contract import Storage
    from kvsync.types import Stored, Version

__all__ = ["Contender", "Taken", "seize"]


@dataclass(frozen=True, slots=True)
class Taken:
    """Why a lease could not be had just now."""

    version: Version
    record: LeaseRecord


class Contender:
    """One run that wants the lease of one storage, over several tries."""

    def __init__(
        self,
        storage: Storage,
        environment: Environment,
        life_seconds: float,
        on_moved: Callable[[], None] = lambda: None,
        look: Callable[[], Found] | None = None,
    ) -> None:
        self.storage = storage
        self.environment = environment
        self.on_moved = on_moved
        self.look = look
        self.life_ms = int(min(life_seconds, LIFE_SECONDS_MAX) * 1000)
        self.token = environment.nonce()
        self.seen: tuple[Version, float] | None = None
        self.tried = False

    def attempt(self, *, new: bool = False) -> Lease | Taken:
        """Return the lease, or why it cannot be had just now; `new` is the guess about a storage not looked at yet.

        Raises:
            IndexDamagedError: the lease that is there cannot be read.
        """
        if not stays(self.storage):
            return self._create() or self._take_over()
        # A lease that was given back left its object there. How, we know from when we did that, or the manifest does.
        if not self.tried:
            self.tried = True
            outcome = self._take_again() or self._guess(new=new) or self._take_left()
            if outcome is not None:
                return outcome
        return self._take_over()

    def _guess(self, *, new: bool) -> Lease | None:
        """Take the lease of a storage in which nobody ever was, without a look, if that is what it is."""
        return self._create(guess=True) if new and self.look is None and ends_with_manifest(self.storage) else None

    def _create(self, *, guess: bool = False) -> Lease | None:
        record = self.record()
        try:
            version = replace(self.storage, LEASE, record.encode(), ABSENT, guess=guess)
        except ObjectMismatch:
            return None
        return Lease(self.storage, self.environment, record, version, Inheritance.CLEAN, untouched=stays(self.storage))

    def _take_again(self) -> Lease | Taken | None:
        """Take what this process gave back, without a look, if it is still as we left it: then nobody had it since."""
        left = recall(self.storage)
        if left is None:
            return None
        record = self.record()
        try:
            version = replace(self.storage, LEASE, record.encode(), left.version)
        except ObjectMismatch as mismatch:
            self.on_moved()
            return self._take_over(mismatch.there)
        return self._clean(record, version, left.manifest)

    def _take_left(self) -> Lease | Taken | None:
        """Take what was given back by its holder's last manifest, if that is still so: nobody had it since, then."""
        if not ends_with_manifest(self.storage):
            return None
        found = self.look() if self.look is not None else load_manifest(self.storage)
        if found is None:
            return self._create()
        if not found[0].lease:
            return None
        record = self.record()
        try:
            version = replace(self.storage, LEASE, record.encode(), found[0].lease)
        except ObjectMismatch as mismatch:
            return self._take_over(mismatch.there)
        return self._clean(record, version, found)

    def _take_over(self, there: Stored | None = None) -> Lease | Taken:
        there = there or self.storage.load(LEASE)
        if there is None:
            return self._create() or self.attempt()
        old = LeaseRecord.decode(there.data, self.storage.name)
        ended = ended_by(self.storage, there) if old.state is LeaseState.HELD and old.token != self.token else None
        inheritance = self._inheritance(there.version, old) if ended is None else Inheritance.CLEAN
        if inheritance is None:
            return Taken(there.version, old)
        record = self.record()
        try:
            version = replace(self.storage, LEASE, record.encode(), there.version)
        except ObjectMismatch:
            return Taken(there.version, old)
        if ended is not None:
            return self._clean(record, version, ended)
        lease = Lease(self.storage, self.environment, record, version, inheritance, outlived=is_dead(old.owner))
        # As above.
        if inheritance is Inheritance.CLEAN and self.storage.capabilities.conditions != "advisory":
            lease.nonce = old.manifest
        return lease

    def _clean(self, record: LeaseRecord, version: Version, known: Found) -> Lease:
        """Return a lease that nobody else had since that manifest was left, if it is known.

        Where conditions do not hold, another may have had it since we looked.
        """
        lease = Lease(self.storage, self.environment, record, version, Inheritance.CLEAN)
        lease.known = known if self.storage.capabilities.conditions != "advisory" else None
        return lease

    def _inheritance(self, version: Version, old: LeaseRecord) -> Inheritance | None:
        """Return how the old holder left it, or None while it still holds it."""
        if old.state is not LeaseState.HELD:
            return Inheritance.CLEAN if old.state is LeaseState.RELEASED else Inheritance.INTERRUPTED
        # Our own token: giving back failed, and what we inherited then is not known any more.
        if old.token == self.token or old.expired(self.environment.now_ms()) or self._unchanged(version, old):
            return Inheritance.TAKEN
        return None

    def _unchanged(self, version: Version, old: LeaseRecord) -> bool:
        now = self.environment.monotonic()
        if self.seen is None or self.seen[0] != version:
            self.seen = (version, now)
        return now - self.seen[1] > old.life_seconds + SKEW_SECONDS

    def record(self) -> LeaseRecord:
        """Return a fresh record that names us."""
        now_ms = self.environment.now_ms()
        return LeaseRecord(LeaseState.HELD, self.token, owner(), 0, now_ms, now_ms + self.life_ms)


def seize(storage: Storage, environment: Environment) -> Lease | None:
    """Take the lease whoever holds it, readable or not; return None when nobody does.

    Raises:
        LockHeldError: it changed hands just now.
    """
    there = storage.load(LEASE)
    if there is None or _is_free(storage, there):
        return None
    record = Contender(storage, environment, LIFE_SECONDS_MAX).record()
    try:
        version = replace(storage, LEASE, record.encode(), there.version)
    except ObjectMismatch:
        message = "the lease changed hands just now, so its holder lives; run again later"
        raise LockHeldError(message, storage=storage.name, owner="somebody", expires=environment.clock()) from None
    return Lease(storage, environment, record, version, Inheritance.TAKEN)


def _is_free(storage: Storage, there: Stored) -> bool:
    try:
        return is_free(storage, there, LeaseRecord.decode(there.data, storage.name))
    except (IndexDamagedError, FormatError):
        return False
