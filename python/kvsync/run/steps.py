"""A run as a page: seven steps in a straight line, one module each.

1 lock both storages, 2 commit local changes, 3 pull what may not be common, 4 calculate the delta and decide conflicts,
5 store the intents, 6 push the values in both directions, 7 release. docs/protocol.md says why each is as it is.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from kvsync.errors import BudgetError, KvsyncError, SameStorageError, StalePlanError, UsageError
from kvsync.filters import filter_of
from kvsync.moved import Moved
from kvsync.native import Hasher
from kvsync.replica.collection import ms_of
from kvsync.replica.points import is_branch
from kvsync.replica.segments import changes_of
from kvsync.replica.unleased import look
from kvsync.result import Life, MaybeDeleted, MissingKey, SyncResult, UnreadableKey
from kvsync.run.commit import checked, commit_found, commit_given
from kvsync.run.delta import exchange_of
from kvsync.run.find import find_changes
from kvsync.run.floor import maybe_older, reconcile
from kvsync.run.forecast import effective, still_missing
from kvsync.run.holder import require_nobody_at_work
from kvsync.run.intend import intend
from kvsync.run.lock import Settled, ensure_leased, identify, lock, opened, settle
from kvsync.run.pull import pull
from kvsync.run.push import push
from kvsync.run.release import Applied, finalise, release
from kvsync.run.side import Pair
from kvsync.storages.counted import CountedStorage
from kvsync.storages.wording import first_keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kvsync.environment import Environment
    from kvsync.index.manifest import Manifest
    from kvsync.native import Segment
    from kvsync.options import Options
    from kvsync.run.delta import Exchange, Inbound
    from kvsync.run.push import Pushed
    from kvsync.run.side import Side
    from kvsync.storages.contract import Storage
    from kvsync.types import Delete, Direction, Put

__all__ = ["Basis", "Committed", "Preview", "commit", "commit_and_look", "compact", "preview", "sync"]


class Basis(NamedTuple):
    """What a plan was made from: the manifests' nonces and replica ids, and what the scans found."""

    nonces: tuple[bytes, ...]
    replicas: tuple[int, ...]
    scans: tuple[bytes, ...] = ()


class Preview(NamedTuple):
    """What a run would do, and what that was calculated from.

    `to_source` and `to_target` are the changes that the sides would get, but for deletes of what is not there.
    """

    to_source: Segment
    to_target: Segment
    basis: Basis
    result: SyncResult


class Committed(NamedTuple):
    """What a commit logged, and what its scan could not decide.

    Attributes:
        logged: how many changes were logged.
        unreadable: {key or name: why} of what the scan could not read.
        maybe_deleted: keys of values that may be older than deletes that nobody remembers any more.
    """

    logged: int
    unreadable: Mapping[str, str]
    maybe_deleted: list[str]


def sync(
    source: Storage,
    target: Storage,
    changes: Iterable[Put | Delete],
    options: Options,
    environment: Environment,
    basis: Basis | None = None,
) -> SyncResult:
    """Make both storages equal; with `basis`, only if it still holds.

    Raises:
        StalePlanError: `basis` does not hold any more; nothing was written.
        KvsyncError: as `kvsync.sync` says.
    """
    changes = _given(changes, options)
    storages = CountedStorage(source), CountedStorage(target)
    may_be_equal = not changes and not options.scan and basis is None
    fresh_ids = basis.replicas if basis is not None else ()
    with lock(storages, options, environment, may_be_equal=may_be_equal, fresh_ids=fresh_ids) as sides:  # 1
        if isinstance(sides, Settled):
            result = _result(storages, options.direction)
            result.hint = "" if sides.logged else _hint(source, target)
            return result
        pair = _identified(sides, options, basis)
        pair = _commit(pair, changes, options, environment, basis)  # 2
        pulled = pull(pair)  # 3
        exchange = exchange_of(pair, pulled, options, environment)  # 4
        intents = intend(pair, exchange)  # 5
        pushed = push(pair, exchange, intents, options, environment)  # 6
        release(pushed, environment)  # 7
    result = _result(storages, options.direction, pair, exchange, pushed)
    if may_be_equal and not _is_logged(pair):
        result.hint = _hint(source, target)
    return result


def preview(
    source: Storage, target: Storage, changes: Iterable[Put | Delete], options: Options, environment: Environment
) -> Preview:
    """Find what `sync` would do: the same steps, without a lease and without writing a byte.

    Raises:
        SameStorageError: the two storages are one, or exact copies.
        KvsyncError: as `kvsync.plan` says.
    """
    given = _given(changes, options)

    def foreseen() -> Preview:
        try:
            return _preview(source, target, given, options, environment)
        except BudgetError:
            # What a run has deleted and not logged yet looks like a loss.
            require_nobody_at_work((source, target), environment)
            raise

    return look((source, target), foreseen)


def _preview(
    source: Storage, target: Storage, changes: Sequence[Put | Delete], options: Options, environment: Environment
) -> Preview:
    storages = CountedStorage(source), CountedStorage(target)
    pair = _directed(opened(storages, environment), options)
    nonces = tuple(side.log.manifest.nonce for side in pair.sides)
    if nonces[0] and nonces[0] == nonces[1]:
        message = (
            "source and target are the same storage, or exact copies; only a sync finds out which: it refuses one "
            "storage, and lets a copy go on by an id of its own"
        )
        raise SameStorageError(message, storage=target.name)
    replicas = tuple(side.origin for side in pair.sides)
    pair = _commit(identify(pair), changes, options, environment)
    exchange = exchange_of(pair, pull(pair), options, environment)
    basis = Basis(nonces, replicas, tuple(_fingerprint(side) for side in pair.sides))
    result = _result(storages, options.direction, pair, exchange)
    if not changes and not options.scan and not _is_logged(pair):
        result.hint = _hint(source, target)
    to_source = effective(pair.source, exchange.to_source.copy)
    return Preview(to_source, effective(pair.target, exchange.to_target.copy), basis, result)


def commit(storage: Storage, changes: Iterable[Put | Delete], options: Options, environment: Environment) -> int:
    """Log changes in one storage, without a peer; return how many; see `kvsync.commit`."""
    return commit_and_look(storage, changes, options, environment).logged


def commit_and_look(
    storage: Storage, changes: Iterable[Put | Delete], options: Options, environment: Environment
) -> Committed:
    """Log changes in one storage, without a peer; return also what people have to look at."""
    changes = checked(changes)
    unreadable: Mapping[str, str] = {}
    maybe_deleted: list[str] = []
    with lock((storage,), options, environment) as sides:
        assert not isinstance(sides, Settled)  # noqa: S101 - only a run that may find both sides equal gets that
        (side,) = sides
        if options.scan:
            (side,) = find_changes((side,), options, environment)
            maybe_deleted = maybe_older(side)
            side = commit_found(side)
        side = commit_given(side, changes, environment, last=True, read_again=False)
        finalise(Applied.nothing(side), environment)
        if side.scan is not None:
            unreadable = side.scan.unreadable
    return Committed(side.committed, unreadable, maybe_deleted)


def compact(storage: Storage, options: Options, environment: Environment) -> tuple[int, int]:
    """Merge a storage's segments into one; see `kvsync.compact`."""
    with lock((storage,), options, environment) as sides:
        assert not isinstance(sides, Settled)  # noqa: S101 - only a run that may find both sides equal gets that
        (side,) = sides
        return side.log.compact(partial(ensure_leased, side))


def _given(changes: Iterable[Put | Delete], options: Options) -> Sequence[Put | Delete]:
    given = checked(changes)
    if given and options.read_only_source:
        message = "changes are written to the source, which may only be read: leave them out, or read_only_source"
        raise UsageError(message)
    return given


def _identified(sides: Sequence[Side], options: Options, basis: Basis | None) -> Pair:
    """Return both sides, with what their histories tell, once it is sure that the basis still holds."""
    source, target = sides
    if basis is not None and basis.nonces != (source.log.manifest.nonce, target.log.manifest.nonce):
        raise _stale("another run wrote to one of the storages")
    return identify(_directed(Pair(source, target), options))


def _directed(pair: Pair, options: Options) -> Pair:
    """Return both sides, each with whether it takes what the other has, and what the run leaves out."""
    keys_filter = filter_of(options.include, options.exclude, [side.storage for side in pair.sides])
    return pair._replace(
        source=pair.source._replace(takes=options.takes("source"), keys_filter=keys_filter),
        target=pair.target._replace(takes=options.takes("target"), keys_filter=keys_filter),
    )


def _commit(
    pair: Pair,
    changes: Sequence[Put | Delete],
    options: Options,
    environment: Environment,
    basis: Basis | None = None,
) -> Pair:
    """Commit what was changed: both scans look before either side writes, since a budget may stop them."""
    source, target = pair.sides
    if options.scan:
        source, target = find_changes((source, target), options, environment)
    if basis is not None and basis.scans != (_fingerprint(source), _fingerprint(target)):
        raise _stale("values in one of the storages have changed")
    source = commit_found(source)
    pair = pair._replace(source=source, target=commit_found(target, source))
    settle(pair)
    pair = pair._replace(doubts=reconcile(pair, environment))
    source, target = pair.sides
    _refuse_left_out(source, changes)
    last = not pair.in_doubt and not options.scan and _are_settled(source.log.manifest, target.log.manifest)
    return pair._replace(source=commit_given(source, changes, environment, last=last))


def _refuse_left_out(source: Side, changes: Sequence[Put | Delete]) -> None:
    """Refuse to record what a filter leaves out."""
    if changes and source.keys_filter is not None:
        left_out = sorted(source.keys_filter.excluded([change.key for change in changes]))
        if left_out:
            message = f"changes are given for keys that a filter leaves out: {first_keys(left_out)}"
            raise UsageError(message, key=left_out[0])


def _are_settled(source: Manifest, target: Manifest) -> bool:
    """Whether the source gets nothing in this run: both sides know the same, and nothing is left to be met.

    Nor may it forget anything: what is given may beat the last change that names a branch.
    """
    known = source.knowledge
    if known.unreconciled or known.cover.exceptions or any(map(is_branch, known.history.chains)):
        return False
    return known.has_nothing_for(target.knowledge)


def _fingerprint(side: Side) -> bytes:
    """Return what a scan found, without stamps and how exact they are: those depend on the clock."""
    hasher = Hasher()
    for change in changes_of(side.scan.local) if side.scan is not None else ():
        hasher.update(repr((change.key, change.outcome, change.expires)).encode())
    return hasher.digest()


def _stale(why: str) -> StalePlanError:
    message = f"{why} since the plan was made; nothing was written, plan again"
    return StalePlanError(message)


def _left_out(pair: Pair, inbound: Sequence[Inbound]) -> set[str]:
    """Return the keys whose newest change one side knows and does not hold, since a filter leaves them out."""
    if pair.source.keys_filter is None:
        return set()
    known = [entry.change.key for side in pair.sides for entry in side.log.manifest.knowledge.missing]
    keys = [*known, *(change.key for each in inbound for change in changes_of(each.left_out))]
    return pair.source.keys_filter.excluded(keys)


def _is_logged(pair: Pair) -> bool:
    return any(side.log.manifest.segments for side in pair.sides)


def _hint(source: Storage, target: Storage) -> str:
    """Return what to do if neither storage has a log and one has values, which such a run does not see."""
    if not (_holds_values(source) or _holds_values(target)):
        return ""
    return "neither storage has a log, and without a scan the values there do not move: pass scan=True, or give changes"


def _holds_values(storage: Storage) -> bool:
    try:
        return any(keys for keys, _ in storage.scan())
    except KvsyncError:  # it cannot be scanned, so that advice would be of no use
        return False


def _lag_seconds(inbound: Iterable[Inbound], now_ms: int) -> float | None:
    """Return how old the oldest change is of which its time is known."""
    changes = (changes for each in inbound for changes in (each.copy, each.withheld))
    stamps = [stamp for each in changes if (stamp := each.exact_stamp_min) is not None]
    return max(0, now_ms - ms_of(min(stamps))) / 1000 if stamps else None


def _result(
    storages: Sequence[CountedStorage],
    direction: Direction,
    pair: Pair | None = None,
    exchange: Exchange | None = None,
    pushed: Pushed | None = None,
) -> SyncResult:
    """Return what was done, as plain values."""
    source, target = storages
    guarantee = max(storage.capabilities.tier for storage in storages)
    result = SyncResult(source.name, target.name, direction, guarantee=guarantee)
    result.operations = {"source": source.operations, "target": target.operations}
    if pair is None or exchange is None:
        return result
    inbound = exchange.to_source, exchange.to_target
    result.committed = (pair.source.committed, pair.target.committed)
    result.conflicts = exchange.conflicts
    compared = sum(len(inbound.log) for inbound in (exchange.to_source, exchange.to_target))
    sides = [side for side in pair.sides if side.label in pair.second_lives]
    names = {side.label: side.storage.name for side in pair.sides}
    result.maybe_deleted = [
        MaybeDeleted(names[label], names["target" if label == "source" else "source"], label, before_ms / 1000, keys)
        for label, before_ms, keys in pair.doubts
    ]
    result.lives = [
        Life(side.storage.name, side.label, compared, len(exchange.conflicts), side.label in pair.forgotten)
        for side in sides
    ]
    result.unreadable = [
        UnreadableKey(key, side.label, reason)
        for side in pair.sides
        if side.scan is not None
        for key, reason in side.scan.unreadable.items()
    ]
    result.lag_seconds = _lag_seconds(inbound, pair.source.log.environment.now_ms())
    result.withheld = [change.key for each in inbound for change in changes_of(each.withheld)]
    left_out = _left_out(pair, inbound)
    result.left_out = sorted(left_out)
    result.expiry_ignored = pair.source.unexpiring + sum(each.unexpiring for each in inbound)
    result.notes = [
        f"{side.storage.name}: {side.scan.fault}" for side in pair.sides if side.scan is not None and side.scan.fault
    ]
    if pushed is None:
        result.pushed, result.pulled = len(exchange.to_target.copy), len(exchange.to_source.copy)
        result.to_target, result.to_source = Moved(exchange.to_target.copy), Moved(exchange.to_source.copy)
        inbounds = (pair.target, exchange.to_target), (pair.source, exchange.to_source)
        missing = (key for side, inbound in inbounds for key in still_missing(side, inbound))
        result.missing = [entry for entry in missing if entry.key not in left_out]
        return result
    result.to_target, result.to_source = pushed.target.applied, pushed.source.applied
    result.pushed, result.pulled = len(result.to_target), len(result.to_source)
    result.missing = [
        MissingKey(entry.change.key, applied.side.label, entry.reason)
        for applied in pushed
        for entry in applied.knowledge.missing
        if entry.change.key not in left_out
    ]
    return result
