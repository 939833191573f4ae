"""A replica's log: the manifest, changed by compare-and-swap alone, and the segments that it lists.

A log grows only by whole writes of its manifest. Whoever holds the lease may write it. Whoever takes a lease over from
a holder that did not release it rewrites the manifest first, so that the old holder's next write fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.errors import LockLostError
from kvsync.index.bounds import require_writable
from kvsync.index.histories import pack_note
from kvsync.index.inventory import read_inventory
from kvsync.index.manifest import Manifest, RememberedIntent, SegmentEntry
from kvsync.index.objects import MANIFEST, PACK_PREFIX, PIECE_PREFIX, segment_name, store_if
from kvsync.native import Cover, Segment, newest_digest
from kvsync.probe import PROBE_PREFIX
from kvsync.replica.intents import LATE_WRITE_SECONDS, FoundIntent, Intent
from kvsync.replica.lives import Met, having_met
from kvsync.replica.peers import FORGOTTEN, REPLACED
from kvsync.replica.rewriting import Rewriting
from kvsync.replica.segments import Segments, first_uncovered
from kvsync.replica.session import StoredManifest, session
from kvsync.storages.contract import ObjectMismatch, has_transaction
from kvsync.types import ABSENT, ANY, Change

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.environment import Environment
    from kvsync.replica.base import Layers
    from kvsync.replica.history import History
    from kvsync.replica.knowledge import Knowledge
    from kvsync.replica.lives import Standing
    from kvsync.replica.session import Found
    from kvsync.storages.contract import Storage
    from kvsync.types import Expectation

__all__ = ["Log", "read_manifest"]

GARBAGE_COUNT_MAX = 16
"""Unlisted objects that may pile up before one call removes them."""


def read_manifest(storage: Storage) -> Found:
    """Read a storage's manifest, and make sure that the segments inside it are what it lists.

    Raises:
        IndexDamagedError: it fails its checks.
        FormatError: a newer kvsync wrote it.
        StorageError: the storage failed.
    """
    there = storage.load(MANIFEST)
    if there is None:
        return None
    manifest = session.manifest(there.data)
    if manifest is None:
        manifest = Manifest.decode(there.data, storage.name)
        inside = [entry for entry in manifest.segments if entry.inline is not None]
        Segments(storage, read_all=False).of(inside)
        session.keep_manifest(there.data, manifest)
    return StoredManifest(manifest, there.version, there.data)


class Log:
    """The log of one storage.

    Attributes:
        storage: where it lives.
        environment: gives it time and randomness.
        manifest: as it stands in the storage; generation 0 where there is none yet.
        dry: the log grows in memory only, for a preview.
        grace_ms: how long deletes stay logged although all replicas know them.
        peer: the log of the other side, once it is known which of its claims can be believed.
        has_named_peer: a manifest of this run says what the peer knows, or is about to know.
        names: of all index objects, where they were listed since there was no manifest; else None.
        has_open_intent: an intent of ours may be stored that no manifest of ours has followed.
    """

    def __init__(
        self,
        storage: Storage,
        environment: Environment,
        found: Found,
        *,
        dry: bool = False,
        fresh_id: int = 0,
        grace_ms: int = 0,
    ) -> None:
        self.storage = storage
        self.environment = environment
        self.dry = dry
        self.peer: Log | None = None
        self.has_named_peer = False
        self.grace_ms = grace_ms
        self.names: frozenset[str] | None = None
        self.has_open_intent = False
        self.manifest: Manifest
        self._version: Expectation
        self.manifest, self._version, self._data = found or (
            Manifest.fresh(fresh_id or environment.replica_id(), environment.place()),
            ABSENT,
            b"",
        )
        self._segments = Segments(storage, read_all=dry)
        self._rewriting = Rewriting(storage, environment, self._segments, dry=dry)

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

    def layers_since(self, known: Cover) -> Layers:
        """Return the segments from the oldest that `known` does not cover to the newest.

        Those in between are returned too: a newer segment that `known` covers may hold the change that beats an older
        one.
        """
        entries = self.manifest.segments
        return self._segments.layers(entries[first_uncovered(entries, known) :])

    def all_layers(self) -> Layers:
        """Return all segments, oldest to newest; the base stays in blocks if it is kept so."""
        return self._segments.layers(self.manifest.segments)

    def all_segments(self) -> list[Segment]:
        """Return all segments, oldest to newest, all of them whole."""
        return self.segments(self.manifest.segments)

    def object_names(self) -> set[str]:
        """Return the names of all objects that the segments lie in.

        Raises:
            IndexDamagedError: one is absent, damaged, or not the one that the manifest lists.
        """
        return set(self._segments.objects_of(self.manifest.segments))

    def require_stored(self) -> None:
        """Read all segments; of a base in blocks, see that its packs are there.

        Raises:
            IndexDamagedError: one is absent, damaged, or not the one that the manifest lists.
        """
        base, _ = self.all_layers()
        if base is not None:
            base.require_packs()

    def newest(self, keys: Sequence[str]) -> list[Change | None]:
        """Return the newest logged change of each key; of a base in blocks it reads those that may have one."""
        if not keys:
            return []
        newest: list[Change | None] = [None] * len(keys)
        for segment in self.all_layers().with_changes_of(keys):
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
        note = pack_note(giver.restricted(segment.maxima, segment.stamp_min))
        data = self._rewriting.encoded(name, segment, note)
        self.has_open_intent = not self.dry
        self._rewriting.create(name, data)
        return Intent(name, segment, data)

    def delete_intent(self, intent: Intent | None) -> None:
        """Remove an intent of which nothing was applied: the next one needs its name."""
        if intent is not None and not self.dry:
            self.storage.remove([intent.name], ANY)
            self.has_open_intent = False

    def prepare(self, segment: Segment) -> None:
        """Encode and digest a segment ahead of `write`, which finds it done; another thread may call this."""
        if not self._rewriting.makes_base(self.manifest, segment):
            self._rewriting.encoded(self.next_intent_name(), segment)
        if not self.manifest.segments:
            newest_digest([segment])

    def write(
        self,
        segment: Segment,
        knowledge: Knowledge,
        *,
        intent: Intent | None = None,
        is_level: bool = False,
        has_taken: bool = False,
        inventory: bytes = b"",
        lease: bytes = b"",
    ) -> None:
        """Log `segment`, move to `knowledge`, and write the next manifest.

        Args:
            segment: what was applied; may be empty.
            knowledge: what is known and held with it.
            intent: what was to be applied, if it was written down.
            is_level: the other side of the run knows the same then.
            has_taken: this side knows all that the other side knows then.
            inventory: nonce of the inventory that is in step with the log then.
            lease: version of the lease object that this write releases.

        Raises:
            LockLostError: another holder wrote the manifest.
            StorageError: the storage failed.
        """
        manifest = self._with_intended(segment, intent) if len(segment) or intent is not None else self.manifest
        manifest = manifest._replace(knowledge=knowledge, inventory=inventory, lease=lease)
        self._write_next(manifest, is_level=is_level, has_taken=has_taken)

    def become(self, standing: Standing) -> None:
        """Write what a meeting with another life makes of this replica: other origins, and a fresh id if it needs one.

        Raises:
            LockLostError: another holder wrote the manifest.
        """
        manifest = self.manifest
        knowledge = manifest.knowledge._replace(history=standing.history)
        manifest = manifest._replace(knowledge=knowledge, collected=dict(sorted(standing.collected.items())))
        manifest = self._rewriting.renamed(manifest, standing.renames)
        if standing.needs_place:
            manifest = manifest._replace(place=self.environment.place())
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
        logged, exceptions = intent.logged(applied, manifest.history)
        mark = self.environment.mark()
        knowledge = manifest.knowledge.adopt(logged, exceptions, replica=manifest.replica, mark=mark)
        manifest = manifest._replace(
            clock=max(manifest.clock, intent.segment.stamp_max),
            intents=(*manifest.intents, RememberedIntent(name, until_ms)) if remember else manifest.intents,
            garbage=manifest.garbage if remember else (*manifest.garbage, name),
            knowledge=knowledge,
            lease=b"",
        )
        if logged:
            manifest = self._rewriting.listing(manifest, Segment.from_rows(logged))._replace(inventory=b"")
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

    def forget(self, replica: int) -> None:
        """Write that a peer does not come back, so that nothing waits for it.

        Raises:
            LockLostError: another holder wrote the manifest.
        """
        gone = {**self.manifest.gone, replica: FORGOTTEN}
        self._write_next(self.manifest._replace(gone=gone, lease=b""))

    def compact(self, before_write: Callable[[], None]) -> tuple[int, int]:
        """Merge all segments into one and remove unlisted objects; return (segments merged, objects removed).

        Objects are listed before the manifest is written, and removed after: that write proves that nobody had taken
        the lease over until then, so what is removed is nobody else's.

        Raises:
            LockLostError: the lease was lost; nothing was removed.
        """
        ours = ("segment/", PACK_PREFIX, PIECE_PREFIX, PROBE_PREFIX)
        names = [name for name in self.storage.objects() if name.startswith(ours)]
        entries = self.manifest.segments
        listed = {entry.name for entry in entries if entry.inline is None}
        if any(name.startswith(PACK_PREFIX) for name in names):
            listed |= self.object_names()
        log_objects = set(listed)
        if any(name.startswith(PIECE_PREFIX) for name in names):
            inventory = read_inventory(self.storage)
            listed.update(entry.name for entry in (inventory.stored if inventory is not None else ()))
        listed.update(intent.name for intent in self.manifest.intents)
        unlisted = [name for name in names if name not in listed]
        manifest = self._rewriting.merged(self.manifest, 0, len(entries)) if len(entries) > 1 else self.manifest
        if manifest is self.manifest:
            merged = []
        else:
            merged = sorted(log_objects.difference(self._segments.objects_of(manifest.segments)))
        if len(entries) > 1 or unlisted or manifest.garbage:
            before_write()
            self._write_next(manifest._replace(garbage=(), lease=b""))
        if unlisted or merged:
            before_write()
            self.storage.remove([*unlisted, *merged], ANY)
        return len(entries), len(unlisted) + len(merged)

    # Making the next manifest

    def _with_intended(self, segment: Segment, intent: Intent | None) -> Manifest:
        """Return the manifest with `segment` listed: as the intent itself, where that is what was applied."""
        if intent is None:
            return self._rewriting.listing(self.manifest, segment, self.next_intent_name())
        if len(intent.segment) == len(segment):
            return self._rewriting.listing_stored(self.manifest, segment, intent.name, intent.data)
        manifest = self.manifest._replace(garbage=(*self.manifest.garbage, intent.name))
        return self._rewriting.listing(manifest, segment) if len(segment) else manifest

    def _write_next(self, manifest: Manifest, *, is_level: bool = False, has_taken: bool = False) -> None:
        """Write the next generation: tiers merged, garbage removed, clock past all that is known."""
        self.has_named_peer = self.peer is not None
        if self.peer is not None:
            name, other = self.peer.storage.name, self.peer.manifest
            history = manifest.history if is_level else other.history
            manifest = having_met(manifest, Met(name, other, history, has_taken))
            manifest = self._rewriting.collected(manifest, self.grace_ms)
        manifest = self._rewriting.settled(manifest)
        if not self.dry:
            manifest = self._rewriting.tidied(self._with_little_garbage(manifest))
        manifest = manifest._replace(
            generation=manifest.generation + 1,
            nonce=self.environment.nonce(),
            clock=max(manifest.clock, *manifest.cover.vector.values(), 0),
            digest=self._digest(manifest.segments),
        )
        if not self.dry:
            require_writable(manifest, self.storage.name)
            data = manifest.encode()
            try:
                self._version = store_if(self.storage, MANIFEST, data, self._version)
            except ObjectMismatch:
                message = "the lease was taken over: another run wrote the manifest; no data was lost, run again"
                raise LockLostError(message, storage=self.storage.name) from None
            session.keep_manifest(data, manifest, instead_of=self._data)
            self._data = data
        self.manifest = manifest
        self.has_open_intent = False

    def _with_little_garbage(self, manifest: Manifest) -> Manifest:
        """Return the manifest without intents that are over, and with little garbage."""
        manifest = manifest.without_past_intents(self.environment.now_ms())
        garbage = self.manifest.garbage
        if len(garbage) < GARBAGE_COUNT_MAX:
            return manifest
        self.storage.remove(garbage, ANY)
        removed = set(garbage)
        return manifest._replace(garbage=tuple(name for name in manifest.garbage if name not in removed))

    def _digest(self, entries: Sequence[SegmentEntry]) -> bytes | None:
        """Return the digest of the values where the whole log is at hand, else None."""
        at_hand = all(entry.inline is not None or entry.name in self._segments for entry in entries)
        return newest_digest(self.segments(entries)) if at_hand else None
