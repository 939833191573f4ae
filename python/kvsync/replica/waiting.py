"""Waiting: which peers keep changes that left nothing in a log, since they are not known to have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvsync.native import Segment
from kvsync.replica.collection import collect, counted, limits, may_pass, stamp_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from kvsync.replica.log import Log
    from kvsync.replica.peers import Peer

__all__ = ["HeldBack", "held_back"]


class HeldBack(NamedTuple):
    """How many changes could go, were it not for one peer: deletes, and values that have expired.

    Attributes:
        total: all that wait for it, perhaps for others as well.
        alone: those that wait for nobody else.
    """

    total: int = 0
    alone: int = 0


def held_back(log: Log, now_ms: int, grace_ms: int) -> dict[int, HeldBack]:
    """Return what each peer that counts holds back of the changes that are older than the grace.

    The log is read only where there is such a peer.
    """
    manifest, before = log.manifest, stamp_of(now_ms - grace_ms)
    peers = counted(manifest)
    found = dict.fromkeys(peers, HeldBack())
    free = limits(manifest, before, ())
    holding = [replica for replica, peer in peers.items() if limits(manifest, before, [peer]) != free]
    if not holding or not may_pass(manifest, free):
        return found
    logged = Segment.merge(log.all_segments())

    def left(among: Collection[Peer]) -> int:
        """Return how many changes stay if only these peers counted."""
        known = limits(manifest, before, among)
        return len(collect(log.storage, manifest, [logged], known, now_ms - grace_ms)[0])

    least, most = left(()), left(peers.values())
    for replica in holding:
        others = [peer for number, peer in peers.items() if number != replica]
        found[replica] = HeldBack(left([peers[replica]]) - least, most - left(others))
    return found
