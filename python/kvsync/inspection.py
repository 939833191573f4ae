"""Read-only views of a storage: status, peers and log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from kvsync.environment import Environment
from kvsync.native import Segment
from kvsync.replica.log import Log
from kvsync.replica.peers import id_text
from kvsync.replica.segments import changes_of
from kvsync.replica.unleased import look
from kvsync.replica.waiting import HeldBack, held_back
from kvsync.run import steps
from kvsync.run.holder import read_lease
from kvsync.storages.journal import has_journal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kvsync.lease import LeaseRecord
    from kvsync.options import Options
    from kvsync.storages.contract import Storage, Tier
    from kvsync.storages.journal import Journal
    from kvsync.types import Change

__all__ = ["KnownPeer", "Lag", "Status", "lag", "log", "names", "peers", "status"]

NOTED_MAX = 1_000_000
"""The changed keys of a journal are counted up to so many."""


@dataclass(frozen=True, slots=True)
class KnownPeer:
    """Another storage that one knows of: it has been synced with it, or with one that knows of it.

    Attributes:
        id: of its replica, as text.
        name: of the storage, as it was named in the run that met it.
        seen: when it was seen last, by the newest change that was known then; wall-clock seconds.
        forgotten: somebody said that it does not come back, so nothing waits for it (`kvsync.forget`).
        holds_back: how many deletes and expired values stay logged since it is not known to have them.
        alone: how many of these wait for nobody else.
    """

    id: str
    name: str
    seen: float
    forgotten: bool = False
    holds_back: int = 0
    alone: int = 0


class Lag(NamedTuple):
    """What a storage and a peer do not have of each other yet, by their logs; no storage is scanned.

    Attributes:
        to_peer: how many changes the peer lacks.
        to_storage: how many the storage lacks.
        seconds: how old the oldest of them is; None where there is none whose time is known exactly.
    """

    to_peer: int
    to_storage: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Status:
    """What kvsync knows about a storage.

    Attributes:
        replica: its id, or None if kvsync has never written to it.
        vector: {origin: greatest stamp known}.
        changes, segments, index_bytes: the size of the log.
        missing: {key: why its newest value is not held}.
        peers: ids of known peers.
        names: {id: name} of the storage itself and of its peers, as runs named them.
        held_back_by: the peers that deletes and expired values wait for, the one that most wait for first.
        lease: who holds the lease, or how its last holder left it; None if it is free.
        guarantee: the tier of this storage, "T1" to "T4".
        lag: what it and the peer that was asked about lack of each other; None where no peer was.
        can_be_tracked: its database could note what is changed.
        journal: what was noted since the last scan; None if it is not tracked.
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
    names: Mapping[int, str]
    held_back_by: tuple[KnownPeer, ...]
    lease: LeaseRecord | None
    guarantee: Tier
    lag: Lag | None = None
    can_be_tracked: bool = False
    journal: Journal | None = None


def peers(storage: Storage, grace_ms: int, environment: Environment) -> list[KnownPeer]:
    """Return the peers that a storage knows of, the one that was seen last first."""
    return look([storage], lambda: _peers(Log.read(storage, environment, dry=True), grace_ms))


def _peers(log: Log, grace_ms: int) -> list[KnownPeer]:
    manifest = log.manifest
    held = held_back(log, log.environment.now_ms(), grace_ms)
    found = (
        KnownPeer(
            id_text(replica),
            peer.name,
            peer.seen_seconds,
            replica in manifest.gone,
            *held.get(replica, HeldBack()),
        )
        for replica, peer in manifest.peers.items()
    )
    return sorted(found, key=lambda peer: (-peer.seen, peer.id))


def status(storage: Storage, grace_ms: int, environment: Environment) -> Status:
    """Return what kvsync knows about `storage`."""
    return look([storage], lambda: _status(storage, grace_ms, environment))


def _status(storage: Storage, grace_ms: int, environment: Environment) -> Status:
    log = Log.read(storage, environment, dry=True)
    manifest = log.manifest
    holding = [peer for peer in _peers(log, grace_ms) if peer.holds_back]
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
        names=_names(log),
        held_back_by=tuple(sorted(holding, key=lambda peer: (-peer.holds_back, peer.seen, peer.id))),
        lease=read_lease(storage),
        guarantee=storage.capabilities.tier,
        can_be_tracked=has_journal(storage),
        journal=storage.journal(NOTED_MAX) if has_journal(storage) else None,
    )


def lag(storage: Storage, peer: Storage, options: Options, environment: Environment) -> Lag:
    """Return what two storages lack of each other, by their logs.

    Raises:
        SameStorageError: the two are one, or exact copies.
    """
    found = steps.preview(storage, peer, (), options, environment)
    return Lag(len(found.to_target), len(found.to_source), found.result.lag_seconds)


def names(storage: Storage) -> dict[int, str]:
    """Return {id: name} of a storage and of its peers, as runs named them."""
    return look([storage], lambda: _names(Log.read(storage, Environment(), dry=True)))


def _names(log: Log) -> dict[int, str]:
    manifest = log.manifest
    own = {manifest.replica: log.storage.name} if manifest.generation else {}
    return own | {replica: peer.name for replica, peer in manifest.peers.items()}


def log(storage: Storage, key: str | None) -> list[Change]:
    """Return the newest logged change of each key, or of one key, oldest first."""
    return look([storage], lambda: _log(storage, key))


def _log(storage: Storage, key: str | None) -> list[Change]:
    logged = Log.read(storage, Environment(), dry=True)
    if key is not None:
        return [change for change in logged.newest([key]) if change is not None]
    return sorted(changes_of(Segment.merge(logged.all_segments())), key=lambda change: change.order)
