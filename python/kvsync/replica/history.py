"""Signs that a replica's history is not what its peers remember: it was restored, or copied and used since.

A peer knows a replica up to one of its checkpoints (`kvsync.replica.checkpoints`). A peer that claims anything else
remembers a life that this storage does not. Its newest stamp may be later than what is claimed, so version vectors
alone do not show it. Where the claim may name a checkpoint that was dropped, what lies between the last kept one before
it and the claim is compared, which is about as much as happened since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.replica.checkpoints import certain_below
from kvsync.replica.segments import changes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.index.manifest import Manifest
    from kvsync.replica.log import Log
    from kvsync.types import Change

__all__ = ["digests_differ", "is_forked", "is_rolled_back"]


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
