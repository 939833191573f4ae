"""Peers: the replicas that one knows of, and how far each of them is known to know every history.

Also those that only peers have met: whoever holds two lives against each other, or collects deletes, has to reckon with
all of them.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kvsync.replica.points import Point

__all__ = [
    "FORGOTTEN",
    "REPLACED",
    "STRUCK",
    "Peer",
    "id_text",
    "merged_gone",
    "merged_peers",
    "points_of_peers",
    "struck",
]

REPLACED: Final = 1
"""Why an id is gone: its storage goes by a fresh one."""

FORGOTTEN: Final = 2
"""Why an id is gone: somebody said that its storage does not come back."""

STRUCK: Final = 3
"""Why an id is gone: another one was met in its place, so a restore or a copy has undone it."""

STAMP_MS_SHIFT = 16


class Peer(NamedTuple):
    """What is known of another replica.

    Attributes:
        name: of its storage, as it was named in the run that met it; for people.
        seen: the stamp at which that was so.
        entries: {origin: point} up to which it knew each history then.
        offered: {origin: point} up to which it may know others since: a run was about to tell it.
        place: random, and the same through all ids that a storage takes; 0 where it is not known.
    """

    name: str
    seen: int
    entries: Mapping[int, Point]
    offered: Mapping[int, Point] = MappingProxyType({})
    place: int = 0

    @property
    def seen_seconds(self) -> float:
        """When it was seen, by the newest change that was known then; wall-clock seconds."""
        return (self.seen >> STAMP_MS_SHIFT) / 1000


def id_text(replica: int) -> str:
    """Return a replica's id as it is printed.

    >>> id_text(255)
    '00000000000000ff'
    """
    return f"{replica:016x}"


def merged_gone(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    """Return why ids are gone, by what two replicas know: the first reason in the order above counts."""
    if not other:
        return dict(one)
    return {replica: min(gone.get(replica, STRUCK) for gone in (one, other)) for replica in sorted({*one, *other})}


def merged_peers(own: Mapping[int, Peer], others: Mapping[int, Peer], gone: Mapping[int, int]) -> dict[int, Peer]:
    """Return the peers of `own` and of `others`, each as it was seen last, without those that were replaced or struck.

    Forgotten ones stay, since they may come back: then points prove what they know.
    """
    peers = dict(own)
    for replica, peer in others.items():
        if replica not in peers or peers[replica].seen <= peer.seen:
            peers[replica] = peer
    return {replica: peer for replica, peer in sorted(peers.items()) if gone.get(replica, FORGOTTEN) == FORGOTTEN}


def struck(peers: Mapping[int, Peer], replica: int, place: int) -> dict[int, int]:
    """Return other ids in the place of a replica that is alive, with why they are gone: they are former ones of it.

    A storage that is restored takes a fresh id. Restored once more, it knows nothing of that one, and nobody goes by it
    any more.
    """
    return {other: STRUCK for other, peer in peers.items() if place and other != replica and peer.place == place}


def points_of_peers(peers: Mapping[int, Peer]) -> Callable[[int], set[Point]]:
    """Return who tells the points of an origin at which peers may stand; all entries are looked at once, if at all."""
    points: dict[int, set[Point]] = {}

    def of(origin: int) -> set[Point]:
        if not points:
            for peer in peers.values():
                for entries in (peer.entries, peer.offered):
                    for each, point in entries.items():
                        points.setdefault(each, set()).add(point)
        return points.get(origin, set())

    return of
