"""Step 4: calculate what each side misses, and decide conflicts; decisions are committed before anything is pushed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvsync.errors import UsageError
from kvsync.expiry import unexpiring
from kvsync.native import Cover, Segment
from kvsync.replica.base import compare
from kvsync.replica.points import is_branch
from kvsync.run.budgets import check_budgets
from kvsync.run.clashes import (
    Reconciled,
    conflicts_of,
    greatest,
    overwritten_unseen,
    pairs_of,
    unreconciled_conflicts,
)
from kvsync.run.conflicts import decide, keep_expiries
from kvsync.run.mirror import overturn
from kvsync.run.names import shared_names
from kvsync.run.pull import pull
from kvsync.types import Change

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.environment import Environment
    from kvsync.native import Delta
    from kvsync.options import Options
    from kvsync.replica.history import History
    from kvsync.run.conflicts import Verdicts
    from kvsync.run.pull import Pulled
    from kvsync.run.side import Pair, Side
    from kvsync.types import Conflict

__all__ = ["Exchange", "Inbound", "exchange_of"]

NOTHING = Segment.from_rows([])
BATCH_COUNT = 4096
LEFT_OUT_MAX = 10_000
"""A manifest lists each change whose value is missing, and every run reads it."""


class Inbound(NamedTuple):
    """What one side gets in a run.

    Attributes:
        log: every change that it has to log.
        copy: those of them whose value has to move (a value that is equal already does not).
        backfill: changes logged earlier whose value was missing, and may be had from the other side now.
        moving: `copy` and `backfill` together: the changes whose values move.
        history: what it knows afterwards.
        unreconciled: changes that it will know of without having held their value or decided their conflict.
        unexpiring: how many values stay there past their time, since this side keeps no expiry.
        left_out: changes of it that are logged and not applied, since a filter leaves their keys out; they are missing.
        withheld: changes that it misses and does not get, since this run moves nothing in that direction.
    """

    log: Segment
    copy: Segment
    backfill: Segment
    moving: Segment
    history: History
    unreconciled: Sequence[Change] = ()
    unexpiring: int = 0
    withheld: Segment = NOTHING
    left_out: Segment = NOTHING


class Exchange(NamedTuple):
    """What a run is about to do, once all conflicts are decided.

    Attributes:
        to_source, to_target: what each side gets.
        conflicts: every conflict with what was decided.
    """

    to_source: Inbound
    to_target: Inbound
    conflicts: list[Conflict]


def exchange_of(pair: Pair, pulled: Pulled, options: Options, environment: Environment) -> Exchange:
    """Calculate what each side misses, decide the conflicts, and commit the decisions.

    Raises:
        ConflictError: the policy is "fail" and there are conflicts.
        BudgetError: the run would do more than it may.
        UsageError: a callable policy gave no verdict.
    """
    found = calculate(pair, pulled)
    unseen, reconciled = unreconciled_conflicts(pair)
    now_ms = environment.now_ms()
    pairs = pairs_of(found)
    conflicts = [*conflicts_of(pairs, now_ms), *unseen]
    overwritten = overwritten_unseen(pair, found)
    if options.direction == "mirror":
        withheld = _exchange(pair, found, reconciled, [], now_ms).to_source.withheld
        verdicts = overturn(pair, withheld, conflicts, overwritten)
    else:
        verdicts = decide(conflicts, overwritten, options.conflict, pair, now_ms)
        keep_expiries(verdicts, pairs, pair, now_ms)
    check_budgets(pair, found, verdicts, options)
    decided: list[Conflict] = []
    if not verdicts.are_empty:
        found, decided = _settled(pair, found, verdicts, options, environment)
    return _exchange(pair, found, reconciled, decided, environment.now_ms())


def calculate(pair: Pair, pulled: Pulled) -> Delta:
    """Return what each side misses, and where both sides changed a key."""
    if pair.in_doubt:
        nothing = Cover()
        return compare(pulled.source, pulled.target, nothing, nothing)
    return compare(pulled.source, pulled.target, pair.source.log.manifest.cover, pair.target.log.manifest.cover)


def _settled(
    pair: Pair, found: Delta, verdicts: Verdicts, options: Options, environment: Environment
) -> tuple[Delta, list[Conflict]]:
    """Commit decisions, if there are any; return what each side misses then, and what was decided."""
    # What may only be read is never overwritten.
    losing = (pair.target,) if options.read_only_source else pair.sides
    if options.keep_lost:
        verdicts.keep_lost(losing, environment)
    is_decided = verdicts.commit(pair, options, environment)
    if verdicts.refused and options.keep_lost:
        verdicts.keep_lost(losing, environment)
    return calculate(pair, pull(pair)) if is_decided else found, verdicts.report()


def _exchange(
    pair: Pair,
    found: Delta,
    reconciled: Reconciled,
    conflicts: list[Conflict],
    now_ms: int,
) -> Exchange:
    """Let the greatest change of each conflicting key win: by now every decision is one."""
    to_source, to_target = greatest(pairs_of(found))
    source, target = pair.sides
    at_source, at_target = source.log.manifest.knowledge, target.log.manifest.knowledge
    for_source, for_target = shared_names(pair, found.to_a, found.to_b)
    source_log_only = Segment.merge([found.log_a, for_source.greater]) if len(for_source.greater) else found.log_a
    target_log_only = Segment.merge([found.log_b, for_target.greater]) if len(for_target.greater) else found.log_b
    source_copy, source_log = _copied_and_logged(source, for_source.news, to_source, source_log_only)
    target_copy, target_log = _copied_and_logged(target, for_target.news, to_target, target_log_only)
    left_source = at_source.unreconciled_after(source_log, at_target, reconciled.source)
    left_target = at_target.unreconciled_after(target_log, at_source, reconciled.target)
    # A change learnt from a peer that has not reconciled it is unreconciled here too.
    learnt_source = [change for change in left_target if not at_source.cover.covers(*change.dot)]
    learnt_target = [change for change in left_source if not at_target.cover.covers(*change.dot)]
    backfill_source = Segment.from_rows(at_source.backfill_from(at_target, source_log, now_ms))
    backfill_target = Segment.from_rows(at_target.backfill_from(at_source, target_log, now_ms))
    history = _known_after(pair, source_log, target_log)
    return Exchange(
        _inbound(source, source_copy, source_log, backfill_source, history, [*left_source, *learnt_source], now_ms),
        _inbound(target, target_copy, target_log, backfill_target, history, [*left_target, *learnt_target], now_ms),
        conflicts,
    )


def _known_after(pair: Pair, to_source: Segment, to_target: Segment) -> History:
    """Return what both sides know once each has logged what it gets, without the branches that nobody needs.

    A branch goes once no log names it. If one side alone knows it, and has no change of it for the other, then what its
    log names is beaten. One of which deletes were collected stays: whoever still has them must not bring them again.
    """
    source, target = pair.source.log.manifest, pair.target.log.manifest
    history = source.history.merged(target.history)
    branches = {origin for origin in history.chains if is_branch(origin)}
    if not branches:
        return history
    shared = source.history.chains.keys() & target.history.chains.keys()
    listed = (source.listed_origins | target.listed_origins) & shared
    named = source.named_origins | target.named_origins | to_source.maxima.keys() | to_target.maxima.keys()
    collected = source.collected.keys() | target.collected.keys()
    return history.without(branches - listed - named - collected)


def _copied_and_logged(
    side: Side, missed: Segment, won: Sequence[Change], log_only: Segment
) -> tuple[Segment, Segment]:
    """Return the changes whose values a side gets, and those that it has to log.

    It gets what it missed, and what `won` a conflict. What is `log_only` it holds already, under another change.
    """
    copy = Segment.merge([missed, Segment.from_rows(won)]) if won else missed
    missing = side.log.manifest.knowledge.missing
    if missing and len(log_only):
        # An equal outcome needs no copy, unless the value of the own change is missing.
        rows = log_only.find([entry.change.key for entry in missing])
        wanted = [Change._make(row) for row in rows if row is not None]
        copy = Segment.merge([copy, Segment.from_rows(wanted)]) if wanted else copy
    return copy, Segment.merge([copy, log_only]) if len(log_only) else copy


def _inbound(
    side: Side,
    copy: Segment,
    log: Segment,
    backfill: Segment,
    history: History,
    unreconciled: Sequence[Change],
    now_ms: int,
) -> Inbound:
    if not side.takes:
        # What it does not get it must not claim to know, so it is as if the two had not met.
        known = side.log.manifest.knowledge
        withheld = _split(side, _without_vain_deletes(side, copy))[0]
        return Inbound(NOTHING, NOTHING, NOTHING, NOTHING, known.history, known.unreconciled, withheld=withheld)
    copy, left_out = _split(side, copy)
    backfill = _split(side, backfill)[0]
    _refuse_too_many(side, left_out)
    moving = Segment.merge([copy, backfill]) if len(backfill) else copy
    unexpired = unexpiring(moving, side.storage, now_ms)
    return Inbound(log, copy, backfill, moving, history, unreconciled, unexpired, left_out=left_out)


def _split(side: Side, changes: Segment) -> tuple[Segment, Segment]:
    """Return what may move, and what a filter leaves out."""
    if side.keys_filter is None or not len(changes):
        return changes, NOTHING
    left_out: set[str] = set()
    for start in range(0, len(changes), BATCH_COUNT):
        left_out |= side.keys_filter.excluded([row[0] for row in changes.rows(start, start + BATCH_COUNT)])
    if not left_out:
        return changes, NOTHING
    keys = sorted(left_out)
    rows = [Change._make(row) for row in changes.find(keys) if row is not None]
    return changes.without(keys), Segment.from_rows(rows)


def _refuse_too_many(side: Side, left_out: Segment) -> None:
    """Refuse to note more changes as missing than a manifest should list."""
    count = len(left_out) + len(side.log.manifest.knowledge.missing)
    if len(left_out) and count > LEFT_OUT_MAX:
        message = (
            f"a filter leaves out {count} changes that the other side has logged, more than the {LEFT_OUT_MAX} that "
            "can be remembered here: run once without the filter, or filter the runs that log them, too"
        )
        raise UsageError(message, storage=side.storage.name)


def _without_vain_deletes(side: Side, copy: Segment) -> Segment:
    """Return changes without the deletes of what a side never had, or has deleted, too."""
    missing = {entry.change.key for entry in side.log.manifest.knowledge.missing}
    deletes = [key for key in copy.deletes(0, len(copy)) if key not in missing]
    vain = [key for key, own in zip(deletes, side.log.newest(deletes), strict=True) if own is None or own.deletes]
    return copy.without(vain) if vain else copy
