"""One change under two names: what a branch renamed here may be known by its first name there.

Who takes such a change for news would move a value that is there already, and two pairs of replicas could give each
other both names for ever. So both sides take the greater name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvsync.native import Segment
from kvsync.replica.points import is_branch
from kvsync.replica.segments import changes_of

if TYPE_CHECKING:
    from kvsync.run.side import Pair, Side
    from kvsync.types import Change

__all__ = ["Names", "shared_names"]


class Names(NamedTuple):
    """What one side gets of changes that the other side holds, too.

    Attributes:
        news: what it misses.
        greater: changes that it holds under a lesser name, and only has to log.
    """

    news: Segment
    greater: Segment


def shared_names(pair: Pair, to_source: Segment, to_target: Segment) -> tuple[Names, Names]:
    """Tell news from changes that a side holds already, for source and target; branches alone have such."""
    source, target = pair.sides
    entries = {**source.log.manifest.history.entries, **target.log.manifest.history.entries}
    newest = max((point.stamp for origin, point in entries.items() if is_branch(origin)), default=0)
    nothing = Segment.from_rows([])
    if not newest:
        return Names(to_source, nothing), Names(to_target, nothing)
    at_source, known_source, kept_source = _known(source, to_source, newest)
    at_target, known_target, kept_target = _known(target, to_target, newest)
    return (
        Names(to_source.without(known_source), Segment.from_rows([*at_source, *kept_target])),
        Names(to_target.without(known_target), Segment.from_rows([*at_target, *kept_source])),
    )


def _known(side: Side, missed: Segment, newest: int) -> tuple[list[Change], list[str], list[Change]]:
    """Return what `side` has to log only, the keys that are no news to it, and what the other side has to log only."""
    candidates = [change for change in changes_of(missed) if change.stamp <= newest]
    here: list[Change] = []
    keys: list[str] = []
    there: list[Change] = []
    for change, own in zip(candidates, side.log.newest([change.key for change in candidates]), strict=True):
        if own is None or (own.order < change.order and not _is_same(own, change)):
            continue
        keys.append(change.key)
        if own.order < change.order:
            here.append(change)
        elif own.origin != change.origin and _is_same(own, change):
            there.append(own)
    return here, keys, there


def _is_same(one: Change, other: Change) -> bool:
    """Whether two changes are one, but for their names."""
    return one._replace(origin=other.origin) == other
