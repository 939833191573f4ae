"""Step 1: acquire the leases of both storages or none, unless nothing is to be done; then recover what a crash left.

A manifest is read before its lease where it may show that nothing is to be done, or names the version of a lease object
that was released. A lease that is acquired at just that version proves that nobody wrote the manifest since.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from kvsync.environment import utc
from kvsync.errors import (
    BudgetError,
    ClockError,
    IndexDamagedError,
    KvsyncError,
    LockHeldError,
    LockLostError,
    SameStorageError,
    StorageError,
)
from kvsync.index import bounds
from kvsync.lease import Acquirer, Held, Lease, LeaseRecord, Previous
from kvsync.probe import require_conditions
from kvsync.process import Presence
from kvsync.replica.base import compare as compare_layers
from kvsync.replica.collection import floor_above
from kvsync.replica.lives import Standing, compare, digests_differ, has_second_life
from kvsync.replica.log import Log, read_manifest
from kvsync.replica.peers import FORGOTTEN, merged_gone
from kvsync.replica.recovery import recover, require_no_remains
from kvsync.result import Progress
from kvsync.run.side import Pair, Side
from kvsync.storages.contract import ObjectMismatch, has_transaction
from kvsync.types import ABSENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from kvsync.environment import Environment
    from kvsync.options import Options
    from kvsync.replica.session import Found
    from kvsync.run.side import Label
    from kvsync.storages.contract import Storage
    from kvsync.types import Expectation, Version

__all__ = [
    "Settled",
    "ensure_leased",
    "held_error",
    "identify",
    "is_released_by_manifest",
    "lock",
    "opened",
    "transaction",
]

BACKOFF_SECONDS_MIN = 0.01
BACKOFF_SECONDS_MAX = 2.0

LABELS: tuple[Label, ...] = ("source", "target")


class Leased(NamedTuple):
    """A lease that we hold, and the manifest, where it was read and nobody can have written it since."""

    lease: Lease
    found: Found
    is_certain: bool


class Settled:
    """Both logs know the same, so nothing is to be done; `logged` says whether there is anything in them."""

    def __init__(self, *, logged: bool) -> None:
        self.logged = logged


@contextmanager
def lock(
    storages: Sequence[Storage],
    options: Options,
    environment: Environment,
    *,
    may_be_equal: bool = False,
    fresh_ids: Sequence[int] = (),
) -> Iterator[tuple[Side, ...] | Settled]:
    """Hold the leases of all storages or of none, and release them on the way out, also after an error.

    Args:
        storages: one, or source and target.
        options: how long to wait, and how long a lease lives.
        environment: time and randomness.
        may_be_equal: first look whether both logs are equal; then no lease is acquired, and `Settled` is given.
        fresh_ids: replica ids for storages that have none yet, in place of random ones.

    Raises:
        LockHeldError: somebody else holds a lease, still after `options.wait_seconds`.
        SameStorageError: two of the storages are one.
        StorageError: a storage is new to kvsync, and was found to ignore conditions.
        IndexDamagedError: a storage looks new, but for the remains of a log; or an index object fails its checks.
        ClockError: a log has a stamp too far in the future.
    """
    try:
        leased = _acquire(storages, options, environment, may_be_equal=may_be_equal)
    except StorageError as error:
        if not (options.takes("source") or options.read_only_source) and _is_readable(storages[0], error):
            error.message += "; if it may only be read, use the option read_only_source"
        raise
    if isinstance(leased, Settled):
        yield leased
        return
    leases = [each.lease for each in leased]
    sides: tuple[Side, ...] = ()
    try:
        sides = tuple(
            _open(i, each, leases, options, environment, fresh_ids[i] if fresh_ids else 0)
            for i, each in enumerate(leased)
        )
        yield sides
        for lease in leases:
            lease.release(interrupted=False)
    except BaseException as error:
        lost = _lost(leases) if isinstance(error, BudgetError | IndexDamagedError) else None
        _give_back(leases, interrupted=[side.lease for side in sides if side.log.has_open_intent])
        if lost is not None:
            raise lost from error
        raise


def _is_readable(storage: Storage, error: StorageError) -> bool:
    """Whether a storage that cannot be written can be read."""
    if error.storage != storage.name:
        return False
    try:
        read_manifest(storage)
    except KvsyncError:
        return False
    return True


def _lost(leases: Sequence[Lease]) -> LockLostError | None:
    """Return the error for a lease that was taken over: by a run that may have removed what we read, or values."""
    try:
        for lease in leases:
            lease.confirm()
    except LockLostError as error:
        return error
    except (StorageError, IndexDamagedError):  # what was met first is what is told
        pass
    return None


def ensure_leased(side: Side) -> None:
    """Make sure that a side's lease is still ours, and keep those of the other storages alive meanwhile.

    Raises:
        LockLostError: one was taken over; write nothing more.
    """
    if side.lease is not None:
        side.lease.keep()
        for other in side.other_leases:
            other.refresh()


def transaction(side: Side) -> AbstractContextManager[None]:
    """Make all writes inside atomic, where the storage can.

    The manifest is replaced within, on condition. Whoever took the lease over has rewritten it, so all is undone then.
    """
    storage = side.storage
    return storage.transaction() if side.lease is not None and has_transaction(storage) else nullcontext()


def opened(storages: Sequence[Storage], environment: Environment) -> Pair:
    """Return both sides for a preview: without leases, and with logs that grow in memory only."""
    logs = [Log.read(storage, environment, dry=True) for storage in storages]
    source, target = (Side(label, log.storage, log) for label, log in zip(LABELS, logs, strict=True))
    return Pair(source, target)


def identify(pair: Pair) -> Pair:
    """Compare the lives that both sides know, and write what becomes of each: before anything else is logged.

    Raises:
        IndexDamagedError: one side has the other's manifest, and not its log.
        LockLostError: a lease was taken over; nothing was written.
        IndexDamagedError: a side claims what it may not, or what its log does not have; nothing was written.
    """
    _require_sound(pair)
    in_doubt = digests_differ(pair.source.log.manifest, pair.target.log.manifest)
    if pair.source.origin == pair.target.origin:
        # A storage was copied; if it was the manifest alone, what that lists is not there.
        for side in pair.sides:
            side.log.require_stored()
    gone = merged_gone(pair.source.log.manifest.gone, pair.target.log.manifest.gone)
    forgotten = tuple(side.label for side in pair.sides if gone.get(side.origin) == FORGOTTEN)
    one, other = compare(pair.source.log.manifest, pair.target.log.manifest)
    if not (one.is_as_before and other.is_as_before):
        _require_exchangeable(pair, one, other)
    found = []
    for side, standing, peer in ((pair.source, one, other), (pair.target, other, one)):
        if has_second_life(standing, peer):
            found.append(side.label)
        if not standing.is_as_before:
            ensure_leased(side)
            side.log.become(standing)
    pair.source.log.peer, pair.target.log.peer = pair.target.log, pair.source.log
    return pair._replace(in_doubt=in_doubt, second_lives=tuple(found), forgotten=forgotten)


def _require_sound(pair: Pair) -> None:
    """Refuse a side that brings more than the other may take in."""
    source, target = pair.source.log, pair.target.log
    bounds.refuse_growth(source.manifest, target.manifest, target.storage.name)
    bounds.refuse_growth(target.manifest, source.manifest, source.storage.name)


def _require_exchangeable(pair: Pair, one: Standing, other: Standing) -> None:
    """Read what both sides are about to get, so that nothing is written by the claims of one that is not sound."""
    source, target = one.history.cover, other.history.cover
    compare_layers(pair.source.log.layers_since(target), pair.target.log.layers_since(source), source, target)


def settle(pair: Pair) -> None:
    """Hold what scans found late against the other side's history, as `identify` did with what was known before.

    Raises:
        LockLostError: a lease was taken over; nothing was written.
    """
    for side, other in ((pair.source, pair.target), (pair.target, pair.source)):
        manifest = side.log.manifest
        history, renames = manifest.history.settled(other.log.manifest.history)
        if renames:
            ensure_leased(side)
            side.log.become(Standing(manifest.replica, history, manifest.collected, renames))


# Acquiring


def _acquire(
    storages: Sequence[Storage], options: Options, environment: Environment, *, may_be_equal: bool
) -> list[Leased] | Settled:
    """Acquire all leases, unless both logs turn out to be equal."""
    acquirers = [Acquirer(storage, environment, options.lease_seconds) for storage in storages]
    deadline = environment.monotonic() + options.wait_seconds
    backoff = BACKOFF_SECONDS_MIN
    while True:
        options.check_cancelled()
        seen = [
            read_manifest(storage) if may_be_equal or storage.capabilities.lease_stays else None for storage in storages
        ]
        if may_be_equal and _nothing_to_do(*seen):
            return Settled(logged=any(found is not None and found.manifest.segments for found in seen))
        outcome = _attempt_all(acquirers, seen, environment)
        if not isinstance(outcome, LockHeldError):
            return outcome
        left = deadline - environment.monotonic()
        if left <= 0:
            raise outcome
        options.report(Progress("wait", storage=outcome.storage or ""))
        # Full jitter: two runs that block each other must not meet again.
        environment.sleep(min(left, environment.random.uniform(0, backoff)))
        backoff = min(backoff * 2, BACKOFF_SECONDS_MAX)


def _nothing_to_do(source: Found, target: Found) -> bool:
    """Whether two manifests show that a run would have nothing to do."""
    if source is None or target is None:
        return source is target
    one, other = source.manifest, target.manifest
    if one.replica == other.replica or digests_differ(one, other):
        return False
    if floor_above(one, other) or floor_above(other, one):
        return False
    return one.knowledge.has_nothing_for(other.knowledge)


def _attempt_all(
    acquirers: Sequence[Acquirer], seen: Sequence[Found], environment: Environment
) -> list[Leased] | LockHeldError:
    """Acquire all leases, or release those that were acquired and return why one could not be."""
    leased: list[Leased] = []
    try:
        for acquirer, found in zip(acquirers, seen, strict=True):
            outcome = _attempt(acquirer, found)
            if isinstance(outcome, Held):
                _refuse_one_storage(acquirer, outcome, acquirers)
                _give_back([each.lease for each in leased])
                return held_error(acquirer.storage, outcome.record, environment)
            leased.append(outcome)
    except BaseException:
        _give_back([each.lease for each in leased])
        raise
    return leased


def _attempt(acquirer: Acquirer, seen: Found) -> Leased | Held:
    """Acquire one lease if it is free or its holder is dead; `seen` is the manifest as it was read before."""
    storage = acquirer.storage
    capabilities = storage.capabilities
    free = _free_version(storage, seen)
    if free is not None and (lease := acquirer.take(free)) is not None:
        return Leased(lease, seen, is_certain=capabilities.lease_stays and capabilities.conditions != "advisory")
    outcome = acquirer.look()
    if isinstance(outcome, Held) and is_released_by_manifest(storage, outcome.version):
        outcome = acquirer.take(outcome.version) or outcome
    if isinstance(outcome, Held):
        outcome = acquirer.take_over(outcome)
    return outcome if isinstance(outcome, Held) else Leased(outcome, None, is_certain=False)


def _free_version(storage: Storage, seen: Found) -> Expectation | None:
    """Return the version at which the lease object is free, for all that is known without a look at it."""
    if seen is None or not storage.capabilities.lease_stays:
        return ABSENT
    return seen.manifest.lease or None


def is_released_by_manifest(storage: Storage, version: Version) -> bool:
    """Whether the manifest says that the lease object of this version was released.

    Ask after the object was read: its holder wrote that manifest last of all.

    Raises:
        IndexDamagedError: the manifest fails its checks.
    """
    if not storage.capabilities.lease_stays:
        return False
    found = read_manifest(storage)
    return found is not None and found.manifest.lease == version


def _refuse_one_storage(acquirer: Acquirer, held: Held, acquirers: Sequence[Acquirer]) -> None:
    """Refuse a lease that this very run holds already, through another handle of the same storage."""
    if any(held.record.token == other.token for other in acquirers if other is not acquirer):
        message = "source and target are the same storage; name two different ones"
        raise SameStorageError(message, storage=acquirer.storage.name)


def held_error(storage: Storage, record: LeaseRecord, environment: Environment) -> LockHeldError:
    """Return the error for a lease that somebody else holds."""
    expires = record.expires / 1000
    if environment.presence(record.process) is Presence.RUNNING:
        message = f"the lease is held by {record.owner}, which is running, until {utc(expires)}; run again later"
    else:
        message = (
            f"the lease is held by {record.owner} until {utc(expires)}; run again later, or run `kvsync unlock` on "
            "this storage if that holder is dead"
        )
    return LockHeldError(message, storage=storage.name, owner=record.owner, expires=expires)


def _give_back(leases: Sequence[Lease], *, interrupted: Sequence[Lease | None] = ()) -> None:
    """Release leases without having finished.

    Those of which an intent may be left are marked as `interrupted`; what the previous holder left stays marked.
    """
    for lease in reversed(leases):
        unsettled = lease.previous.how is not Previous.RELEASED
        # A lease that cannot be released expires; the error that brought us here is the one to report.
        with suppress(StorageError, IndexDamagedError, ObjectMismatch):
            lease.release(interrupted=lease in interrupted or unsettled)


# Opening


def _open(
    number: int,
    leased: Leased,
    leases: Sequence[Lease],
    options: Options,
    environment: Environment,
    fresh_id: int,
) -> Side:
    """Read the log under the lease, recover what a crashed run left, and refuse what cannot be relied on."""
    lease = leased.lease
    storage = lease.storage
    found = leased.found if leased.is_certain else read_manifest(storage)
    log = Log(storage, environment, found, fresh_id=fresh_id, grace_ms=options.grace_ms)
    if found is None:
        require_no_remains(log)
        if storage.capabilities.conditions == "claimed":
            require_conditions(lease)
    recover(log, lease.previous, partial(_report_recovery, options, storage.name))
    lease.mark_settled()
    _refuse_drift(log, options.max_drift_seconds)
    others = tuple(other for other in leases if other is not lease)
    return Side(LABELS[number], storage, log, lease, others)


def _report_recovery(options: Options, name: str, done: int, total: int) -> None:
    options.report(Progress("recover", done, total, storage=name))
    options.check_cancelled()


def _refuse_drift(log: Log, max_drift_seconds: float) -> None:
    """Refuse a manifest that names a time too far in the future, in any field: no stamp could ever pass it."""
    newest = bounds.newest(log.manifest)
    ahead = newest.ms / 1000 - log.environment.clock()
    if ahead > max_drift_seconds:
        message = (
            f"the manifest's {newest.field} is stamped {ahead:.0f} seconds in the future: correct the clock here, if "
            "that is wrong. If the one that made it was, `kvsync verify --repair` makes a new log without such times. "
            "If none was, somebody forged it: do not sync with this storage"
        )
        raise ClockError(message, storage=log.storage.name)
