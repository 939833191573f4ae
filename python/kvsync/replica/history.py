"""A replica's own history: its checkpoints, and the signs that it is not what peers remember.

A *checkpoint* is a stamp at which this replica's manifest stood. Whoever met this replica knows it up to one of them. A
peer that claims anything else remembers a life that this storage does not: it was restored from a backup, or is a copy,
and was written to before it met anybody. Its newest stamp is then later than what is claimed, so version vectors alone
do not show it.

Checkpoints are numbered from 1. The newest are all kept; of older ones, every other one goes each time they are twice
as old, so their number grows with the logarithm of the history. A claim may therefore also name a checkpoint that was
dropped. What lies between the last kept checkpoint before it and the claim is then compared, which is about as much as
happened since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from kvsync.replica.segments import changes_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from kvsync.index.manifest import Manifest
    from kvsync.replica.log import Log
    from kvsync.types import Change

__all__ = ["Checkpoints", "certain_below", "digests_differ", "extended", "is_forked", "is_rolled_back"]

Checkpoints: TypeAlias = "tuple[tuple[int, int], ...]"
"""(number, stamp), ascending."""

EXACT_COUNT: Final = 32
"""How many of the newest checkpoints are all kept; of older ones, about four each time they are twice as old."""


def digests_differ(one: Manifest, other: Manifest) -> bool:
    """Whether two logs that claim to know the same changes are known to differ."""
    both_known = one.digest is not None and other.digest is not None
    return both_known and one.cover == other.cover and one.digest != other.digest


def is_rolled_back(one: Manifest, other: Manifest) -> bool:
    """Whether `other` claims more of `one`'s own history than `one` has."""
    own = one.replica
    if other.cover.vector.get(own, 0) > one.cover.vector.get(own, 0):
        return True
    exceptions = [(own, last) for origin, _, last in other.cover.exceptions if origin == own]
    return not all(one.cover.covers(origin, stamp) for origin, stamp in exceptions)


def is_forked(one: Log, other: Log) -> bool:
    """Whether `other` met `one` in a life that this storage does not remember.

    Raises:
        IndexDamagedError: a segment that has to be compared fails its checks.
    """
    own = one.manifest.replica
    claimed = other.manifest.cover.vector.get(own, 0)
    if not claimed or claimed == one.manifest.cover.vector.get(own, 0):
        return False
    certain = certain_below(one.manifest.checkpoints, claimed)
    if certain is None:
        return False
    claimed_changes = _changes_between(other, own, certain, claimed)
    own_changes = _changes_between(one, own, certain, claimed)
    return _lacks_any(one, claimed_changes) or _lacks_any(other, own_changes)


def extended(checkpoints: Checkpoints, stamp: int, met: Collection[int] = ()) -> Checkpoints:
    """Return `checkpoints` with one more, thinned out; the same where `stamp` is not beyond them.

    Those whose stamps are in `met` stay: peers are known to know this replica up to there.

    >>> extended(((1, 10), (2, 20)), 30)
    ((1, 10), (2, 20), (3, 30))
    """
    number, last = checkpoints[-1] if checkpoints else (0, 0)
    if stamp <= last:
        return checkpoints
    newest = number + 1
    exact = next((i for i, (number, _) in enumerate(checkpoints) if newest - number < EXACT_COUNT), len(checkpoints))
    older = [point for point in checkpoints[:exact] if point[1] in met or _is_kept(newest - point[0], point[0])]
    return (*older, *checkpoints[exact:], (newest, stamp))


def certain_below(checkpoints: Checkpoints, claimed: int) -> int | None:
    """Return the stamp of the last kept checkpoint before `claimed` (0: none), or None where `claimed` is one itself.

    >>> certain_below(((1, 10), (2, 20)), 20), certain_below(((1, 10), (2, 20)), 15), certain_below((), 5)
    (None, 10, 0)
    """
    stamps: Sequence[int] = [stamp for _, stamp in checkpoints]
    if claimed in stamps:
        return None
    return max((stamp for stamp in stamps if stamp < claimed), default=0)


def _changes_between(log: Log, origin: int, after: int, until: int) -> list[Change]:
    """Return the logged changes of `origin` with stamps after `after` and up to `until`.

    Of several changes of one key in a segment only the newest is logged there.
    """
    entries = [entry for entry in log.manifest.segments if dict(entry.maxima).get(origin, 0) > after]
    changes = (change for segment in log.segments(entries) for change in changes_of(segment))
    return [change for change in changes if change.origin == origin and after < change.stamp <= until]


def _lacks_any(log: Log, changes: Sequence[Change]) -> bool:
    """Whether one of `changes` is neither logged nor beaten."""
    newest = log.newest([change.key for change in changes]) if changes else []
    return any(own is None or own.order < change.order for change, own in zip(changes, newest, strict=True))


def _is_kept(age: int, number: int) -> bool:
    """Whether an older checkpoint is kept: its number is divisible by a power of two that grows with its age."""
    return number % (1 << ((age // 4).bit_length() - 1)) == 0
