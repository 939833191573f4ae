"""A replica's log: the manifest, changed by compare-and-swap alone, and the segments that it lists.

A log grows only by whole writes of its manifest. Whoever holds the lease may write it. Whoever takes a lease over from
a holder that did not release it rewrites the manifest first, so that the old holder's next write fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.errors import LockLostError, StorageError
from kvsync.index import compaction
from kvsync.index.histories import pack_note
from kvsync.index.manifest import Manifest, RememberedIntent, SegmentEntry
from kvsync.index.objects import MANIFEST, segment_name, store_if
from kvsync.native import Cover, Segment, newest_digest
from kvsync.probe import PROBE_PREFIX
from kvsync.replica.intents import LATE_WRITE_SECONDS, FoundIntent, Intent
from kvsync.replica.lives import having_met
from kvsync.replica.peers import REPLACED
from kvsync.replica.points import is_branch
from kvsync.replica.segments import Segments, first_uncovered
from kvsync.replica.session import read_manifest, session
from kvsync.storages.contract import ObjectMismatch, has_transaction
from kvsync.types import ABSENT, ANY, Change

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.environment import Environment
    from kvsync.replica.history import History, Rename
    from kvsync.replica.knowledge import Knowledge
    from kvsync.replica.lives import Standing
    from kvsync.replica.session import Found
    from kvsync.storages.contract import Storage
    from kvsync.types import Expectation

__all__ = ["Log"]

GARBAGE_COUNT_MAX = 16
"""Unlisted objects that may pile up before one call removes them."""

COMPRESS_COUNT = 2000
"""Segments of fewer changes are stored uncompressed: most of their bytes are digests, and compressing the rest takes
longer than sending it. Compaction merges them into larger ones."""


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

    def load_intent(self, name: str) -> FoundIntent | None:
        """Return an intent that another run left, or None where it is gone.

        Raises:
            IndexDamagedError: it fails its checks.
        """
        segment = self._segments.load(name) if self.may_have(name) else None
        return None if segment is None else FoundIntent.of(segment, self.manifest.replica, self.storage.name, name)

    def next_intent_name(self) -> str:
        """Return the name under which whoever holds the lease writes its next intent."""
        return segment_name(self.manifest.generation + 1)

    def may_have(self, name: str) -> bool:
        """Whether an index object may be there; certain only where the objects were listed."""
        return self.names is None or name in self.names

    # Writing

    def intend(self, segment: Segment, giver: History) -> Intent | None:
        """Write down what is about to be written to the storage; None where a transaction makes that needless.

        `giver` proves changes that come from another storage; of those that are made here there is nothing to prove.

        Raises:
            StorageError: an intent is there already.
        """
        if has_transaction(self.storage) or not len(segment):
            return None
        name = self.next_intent_name()
        data = self._encoded(name, segment, pack_note(giver.restricted(segment.maxima, segment.stamp_min)))
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
        segment: Segment,
        knowledge: Knowledge,
        *,
        intent: Intent | None = None,
        peer: tuple[str, Manifest] | None = None,
        inventory: bytes = b"",
        lease: bytes = b"",
    ) -> None:
        """Log `segment`, move to `knowledge`, and write the next manifest.

        Args:
            segment: what was applied; may be empty.
            knowledge: what is known and held with it.
            intent: what was to be applied, if it was written down.
            peer: name and manifest of the storage that knows the same then.
            inventory: nonce of the inventory that is in step with the log then.
            lease: version of the lease object that this write releases.

        Raises:
            LockLostError: another holder wrote the manifest.
            StorageError: the storage failed.
        """
        manifest = self._with_intended(segment, intent) if len(segment) or intent is not None else self.manifest
        manifest = manifest._replace(knowledge=knowledge, inventory=inventory, lease=lease)
        self._write_next(manifest if peer is None else having_met(manifest, *peer))

    def become(self, standing: Standing) -> None:
        """Write what a meeting with another life makes of this replica: other origins, and a fresh id if it needs one.

        Raises:
            LockLostError: another holder wrote the manifest.
        """
        manifest = self.manifest
        manifest = manifest._replace(knowledge=manifest.knowledge._replace(history=standing.history))
        manifest = self._renamed(manifest, standing.renames)
        if standing.needs_id:
            gone = {**manifest.gone, manifest.replica: REPLACED}
            peers = {replica: peer for replica, peer in manifest.peers.items() if replica != manifest.replica}
            manifest = manifest._replace(replica=self.environment.replica_id(), gone=gone, peers=peers)
        self._write_next(manifest._replace(lease=b""))

    def adopt(self, name: str, intent: FoundIntent, applied: Sequence[Change], *, remember: bool) -> None:
        """Log what a crashed run had `applied` of its intent.

        `remember` the intent where its holder's last write may still land.

        Raises:
            LockLostError: another holder wrote the manifest.
        """
        until_ms = self.environment.now_ms() + LATE_WRITE_SECONDS * 1000
        manifest = self.manifest
        knowledge = manifest.knowledge.adopt(
            applied, intent.exceptions(applied), replica=manifest.replica, mark=self.environment.mark()
        )
        manifest = manifest._replace(
            clock=max(manifest.clock, intent.segment.stamp_max),
            intents=(*manifest.intents, RememberedIntent(name, until_ms)) if remember else manifest.intents,
            garbage=manifest.garbage if remember else (*manifest.garbage, name),
            knowledge=knowledge,
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

    def _encoded(self, name: str, segment: Segment, note: bytes = b"") -> bytes:
        remote = self.storage.capabilities.distance == "network"
        return segment.encode(name, remote and len(segment) >= COMPRESS_COUNT, note)

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
        return self._replacing(manifest, start, stop, Segment.merge(self.segments(manifest.segments[start:stop])))

    def _replacing(self, manifest: Manifest, start: int, stop: int, segment: Segment) -> Manifest:
        """Return the manifest with another segment in place of segments [start, stop)."""
        name = self._fresh_name()
        old = (entry.name for entry in manifest.segments[start:stop] if entry.inline is None)
        rest = manifest._replace(segments=manifest.segments[:start], garbage=(*manifest.garbage, *old))
        listed = self._listing(rest, segment, name, self._encoded(name, segment), stored=False)
        return listed._replace(segments=(*listed.segments, *manifest.segments[stop:]))

    def _settled(self, manifest: Manifest) -> Manifest:
        """Return the manifest with its exceptions held against its own history, and without points to spare."""
        history, renames = manifest.history.settled(manifest.history)
        manifest = self._renamed(manifest, renames)
        peers = manifest.peers.values()
        history = history.thinned(manifest.replica, lambda origin: {peer.entries.get(origin) for peer in peers})
        return manifest._replace(knowledge=manifest.knowledge._replace(history=history))

    def _renamed(self, manifest: Manifest, renames: Sequence[Rename]) -> Manifest:
        """Return the manifest with other origins for some changes, in its log and in what it says of single ones."""
        if not renames:
            return manifest
        manifest = manifest._replace(knowledge=manifest.knowledge.renamed(renames))
        affected = (any(_reaches(entry, rename) for rename in renames) for entry in manifest.segments)
        start = next((i for i, is_affected in enumerate(affected) if is_affected), len(manifest.segments))
        if start == len(manifest.segments):
            return manifest
        segment = Segment.merge(self.segments(manifest.segments[start:])).renamed(renames)
        return self._replacing(manifest, start, len(manifest.segments), segment)

    def _write_next(self, manifest: Manifest) -> None:
        """Write the next generation: tiers merged, garbage removed, clock past all that is known."""
        if not self.dry:
            manifest = self._tidied(manifest)
        manifest = self._settled(manifest)
        manifest = manifest._replace(
            generation=manifest.generation + 1,
            nonce=self.environment.nonce(),
            clock=max(manifest.clock, *manifest.cover.vector.values(), 0),
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
        known = manifest.history.chains.keys() | manifest.named_origins
        forgotten = {origin for origin in manifest.listed_origins - known if is_branch(origin)}
        if forgotten:  # what they are named by is beaten, but would be taken for news until it is merged away
            names = (forgotten & dict(entry.maxima).keys() for entry in manifest.segments)
            start = next(i for i, found in enumerate(names) if found)
            manifest = self._merged(manifest, start, len(manifest.segments))
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


def _reaches(entry: SegmentEntry, rename: Rename) -> bool:
    return any(origin == rename.origin and stamp >= rename.first for origin, stamp in entry.maxima)
