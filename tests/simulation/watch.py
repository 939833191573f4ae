"""Predicate 5: kvsync overwrites only what the index, a missing entry or its own intent knew.

Asked at every single write and delete of a value that takes effect, of what the storage's own index says just then. The
reading is strict: the value there must be what the *newest* logged change of its key names, not one that was logged
at some time, which would let an old value that somebody has put back be lost. What else may be there:

- nothing, or the very value that is being written: nothing is lost;
- what a missing entry says is held: then the newest change is known, but its value is not what is there;
- what the application wrote there behind kvsync's back, where its own next word through kvsync replaces it: that is the
  caller's right. Without a scan or a guard other runs may replace it too: the histories that have such values have no
  such runs.

Intents are no excuse, though the predicate names them. A run writes each key once between two manifests, and takes in
what an earlier run left before it writes a first value: by then what an intent put there is logged. Only a write that
lands after its run was given up for dead would need one, and no write of these histories does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvsync.environment import Environment
from kvsync.native import Segment, digest_values
from kvsync.replica.log import Log as ReplicaLog
from kvsync.replica.segments import changes_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvsync.index.manifest import Manifest
    from kvsync.storages.contract import Storage
    from kvsync.types import Change
    from world import Replicated

MANIFEST = ".kvsync/manifest"


@dataclass(frozen=True)
class Log:
    """What a storage's manifest and segments say: kept until the manifest is another one, since decoding is dear."""

    encoded: bytes | None
    manifest: Manifest
    newest: dict[str, Change]
    held: dict[str, bytes]

    def __deepcopy__(self, _memo: Any) -> Log:
        return self

    @classmethod
    def read(cls, storage: Storage, encoded: bytes | None) -> Log:
        log = ReplicaLog.read(storage, Environment(), dry=True)
        merged = Segment.merge(log.all_segments())
        held = {entry.change.key: entry.held for entry in log.manifest.knowledge.missing}
        return cls(encoded, log.manifest, {change.key: change for change in changes_of(merged)}, held)

    def names(self, key: str, digest: bytes) -> bool:
        """Whether this value is known to be there."""
        logged = self.newest.get(key)
        return digest == self.held.get(key) or (logged is not None and digest == logged.digest)


@dataclass(frozen=True)
class Watch:
    """Looks at every value that kvsync writes or deletes in one storage, in one run.

    said: what the application says through kvsync in this run, by key: the values, None for nothing.
    """

    at: Replicated
    said: dict[str, set[bytes | None]]

    def over(self, key: str, value: bytes | None, operation: Callable[[], Any]) -> Any:
        """Do what writes `value` (None: deletes), and make sure that what it replaced was known."""
        before, log = self.at.held_at(key), self.at.log()
        written = operation()
        if before is None or before == value or written.refused:
            return written
        digest = digest_values([before])[0]
        by_caller = value in self.said.get(key, ())
        if by_caller:
            self.at.replaced.add((key, digest))
        excused = by_caller and (key, before) in self.at.unreported
        known = excused or log.names(key, digest)
        assert known, f"{before!r} at {key!r} in {self.at.number} was overwritten unknown, by {value!r}"
        return written
