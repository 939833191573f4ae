"""Signs that a storage's history is not what it was: restored, cloned, or written to in a life that it forgot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.index.lineage import certain_below

if TYPE_CHECKING:
    from kvsync.index.manifest import Manifest
    from kvsync.replica import Replica

__all__ = ["differ", "forked", "knows_more"]


def differ(one: Manifest, other: Manifest) -> bool:
    """Whether two logs that claim to know the same are known to differ."""
    known = one.digest is not None and other.digest is not None
    return known and one.cover == other.cover and one.digest != other.digest


def knows_more(other: Manifest, one: Manifest) -> bool:
    """Whether `other` claims more of `one`'s own history than `one` has."""
    mine = one.replica
    if other.cover.vector.get(mine, 0) > one.cover.vector.get(mine, 0):
        return True
    dots = [(mine, last) for origin, _, last in other.cover.ahead if origin == mine]
    return not all(one.cover.covers(origin, stamp) for origin, stamp in dots)


def forked(other: Replica, one: Replica) -> bool:
    """Whether `other` met `one` in a life that this storage does not remember (see `kvsync.index.lineage`)."""
    mine = one.manifest.replica
    claimed = other.manifest.cover.vector.get(mine, 0)
    if not claimed or claimed == one.manifest.cover.vector.get(mine, 0):
        return False
    certain = certain_below(one.manifest.points, claimed)
    if certain is None:
        return False
    theirs, own = other.logged_by(mine, certain, claimed), one.logged_by(mine, certain, claimed)
    return one.lacks_any(theirs) or other.lacks_any(own)
