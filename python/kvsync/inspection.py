"""Read-only views of a storage: status, log, verify."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kvsync.digesting import Digested, digests
from kvsync.environment import Environment
from kvsync.expiry import CLOCK_SKEW_MS
from kvsync.native import Segment
from kvsync.replica.log import Log
from kvsync.replica.segments import changes_of
from kvsync.result import UnreadableKey
from kvsync.run.holder import read_lease
from kvsync.storages.contract import has_skipped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from kvsync.lease import LeaseRecord
    from kvsync.storages.contract import Storage, Tier
    from kvsync.types import Change

__all__ = ["Status", "Verification", "log", "status", "verify"]


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
        unreadable: keys where one side holds something that cannot be read, or a name that cannot be a key, and why.
        expired: keys whose newest value has expired, but is still stored on one side, which does not support expiry.
        unlogged: {storage: keys whose value is not the one in its log}.
    """

    same: int = 0
    only_source: list[str] = field(default_factory=list)
    only_target: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    unreadable: list[UnreadableKey] = field(default_factory=list)
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


def verify(source: Storage, target: Storage, environment: Environment) -> Verification:
    """Compare the values of two storages, and each with its log."""
    result = Verification()
    one, other = _Held.of(source), _Held.of(target)
    one.look_for(other.digests.keys() - one.digests.keys())
    other.look_for(one.digests.keys() - other.digests.keys())
    result.unreadable = [
        UnreadableKey(key, side, reason)
        for side, held in (("source", one), ("target", other))
        for key, reason in sorted(held.unreadable.items())
    ]
    logs = _Logged.of(source), _Logged.of(target)
    now_ms = environment.now_ms() + CLOCK_SKEW_MS
    expired = _Logged(Segment.merge([log.newest for log in logs])).expired(now_ms)
    _compare(result, one.digests, other.digests, expired, {entry.key for entry in result.unreadable})
    for held, log_ in zip((one, other), logs, strict=True):
        result.unlogged[held.storage.name] = log_.unlike(held, now_ms)
    return result


def _compare(
    result: Verification,
    one: Mapping[str, bytes],
    other: Mapping[str, bytes],
    expired: Mapping[str, bytes],
    unreadable: AbstractSet[str],
) -> None:
    for key in sorted((one.keys() | other.keys()) - unreadable):
        if (key in one) != (key in other) and key in expired and expired[key] == one.get(key, other.get(key)):
            result.expired.append(key)
        elif key not in other:
            result.only_source.append(key)
        elif key not in one:
            result.only_target.append(key)
        elif one[key] != other[key]:
            result.different.append(key)
        else:
            result.same += 1


@dataclass(frozen=True, slots=True)
class _Held:
    """What a storage holds: {key: digest of its value}, and {key or name: why it cannot be read}."""

    storage: Storage
    digests: dict[str, bytes] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, storage: Storage) -> _Held:
        held = cls(storage)
        for keys, _ in storage.scan():
            held.look_for(keys)
        if has_skipped(storage):
            held.unreadable.update((entry.name, entry.reason) for entry in storage.skipped if not entry.harmless)
        return held

    def look_for(self, keys: Iterable[str]) -> None:
        """Read keys; a listing leaves out what is no value, and proves no absence."""
        for key, found in digests(self.storage, sorted(keys)):
            if isinstance(found, Digested):
                self.digests[key] = found.digest
            elif found is not None:
                self.unreadable[key] = found.reason


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

    def unlike(self, held: _Held, now_ms: int) -> list[str]:
        """Return the keys whose value is not the one in the log, ascending."""
        logged = {change.key: change.digest for change in changes_of(self.newest) if not change.deletes}
        optional = self.expired(now_ms).keys() - held.digests.keys()
        keys = (held.digests.keys() | logged.keys()) - self.missing - optional - held.unreadable.keys()
        return sorted(key for key in keys if held.digests.get(key) != logged.get(key))
