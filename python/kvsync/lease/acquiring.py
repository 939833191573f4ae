"""Holding the leases of several storages at once, or of none."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvsync.errors import IndexDamagedError, LockHeldError, SameStorageError, StorageError
from kvsync.lease.contender import Contender, Taken
from kvsync.lease.holding import Inheritance
from kvsync.storages.contract import ObjectMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from kvsync.environment import Environment
    from kvsync.index.recent import Found
    from kvsync.lease.holding import Lease
    from kvsync.lease.record import LeaseRecord
    from kvsync.storages.contract import Storage

__all__ = ["held"]

BACKOFF_SECONDS_MIN = 0.01
BACKOFF_SECONDS_MAX = 2.0


@contextmanager
def held(
    storages: tuple[Storage, ...],
    environment: Environment,
    *,
    lease_seconds: float,
    wait_seconds: float,
    on_moved: Callable[[], None] = lambda: None,
    looks: Sequence[Callable[[], Found] | None] = (None, None),
    new: bool = False,
) -> Iterator[tuple[Lease, ...]]:
    """Hold the leases of all `storages`, or of none; release them in reverse order, always.

    `on_moved` is called where this process had a lease last, and finds that somebody else had it since; what it raises
    passes through. `looks` give the manifests where they were read just now; elsewhere `new` is the first
    guess: that nobody was ever there.

    Raises:
        LockHeldError: one is still held by somebody else after `wait_seconds`.
        SameStorageError: two of them are one storage.
    """
    contenders = [
        Contender(storage, environment, lease_seconds, on_moved, look)
        for storage, look in zip(storages, looks, strict=False)
    ]
    leases = _acquire(contenders, environment, wait_seconds, new=new)
    try:
        yield leases
    except BaseException:
        _give_back(leases, interrupted=True)
        raise
    with ExitStack() as releases:
        for lease in leases:
            releases.callback(lease.release, interrupted=False)


def _acquire(
    contenders: list[Contender], environment: Environment, wait_seconds: float, *, new: bool
) -> tuple[Lease, ...]:
    deadline = environment.monotonic() + wait_seconds
    backoff = BACKOFF_SECONDS_MIN
    while True:
        outcome = _attempt_all(contenders, new=new)
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


def _attempt_all(contenders: list[Contender], *, new: bool) -> tuple[Lease, ...] | _Blocked:
    """Take all leases, or give back those that were had."""
    leases: list[Lease] = []
    try:
        blocked = _attempt_each(contenders, leases, new=new)
    except BaseException:
        _give_back(leases, interrupted=False)
        raise
    if blocked is None:
        return tuple(leases)
    _give_back(leases, interrupted=False)
    return blocked


def _attempt_each(contenders: list[Contender], leases: list[Lease], *, new: bool) -> _Blocked | None:
    """Take one lease after the other into `leases`; return the first that could not be had."""
    for contender in contenders:
        # A pair is new on both sides, as a rule, or on neither.
        outcome = contender.attempt(new=new and all(lease.untouched for lease in leases))
        if isinstance(outcome, Taken):
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
