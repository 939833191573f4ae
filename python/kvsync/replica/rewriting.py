"""Rewriting: the next manifest of a log made from the one before, its segments listed, merged, renamed or collected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.errors import StorageError
from kvsync.index import compaction
from kvsync.index.manifest import SegmentEntry
from kvsync.index.objects import segment_name, store_if
from kvsync.native import Segment
from kvsync.replica import collection
from kvsync.replica.base import Layers, Passing, becomes_base, write_base
from kvsync.replica.history import Renames
from kvsync.replica.peers import points_of_peers
from kvsync.replica.points import is_branch
from kvsync.storages.contract import ObjectMismatch
from kvsync.types import ABSENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.environment import Environment
    from kvsync.index.manifest import Manifest
    from kvsync.replica.history import Rename
    from kvsync.replica.segments import Segments
    from kvsync.storages.contract import Storage

__all__ = ["Rewriting"]

COMPRESS_COUNT = 2000
"""Segments of fewer changes are stored uncompressed: most of their bytes are digests, and compressing the rest takes
longer than sending it. Compaction merges them into larger ones."""


class Rewriting:
    """Makes manifests, and stores the segments that they list and are too large for them.

    Args:
        storage: where the log lives.
        environment: gives it time and randomness.
        segments: those that are read or written in this run.
        dry: nothing is stored.
    """

    def __init__(self, storage: Storage, environment: Environment, segments: Segments, *, dry: bool) -> None:
        self._storage = storage
        self._environment = environment
        self._segments = segments
        self._dry = dry

    # Segments

    def encoded(self, name: str, segment: Segment, note: bytes = b"") -> bytes:
        """Return a segment as it is stored in this storage."""
        remote = self._storage.capabilities.distance == "network"
        return segment.encode(name, remote and len(segment) >= COMPRESS_COUNT, note)

    def create(self, name: str, data: bytes) -> None:
        """Store a new object.

        Raises:
            StorageError: it is there already.
        """
        if self._dry:
            return
        try:
            store_if(self._storage, name, data, ABSENT)
        except ObjectMismatch:
            message = f"{name} already exists, left by an interrupted run; run again to recover it"
            raise StorageError(message, storage=self._storage.name) from None

    def listing(self, manifest: Manifest, segment: Segment, name: str = "", *, may_be_inline: bool = True) -> Manifest:
        """Return the manifest with one more segment, after storing it unless it is small, and may be inline.

        If it is large beside what is older, all of it becomes the base.
        """
        if self.makes_base(manifest, segment):
            return self._with_base(manifest, len(manifest.segments), [segment])
        name = name or self._fresh_name(manifest)
        data = self.encoded(name, segment)
        inline = may_be_inline and len(data) <= compaction.INLINE_BYTES_MAX
        if not inline:
            self.create(name, data)
        return self._with_entry(manifest, segment, SegmentEntry.of(name, segment, data, inline=inline))

    def listing_stored(self, manifest: Manifest, segment: Segment, name: str, data: bytes) -> Manifest:
        """Return the manifest with one more segment, which is stored already."""
        if self.makes_base(manifest, segment):
            manifest = manifest._replace(garbage=(*manifest.garbage, name))
            return self._with_base(manifest, len(manifest.segments), [segment])
        inline = len(data) <= compaction.INLINE_BYTES_MAX
        manifest = manifest._replace(garbage=(*manifest.garbage, name)) if inline else manifest
        return self._with_entry(manifest, segment, SegmentEntry.of(name, segment, data, inline=inline))

    def makes_base(self, manifest: Manifest, segment: Segment) -> bool:
        """Whether one more segment becomes the base, together with all that are listed."""
        return not self._dry and becomes_base(manifest.segments, len(segment))

    def _with_base(self, manifest: Manifest, stop: int, newer: Sequence[Segment] = ()) -> Manifest:
        """Return the manifest with its segments [0, stop), and newer ones that are not listed, as a base in blocks."""
        entries = manifest.segments[:stop]
        base, older = self._segments.layers(entries)
        if base is None:
            segment = Segment.merge([*older, *newer])
            layers, passing = Layers(None, [segment]), Passing.of(segment)
        else:
            segment, layers = None, Layers(base, [*older, *newer])
            listed = [Passing(dict(entry.passing), entry.passing_length) for entry in entries]
            passing = Passing.of_merged([*listed, *map(Passing.of, newer)])
        name = self._fresh_name(manifest)
        entry, written = write_base(self._storage, self._environment, name, layers, passing)
        written.segment = segment
        self._segments.keep(entry, written)
        kept = set(written.directory.packs)
        garbage = [old for old in self._segments.objects_of(entries) if old not in kept]
        return manifest._replace(
            segments=(entry, *manifest.segments[stop:]),
            clock=max(manifest.clock, *(stamp for _, stamp in entry.maxima)),
            garbage=(*manifest.garbage, *garbage),
        )

    def _with_entry(self, manifest: Manifest, segment: Segment, entry: SegmentEntry) -> Manifest:
        self._segments.keep(entry, segment)
        clock = max(manifest.clock, segment.stamp_max)
        return manifest._replace(segments=(*manifest.segments, entry), clock=clock)

    def _fresh_name(self, manifest: Manifest) -> str:
        # Random, so that a holder that lost its lease can never write an object that we list.
        return segment_name(manifest.generation + 1, self._environment.random.getrandbits(63) + 1)

    # Whole manifests

    def merged(self, manifest: Manifest, start: int, stop: int, *, may_be_inline: bool = True) -> Manifest:
        """Return the manifest with segments [start, stop) as one."""
        layers = self._segments.layers(manifest.segments[start:stop])
        if layers.base is not None and start == 0:
            return self._with_base(manifest, stop)
        return self._replacing(manifest, start, stop, Segment.merge(layers.whole()), may_be_inline=may_be_inline)

    def settled(self, manifest: Manifest) -> Manifest:
        """Return the manifest with its exceptions held against its own history, and without points to spare."""
        history, renames = manifest.history.settled(manifest.history)
        manifest = self.renamed(manifest, renames)
        history = history.thinned(manifest.replica, points_of_peers(manifest.peers))
        if history is manifest.history:
            return manifest
        return manifest._replace(knowledge=manifest.knowledge._replace(history=history))

    def renamed(self, manifest: Manifest, renames: Sequence[Rename]) -> Manifest:
        """Return the manifest with other origins for some changes, in its log and in what it says of single ones."""
        if not renames:
            return manifest
        manifest = manifest._replace(knowledge=manifest.knowledge.renamed(renames))
        names = Renames(renames)
        affected = (any(names.reach(*dot) for dot in entry.maxima) for entry in manifest.segments)
        start = next((i for i, is_affected in enumerate(affected) if is_affected), len(manifest.segments))
        if start == len(manifest.segments):
            return manifest
        segment = Segment.merge(self._segments.of(manifest.segments[start:])).renamed(renames)
        return self._replacing(manifest, start, len(manifest.segments), segment)

    def tidied(self, manifest: Manifest) -> Manifest:
        """Return the manifest with its tiers merged."""
        manifest = self._without_forgotten(manifest)
        while True:
            if span := compaction.merges(manifest.segments):
                manifest = self.merged(manifest, *span)
            elif span := compaction.overflow(manifest.segments):
                manifest = self.merged(manifest, *span, may_be_inline=False)
            else:
                return manifest

    def collected(self, manifest: Manifest, grace_ms: int) -> Manifest:
        """Return the manifest without changes that left nothing, and that all replicas have known for long enough."""
        if self._dry or not max([entry.passing_length for entry in manifest.segments], default=0):
            return manifest
        now_ms = self._environment.now_ms()
        known = collection.limits(manifest, collection.stamp_of(now_ms - grace_ms))
        if not collection.is_due(manifest, known, now_ms, grace_ms):
            return manifest
        segments = self._segments.of(manifest.segments)
        segment, floor = collection.collect(self._storage, manifest, segments, known, now_ms - grace_ms)
        manifest = manifest._replace(collected=floor, collected_ms=now_ms)
        return self._replacing(manifest, 0, len(manifest.segments), segment)

    def _without_forgotten(self, manifest: Manifest) -> Manifest:
        """Merge segments that name a branch which the history no longer has.

        What names it is beaten there, but would be taken for news until it is merged away.
        """
        forgotten = manifest.listed_origins - manifest.history.chains.keys()
        if not forgotten:
            return manifest
        forgotten = {origin for origin in forgotten - manifest.named_origins if is_branch(origin)}
        if not forgotten:
            return manifest
        names = (forgotten & dict(entry.maxima).keys() for entry in manifest.segments)
        start = next(i for i, found in enumerate(names) if found)
        return self.merged(manifest, start, len(manifest.segments))

    def _replacing(
        self, manifest: Manifest, start: int, stop: int, segment: Segment, *, may_be_inline: bool = True
    ) -> Manifest:
        """Return the manifest with another segment, if it has changes, in place of segments [start, stop).

        What lies outside of the manifest does not come back into it.
        """
        outside = self._segments.objects_of(manifest.segments[start:stop])
        rest = manifest._replace(segments=manifest.segments[:start], garbage=(*manifest.garbage, *outside))
        may_be_inline = may_be_inline and not outside
        listed = self.listing(rest, segment, may_be_inline=may_be_inline) if len(segment) else rest
        return listed._replace(segments=(*listed.segments, *manifest.segments[stop:]))
