"""Forget a peer that does not come back, so that no delete waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.environment import utc
from kvsync.errors import UsageError
from kvsync.replica.peers import FORGOTTEN, id_text
from kvsync.run.lock import Settled, ensure_leased, lock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kvsync.environment import Environment
    from kvsync.options import Options
    from kvsync.replica.peers import Peer
    from kvsync.storages.contract import Storage

__all__ = ["forget"]

NAMED_MAX = 8
"""An error names at most so many peers."""


def forget(storage: Storage, peer: str, options: Options, environment: Environment) -> str:
    """Note that a peer does not come back; return its id.

    Raises:
        UsageError: there is no such peer, or more than one.
    """
    with lock((storage,), options, environment) as sides:
        assert not isinstance(sides, Settled)  # noqa: S101 - only a run that may find both sides equal gets that
        (side,) = sides
        manifest = side.log.manifest
        replica = _chosen(manifest.peers, peer, storage.name)
        if manifest.gone.get(replica) != FORGOTTEN:
            ensure_leased(side)
            side.log.forget(replica)
    return id_text(replica)


def _chosen(peers: Mapping[int, Peer], wanted: str, storage: str) -> int:
    """Return the peer of an id, of the beginning of one, or of a name."""
    found = [replica for replica, peer in peers.items() if _is_meant(replica, peer, wanted)]
    if len(found) == 1:
        return found[0]
    if found:
        message = f"{len(found)} peers are called {wanted!r}: {_named(peers, found)}; give the id of one"
    elif peers:
        message = f"no peer is called {wanted!r}; known are {_named(peers, list(peers))}"
    else:
        message = f"no peer is called {wanted!r}; this storage knows none"
    raise UsageError(message, storage=storage)


def _is_meant(replica: int, peer: Peer, wanted: str) -> bool:
    return bool(wanted) and (id_text(replica).startswith(wanted.lower()) or peer.name == wanted)


def _named(peers: Mapping[int, Peer], replicas: list[int]) -> str:
    """Return peers in words, those that were seen last first."""
    replicas = sorted(replicas, key=lambda replica: -peers[replica].seen)
    named = [
        f"{id_text(replica)} ({peers[replica].name}, seen {utc(peers[replica].seen_seconds)})"
        for replica in replicas[:NAMED_MAX]
    ]
    more = len(replicas) - len(named)
    return ", ".join(named) + (f" and {more:,} more" if more else "")
