"""A replica under our lease: its manifest, and the log that grows only by whole manifest writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.errors import LockLostError, StorageError
from kvsync.expiry import may_be_gone
from kvsync.index import compaction
from kvsync.index.lineage import extended
from kvsync.index.manifest import Manifest, Missing, RememberedIntent, SegmentEntry
from kvsync.index.objects import MANIFEST, damaged, replace, segment_name
from kvsync.index.recent import load_manifest, recent
from kvsync.index.segments import Segments, changes_of
from kvsync.landing import missing_after, what_landed
from kvsync.lease import Inheritance
from kvsync.measuring import measured
from kvsync.native import Cover, Segment, newest_digest
from kvsync.probe import PROBE_PREFIX
from kvsync.storages.contract import ObjectMismatch, has_transaction
from kvsync.types import ABSENT, ANY, Change

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.environment import Environment
    from kvsync.index.recent import Found
    from kvsync.lease import Lease
    from kvsync.storages.contract import Storage

__all__ = ["Replica"]

GARBAGE_COUNT_MAX = 16
"""Unlisted objects that may pile up before one call removes them."""

LATE_WRITE_SECONDS = 600
"""How long after a takeover the old holder's last write may still land."""

COMPRESS_COUNT = 2000
"""Segments of fewer changes are stored as they are: most of their bytes are digests, and to compress the rest takes
longer than to send it. Compaction merges them into larger ones."""


class Replica:
    """One storage's side of the log.

    Attributes:
        storage: where it lives.
        manifest: as last read or written, with what is yet to be written.
        left: the manifest as it is in the storage, and its version; None where there is none.
        transactional: values and log are committed as one, so no intent is needed.
        dry: the log grows in memory only.

    `seen` is the manifest as it was read before, `known` as it certainly still is. The index objects of a storage that
    seems `untouched` are listed, to see that it is, instead of asking for each.
    """

    def __init__(
        self,
        storage: Storage,
        environment: Environment,
        *,
        dry: bool = False,
        seen: Found = None,
        known: Found = None,
        untouched: bool = False,
    ) -> None:
        self.storage = storage
        self.dry = dry
        self.transactional = has_transaction(storage)
        self._environment = environment
        self._names = storage.objects() if untouched else None
        self.left = None if self.lacks(MANIFEST) else known or load_manifest(storage, seen)
        self.manifest, self._version = self.left or (Manifest.fresh(environment), ABSENT)
        self._segments = Segments(storage, afresh=dry)
        self._intent: tuple[str, Segment, bytes] | None = None
        self._renamed = False

    # Reading

    def segments(self, entries: Sequence[SegmentEntry]) -> list[Segment]:
        """Return listed segments, each read at most once.

        Raises:
            IndexDamagedError: one is missing, damaged, or not the one that the manifest lists.
        """
        return self._segments.of(entries)

    def stretch(self, known: Cover) -> list[Segment]:
        """Return the segments from the oldest that `known` does not cover to the newest.

        The stretch is contiguous: a newer, covered segment may hold the change that beats an older one.
        """
        entries = self.manifest.segments
        return self.segments(entries[_first_uncovered(entries, known) :])

    def everything(self) -> list[Segment]:
        """Return all segments, oldest to newest."""
        return self.segments(self.manifest.segments)

    def logged_by(self, origin: int, after: int, until: int) -> list[Change]:
        """Return the newest changes of a segment each that are of `origin`, stamped after `after` and up to `until`."""
        entries = [entry for entry in self.manifest.segments if dict(entry.maxima).get(origin, 0) > after]
        changes = (change for segment in self.segments(entries) for change in changes_of(segment))
        return [change for change in changes if change.origin == origin and after < change.stamp <= until]

    def lacks_any(self, changes: Sequence[Change]) -> bool:
        """Whether one of `changes` is neither logged here nor beaten."""
        newest = self.newest([change.key for change in changes]) if changes else []
        return any(own is None or own.order < change.order for change, own in zip(changes, newest, strict=True))

    def newest(self, keys: Sequence[str]) -> list[Change | None]:
        """Return the newest logged change of each key; reads the whole log."""
        newest: list[Change | None] = [None] * len(keys)
        for segment in self.everything():
            for i, row in enumerate(segment.find(keys)):
                best = newest[i]
                if row is not None and (best is None or Change._make(row).order > best.order):
                    newest[i] = Change._make(row)
        return newest

    def known(self, keys: Sequence[str]) -> list[set[bytes]]:
        """Return which digests each key may hold (empty: nothing): its newest change's, or what is held instead."""
        held = {lack.change.key: lack.held for lack in self.manifest.lacking}
        return [
            {row.digest if row is not None and not row.deletes else b"", held.get(key, b"")}
            for key, row in zip(keys, self.newest(keys), strict=True)
        ]

    def lacking(self, failed: Sequence[tuple[Change, str]]) -> list[Missing]:
        """Return changes that could not be applied, with why, as missing: with what is held instead.

        That is what the log knows, not what a look would find now: anything else that lies there is a local change.
        """
        if not failed:
            return []
        known = {lack.change.key: lack.held for lack in self.manifest.lacking}
        newest = self.newest([change.key for change, _ in failed])
        now_ms = self._environment.now_ms()
        # Of a value that has expired the log does not know whether it is still there.
        unsure = [was.key for was in newest if was is not None and may_be_gone(was.expires, now_ms)]
        gone = {key for key, found in measured(self.storage, unsure) if found is None}
        return [
            Missing(
                change,
                reason,
                known.get(change.key, b"" if was is None or was.deletes or was.key in gone else was.digest),
            )
            for (change, reason), was in zip(failed, newest, strict=True)
        ]

    def intents(self) -> list[tuple[Segment, int]]:
        """Return what holders that lost their lease may still be writing, and when that was, in wall-clock ms."""
        loaded = [(self._segments.load(intent.name), intent.until_ms) for intent in self.manifest.intents]
        return [(intent, until_ms - LATE_WRITE_SECONDS * 1000) for intent, until_ms in loaded if intent is not None]

    # Growing the log

    def intend(self, segment: Segment) -> None:
        """Write down what is about to be written here, under the name that the next manifest will list."""
        if self.transactional or not len(segment):
            return
        name = segment_name(self.manifest.generation + 1)
        data = self._encoded(name, segment)
        self._create(name, data)
        self._intent = (name, segment, data)

    def prepare(self, segment: Segment) -> None:
        """Do ahead of time what logging a segment takes, which it remembers; another thread may."""
        self._encoded(segment_name(self.manifest.generation + 1), segment)
        if not self.manifest.segments:
            newest_digest([segment])

    def withdraw(self) -> None:
        """Take back an intent of which nothing was applied: the next one needs its name."""
        if self._intent is not None:
            self.storage.remove([self._intent[0]], ANY)
            self._intent = None

    def finalise(
        self,
        segment: Segment,
        cover: Cover,
        missing: Sequence[Missing],
        peer: Manifest | None = None,
        lease: bytes = b"",
    ) -> bool:
        """Log what was applied and move to `cover`, by compare-and-swap; return whether there was anything to log.

        `lease` is the version of the lease that is given back with it.
        """
        manifest = self.manifest
        if not len(segment) and self.settled(cover) and tuple(missing) == manifest.missing:
            return False
        if len(segment):
            manifest = self._logged(segment)
        peers = dict(manifest.peers or {})
        if peer is not None and peer.generation:
            peers[peer.replica] = peer.cover.vector
        self._write(manifest._replace(missing=tuple(missing), peers=peers), cover, lease)
        return True

    def _encoded(self, name: str, segment: Segment) -> bytes:
        compress = self.storage.capabilities.distance == "network" and len(segment) >= COMPRESS_COUNT
        return segment.encode(name, compress)

    def _logged(self, segment: Segment) -> Manifest:
        """Return the manifest with `segment` listed: as the intent that named it, where that is what was applied."""
        intent, self._intent = self._intent, None
        if intent is None:
            name = segment_name(self.manifest.generation + 1)
            data = self._encoded(name, segment)
            return self._listing(segment, name, data, stored=False)
        name, intended, data = intent
        if len(intended) == len(segment):
            return self._listing(segment, name, data, stored=True)
        fresh = self._fresh_name()
        data = self._encoded(fresh, segment)
        manifest = self.manifest._replace(garbage=(*self.manifest.garbage, name))
        return self._listing(segment, fresh, data, stored=False, manifest=manifest)

    def recover(self, lease: Lease | None) -> None:
        """Deal with what the last holder of the lease left behind.

        Its intent says what it was about to write. The intent's stamps go into our clock; what it got in, by the
        value there, is logged now, as held ahead of the vector; nothing is redone. A holder that never
        released is fenced by a manifest write, and its intent remembered, since its last write may still land.
        """
        if lease is not None and lease.inheritance is Inheritance.CLEAN:
            return
        taken = lease is not None and lease.inheritance is Inheritance.TAKEN
        name = segment_name(self.manifest.generation + 1)
        intent = self._segments.load(name)
        if intent is not None:
            self._adopt(name, intent, remember=taken and not (lease is not None and lease.outlived))
        elif taken:
            self._write(self.manifest, self.manifest.cover)
        if lease is not None:
            lease.settled()

    def require_no_remains(self) -> None:
        """Make sure that a storage without a manifest is a new one; nothing is asked where there is one.

        A first run that was interrupted may have left what belongs to generation 1. Anything later was listed once.

        Raises:
            IndexDamagedError: its manifest is gone.
        """
        if self.manifest.generation:
            return
        names = self.storage.objects() if self._names is None else self._names
        listed = [name for name in names if name.startswith("segment/") and name >= segment_name(2)]
        if listed:
            what = f"is missing, though the log that it listed is there ({listed[-1]})"
            raise damaged(self.storage.name, MANIFEST, what)

    def lacks(self, name: str) -> bool:
        """Whether an index object is known not to have been there when this run began."""
        return self._names is not None and name not in self._names

    def assume(self, replica: int) -> None:
        """Take the id that a plan drew, if this replica has none yet."""
        if not self.manifest.generation:
            self.manifest = self.manifest._replace(replica=replica)

    def settled(self, cover: Cover) -> bool:
        """Whether moving to `cover` leaves nothing to write."""
        return cover == self.manifest.cover and not self._renamed

    def rename(self) -> None:
        """Take a new replica id: our history is in doubt, and a new id is always safe."""
        self.manifest = self.manifest._replace(replica=self._environment.replica_id(), digest=None, points=())
        self._renamed = True

    def forget_intents(self) -> None:
        """Drop intents whose holder can write no more, at the next manifest write."""
        now_ms = self._environment.now_ms()
        kept = tuple(intent for intent in self.manifest.intents if intent.until_ms > now_ms)
        gone = tuple(intent.name for intent in self.manifest.intents if intent not in kept)
        self.manifest = self.manifest._replace(intents=kept, garbage=(*self.manifest.garbage, *gone))

    def compact(self) -> tuple[int, int]:
        """Merge all segments into one and remove unlisted objects; return (segments merged, objects removed)."""
        entries = self.manifest.segments
        if len(entries) > 1:
            self._write(self._merged(self.manifest, 0, len(entries)), self.manifest.cover)
        listed = {entry.name for entry in self.manifest.segments if entry.inline is None}
        listed.update(intent.name for intent in self.manifest.intents)
        ours = ("segment/", PROBE_PREFIX)
        unlisted = [name for name in self.storage.objects() if name.startswith(ours) and name not in listed]
        if unlisted:
            self.storage.remove(unlisted, ANY)
        if self.manifest.garbage:
            self._write(self.manifest._replace(garbage=()), self.manifest.cover)
        return len(entries), len(unlisted)

    def _adopt(self, name: str, intent: Segment, *, remember: bool) -> None:
        landed, all_read = what_landed(self.storage, intent, self._environment.now_ms, self.known)
        # What cannot be read now may have landed, too: a scan that can read it must not take it for a new change.
        left = (remember or not all_read) and len(landed) < len(intent)
        until_ms = self._environment.now_ms() + LATE_WRITE_SECONDS * 1000
        manifest = self.manifest._replace(
            clock=max(self.manifest.clock, intent.stamp_max),
            intents=(*self.manifest.intents, RememberedIntent(name, until_ms)) if left else self.manifest.intents,
            garbage=self.manifest.garbage if left else (*self.manifest.garbage, name),
            missing=missing_after(self.manifest, landed),
        )
        cover = manifest.cover.with_dots([change.dot for change in landed])
        if landed:
            adopted = Segment.from_rows(landed)
            fresh = self._fresh_name()
            encoded = self._encoded(fresh, adopted)
            manifest = self._listing(adopted, fresh, encoded, stored=False, manifest=manifest)
        self._write(manifest, cover)

    # Writing the manifest

    def _listing(
        self, segment: Segment, name: str, data: bytes, *, stored: bool, manifest: Manifest | None = None
    ) -> Manifest:
        """Return the manifest with one more segment; store the segment unless it is small or `stored` already."""
        manifest = manifest or self.manifest
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
        data = self._encoded(name, segment)
        rest = manifest._replace(
            segments=manifest.segments[:start],
            garbage=(*manifest.garbage, *(entry.name for entry in old if entry.inline is None)),
        )
        listed = self._listing(segment, name, data, stored=False, manifest=rest)
        return listed._replace(segments=(*listed.segments, *manifest.segments[stop:]))

    def _write(self, manifest: Manifest, cover: Cover, lease: bytes = b"") -> None:
        """Write the next generation: tiers merged, garbage swept, clock past all that the cover names."""
        if not self.dry:
            manifest = self._tidied(manifest)
        mine, vector = manifest.replica, cover.vector
        met = {known.get(mine, 0) for known in (manifest.peers or {}).values()}
        manifest = manifest._replace(
            generation=manifest.generation + 1,
            nonce=self._environment.nonce(),
            cover=cover,
            clock=max(manifest.clock, *vector.values(), 0),
            points=extended(manifest.points, vector.get(mine, 0), met),
            digest=self._digest(manifest.segments),
            lease=lease,
        )
        if not self.dry:
            data = manifest.encode()
            try:
                self._version = replace(self.storage, MANIFEST, data, self._version)
            except ObjectMismatch:
                message = "another run wrote the manifest: our lease was taken over; nothing was lost, run again"
                raise LockLostError(message, storage=self.storage.name) from None
            recent.keep(data, manifest)
            self.left = manifest, self._version
        self.manifest = manifest
        self._renamed = False

    def _tidied(self, manifest: Manifest) -> Manifest:
        """Return the manifest with its tiers merged, and without garbage once there is enough for one call."""
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
        return segment_name(self.manifest.generation + 1, self._environment.random.getrandbits(63) + 1)

    def _create(self, name: str, data: bytes) -> None:
        if self.dry:
            return
        try:
            replace(self.storage, name, data, ABSENT)
        except ObjectMismatch:
            message = f"{name} is there already, left by a run that was interrupted; run again to take it in"
            raise StorageError(message, storage=self.storage.name) from None


def _first_uncovered(entries: Sequence[SegmentEntry], known: Cover) -> int:
    """Return the position of the oldest segment that `known` does not cover, or how many there are."""
    stamp_of = known.vector.get
    for i, entry in enumerate(entries):
        for origin, stamp in entry.maxima:
            if stamp > stamp_of(origin, -1):
                return i
    return len(entries)
