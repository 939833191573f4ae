"""Read-only views of a storage: status and log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvsync.environment import Environment
from kvsync.native import Segment
from kvsync.replica.log import Log
from kvsync.replica.segments import changes_of
from kvsync.run.holder import read_lease

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kvsync.lease import LeaseRecord
    from kvsync.storages.contract import Storage, Tier
    from kvsync.types import Change

__all__ = ["Status", "log", "status"]


@dataclass(frozen=True, slots=True)
class Status:
    """What kvsync knows about a storage.

    Attributes:
        replica: its id, or None if kvsync has never written to it.
        vector: {origin: greatest stamp known}.
        changes, segments, index_bytes: the size of the log.
        missing: {key: why its newest value is not held}.
        peers: ids of known peers.
        lease: who holds the lease, or how its last holder left it; None if it is free.
        guarantee: the tier of this storage, "T1" to "T4".
    """

    storage: str
    replica: int | None
    generation: int
    vector: Mapping[int, int]
    changes: int
    segments: int
    index_bytes: int
    missing: Mapping[str, str]
    peers: tuple[int, ...]
    lease: LeaseRecord | None
    guarantee: Tier


def status(storage: Storage) -> Status:
    """Return what kvsync knows about `storage`."""
    manifest = Log.read(storage, Environment(), dry=True).manifest
    return Status(
        storage=storage.name,
        replica=manifest.replica if manifest.generation else None,
        generation=manifest.generation,
        vector=manifest.cover.vector,
        changes=sum(entry.length for entry in manifest.segments),
        segments=len(manifest.segments),
        index_bytes=sum(entry.size for entry in manifest.segments),
        missing={entry.change.key: entry.reason for entry in manifest.knowledge.missing},
        peers=tuple(manifest.peers),
        lease=read_lease(storage),
        guarantee=storage.capabilities.tier,
    )


def log(storage: Storage, key: str | None) -> list[Change]:
    """Return the newest logged change of each key, or of one key, oldest first."""
    logged = Log.read(storage, Environment(), dry=True)
    if key is not None:
        return [change for change in logged.newest([key]) if change is not None]
    return sorted(changes_of(Segment.merge(logged.all_segments())), key=lambda change: change.order)
