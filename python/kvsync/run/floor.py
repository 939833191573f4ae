"""Below the floor: one side has collected deletes that the other cannot be shown to have known.

Then the vectors do not say all that has to be done. The other side may hold what was deleted, and nothing logs that any
more. So both logs are compared in full, and each change of which the side that collected has nothing is one of these:

- That side knows it: it held the value once, so a delete that it has collected removed it. The delete is made anew, and
  reaches the other side like any other.
- It does not know it: it may be new, or it may be older than a delete that was collected. Nobody can know, so the value
  stays, and it is told. A stamp that a collected delete may have beaten is replaced by a fresh one, lest somebody who
  still has that delete brings it up against the value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvsync.native import INEXACT, TOMBSTONE, Segment, stamp_after
from kvsync.replica.collection import floor_above
from kvsync.replica.segments import changes_of
from kvsync.run.commit import log_local
from kvsync.run.lock import ensure_leased, transaction
from kvsync.run.side import Doubts
from kvsync.types import Change

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvsync.environment import Environment
    from kvsync.run.side import Pair, Side

__all__ = ["maybe_older", "reconcile"]

NO_DIGEST = bytes(32)
STAMP_MS_SHIFT = 16


class _Unmatched(NamedTuple):
    """Changes of a side of which the other, which has collected deletes, logs nothing.

    Attributes:
        deleted: values that the other side knew, so it deleted them.
        unsure: values that the other side does not know.
        anew: values and deletes that get a fresh stamp.
    """

    deleted: list[Change]
    unsure: list[Change]
    anew: list[Change]


def reconcile(pair: Pair, environment: Environment) -> list[Doubts]:
    """Log what the vectors do not tell where a side is below the other's floor; return what nobody can know.

    Raises:
        LockLostError: a lease was taken over; nothing more is logged.
        IndexDamagedError: a segment fails its checks.
    """
    found = []
    now_ms = environment.now_ms()
    for side, other in ((pair.source, pair.target), (pair.target, pair.source)):
        if floor := floor_above(side.log.manifest, other.log.manifest):
            found.append((side, other, floor, _unmatched(side, other, floor, now_ms)))
        elif floor := _floor_of_first_scan(side):
            found.append((side, other, floor, _Unmatched([], _found_first(side, other, now_ms), [])))
    for side, other, _, unmatched in found:
        deletes = [_delete_of(change) for change in unmatched.deleted]
        _log_anew(other, deletes, side, environment)
        _log_anew(side, unmatched.anew, other, environment)
    doubts = (
        Doubts(side.label, floor >> STAMP_MS_SHIFT, sorted(change.key for change in unmatched.unsure))
        for side, _, floor, unmatched in found
    )
    return [doubt for doubt in doubts if doubt.keys]


def maybe_older(side: Side) -> list[str]:
    """Return the keys of values that a first scan found just now, and that may be older than a collected delete."""
    if side.scan is None or not _floor_of_first_scan(side):
        return []
    return [change.key for change in changes_of(side.scan.local) if change.flags & INEXACT and not change.deletes]


def _floor_of_first_scan(side: Side) -> int:
    """Return up to which stamp deletes were collected that what a first scan found may be older than; 0 for none."""
    is_first = side.scan is not None and side.scan.is_first
    return max(side.log.manifest.collected.values(), default=0) if is_first else 0


def _found_first(side: Side, other: Side, now_ms: int) -> list[Change]:
    """Return the values that a first scan found at an unknown time, and of which the other side logs nothing.

    They are taken from the log: a run that was cut off may have logged them, and told nobody.
    """
    known = other.log.manifest.cover
    return [
        change
        for change in _without_match(side, other)
        if change.origin == side.origin
        and change.flags & INEXACT
        and not (change.deletes or change.expired(now_ms) or known.covers(*change.dot))
    ]


def _unmatched(side: Side, other: Side, floor: int, now_ms: int) -> _Unmatched:
    """Sort the changes of a side of which the other logs nothing."""
    unmatched = _Unmatched([], [], [])
    known = other.log.manifest.cover
    for change in _without_match(side, other):
        leaves_nothing = change.deletes or change.expired(now_ms)
        is_known = known.covers(*change.dot)
        if not is_known and change.stamp <= floor:
            unmatched.anew.append(change)
        if not leaves_nothing:
            (unmatched.deleted if is_known else unmatched.unsure).append(change)
    return unmatched


def _without_match(side: Side, other: Side) -> Iterator[Change]:
    log = Segment.merge(other.log.all_segments())
    own = Segment.merge(side.log.all_segments())
    changes = list(changes_of(own))
    for change, match in zip(changes, log.find([change.key for change in changes]), strict=True):
        if match is None:
            yield change


def _delete_of(change: Change) -> Change:
    """Return a delete of what a change put; when it was made is not known."""
    return Change(change.key, 0, 0, TOMBSTONE | INEXACT, 0, NO_DIGEST)


def _log_anew(side: Side, changes: Sequence[Change], other: Side, environment: Environment) -> None:
    """Log changes as ones that are made now, and whose outcome the side holds already; what is missing stays so."""
    if not changes:
        return
    stamp = max(side.log.manifest.clock, other.log.manifest.clock)
    rows = []
    for change in sorted(changes, key=lambda change: change.key):
        stamp = stamp_after(environment.now_ms(), stamp)
        rows.append(change._replace(origin=side.origin, stamp=stamp))
    with transaction(side):
        ensure_leased(side)
        log_local(side, Segment.from_rows(rows), restamped=True)
