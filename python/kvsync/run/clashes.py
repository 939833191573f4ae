"""Clashes: which conflicts there are between two sides, those that a delta shows and those that no vector does."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from kvsync.native import TOMBSTONE
from kvsync.policy import newer
from kvsync.types import Change, Conflict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvsync.native import Delta, Segment
    from kvsync.run.side import Label, Pair, Side

__all__ = [
    "Overwritten",
    "Reconciled",
    "conflicts_of",
    "greatest",
    "overwritten_unseen",
    "pairs_of",
    "unreconciled_conflicts",
]


class Reconciled(NamedTuple):
    """Names of unreconciled changes of each side whose conflict this run decides."""

    source: frozenset[tuple[int, int]] = frozenset()
    target: frozenset[tuple[int, int]] = frozenset()


class Overwritten(NamedTuple):
    """A change that a newer one replaces which may not have known it; nobody is left who could say.

    The newer one wins whatever the policy, as it does everywhere. But what it replaces is kept, and told.
    """

    conflict: Conflict
    winner: Label


def pairs_of(found: Delta) -> list[tuple[Change, Change]]:
    """Return what both sides changed, (source, target), ascending by key."""
    # There may be as many as there are keys, and `_make` is a function of Python.
    make = partial(tuple.__new__, Change)
    return [(make(source), make(target)) for source, target in found.conflicts]


def conflicts_of(pairs: Iterable[tuple[Change, Change]], now_ms: int) -> list[Conflict]:
    """Return the true conflicts among what both sides changed.

    Where both changes leave nothing by now, deleted or expired, there is nothing to decide: the greater is logged. Nor
    where both leave the same value for another time: the greater is applied.
    """
    return [
        Conflict(source.key, source, target)
        for source, target in pairs
        if (source.digest != target.digest or source.deletes != target.deletes)
        and not (_leaves_nothing(source, now_ms) and _leaves_nothing(target, now_ms))
    ]


def unreconciled_conflicts(pair: Pair) -> tuple[list[Conflict], Reconciled]:
    """Return conflicts that no vector shows: a side replaced a change without knowing of it, and the other knows it."""
    conflicts: list[Conflict] = []
    reconciled = []
    for side, peer in ((pair.source, pair.target), (pair.target, pair.source)):
        known = peer.log.manifest.knowledge
        changes = [change for change in side.log.manifest.knowledge.unreconciled if known.has_reconciled(change)]
        reconciled.append(frozenset(change.dot for change in changes))
        if not changes:
            continue
        keys = [change.key for change in changes]
        for change, own, newest in zip(changes, side.log.newest(keys), peer.log.newest(keys), strict=True):
            # Who logs nothing any more of a key that it deleted has collected that delete.
            other = change if newest is None and change.deletes else newest
            # Where the other side's newest is a later change, somebody has reconciled the two.
            if own is None or other is None or other.dot != change.dot or own.outcome == other.outcome:
                continue
            conflicts.append(Conflict(change.key, *((own, other) if side is pair.source else (other, own))))
    return conflicts, Reconciled(*reconciled)


def greatest(pairs: Iterable[tuple[Change, Change]]) -> tuple[list[Change], list[Change]]:
    """Return the greatest change of each conflicting key, by the side that misses it: (to source, to target)."""
    to_source, to_target = [], []
    for source, target in pairs:
        if newer(source, target) == "source":
            to_target.append(source)
        else:
            to_source.append(target)
    return to_source, to_target


def overwritten_unseen(pair: Pair, found: Delta) -> list[Overwritten]:
    """Return what the newer changes of a delta replace although they, or those before them, did not know it.

    A side may hold another value in place of a missing one, which its newest change does not name. And a change that
    replaced a missing one unseen may reach a side that holds what came before the missing one. The conflict is decided
    when somebody is met who held the missing value; but its only holder may have been restored, or be gone.
    """
    taken = _overwritten(pair.source, pair.target, found.to_a)
    given = _overwritten(pair.target, pair.source, found.to_b)
    return [
        *(Overwritten(Conflict(was.key, was, change), "target") for was, change in taken),
        *(Overwritten(Conflict(was.key, change, was), "source") for was, change in given),
    ]


def _overwritten(taker: Side, giver: Side, received: Segment) -> list[tuple[Change, Change]]:
    """Return what `taker` holds and loses unseen, each with the change that replaces it."""
    known, other = taker.log.manifest.knowledge, giver.log.manifest.knowledge
    held = {
        entry.change.key: entry.change._replace(digest=entry.held, flags=0)
        for entry in known.missing
        if entry.held and not other.has_reconciled(entry.change)
    }
    open_ = {change.key: change for change in other.unreconciled if not known.has_reconciled(change)}
    keys = sorted({*held, *open_})
    rows = received.find(keys) if keys else []
    replaced = [(key, Change._make(row)) for key, row in zip(keys, rows, strict=True) if row is not None]
    logged = taker.log.newest([key for key, _ in replaced]) if replaced else []
    found = []
    for (key, change), newest in zip(replaced, logged, strict=True):
        was = held.get(key)
        if was is None and newest is not None and key in open_ and newest.order <= open_[key].order:
            was = newest
        # Whoever made both knew what it replaced.
        if was is not None and was.outcome != change.outcome and was.origin != change.origin:
            found.append((was, change))
    return found


def _leaves_nothing(change: Change, now_ms: int) -> bool:
    return change.flags & TOMBSTONE != 0 or 0 < change.expires <= now_ms
