"""Read-only views of a storage: status, log, lost values, verify."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kvsync.digesting import Digested, digests
from kvsync.environment import Environment
from kvsync.expiry import CLOCK_SKEW_MS
from kvsync.index.lost import LOST_PREFIX, LostValue
from kvsync.native import Segment
from kvsync.replica.log import Log
from kvsync.replica.segments import changes_of
from kvsync.run.holder import read_lease

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kvsync.lease import LeaseRecord
    from kvsync.storages.contract import Storage, Tier
    from kvsync.types import Change

__all__ = ["Status", "Verification", "log", "lost", "status", "verify"]


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


@dataclass(slots=True)
class Verification:
    """How two storages compare, value by value.

    Attributes:
        same: how many keys have the same value on both sides.
        only_source, only_target, different: keys that have not.
        unreadable: keys whose value cannot be read on one side or both.
        expired: keys whose newest value has expired, but is still stored on one side, which does not support expiry.
        unlogged: {storage: keys whose value is not the one in its log}.
    """

    same: int = 0
    only_source: list[str] = field(default_factory=list)
    only_target: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    expired: list[str] = field(default_factory=list)
    unlogged: dict[str, list[str]] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether both storages hold the same values under the same keys."""
        return not (self.only_source or self.only_target or self.different or self.unreadable)


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
        peers=tuple(manifest.peers or ()),
        lease=read_lease(storage),
        guarantee=storage.capabilities.tier,
    )


def log(storage: Storage, key: str | None) -> list[Change]:
    """Return the newest logged change of each key, or of one key, oldest first."""
    logged = Log.read(storage, Environment(), dry=True)
    if key is not None:
        return [change for change in logged.newest([key]) if change is not None]
    return sorted(changes_of(Segment.merge(logged.all_segments())), key=lambda change: change.order)


def lost(storage: Storage) -> Iterator[LostValue]:
    """Yield the values that lost a conflict in `storage`, oldest first."""
    for name in storage.objects():
        there = storage.load(name) if name.startswith(LOST_PREFIX) else None
        if there is not None:
            yield LostValue.decode(there.data, name, storage.name)


def verify(source: Storage, target: Storage, environment: Environment) -> Verification:
    """Compare the values of two storages, and each with its log."""
    result = Verification()
    one, other = _digests(source), _digests(target)
    logs = _Logged.of(source), _Logged.of(target)
    now_ms = environment.now_ms() + CLOCK_SKEW_MS
    expired = _Logged(Segment.merge([log.newest for log in logs])).expired(now_ms)
    for key in sorted(one.keys() | other.keys()):
        if (key in one) != (key in other) and key in expired and expired[key] == one.get(key, other.get(key)):
            result.expired.append(key)
        elif key not in other:
            result.only_source.append(key)
        elif key not in one:
            result.only_target.append(key)
        elif one[key] is None or other[key] is None:
            result.unreadable.append(key)
        elif one[key] != other[key]:
            result.different.append(key)
        else:
            result.same += 1
    for storage, held, log_ in zip((source, target), (one, other), logs, strict=True):
        result.unlogged[storage.name] = log_.unlike(held, now_ms)
    return result


def _digests(storage: Storage) -> dict[str, bytes | None]:
    """Return the digest of every value, or None if it cannot be read."""
    values: dict[str, bytes | None] = {}
    for keys, _ in storage.scan():
        for key, found in digests(storage, keys):
            if found is not None:
                values[key] = found.digest if isinstance(found, Digested) else None
    return values


@dataclass(frozen=True, slots=True)
class _Logged:
    """The newest change of each key, and the keys whose value is known to be missing."""

    newest: Segment
    missing: frozenset[str] = frozenset()

    @classmethod
    def of(cls, storage: Storage) -> _Logged:
        logged = Log.read(storage, Environment(), dry=True)
        missing = frozenset(entry.change.key for entry in logged.manifest.knowledge.missing)
        return cls(Segment.merge(logged.all_segments()), missing)

    def expired(self, now_ms: int) -> dict[str, bytes]:
        """Return the digests of expired values, each of which may still be stored or not."""
        keys = self.newest.expired(now_ms)
        return {row[0]: row[5] for row in self.newest.find(keys) if row is not None}

    def unlike(self, held: Mapping[str, bytes | None], now_ms: int) -> list[str]:
        """Return the keys whose value is not the one in the log, ascending."""
        logged = {change.key: change.digest for change in changes_of(self.newest) if not change.deletes}
        optional = self.expired(now_ms).keys() - held.keys()
        keys = (held.keys() | logged.keys()) - self.missing - optional
        return sorted(key for key in keys if held.get(key) != logged.get(key))
