"""Compare the values of storages with each other, and each storage's with its log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from kvsync.digesting import Digested, digests
from kvsync.expiry import CLOCK_SKEW_MS
from kvsync.native import Segment
from kvsync.replica.segments import changes_of
from kvsync.result import UnreadableKey
from kvsync.storages.contract import has_skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from kvsync.audit.findings import Finding
    from kvsync.audit.index import Index
    from kvsync.environment import Environment
    from kvsync.filters import KeyFilter
    from kvsync.storages.contract import Storage
    from kvsync.types import Label

__all__ = ["Held", "Logged", "Verification", "compare", "leave_out"]

BATCH_COUNT = 256
"""Values read between two looks at the lease."""


LABELS: tuple[Label, ...] = ("source", "target")


@dataclass(slots=True)
class Verification:
    """What an audit of one or two storages found.

    Attributes:
        same: how many keys have the same value on both sides; with one storage, how many there are.
        only_source, only_target, different: keys that have not.
        unreadable: keys where one side holds something that cannot be read, or a name that cannot be a key, and why.
        expired: keys whose newest value has expired, but is still stored on one side, which does not support expiry.
        unlogged: {storage: keys whose value is not the one in its log}. A scan logs them as changed.
        gone: {storage: those of them where nothing is}. A scan logs them as deleted.
        findings: what is wrong with an index, after the repair if there was one.
        mended: what was wrong before, and is not any more.
        notes: what the repair did, one sentence each.
        left_out: how many keys a filter leaves out; they are in none of these lists.
    """

    same: int = 0
    only_source: list[str] = field(default_factory=list)
    only_target: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    unreadable: list[UnreadableKey] = field(default_factory=list)
    expired: list[str] = field(default_factory=list)
    unlogged: dict[str, list[str]] = field(default_factory=dict)
    gone: dict[str, list[str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    mended: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: int = 0

    @property
    def equal(self) -> bool:
        """Whether both storages hold the same values under the same keys; with one, whether all can be read."""
        return not (self.only_source or self.only_target or self.different or self.unreadable)

    @property
    def intact(self) -> bool:
        """Whether each index is as it should be, but for what does no harm."""
        return all(finding.harmless for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Held:
    """What a storage holds: {key: digest of its value}, and {key or name: why it cannot be read}."""

    storage: Storage
    digests: dict[str, Digested] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, storage: Storage, on_batch: Callable[[], None] = lambda: None) -> Held:
        """Read all values; `on_batch` keeps a lease meanwhile."""
        held = cls(storage)
        for keys, _ in storage.scan():
            held.look_for(keys, on_batch)
        if has_skipped(storage):
            held.unreadable.update((entry.name, entry.reason) for entry in storage.skipped if not entry.harmless)
        return held

    def look_for(self, keys: Iterable[str], on_batch: Callable[[], None] = lambda: None) -> None:
        """Read keys; a listing leaves out what is no value, and proves no absence."""
        for number, (key, found) in enumerate(digests(self.storage, sorted(keys))):
            if number % BATCH_COUNT == 0:
                on_batch()
            if isinstance(found, Digested):
                self.digests[key] = found
            elif found is not None:
                self.unreadable[key] = found.reason

    def digest(self, key: str) -> bytes | None:
        """Return the digest of the value at a key, None where nothing is."""
        found = self.digests.get(key)
        return None if found is None else found.digest


class Logged(NamedTuple):
    """The newest change of each key, and {key: digest of what is held in place of its missing value, empty: nothing}.

    Of a log that is not whole it is the part that can be read.
    """

    newest: Segment
    missing: Mapping[str, bytes]

    @classmethod
    def of(cls, index: Index) -> Logged:
        """Return what a log says."""
        missing = index.manifest.knowledge.missing if index.manifest is not None else ()
        held = {entry.change.key: entry.held for entry in missing}
        return cls(Segment.merge(index.segments), held)

    def puts(self) -> dict[str, bytes]:
        """Return the digest of the value that each key has by the log."""
        return {change.key: change.digest for change in changes_of(self.newest) if not change.deletes}

    def expired(self, now_ms: int) -> dict[str, bytes]:
        """Return the digests of expired values, each of which may still be stored or not."""
        keys = self.newest.expired(now_ms)
        return {row[0]: row[5] for row in self.newest.find(keys) if row is not None}

    def unlike(self, held: Held, now_ms: int) -> list[str]:
        """Return the keys whose value is not the one in the log, ascending."""
        logged = self.puts()
        optional = self.expired(now_ms).keys() - held.digests.keys()
        keys = (held.digests.keys() | logged.keys()) - optional - held.unreadable.keys()
        return sorted(key for key in keys if not self._fits(key, held.digest(key), logged.get(key)))

    def _fits(self, key: str, there: bytes | None, logged: bytes | None) -> bool:
        return there == logged or (key in self.missing and (there or b"") == self.missing[key])


def compare(source: Index, target: Index | None, environment: Environment) -> Verification:
    """Compare the values of two storages, and each with its log; or those of one with its log."""
    indexes = [source] if target is None else [source, target]
    held, logs = [Held.of(index.storage) for index in indexes], [Logged.of(index) for index in indexes]
    everything = set().union(*(each.digests for each in held), *(log.puts() for log in logs))
    for each in held:
        each.look_for(everything - each.digests.keys())
    now_ms = environment.now_ms() + CLOCK_SKEW_MS
    result = Verification(findings=[finding for index in indexes for finding in index.findings])
    result.unreadable = [
        UnreadableKey(key, side, reason)
        for side, each in zip(LABELS, held, strict=False)
        for key, reason in sorted(each.unreadable.items())
    ]
    if target is None:
        result.same = len(held[0].digests)
    else:
        expired = Logged(Segment.merge([log.newest for log in logs]), {}).expired(now_ms)
        _compare(result, held[0], held[1], expired)
    for each, log in zip(held, logs, strict=True):
        result.unlogged[each.storage.name] = keys = log.unlike(each, now_ms)
        result.gone[each.storage.name] = [key for key in keys if key not in each.digests]
    return result


def leave_out(result: Verification, keys_filter: KeyFilter) -> None:
    """Take the keys out of a result that a filter leaves out."""
    lists = [result.only_source, result.only_target, result.different, result.expired]
    lists += [*result.unlogged.values(), *result.gone.values()]
    unreadable = [entry.key for entry in result.unreadable]
    left_out = keys_filter.excluded(sorted({*unreadable, *(key for keys in lists for key in keys)}))
    for keys in lists:
        keys[:] = [key for key in keys if key not in left_out]
    result.unreadable = [entry for entry in result.unreadable if entry.key not in left_out]
    result.left_out = len(left_out)


def _compare(result: Verification, one: Held, other: Held, expired: Mapping[str, bytes]) -> None:
    unreadable = {entry.key for entry in result.unreadable}
    for key in sorted((one.digests.keys() | other.digests.keys()) - unreadable):
        here, there = one.digest(key), other.digest(key)
        if None in {here, there} and key in expired and expired[key] == (here or there):
            result.expired.append(key)
        elif there is None:
            result.only_source.append(key)
        elif here is None:
            result.only_target.append(key)
        elif here != there:
            result.different.append(key)
        else:
            result.same += 1
