"""Step 6: push values in both directions, in batches, guarded.

A side is finalised as soon as it has what it gets, with transactions within its own: values, log and inventory are
committed as one. Only a side whose lease is released by that has to wait for step 7, since it is guarded until then.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from kvsync.digesting import digests
from kvsync.errors import KvsyncError
from kvsync.expiry import may_be_gone
from kvsync.moved import Moved
from kvsync.native import Segment
from kvsync.replica.knowledge import Missing
from kvsync.replica.segments import changes_of
from kvsync.result import Progress
from kvsync.run.carrying import carrying
from kvsync.run.guard import guard_of
from kvsync.run.lock import ensure_leased, transaction
from kvsync.run.release import Applied, finalise
from kvsync.run.transfer import CHANGED, NOT_THERE, Reader, lies_with_giver, transfer
from kvsync.storages.contract import has_transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.environment import Environment
    from kvsync.options import Options
    from kvsync.replica.intents import Intent
    from kvsync.result import Step
    from kvsync.run.delta import Exchange, Inbound
    from kvsync.run.intend import Intents
    from kvsync.run.side import Pair, Side
    from kvsync.run.transfer import Outcome
    from kvsync.types import Change

__all__ = ["Pushed", "push"]

AGAIN_COUNT = 4096
"""If more changes were refused, that is not because of each other."""

NEITHER = (
    "neither side holds its value: sync with a storage that does; if none does any more, since that one is gone or was "
    "restored from a backup, `kvsync accept` makes what is there the newest"
)


LEFT_OUT = "a filter leaves it out"


class Pushed(NamedTuple):
    """What each side got: the target first, as it is finalised first."""

    target: Applied
    source: Applied


def push(pair: Pair, exchange: Exchange, intents: Intents, options: Options, environment: Environment) -> Pushed:
    """Move what each side misses, the target's part first.

    Where the second direction fails, the target is finalised nevertheless: it has all that it was to get.

    Raises:
        LockLostError: a lease was taken over; the batches before are applied.
        StorageError: a storage failed as a whole.
    """
    source, target = pair.sides
    apply = partial(_apply, options=options, environment=environment)
    gives = len(exchange.to_source.log) > 0
    at_target = apply(source, target, exchange.to_target, intents.target, acknowledge=gives)
    try:
        at_source = apply(target, source, exchange.to_source, intents.source, acknowledge=at_target.moved)
    except BaseException:
        if not at_target.finalised:
            with suppress(KvsyncError):  # the error that stopped the run is the one to report
                finalise(at_target, environment)
        raise
    return Pushed(at_target, at_source)


def _apply(
    giver: Side,
    taker: Side,
    inbound: Inbound,
    intent: Intent | None,
    *,
    options: Options,
    environment: Environment,
    acknowledge: bool,
) -> Applied:
    """Move what `taker` misses, and finalise it unless its lease is released by that."""
    waits = taker.lease is not None and bool(taker.lease.release_token)
    with transaction(taker) if len(inbound.moving) else nullcontext():
        failed, applied_changes = _move(giver, taker, inbound.moving, options, environment)
        failed += _missing(taker, [(change, LEFT_OUT) for change in changes_of(inbound.left_out)], environment.now_ms())
        knowledge = taker.log.manifest.knowledge.receive(
            inbound.history, (inbound.log, inbound.backfill), failed, inbound.unreconciled
        )
        wrote, manifest = len(inbound.moving) > 0, taker.log.manifest
        moved = len(inbound.log) > 0 or not knowledge.says_same(manifest.knowledge)
        applied = Applied(
            taker,
            applied_changes,
            inbound.log,
            knowledge,
            intent,
            wrote=wrote,
            moved=moved,
            finalised=not waits,
            is_level=giver.takes and taker.takes,
        )
        if applied.finalised:
            finalise(applied, environment, acknowledge=acknowledge)
    return applied


def _move(
    giver: Side, taker: Side, moving: Segment, options: Options, environment: Environment
) -> tuple[list[Missing], Moved]:
    """Move values; return what is missing since it could not be applied, and the changes that were."""
    if not len(moving):
        return [], Moved(moving)
    options.check_cancelled()
    if taker.lease is not None and taker.log.manifest.knowledge.missing:
        from kvsync.run.unkept import keep_noted  # noqa: PLC0415 - in most runs nothing is missing

        keep_noted(taker)
    move = partial(
        transfer,
        Reader(giver.storage, giver.given, partial(_version_of, giver)),
        carrying(giver.storage, taker.storage),
        guard=guard_of(taker, options),
        before_write=partial(ensure_leased, taker),
        record_tokens=taker.scan is not None,
        now_ms=environment.now_ms,
    )
    outcome = move(moving, on_batch=_progress(moving, taker, options))
    if has_transaction(taker.storage):
        _move_again(move, outcome)
    if taker.scan is not None and outcome.tokens is not None:
        taker.scan.record(outcome.tokens)
    missing = _missing(taker, _explained(giver, taker, outcome.failed), environment.now_ms())
    applied = moving.without([change.key for change, _ in outcome.failed]) if outcome.failed else moving
    return missing, Moved(applied, outcome.value_bytes)


def _move_again(move: Callable[..., Outcome], outcome: Outcome) -> None:
    """Try once more what was refused, as long as something else was applied since: it may have been in the way.

    A table may have a unique index on its values. A value that moves from one key to another is refused then, until
    the row of the other one is changed or deleted.
    """
    applied = outcome.applied
    while applied and 0 < len(outcome.failed) <= AGAIN_COUNT:
        again = move(Segment.from_rows([change for change, _ in outcome.failed]), on_batch=lambda _count, _bytes: None)
        outcome.take(again)
        applied = again.applied


def _explained(giver: Side, taker: Side, failed: Sequence[tuple[Change, str]]) -> list[tuple[Change, str]]:
    """Return why changes could not be applied; where the giver misses their values, too, what the taker said before."""
    doubtful = [change for change, reason in failed if reason in {NOT_THERE, CHANGED}]
    if not doubtful:
        return list(failed)
    lacking = {entry.change.dot for entry in giver.log.manifest.knowledge.missing}
    # A giver that was restored may never have known the change.
    newest = zip(doubtful, giver.log.newest([change.key for change in doubtful]), strict=True)
    lacking.update(change.dot for change, own in newest if own is None or own.outcome != change.outcome)
    lacking &= {change.dot for change in doubtful}
    missing = taker.log.manifest.knowledge.missing
    before = {entry.change.dot: entry.reason for entry in missing if not lies_with_giver(entry.reason)}
    return [(change, before.get(change.dot, NEITHER) if change.dot in lacking else reason) for change, reason in failed]


def _missing(taker: Side, failed: Sequence[tuple[Change, str]], now_ms: int) -> list[Missing]:
    """Return changes that could not be applied, with why, as missing: with what is held instead.

    That is what the log knows, not what a look would find now: anything else that is there is a local change.
    """
    if not failed:
        return []
    known = {entry.change.key: entry.held for entry in taker.log.manifest.knowledge.missing}
    newest = taker.log.newest([change.key for change, _ in failed])
    # Of a value that has expired the log does not know whether it is still there.
    unsure = [was.key for was in newest if was is not None and may_be_gone(was.expires, now_ms)]
    gone = {key for key, found in digests(taker.storage, unsure) if found is None}
    return [
        Missing(
            change,
            reason,
            known.get(change.key, b"" if was is None or was.deletes or was.key in gone else was.digest),
        )
        for (change, reason), was in zip(failed, newest, strict=True)
    ]


def _version_of(side: Side, change: Change) -> bytes:
    """Return the version token that a change's value is proven to have here; empty where none is."""
    digest, version = side.read_versions.get(change.key, (b"", b""))
    if version and digest == change.digest:
        return version
    return side.scan.version_of(change) if side.scan is not None else b""


def _progress(moving: Segment, taker: Side, options: Options) -> Callable[[int, int], None]:
    """Return what to call after each batch, and each part of a large value: it reports, and stops a cancelled run.

    A run that has nothing more to move goes on to its end.
    """
    step: Step = "push" if taker.label == "target" else "pull"
    progress = Progress(step, 0, len(moving), 0, moving.value_bytes, taker.storage.name)

    def on_batch(count: int, size: int) -> None:
        nonlocal progress
        progress = progress._replace(done=progress.done + count, bytes_done=progress.bytes_done + size)
        options.report(progress)
        if progress.done < progress.total:
            options.check_cancelled()

    return on_batch
