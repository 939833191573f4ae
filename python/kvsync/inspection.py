"""Looking without touching: status, log, verify."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kvsync.environment import Environment
from kvsync.index.lost import LOST_PREFIX, LostValue
from kvsync.lease import read_record
from kvsync.measuring import Measured, measured
from kvsync.native import Segment
from kvsync.replica import Replica, changes_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kvsync.lease import LeaseRecord
    from kvsync.storages.base import Storage
    from kvsync.types import Change

__all__ = ["Status", "Verification", "log", "lost", "status", "verify"]


@dataclass(frozen=True, slots=True)
class Status:
    """What kvsync knows of a storage.

    Attributes:
        replica: its id, or None where kvsync has never been.
        vector: {origin: greatest stamp known}.
        changes, segments, index_bytes: size of the log.
        missing: {key: why its newest value is not held}.
        peers: ids of known peers.
        lease: who holds it, or how it was left; None when it is free.
        guarantee: tier of what this storage can do, "T1" to "T4".
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
    guarantee: str


@dataclass(slots=True)
class Verification:
    """How two storages compare, value by value.

    Attributes:
        same: how many keys hold the same value on both sides.
        only_source, only_target, different: keys that do not.
        unreadable: keys whose value cannot be read on one side or both.
        unlogged: {storage: keys whose value is not what its own log says}.
    """

    same: int = 0
    only_source: list[str] = field(default_factory=list)
    only_target: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    unlogged: dict[str, list[str]] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether both storages hold the same values under the same keys."""
        return not (self.only_source or self.only_target or self.different or self.unreadable)


def status(storage: Storage) -> Status:
    """Return what kvsync knows of `storage`."""
    manifest = Replica(storage, Environment(), dry=True).manifest
    return Status(
        storage=storage.name,
        replica=manifest.replica if manifest.generation else None,
        generation=manifest.generation,
        vector=manifest.cover.vector,
        changes=sum(entry.length for entry in manifest.segments),
        segments=len(manifest.segments),
        index_bytes=sum(entry.size for entry in manifest.segments),
        missing={lack.change.key: lack.reason for lack in manifest.lacking},
        peers=tuple(manifest.peers or ()),
        lease=read_record(storage),
        guarantee=storage.capabilities.tier,
    )


def log(storage: Storage, key: str | None) -> list[Change]:
    """Return the newest logged changes, oldest first."""
    replica = Replica(storage, Environment(), dry=True)
    if key is not None:
        return [change for change in replica.newest([key]) if change is not None]
    return sorted(changes_of(Segment.merge(replica.everything())), key=lambda change: change.order)


def lost(storage: Storage) -> Iterator[LostValue]:
    """Yield the values that lost a conflict in `storage`, oldest first."""
    for name in storage.objects():
        there = storage.load(name) if name.startswith(LOST_PREFIX) else None
        if there is not None:
            yield LostValue.decode(there.data, name, storage.name)


def verify(source: Storage, target: Storage) -> Verification:
    """Compare the values of two storages, and each with its log."""
    result = Verification()
    one, other = _digests(source), _digests(target)
    for key in sorted(one.keys() | other.keys()):
        if key not in other:
            result.only_source.append(key)
        elif key not in one:
            result.only_target.append(key)
        elif one[key] is None or other[key] is None:
            result.unreadable.append(key)
        elif one[key] != other[key]:
            result.different.append(key)
        else:
            result.same += 1
    for storage, held in ((source, one), (target, other)):
        result.unlogged[storage.name] = _unlogged(storage, held)
    return result


def _digests(storage: Storage) -> dict[str, bytes | None]:
    """Return the digest of every value; None for one that cannot be read."""
    digests: dict[str, bytes | None] = {}
    for keys, _ in storage.scan():
        for key, found in measured(storage, keys):
            if found is not None:
                digests[key] = found.digest if isinstance(found, Measured) else None
    return digests


def _unlogged(storage: Storage, held: Mapping[str, bytes | None]) -> list[str]:
    replica = Replica(storage, Environment(), dry=True)
    missing = {lack.change.key for lack in replica.manifest.lacking}
    logged = {
        change.key: change.digest for change in changes_of(Segment.merge(replica.everything())) if not change.deletes
    }
    return sorted(k for k in (held.keys() | logged.keys()) - missing if held.get(k) != logged.get(k))
