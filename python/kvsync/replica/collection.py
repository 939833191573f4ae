"""Collection: a log forgets changes that left nothing, once all who might bring back what they removed know them.

What was collected leaves its mark: `collected` has, by origin, the greatest stamp of the changes that went. A replica
that knows less than that is below the floor (`kvsync.run.floor`): it may hold what was deleted, and nothing in the log
says so any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvsync.native import Segment
from kvsync.replica.points import has_point
from kvsync.storages.contract import has_expiry

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from kvsync.index.manifest import Manifest
    from kvsync.replica.peers import Peer
    from kvsync.storages.contract import Storage

__all__ = ["collect", "counted", "floor_above", "is_due", "limits", "may_pass", "merged_floor", "ms_of", "stamp_of"]

SMALL_BYTES_MAX: Final = 32 << 10
"""A log of up to this size is searched in every run that could find something."""

PASSING_SHARE: Final = 32
"""A larger log is searched once at least one change in so many could go some day."""

SEARCHES_PER_GRACE: Final = 32
"""How often a larger log is searched within the grace, so that each change is rewritten a bounded number of times."""

SEARCH_MS_MIN: Final = 60_000
"""The least time between two searches of a larger log."""

STAMP_MS_SHIFT = 16


def stamp_of(time_ms: int) -> int:
    """Return the stamp that no change has that was made before a time."""
    return max(time_ms, 0) << STAMP_MS_SHIFT


def ms_of(stamp: int) -> int:
    """Return the time in a stamp, in wall-clock milliseconds."""
    return stamp >> STAMP_MS_SHIFT


def counted(manifest: Manifest) -> dict[int, Peer]:
    """Return the peers that deletes wait for: all that are known, also through others, but for those that are gone."""
    return {replica: peer for replica, peer in manifest.peers.items() if replica not in manifest.gone}


def limits(manifest: Manifest, before: int, peers: Collection[Peer] | None = None) -> dict[int, int]:
    """Return {origin: stamp} up to which `peers` are known to know each history, and before which it may go.

    None means all that count. What a peer knows counts only where a point proves that it knows the same life.
    """
    known_by = [peer.entries for peer in (counted(manifest).values() if peers is None else peers)]
    chains = manifest.history.chains
    known = {origin: min(chain[-1].stamp, before - 1) for origin, chain in chains.items()}
    proofs = dict.fromkeys(chains, 0)
    for entries in known_by:
        for origin, point in entries.items():
            if has_point(chains.get(origin, ()), point):
                proofs[origin] += 1
                known[origin] = min(known[origin], point.stamp)
    return {origin: stamp for origin, stamp in known.items() if proofs[origin] == len(known_by)}


def may_pass(manifest: Manifest, known: Mapping[int, int]) -> bool:
    """Whether segments may hold changes that can go; `known` are the limits."""
    return any(stamp <= known.get(origin, -1) for entry in manifest.segments for origin, stamp in entry.passing)


def is_due(manifest: Manifest, known: dict[int, int], now_ms: int, grace_ms: int) -> bool:
    """Whether to search a log for changes that can go; `known` are the limits."""
    passing = sum(entry.passing_length for entry in manifest.segments)
    if not may_pass(manifest, known):
        return False
    if sum(entry.size for entry in manifest.segments) <= SMALL_BYTES_MAX:
        return True
    rested = now_ms - manifest.collected_ms >= max(grace_ms // SEARCHES_PER_GRACE, SEARCH_MS_MIN)
    return rested and passing * PASSING_SHARE >= sum(entry.length for entry in manifest.segments)


def collect(
    storage: Storage, manifest: Manifest, segments: Sequence[Segment], known: dict[int, int], expired_ms: int
) -> tuple[Segment, dict[int, int]]:
    """Return the whole log as one segment without what can go, and the floor that this makes.

    What is missing or unreconciled stays: what its key holds is not what the log says. So do values that have expired
    where the storage keeps them all the same.
    """
    knowledge = manifest.knowledge
    keep = [*(entry.change.key for entry in knowledge.missing), *(change.key for change in knowledge.unreconciled)]
    expired_ms = expired_ms if has_expiry(storage) else 0
    segment, collected = Segment.merge(list(segments)).collected(known, max(expired_ms, 0), keep)
    return segment, merged_floor(manifest.collected, collected)


def merged_floor(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    """Return the greater stamp of each origin."""
    if not other:
        return dict(one)
    return {origin: max(one.get(origin, 0), other.get(origin, 0)) for origin in sorted({*one, *other})}


def floor_above(one: Manifest, other: Manifest) -> int:
    """Return the greatest stamp that `other` has collected and `one` cannot be shown to have known; 0 for none."""
    entries = one.history.entries
    return max(
        (
            stamp
            for origin, stamp in other.collected.items()
            if one.collected.get(origin, 0) < stamp and (origin not in entries or entries[origin].stamp < stamp)
        ),
        default=0,
    )
