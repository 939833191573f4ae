"""One run: the seven steps, in a straight line.

1 lease both, 2 commit the caller's changes, 3 pull what is not known to be common, 4 calculate the delta (and
decide conflicts, committing decisions first), 5 commit the delta as intents, 6 push it and finalise, 7 release.
"""

from __future__ import annotations

from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from kvsync import resolution
from kvsync.doubt import differ, forked, knows_more
from kvsync.errors import KvsyncError, SameStorageError, StalePlanError
from kvsync.incoming import Incoming, incoming_of, unknown_to
from kvsync.index.recent import load_manifest
from kvsync.lease import held, manifest_left, recall
from kvsync.measuring import BATCH_BYTES, BATCH_COUNT
from kvsync.native import Cover, Segment, delta, digest_values
from kvsync.replica import Replica
from kvsync.result import MissingKey, Progress, SyncResult
from kvsync.side import Side, checked
from kvsync.storages.counted import CountedStorage
from kvsync.transfer import Reader, push

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kvsync.environment import Environment
    from kvsync.index.manifest import Missing
    from kvsync.index.recent import Found
    from kvsync.lease import Lease
    from kvsync.native import Delta
    from kvsync.options import Options
    from kvsync.storages.contract import Storage
    from kvsync.types import Conflict, Delete, Put

__all__ = ["Basis", "Outline", "Run", "commit"]


@dataclass(frozen=True, slots=True)
class Basis:
    """What a plan was made from: the manifests' nonces and replica ids, and what the scans found."""

    nonces: tuple[bytes, ...]
    replicas: tuple[int, ...]
    scans: tuple[bytes, ...] = ()


@dataclass(slots=True)
class Outline:
    """What a run is about to do, after all conflicts are decided."""

    to_source: Incoming
    to_target: Incoming
    conflicts: list[Conflict] = field(default_factory=list)
    basis: Basis | None = None


class _DoneAlready(Exception):  # noqa: N818 - an answer, not an error
    """Nothing is left to be done, as another run has seen to that."""


class Run:
    """One run over two storages; `environment` gives it time and chance."""

    def __init__(self, source: Storage, target: Storage, options: Options, environment: Environment) -> None:
        self.storages = CountedStorage(source), CountedStorage(target)
        self.options = options
        self.environment = environment
        self._seen: list[Found] = [None, None]
        self._left: list[Found] = [None, None]
        self._looks: list[Callable[[], Found] | None] = [None, None]
        tiers = sorted(storage.capabilities.tier for storage in self.storages)
        self.result = SyncResult(source.name, target.name, guarantee=tiers[-1])
        self.result.operations = {
            "source": self.storages[0].operations,
            "target": self.storages[1].operations,
        }

    def synchronise(self, changes: Iterable[Put | Delete], basis: Basis | None = None) -> SyncResult:
        """Make both storages equal; with `basis`, only if it still holds.

        Raises:
            StalePlanError: `basis` does not hold any more; nothing was written.
        """
        changes = checked(changes)
        if not changes and not self.options.scan and basis is None and self._nothing_to_do():
            return self.result
        options = self.options
        with (
            suppress(_DoneAlready),
            held(
                self.storages,
                self.environment,
                lease_seconds=options.lease_seconds,
                wait_seconds=options.wait_seconds,
                on_moved=self._look_after_all,
                looks=self._looks,
                new=True,
            ) as leases,
        ):
            self._open(*leases, basis=basis)
            plan = self._plan(changes, basis)
            self._intend(plan)
            self._push(plan)
            self.source.leave()
            self.target.leave()
        return self.result

    def preview(self, changes: Iterable[Put | Delete]) -> Outline:
        """Find what `synchronise` would do, without a lease and without writing a byte."""
        changes = checked(changes)
        self._open(None, None)
        sides = (self.source, self.target)
        if self._nonces[0] and self._nonces[0] == self._nonces[1]:
            message = "source and target are one storage, or an exact copy of each other; a real run tells which"
            raise SameStorageError(message, storage=self.target.storage.name)
        nonces, replicas = self._nonces, tuple(side.replica.manifest.replica for side in sides)
        plan = self._plan(changes)
        plan.basis = Basis(nonces, replicas, tuple(_fingerprint(side) for side in sides))
        return plan

    # Before step 1: the read-only fast path

    def _nothing_to_do(self) -> bool:
        """Whether both logs are known to be equal, from one read of each manifest at most.

        A manifest that differs from the other as this process left it is not read: the lease tells whether anybody
        was there since.
        """
        self._left = [manifest_left(storage) for storage in self.storages]
        self._seen = [was or load_manifest(storage) for storage, was in zip(self.storages, self._left, strict=True)]
        self._looks = [partial(self._seen.__getitem__, i) for i in range(2)]
        return self._agree(*self._seen) and self._agree_when_read()

    def _agree_when_read(self) -> bool:
        """Read the manifests that were not read yet; return whether both logs are known to be equal."""
        for i, was in enumerate(self._left):
            if was is not None:
                self._seen[i] = load_manifest(self.storages[i], was)
                if self._seen[i] is not was:
                    recall(self.storages[i])
        self._left = [None, None]
        return self._agree(*self._seen)

    def _look_after_all(self) -> None:
        """Stop, once a lease is not as this process left it, where another run has done what was to be done."""
        if any(self._left) and self._agree_when_read():
            raise _DoneAlready

    @staticmethod
    def _agree(one: Found, other: Found) -> bool:
        if one is None or other is None:
            return one is other
        source, target = one[0], other[0]
        if source.replica == target.replica or source.cover != target.cover or differ(source, target):
            return False
        if not source.missing and not target.missing:
            return True
        unmet = [{lack.change.dot for lack in side.missing if lack.overtaken} for side in (source, target)]
        return not source.lacking and not target.lacking and unmet[0] == unmet[1]

    # Steps 1 to 4

    def _open(self, *leases: Lease | None, basis: Basis | None = None) -> None:
        labels = ("source", "target")
        self.source, self.target = (
            Side(label, storage, lease, self.options, self.environment, _others(leases, lease), seen)
            for label, storage, lease, seen in zip(labels, self.storages, leases, self._seen, strict=True)
        )
        self._nonces = (self.source.replica.manifest.nonce, self.target.replica.manifest.nonce)
        if basis is not None:
            self._resume(basis)
        self.source.settle()
        self.target.settle()
        self.doubt = self._doubt()

    def _resume(self, basis: Basis) -> None:
        """Go on from where a plan was made: new storages get the ids that it drew for them.

        Raises:
            StalePlanError: a manifest is another one.
        """
        if basis.nonces != self._nonces:
            raise _stale("another run wrote to one of the storages")
        for side, replica in zip((self.source, self.target), basis.replicas, strict=True):
            side.replica.assume(replica)

    def _doubt(self) -> bool:
        """Give a new id to a side whose history cannot be what it was; return whether to compare in full."""
        source, target = self.source.replica, self.target.replica
        doubt = differ(source.manifest, target.manifest)
        if source.manifest.replica == target.manifest.replica:
            target.rename()
            doubt = True
        for one, other in ((source, target), (target, source)):
            if knows_more(other.manifest, one.manifest) or forked(other, one):
                one.rename()
                doubt = True
        return doubt

    def _plan(self, changes: Sequence[Put | Delete], basis: Basis | None = None) -> Outline:
        if self.options.scan:
            self.source.scan()
            self.target.scan()
        if basis is not None and basis.scans != tuple(_fingerprint(side) for side in (self.source, self.target)):
            raise _stale("values in one of the storages have changed")
        self.source.commit_scan()
        self.target.commit_scan()
        self.source.commit(changes, last=self._nothing_else_to_come())
        self.result.committed = (self.source.committed, self.target.committed)
        found = self._calculate()
        now_ms = self.environment.now_ms()
        conflicts = [*resolution.conflicts_of(found, now_ms), *resolution.overtaken(self.source, self.target)]
        if conflicts or found.conflicts:
            found = self._resolve(conflicts, found)
        plan = self._settle(found)
        self.result.expiry_ignored = self.source.unexpiring + plan.to_source.unexpiring + plan.to_target.unexpiring
        return plan

    def _nothing_else_to_come(self) -> bool:
        """Whether the source is done with once it has logged what it is given: both sides have been equal until now."""
        source, target = self.source.replica.manifest, self.target.replica.manifest
        settled = source.cover == target.cover and not source.missing and not target.missing
        # What is held ahead of the vector is read once more to find the delta, vectors alone being compared for that.
        settled = settled and not source.cover.ahead
        return settled and not self.doubt and not self.source.scanned and not self.target.scanned

    def _calculate(self) -> Delta:
        """Return what each side misses: pull as little as possible, then merge."""
        source, target = self.source.replica, self.target.replica
        if self.doubt:
            nothing = Cover()
            return delta(source.everything(), target.everything(), nothing, nothing, ordered=True)
        source_cover, target_cover = source.manifest.cover, target.manifest.cover
        return delta(source.stretch(target_cover), target.stretch(source_cover), source_cover, target_cover)

    def _resolve(self, conflicts: Sequence[Conflict], found: Delta) -> Delta:
        """Decide conflicts and commit what was decided; return what each side misses then."""
        verdicts = resolution.decide(conflicts, self.options.conflict, self.source, self.target)
        resolution.keep_times(verdicts, found, self.source, self.target, self.environment.now_ms())
        if self.options.keep_lost:
            verdicts.keep_lost(self.source, self.target)
        if verdicts.commit(self.source, self.target):
            found = self._calculate()
        if verdicts.refused and self.options.keep_lost:
            verdicts.keep_lost(self.source, self.target)
        self.result.conflicts = verdicts.report()
        return found

    def _settle(self, found: Delta) -> Outline:
        """Let the greatest change of each conflicting key win: by now every decision is one."""
        to_source, to_target = resolution.greatest(found)
        now_ms = self.environment.now_ms()
        source = incoming_of(self.source, self.target, found.to_a, to_source, found.log_a, now_ms)
        target = incoming_of(self.target, self.source, found.to_b, to_target, found.log_b, now_ms)
        # Who comes to know of a change through somebody who never met it has not met it either.
        at_source, at_target = self.source.replica.manifest.cover, self.target.replica.manifest.cover
        learnt = unknown_to(target.unmet, at_source), unknown_to(source.unmet, at_target)
        source, target = (
            replace(incoming, unmet=(*incoming.unmet, *unmet)) if unmet else incoming
            for incoming, unmet in zip((source, target), learnt, strict=True)
        )
        return Outline(source, target, self.result.conflicts)

    # Steps 5 and 6

    def _intend(self, plan: Outline) -> None:
        for side, incoming in ((self.target, plan.to_target), (self.source, plan.to_source)):
            if len(incoming.log):
                side.before_write()
                side.replica.intend(incoming.log)

    def _push(self, plan: Outline) -> None:
        # Both sides end at what either knew: taken before the first of them moves.
        cover = self.source.replica.manifest.cover.union(self.target.replica.manifest.cover)
        # A pull that takes long must not find the target unfinalised when it is interrupted.
        brief = len(plan.to_source.copy.batches(BATCH_COUNT, BATCH_BYTES)) <= 1
        with ExitStack() as then_source, ExitStack() as then_target:  # the target first
            then = then_target if brief else None
            self.result.pushed = self._apply(self.source, self.target, plan.to_target, cover, "push", then)
            self.result.pulled = self._apply(self.target, self.source, plan.to_source, cover, "pull", then_source)
        for side in (self.source, self.target):
            if side.scanned is not None:
                side.before_write()
                side.scanned.save(side.storage, side.replica.manifest.nonce)

    def _apply(
        self, giver: Side, taker: Side, incoming: Incoming, cover: Cover, direction: str, then: ExitStack | None
    ) -> int:
        """Move what `taker` misses, then finalise it; return how many changes were applied.

        Where its lease can end with that, it comes last of all, if there is a stack for it: the lease is needed until
        then.
        """
        replica = taker.replica
        idle = not len(incoming.log) and not len(incoming.fill) and not taker.answered
        if idle and replica.settled(cover):
            self._report_missing(taker, replica.manifest.missing)
            return 0
        with taker.as_one():
            moving = Segment.merge([incoming.copy, incoming.fill]) if len(incoming.fill) else incoming.copy
            outcome = push(
                Reader(giver.storage, giver.given, giver.version_of),
                taker.storage,
                moving,
                taker.guard(),
                before_write=taker.before_write,
                on_batch=self._progress(len(moving), direction),
                record_tokens=taker.scanned is not None,
                now_ms=self.environment.now_ms,
            )
            missing = self._missing(taker, incoming, replica.lacking(outcome.failed))
            finalise = partial(self._finalise, giver, taker, incoming.log, cover, missing)
            if taker.mark and then is not None:
                then.push(partial(_despite, partial(finalise, last=True)))
            else:
                finalise()
        if taker.scanned is not None and outcome.tokens is not None:
            taker.scanned.record(outcome.tokens)
        self._report_missing(taker, missing)
        return outcome.applied

    @staticmethod
    def _finalise(
        giver: Side, taker: Side, log: Segment, cover: Cover, missing: Sequence[Missing], *, last: bool = False
    ) -> None:
        taker.before_write()
        taker.finalise(log, cover, missing, giver.replica.manifest, last=last)

    def _report_missing(self, side: Side, missing: Sequence[Missing]) -> None:
        lacks = [lack for lack in missing if not lack.overtaken]
        self.result.missing += [MissingKey(lack.change.key, side.label, lack.reason) for lack in lacks]

    @staticmethod
    def _missing(taker: Side, incoming: Incoming, failed: Sequence[Missing]) -> list[Missing]:
        """Return what the side does not hold after a push: what it missed and still does, and what failed."""
        left = list(taker.replica.manifest.lacking)
        for segment in (incoming.log, incoming.fill):
            if left:
                rows = segment.find([lack.change.key for lack in left])
                left = [lack for lack, row in zip(left, rows, strict=True) if row is None]
        return sorted([*left, *failed, *incoming.unmet], key=lambda lack: (lack.change.key, lack.change.dot))

    def _progress(self, total: int, direction: str) -> Callable[[int], None]:
        done = 0
        report = self.options.on_progress

        def on_batch(count: int) -> None:
            nonlocal done
            done += count
            if report is not None:
                report(Progress(done, total, direction))

        return on_batch


def _despite(finalise: Callable[[], None], _kind: object, error: BaseException | None, _trace: object) -> None:
    """Finalise a side on the way out; of two errors the one that stopped the run is told."""
    with suppress(KvsyncError) if error is not None else nullcontext():
        finalise()


def _others(leases: Sequence[Lease | None], own: Lease | None) -> list[Lease]:
    return [lease for lease in leases if lease is not None and lease is not own]


def _fingerprint(side: Side) -> bytes:
    """Return what a scan found, stamps apart: those are taken from the clock."""
    found = side.scanned.local if side.scanned is not None else []
    return digest_values([repr([(c.key, c.flags, c.digest, c.expires) for c in sorted(found)]).encode()])[0]


def _stale(why: str) -> StalePlanError:
    message = f"{why} since the plan was made; nothing was done, plan again"
    return StalePlanError(message)


def commit(storage: Storage, changes: Iterable[Put | Delete], options: Options, environment: Environment) -> int:
    """Log changes in one storage, without a peer; return how many; see `kvsync.commit`."""
    changes = checked(changes)
    with held((storage,), environment, lease_seconds=options.lease_seconds, wait_seconds=options.wait_seconds) as (
        lease,
    ):
        side = Side("source", storage, lease, options, environment)
        side.settle()
        if options.scan:
            side.scan()
            side.commit_scan()
        side.commit(changes, last=True)
        if side.scanned is not None:
            side.scanned.save(storage, side.replica.manifest.nonce)
        side.leave()
        return side.committed


def compact(storage: Storage, options: Options, environment: Environment) -> tuple[int, int]:
    """Merge a storage's segments into one; see `kvsync.compact`."""
    with held((storage,), environment, lease_seconds=options.lease_seconds, wait_seconds=options.wait_seconds) as (
        lease,
    ):
        replica = Replica(storage, environment)
        replica.require_no_remains()
        replica.recover(lease)
        counts = replica.compact()
        lease.left = replica.left
        return counts
