"""Budgets of a run: what it would delete, overwrite, move and decide, held against what it may, before it writes."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from kvsync.errors import BudgetError
from kvsync.native import Segment
from kvsync.replica.segments import changes_of
from kvsync.storages.wording import first_keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kvsync.native import Delta
    from kvsync.options import Options
    from kvsync.run.conflicts import Verdicts
    from kvsync.run.side import Label, Pair, Side
    from kvsync.scan import Budget
    from kvsync.types import Change

__all__ = ["check_budgets"]

BATCH_COUNT = 4096


class _Touched(NamedTuple):
    """What a run would do to the values of one side.

    Attributes:
        side: which one.
        deleted: keys whose value would go.
        overwritten: keys whose value another one would replace.
        moved_bytes: size of the values that it would get.
    """

    side: Side
    deleted: list[str]
    overwritten: list[str]
    moved_bytes: int


def check_budgets(pair: Pair, found: Delta, verdicts: Verdicts, options: Options) -> None:
    """Stop a run that would do more than it may, before it decides or moves anything.

    Raises:
        BudgetError: it would.
    """
    if options.limits.max_conflicts is not None:
        _check_conflicts(pair, verdicts, options.limits.max_conflicts)
    if options.limits.counts_values:
        touched = [_touched(side, incoming) for side, incoming in _incoming(pair, found, verdicts) if side.takes]
        for each in touched:
            _check_values(each, options)
        _check_bytes(touched, options)
    if verdicts.overturned:
        _check_mirror(pair, verdicts.overturned, options.budget)


def _incoming(pair: Pair, found: Delta, verdicts: Verdicts) -> Iterator[tuple[Side, Iterator[Change]]]:
    """Yield each side with the changes that it would get."""
    won: dict[Label, list[Change]] = {"source": [], "target": []}
    for conflict, verdict in verdicts.decided:
        if verdict.side is not None:
            won[verdict.side].append(conflict.source if verdict.side == "source" else conflict.target)
    yield pair.source, _chained(found.to_a, won["target"])
    yield pair.target, _chained(found.to_b, won["source"])


def _chained(segment: Segment, more: Sequence[Change]) -> Iterator[Change]:
    """Yield changes, of each key one."""
    won = {change.key for change in more}
    yield from (change for change in changes_of(segment) if change.key not in won)
    yield from more


def _touched(side: Side, incoming: Iterable[Change]) -> _Touched:
    touched, moved_bytes = _Touched(side, [], [], 0), 0
    rest = iter(incoming)
    while batch := list(islice(rest, BATCH_COUNT)):
        if side.keys_filter is not None:
            left_out = side.keys_filter.excluded([change.key for change in batch])
            batch = [change for change in batch if change.key not in left_out]
        for change, own in zip(batch, side.log.newest([change.key for change in batch]), strict=True):
            moved_bytes += 0 if change.deletes else change.size
            if own is not None and not own.deletes and own.outcome != change.outcome:
                (touched.deleted if change.deletes else touched.overwritten).append(change.key)
    return _Touched(side, sorted(touched.deleted), sorted(touched.overwritten), moved_bytes)


def _check_conflicts(pair: Pair, verdicts: Verdicts, budget: Budget) -> None:
    keys = [conflict.key for conflict, _ in verdicts.decided if conflict.key not in verdicts.overturned]
    if keys and not _allows(budget, len(keys), pair.target):
        message = f"both sides changed {len(keys)} keys, more than max_conflicts allows: {first_keys(keys)}"
        raise BudgetError(
            message, storage=pair.target.storage.name, overwritten=keys, option="max_conflicts", allow=str(len(keys))
        )


def _check_values(touched: _Touched, options: Options) -> None:
    name, limits = touched.side.storage.name, options.limits
    if limits.max_delete is not None and not _allows(limits.max_delete, len(touched.deleted), touched.side):
        keys = touched.deleted
        message = f"{len(keys)} keys would be deleted, more than max_delete allows: {first_keys(keys)}"
        raise BudgetError(message, storage=name, deleted=keys)
    if limits.max_overwrite is not None and not _allows(limits.max_overwrite, len(touched.overwritten), touched.side):
        keys = touched.overwritten
        message = f"{len(keys)} values would be overwritten, more than max_overwrite allows: {first_keys(keys)}"
        raise BudgetError(message, storage=name, overwritten=keys, option="max_overwrite", allow=str(len(keys)))


def _check_bytes(touched: Sequence[_Touched], options: Options) -> None:
    moved, limit = sum(each.moved_bytes for each in touched), options.limits.max_bytes
    if limit is not None and moved > limit:
        message = f"{moved:,} bytes would be moved, more than max_bytes allows ({limit:,})"
        raise BudgetError(message, storage=touched[0].side.storage.name, option="max_bytes", allow=str(moved))


def _check_mirror(pair: Pair, overturned: Iterable[str], budget: Budget) -> None:
    """Stop a mirror that would overwrite or delete too much of what only the target has, or all that is there."""
    target = pair.target
    found = list(overturned)
    newest = zip(found, target.log.newest(found), strict=True)
    keys = [key for key, own in newest if own is not None and not own.deletes]
    if not keys or budget.everything:
        return
    known, name = _count(target), target.storage.name
    if not _count(pair.source):
        gone = "the only key" if known == 1 else f"all {known} keys"
        message = (
            f"the source holds nothing, so the mirror would delete {gone} of the target. If that is intended, allow it "
            "with max_delete='100%'. If not, check that the right storage is mounted and named"
        )
        raise BudgetError(message, storage=name, deleted=keys, known=known, emptied=True)
    if budget.allows(len(keys), known):
        return
    message = (
        f"the mirror would overwrite or delete {len(keys)} of {known} keys that the source does not know, more than "
        f"max_delete allows: {first_keys(keys)}"
    )
    raise BudgetError(message, storage=name, overwritten=keys, known=known)


def _allows(budget: Budget, count: int, side: Side) -> bool:
    return count == 0 or budget.everything or budget.allows(count, 0 if budget.count is not None else _count(side))


def _count(side: Side) -> int:
    """Return how many values a side holds, by its log."""
    log = Segment.merge(side.log.all_segments())
    missing = sum(not (entry.change.deletes or entry.held) for entry in side.log.manifest.knowledge.missing)
    return max(0, len(log) - len(log.deletes(0, len(log))) - missing)
