"""A replica's log: the manifest, changed by compare-and-swap alone, and the segments that it lists.

A log grows only by whole writes of its manifest. Whoever holds the lease may write it. Whoever takes a lease over from
a holder that did not release it rewrites the manifest first, so that the old holder's next write fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvsync.errors import LockLostError, StorageError
from kvsync.index import compaction
from kvsync.index.manifest import Manifest, RememberedIntent, SegmentEntry
from kvsync.index.objects import MANIFEST, damaged, segment_name, store_if
from kvsync.native import Cover, Segment, newest_digest
from kvsync.probe import PROBE_PREFIX
from kvsync.replica.checkpoints import extended
from kvsync.replica.segments import Segments, first_uncovered
from kvsync.replica.session import read_manifest, session
from kvsync.storages.contract import ObjectMismatch, has_transaction
from kvsync.types import ABSENT, ANY, Change

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.environment import Environment
    from kvsync.replica.knowledge import Knowledge
    from kvsync.replica.session import Found
    from kvsync.storages.contract import Storage
    from kvsync.types import Expectation

__all__ = ["LATE_WRITE_SECONDS", "Intent", "Log"]

GARBAGE_COUNT_MAX = 16
"""Unlisted objects that may pile up before one call removes them."""

LATE_WRITE_SECONDS = 600
"""How long after its lease was taken over a holder's last write may still land."""

COMPRESS_COUNT = 2000
"""Segments of fewer changes are stored uncompressed: most of their bytes are digests, and compressing the rest takes
longer than sending it. Compaction merges them into larger ones."""


class Intent(NamedTuple):
    """What a run is about to write to a storage, stored there under the name that the next manifest would list."""

    name: str
    segment: Segment
    data: bytes


class Log:
    """The log of one storage.

    Attributes:
        storage: where it lives.
        environment: gives it time and randomness.
        manifest: as it stands in the storage; generation 0 where there is none yet.
        dry: the log grows in memory only, for a preview.
        names: of all index objects, where they were listed since there was no manifest; else None.
        has_open_intent: an intent of ours may be stored that no manifest of ours has followed.
    """

    def __init__(
        self, storage: Storage, environment: Environment, found: Found, *, dry: bool = False, fresh_id: int = 0
    ) -> None:
        self.storage = storage
        self.environment = environment
        self.dry = dry
        self.names: frozenset[str] | None = None
        self.has_open_intent = False
        self.manifest: Manifest
        self._version: Expectation
        self.manifest, self._version = found or (Manifest.fresh(fresh_id or environment.replica_id()), ABSENT)
        self._segments = Segments(storage, read_all=dry)

    @classmethod
    def read(cls, storage: Storage, environment: Environment, *, dry: bool = False) -> Log:
        """Read the log of a storage; `dry` for whoever only looks at it.

        Raises:
            IndexDamagedError: the manifest fails its checks.
            FormatError: a newer kvsync wrote it.
        """
        return cls(storage, environment, read_manifest(storage), dry=dry)

    # Reading

    def segments(self, entries: Sequence[SegmentEntry]) -> list[Segment]:
        """Return listed segments, each read at most once.

        Raises:
            IndexDamagedError: one is absent, damaged, or not the one that the manifest lists.
        """
        return self._segments.of(entries)

    def segments_since(self, known: Cover) -> list[Segment]:
        """Return the segments from the oldest that `known` does not cover to the newest.

        Those in between are returned too: a newer segment that `known` covers may hold the change that beats an older
        one.
        """
        entries = self.manifest.segments
        return self.segments(entries[first_uncovered(entries, known) :])

    def all_segments(self) -> list[Segment]:
        """Return all segments, oldest to newest."""
        return self.segments(self.manifest.segments)

    def newest(self, keys: Sequence[str]) -> list[Change | None]:
        """Return the newest logged change of each key; reads the whole log."""
        newest: list[Change | None] = [None] * len(keys)
        for segment in self.all_segments():
            for i, row in enumerate(segment.find(keys)):
                best = newest[i]
                if row is not None and (best is None or Change._make(row).order > best.order):
                    newest[i] = Change._make(row)
        return newest

    def known_digests(self, keys: Sequence[str]) -> list[set[bytes]]:
        """Return which digests each key may hold (empty: nothing): its newest change's, or what is held instead."""
        held = {entry.change.key: {entry.held} for entry in self.manifest.knowledge.missing}
        return [
            {row.digest if row is not None and not row.deletes else b"", *held.get(key, ())}
            for key, row in zip(keys, self.newest(keys), strict=True)
        ]

    def load_intent(self, name: str) -> Segment | None:
        """Return what an intent lists, or None where it is gone.

        Raises:
            IndexDamagedError: it fails its checks.
        """
        return self._segments.load(name) if self.names is None or name in self.names else None

    def next_intent_name(self) -> str:
        """Return the name under which whoever holds the lease writes its next intent."""
        return segment_name(self.manifest.generation + 1)

    def remembered_intents(self) -> list[tuple[Segment, int]]:
        """Return the intents of holders that lost their lease and may still write, each with when they lost it.

        The time is in wall-clock milliseconds.
        """
        now_ms = self.environment.now_ms()
        current = [intent for intent in self.manifest.intents if intent.until_ms > now_ms]
        loaded = [(self.load_intent(intent.name), intent.until_ms) for intent in current]
        return [(intent, until_ms - LATE_WRITE_SECONDS * 1000) for intent, until_ms in loaded if intent is not None]

    def require_no_remains(self) -> None:
        """Make sure that a storage without a manifest is a new one; nothing is asked where there is a manifest.

        A first run that crashed may have left objects of generation 1. Only a manifest can have listed later ones.

        Raises:
            IndexDamagedError: its manifest is gone.
        """
        if self.manifest.generation:
            return
        names = self.storage.objects()
        self.names = frozenset(names)
        listed = [name for name in names if name.startswith("segment/") and name >= segment_name(2)]
        if listed:
            what = f"is missing, though the log that it listed is there ({listed[-1]})"
            raise damaged(self.storage.name, MANIFEST, what)

    def may_have(self, name: str) -> bool:
        """Whether an index object may be there; certain only where the objects were listed."""
        return self.names is None or name in self.names

    # Writing

    def intend(self, segment: Segment) -> Intent | None:
        """Write down what is about to be written to the storage; None where a transaction makes that needless.

        Raises:
            StorageError: an intent is there already.
        """
        if has_transaction(self.storage) or not len(segment):
            return None
        name = self.next_intent_name()
        data = self._encoded(name, segment)
        self.has_open_intent = not self.dry
        self._create(name, data)
        return Intent(name, segment, data)

    def delete_intent(self, intent: Intent | None) -> None:
        """Remove an intent of which nothing was applied: the next one needs its name."""
        if intent is not None and not self.dry:
            self.storage.remove([intent.name], ANY)
            self.has_open_intent = False

    def prepare(self, segment: Segment) -> None:
        """Encode and digest a segment ahead of `write`, which finds it done; another thread may call this."""
        self._encoded(self.next_intent_name(), segment)
        if not self.manifest.segments:
            newest_digest([segment])

    def write(
        self,
        replica: int,
        segment: Segment,
        knowledge: Knowledge,
        *,
        intent: Intent | None = None,
        peer: Manifest | None = None,
        inventory: bytes = b"",
        lease: bytes = b"",
    ) -> None:
        """Log `segment`, move to `knowledge`, and write the next manifest.

        Args:
            replica: the id under which this storage stamps changes from now on.
            segment: what was applied; may be empty.
            knowledge: what is known and held with it.
            intent: what was to be applied, if it was written down.
            peer: manifest of the replica that acknowledged this log's changes.
            inventory: nonce of the inventory that is in step with the log then.
            lease: version of the lease object that this write releases.

        Raises:
            LockLostError: another holder wrote the manifest.
            StorageError: the storage failed.
        """
        manifest = self._with_intended(segment, intent) if len(segment) or intent is not None else self.manifest
        peers = dict(manifest.peers or {})
        if peer is not None and peer.generation:
            peers[peer.replica] = peer.cover.vector
        checkpoints = manifest.checkpoints if replica == manifest.replica else ()
        self._write_next(
            manifest._replace(
                replica=replica,
                knowledge=knowledge,
                peers=peers,
                checkpoints=checkpoints,
                inventory=inventory,
                lease=lease,
            )
        )

    def adopt(self, name: str, intent: Segment, applied: Sequence[Change], *, remember: bool) -> None:
        """Log what a crashed run had `applied` of its intent, as exceptions to the version vector.

        `remember` the intent where its holder's last write may still land.

        Raises:
            LockLostError: another holder wrote the manifest.
        """
        until_ms = self.environment.now_ms() + LATE_WRITE_SECONDS * 1000
        manifest = self.manifest
        manifest = manifest._replace(
            clock=max(manifest.clock, intent.stamp_max),
            intents=(*manifest.intents, RememberedIntent(name, until_ms)) if remember else manifest.intents,
            garbage=manifest.garbage if remember else (*manifest.garbage, name),
            knowledge=manifest.knowledge.adopt(applied),
            lease=b"",
        )
        if applied:
            adopted = Segment.from_rows(applied)
            fresh = self._fresh_name()
            manifest = self._listing(manifest, adopted, fresh, self._encoded(fresh, adopted), stored=False)
            manifest = manifest._replace(inventory=b"")
        self._write_next(manifest)

    def fence(self, intent_name: str = "") -> None:
        """Write the manifest once more, so that no earlier holder's write of it can succeed.

        It may still store an intent of the name that is given, and begin to apply it.

        Raises:
            LockLostError: another holder wrote the manifest.
        """
        until_ms = self.environment.now_ms() + LATE_WRITE_SECONDS * 1000
        remembered = (RememberedIntent(intent_name, until_ms),) if intent_name else ()
        self._write_next(self.manifest._replace(intents=(*self.manifest.intents, *remembered), lease=b""))

    def compact(self, before_write: Callable[[], None]) -> tuple[int, int]:
        """Merge all segments into one and remove unlisted objects; return (segments merged, objects removed).

        Objects are listed before the manifest is written, and removed after: that write proves that nobody had taken
        the lease over until then, so what is removed is nobody else's.

        Raises:
            LockLostError: the lease was lost; nothing was removed.
        """
        ours = ("segment/", PROBE_PREFIX)
        names = [name for name in self.storage.objects() if name.startswith(ours)]
        entries = self.manifest.segments
        listed = {entry.name for entry in entries if entry.inline is None}
        listed.update(intent.name for intent in self.manifest.intents)
        unlisted = [name for name in names if name not in listed]
        manifest = self._merged(self.manifest, 0, len(entries)) if len(entries) > 1 else self.manifest
        merged = [entry.name for entry in entries if entry.inline is None] if len(entries) > 1 else []
        if len(entries) > 1 or unlisted or manifest.garbage:
            before_write()
            self._write_next(manifest._replace(garbage=(), lease=b""))
        if unlisted or merged:
            before_write()
            self.storage.remove([*unlisted, *merged], ANY)
        return len(entries), len(unlisted) + len(merged)

    # Making the next manifest

    def _encoded(self, name: str, segment: Segment) -> bytes:
        remote = self.storage.capabilities.distance == "network"
        return segment.encode(name, remote and len(segment) >= COMPRESS_COUNT)

    def _with_intended(self, segment: Segment, intent: Intent | None) -> Manifest:
        """Return the manifest with `segment` listed: as the intent itself, where that is what was applied."""
        if intent is None:
            name = self.next_intent_name()
            return self._listing(self.manifest, segment, name, self._encoded(name, segment), stored=False)
        if len(intent.segment) == len(segment):
            return self._listing(self.manifest, segment, intent.name, intent.data, stored=True)
        manifest = self.manifest._replace(garbage=(*self.manifest.garbage, intent.name))
        if not len(segment):
            return manifest
        name = self._fresh_name()
        return self._listing(manifest, segment, name, self._encoded(name, segment), stored=False)

    def _listing(self, manifest: Manifest, segment: Segment, name: str, data: bytes, *, stored: bool) -> Manifest:
        """Return `manifest` with one more segment; store the segment unless it is small or `stored` already."""
        inline = len(data) <= compaction.INLINE_BYTES_MAX
        if not inline and not stored:
            self._create(name, data)
        entry = SegmentEntry.of(name, segment.maxima, len(segment), data, inline=inline)
        self._segments.keep(entry, segment)
        return manifest._replace(
            segments=(*manifest.segments, entry),
            clock=max(manifest.clock, segment.stamp_max),
            garbage=(*manifest.garbage, name) if inline and stored else manifest.garbage,
        )

    def _merged(self, manifest: Manifest, start: int, stop: int) -> Manifest:
        """Return the manifest with segments [start, stop) as one."""
        old = manifest.segments[start:stop]
        segment = Segment.merge(self.segments(old))
        name = self._fresh_name()
        rest = manifest._replace(
            segments=manifest.segments[:start],
            garbage=(*manifest.garbage, *(entry.name for entry in old if entry.inline is None)),
        )
        listed = self._listing(rest, segment, name, self._encoded(name, segment), stored=False)
        return listed._replace(segments=(*listed.segments, *manifest.segments[stop:]))

    def _write_next(self, manifest: Manifest) -> None:
        """Write the next generation: tiers merged, garbage removed, clock past all that is known."""
        if not self.dry:
            manifest = self._tidied(manifest)
        own, vector = manifest.replica, manifest.cover.vector
        met = {known.get(own, 0) for known in (manifest.peers or {}).values()}
        manifest = manifest._replace(
            generation=manifest.generation + 1,
            nonce=self.environment.nonce(),
            clock=max(manifest.clock, *vector.values(), 0),
            checkpoints=extended(manifest.checkpoints, vector.get(own, 0), met),
            digest=self._digest(manifest.segments),
        )
        if not self.dry:
            data = manifest.encode()
            try:
                self._version = store_if(self.storage, MANIFEST, data, self._version)
            except ObjectMismatch:
                message = "the lease was taken over: another run wrote the manifest; no data was lost, run again"
                raise LockLostError(message, storage=self.storage.name) from None
            session.keep_manifest(data, manifest)
        self.manifest = manifest
        self.has_open_intent = False

    def _tidied(self, manifest: Manifest) -> Manifest:
        """Return the manifest with its tiers merged, without intents that are over, and with little garbage."""
        manifest = manifest.without_past_intents(self.environment.now_ms())
        garbage = self.manifest.garbage
        if len(garbage) >= GARBAGE_COUNT_MAX:
            self.storage.remove(garbage, ANY)
            manifest = manifest._replace(garbage=tuple(name for name in manifest.garbage if name not in garbage))
        while span := compaction.merges(manifest.segments) or compaction.overflow(manifest.segments):
            manifest = self._merged(manifest, *span)
        return manifest

    def _digest(self, entries: Sequence[SegmentEntry]) -> bytes | None:
        """Return the digest of the newest changes where the whole log is at hand, else None."""
        at_hand = all(entry.inline is not None or entry.name in self._segments for entry in entries)
        return newest_digest(self.segments(entries)) if at_hand else None

    def _fresh_name(self) -> str:
        # Random, so that a holder that lost its lease can never write an object that we list.
        return segment_name(self.manifest.generation + 1, self.environment.random.getrandbits(63) + 1)

    def _create(self, name: str, data: bytes) -> None:
        if self.dry:
            return
        try:
            store_if(self.storage, name, data, ABSENT)
        except ObjectMismatch:
            message = f"{name} already exists, left by an interrupted run; run again to recover it"
            raise StorageError(message, storage=self.storage.name) from None
