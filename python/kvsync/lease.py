"""The lease: one holder at a time writes the index of a storage.

A lease is an index object that only conditional writes change. It is free when it is absent (its last
holder released it cleanly), says that it was released, is past its expiry by more than `SKEW_SECONDS`,
or was seen unchanged for its whole life on our own monotonic clock. There is no heartbeat thread: the holder calls
`Lease.keep` before each batch of writes, which renews on progress and stops the run in time.
"""

from __future__ import annotations

import dataclasses
import enum
import os
import socket
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvsync.errors import IndexDamagedError, KvsyncError, LockHeldError, LockLostError, SameStorageError, StorageError
from kvsync.index.objects import LEASE, field_error, is_uint, pack, replace, unpack
from kvsync.native import KIND_LEASE
from kvsync.storages.base import ObjectMismatch
from kvsync.types import ABSENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kvsync.environment import Environment
    from kvsync.storages.base import Storage
    from kvsync.types import Stored, Version

__all__ = ["Inheritance", "Lease", "LeaseRecord", "LeaseState", "held", "read_record", "seize"]

SKEW_SECONDS = 5.0
"""How far two machines' clocks may be apart before an expiry is believed."""

LIFE_SECONDS_MAX = 3600.0
"""No lease lives longer, whatever its record claims."""

RENEW_AT = 1 / 3
STOP_AT = 0.8
"""Parts of a lease's life after which `keep` renews it, and after which it is given up."""

BACKOFF_SECONDS_MIN = 0.01
BACKOFF_SECONDS_MAX = 2.0

FIELDS = (LEASE, "state", "token", "owner", "renewals", "acquired", "expires")


class LeaseState(enum.StrEnum):
    """What a lease object says of itself."""

    HELD = "held"
    RELEASED = "released"
    INTERRUPTED = "interrupted"


class Inheritance(enum.Enum):
    """How the last holder left the storage."""

    CLEAN = "clean"
    INTERRUPTED = "interrupted"
    """It stopped with an error and writes nothing more; an intent may be left."""
    TAKEN = "taken"
    """It never released; its last write may still land."""


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What the lease object holds (docs/index-format.md, kind 3); times in wall-clock milliseconds."""

    state: LeaseState
    token: bytes
    owner: str
    renewals: int
    acquired: int
    expires: int

    def encode(self) -> bytes:
        """Return the sealed object."""
        return pack(
            KIND_LEASE,
            {
                "name": LEASE,
                "state": str(self.state),
                "token": self.token,
                "owner": self.owner,
                "renewals": self.renewals,
                "acquired": self.acquired,
                "expires": self.expires,
            },
        )

    @classmethod
    def decode(cls, data: bytes, storage: str) -> LeaseRecord:
        """Read a sealed lease.

        Raises:
            IndexDamagedError: it fails its checks.
        """
        fields = unpack(KIND_LEASE, data, FIELDS, storage)
        state, token, owner = fields["state"], fields["token"], fields["owner"]
        numbers = [fields[name] for name in ("renewals", "acquired", "expires")]
        if type(state) is not str or type(token) is not bytes or type(owner) is not str:
            raise field_error(storage, LEASE, "fields")
        if state not in set(LeaseState):
            raise field_error(storage, LEASE, "fields")
        if not all(is_uint(number) for number in numbers):
            raise field_error(storage, LEASE, "times")
        return cls(LeaseState(state), token, owner, *(int(str(number)) for number in numbers))

    @property
    def life_seconds(self) -> float:
        """How long it may stay unchanged before it is dead, in seconds."""
        return min(max((self.expires - self.acquired) / 1000, 0.0), LIFE_SECONDS_MAX)

    def expired(self, now_ms: int) -> bool:
        """Whether it ended on the wall clock, skew allowed for."""
        end_ms = min(self.expires, self.acquired + int(LIFE_SECONDS_MAX * 1000))
        return now_ms > end_ms + SKEW_SECONDS * 1000


def read_record(storage: Storage) -> LeaseRecord | None:
    """Return what a storage's lease says, or None when it is free and was left clean.

    Raises:
        IndexDamagedError: the lease cannot be read.
    """
    there = storage.load(LEASE)
    record = LeaseRecord.decode(there.data, storage.name) if there else None
    return None if record is not None and record.state is LeaseState.RELEASED else record


class Lease:
    """A lease that we hold.

    Attributes:
        inheritance: how the last holder left the storage.
        outlived: the last holder is known to be dead, so that nothing of it can land any more.
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
    ) -> None:
        self.storage = storage
        self.inheritance = inheritance
        self.outlived = outlived
        self._environment = environment
        self._record = record
        self._version = version
        self._start(self._now())
        self._refresh_after = 0.0

    def keep(self) -> None:
        """Make sure that the lease still stands; call before each batch of writes.

        Late in its life it is renewed by a conditional write, which succeeds only if nobody took over meanwhile.

        Raises:
            LockLostError: it was taken over, or renewing it took too long; write nothing more.
        """
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
        if self._is_late() and self._environment.monotonic() >= self._refresh_after:
            try:
                self._renew()
            except StorageError:
                # It may be busy with our own writes, as the other table of one database file is. `keep` decides.
                pause = self._record.life_seconds * RENEW_AT / 2
                self._refresh_after = self._environment.monotonic() + pause

    def release(self, *, interrupted: bool) -> None:
        """Give the lease back if it is still ours.

        A clean release removes it. After an error it is left marked, so that the next holder looks for what
        this run was about to write.
        """
        try:
            self._release(self._version, interrupted=interrupted)
        except (ObjectMismatch, StorageError):
            # Renewed in a transaction that was undone, or lost; or given back, and only the answer was lost.
            # The storage knows.
            current = self._current()
            if current is not None:
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
        elif not self.storage.capabilities.conditional_remove:
            self._replace(self._record_with(LeaseState.RELEASED), version)
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


@dataclass(frozen=True, slots=True)
class _Taken:
    """Why a lease could not be had just now."""

    version: Version
    record: LeaseRecord


class _Contender:
    """One run that wants the lease of one storage, over several tries."""

    def __init__(self, storage: Storage, environment: Environment, life_seconds: float) -> None:
        self.storage = storage
        self.environment = environment
        self.life_ms = int(min(life_seconds, LIFE_SECONDS_MAX) * 1000)
        self.token = environment.nonce()
        self.seen: tuple[Version, float] | None = None

    def attempt(self) -> Lease | _Taken:
        if self.storage.capabilities.conditional_remove:
            return self._create() or self._take_over()
        # A lease that was given back left its object there: look first.
        return self._take_over()

    def _create(self) -> Lease | None:
        record = self.record()
        try:
            version = replace(self.storage, LEASE, record.encode(), ABSENT)
        except ObjectMismatch:
            return None
        return Lease(self.storage, self.environment, record, version, Inheritance.CLEAN)

    def _take_over(self) -> Lease | _Taken:
        there = self.storage.load(LEASE)
        if there is None:
            return self._create() or self.attempt()
        old = LeaseRecord.decode(there.data, self.storage.name)
        inheritance = self._inheritance(there.version, old)
        if inheritance is None:
            return _Taken(there.version, old)
        record = self.record()
        try:
            version = replace(self.storage, LEASE, record.encode(), there.version)
        except ObjectMismatch:
            return _Taken(there.version, old)
        return Lease(self.storage, self.environment, record, version, inheritance, outlived=is_dead(old.owner))

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


def is_dead(owner_text: str) -> bool:
    """Whether an owner was a process of this machine that does not exist any more."""
    host, separator, rest = owner_text.rpartition(" pid ")
    number = rest.partition(" ")[0]
    if not separator or host != socket.gethostname() or not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def owner() -> str:
    """Return who we are, for the people who find our lease."""
    return f"{socket.gethostname()} pid {os.getpid()} {threading.current_thread().name}"


def seize(storage: Storage, environment: Environment) -> Lease | None:
    """Take the lease whoever holds it, readable or not; return None when nobody does.

    Raises:
        LockHeldError: it changed hands just now.
    """
    there = storage.load(LEASE)
    if there is None or _is_released(there.data, storage.name):
        return None
    record = _Contender(storage, environment, LIFE_SECONDS_MAX).record()
    try:
        version = replace(storage, LEASE, record.encode(), there.version)
    except ObjectMismatch:
        message = "the lease changed hands just now, so its holder lives; run again later"
        raise LockHeldError(message, storage=storage.name, owner="somebody", expires=environment.clock()) from None
    return Lease(storage, environment, record, version, Inheritance.TAKEN)


def _is_released(data: bytes, storage: str) -> bool:
    try:
        return LeaseRecord.decode(data, storage).state is LeaseState.RELEASED
    except KvsyncError:
        return False


@contextmanager
def held(
    storages: tuple[Storage, ...],
    environment: Environment,
    *,
    lease_seconds: float,
    wait_seconds: float,
) -> Iterator[tuple[Lease, ...]]:
    """Hold the leases of all `storages`, or of none; release them in reverse order, always.

    Raises:
        LockHeldError: one is still held by somebody else after `wait_seconds`.
        SameStorageError: two of them are one storage.
    """
    leases = _acquire(storages, environment, lease_seconds, wait_seconds)
    try:
        yield leases
    except BaseException:
        _give_back(leases, interrupted=True)
        raise
    with ExitStack() as releases:
        for lease in leases:
            releases.callback(lease.release, interrupted=False)


def _acquire(
    storages: tuple[Storage, ...], environment: Environment, lease_seconds: float, wait_seconds: float
) -> tuple[Lease, ...]:
    contenders = [_Contender(storage, environment, lease_seconds) for storage in storages]
    deadline = environment.monotonic() + wait_seconds
    backoff = BACKOFF_SECONDS_MIN
    while True:
        outcome = _attempt_all(contenders)
        if not isinstance(outcome, _Blocked):
            return outcome
        left = deadline - environment.monotonic()
        if left <= 0:
            raise outcome.error()
        # Full jitter: two runs that block each other must not meet again.
        environment.sleep(min(left, environment.random.uniform(0, backoff)))
        backoff = min(backoff * 2, BACKOFF_SECONDS_MAX)


@dataclass(frozen=True, slots=True)
class _Blocked:
    storage: str
    record: LeaseRecord

    def error(self) -> LockHeldError:
        expires = self.record.expires / 1000
        message = (
            f"the lease is held by {self.record.owner} until {expires:.3f} (seconds since 1970); "
            "run again later, or run `kvsync unlock` on this storage if that holder is dead"
        )
        return LockHeldError(message, storage=self.storage, owner=self.record.owner, expires=expires)


def _attempt_all(contenders: list[_Contender]) -> tuple[Lease, ...] | _Blocked:
    """Take all leases, or give back those that were had."""
    leases: list[Lease] = []
    try:
        blocked = _attempt_each(contenders, leases)
    except BaseException:
        _give_back(leases, interrupted=False)
        raise
    if blocked is None:
        return tuple(leases)
    _give_back(leases, interrupted=False)
    return blocked


def _attempt_each(contenders: list[_Contender], leases: list[Lease]) -> _Blocked | None:
    """Take one lease after the other into `leases`; return the first that could not be had."""
    for contender in contenders:
        outcome = contender.attempt()
        if isinstance(outcome, _Taken):
            if any(outcome.record.token == other.token for other in contenders if other is not contender):
                message = "source and target are one storage; name two different ones"
                raise SameStorageError(message, storage=contender.storage.name)
            return _Blocked(contender.storage.name, outcome.record)
        leases.append(outcome)
    return None


def _give_back(leases: Iterable[Lease], *, interrupted: bool) -> None:
    """Release leases without having finished; what was inherited and not dealt with stays to be looked at."""
    for lease in reversed(tuple(leases)):
        unsettled = lease.inheritance is not Inheritance.CLEAN
        # A lease that cannot be given back ends by itself; the error that brought us here is the one to report.
        with suppress(StorageError, IndexDamagedError, ObjectMismatch):
            lease.release(interrupted=interrupted or unsettled)
