"""The segments of a storage: each is read at most once in a run, and checked against what its manifest lists.

A segment in blocks is read in parts (`kvsync.replica.base`), unless somebody needs all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.errors import FormatError, IndexDamagedError
from kvsync.index.objects import damaged, reading
from kvsync.native import Directory, Segment, checksum
from kvsync.replica.base import Base, Layers, is_directory
from kvsync.replica.session import session
from kvsync.types import Change

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvsync.index.manifest import SegmentEntry
    from kvsync.native import Cover
    from kvsync.storages.contract import Storage

__all__ = ["Segments", "changes_of", "first_uncovered"]

ROWS_COUNT = 4096


def changes_of(segment: Segment) -> Iterator[Change]:
    """Yield the changes of a segment, ascending by key, without making them all at once."""
    for start in range(0, len(segment), ROWS_COUNT):
        yield from map(Change._make, segment.rows(start, min(start + ROWS_COUNT, len(segment))))


class Segments:
    """The segments of a storage that were read or written in a run.

    Args:
        storage: where they lie.
        read_all: read each segment once, even if an earlier run of this process knew it.
    """

    def __init__(self, storage: Storage, *, read_all: bool) -> None:
        self._storage = storage
        self._read_all = read_all
        self._known: dict[str, Segment | Base] = {}
        self._checked: set[str] = set()

    def __contains__(self, name: str) -> bool:
        """Whether all of a segment is at hand."""
        known = self._known.get(name)
        return known is not None and (not isinstance(known, Base) or known.segment is not None)

    def keep(self, entry: SegmentEntry, known: Segment | Base) -> None:
        """Take in what was just read or written, so that it is not read again."""
        self._known[entry.name] = known
        if not self._read_all:
            decoded = known.directory if isinstance(known, Base) else known
            session.keep_segment(self._storage, entry, decoded)

    def of(self, entries: Sequence[SegmentEntry]) -> list[Segment]:
        """Return listed segments, all of them whole.

        Raises:
            IndexDamagedError: one is absent, damaged, or not the one that the manifest lists.
        """
        return [
            self._whole(entry, known) if isinstance(known, Base) else known
            for entry, known in zip(entries, self._open(entries), strict=True)
        ]

    def layers(self, entries: Sequence[SegmentEntry]) -> Layers:
        """Return listed segments; the oldest one stays in blocks if it is kept so.

        Raises:
            IndexDamagedError: one is absent, damaged, or not the one that the manifest lists.
        """
        first = self._open(entries[:1])
        if first and isinstance(first[0], Base):
            return Layers(first[0], self.of(entries[1:]))
        return Layers(None, self.of(entries))

    def objects_of(self, entries: Sequence[SegmentEntry]) -> list[str]:
        """Return the names of all objects that some listed segments lie in.

        Raises:
            IndexDamagedError: one is absent, damaged, or not the one that the manifest lists.
        """
        outside = [entry for entry in entries if entry.inline is None]
        bases = [known for known in self._open(outside) if isinstance(known, Base)]
        return [*(entry.name for entry in outside), *(pack for base in bases for pack in base.directory.packs)]

    def _open(self, entries: Sequence[SegmentEntry]) -> list[Segment | Base]:
        """Return listed segments, of those in blocks only what they consist of; several threads decode large ones."""
        wanted = [entry for entry in entries if entry.name not in self._known and not self._is_remembered(entry)]
        whole: list[tuple[SegmentEntry, bytes]] = []
        for entry in wanted:
            data = self._read(entry)
            if is_directory(data):
                base = Base.decode(self._storage, entry.name, data)
                self._require_base(entry, base)
                self.keep(entry, base)
            else:
                whole.append((entry, data))
        segments = self._decoded([(data, entry.name) for entry, data in whole]) if whole else []
        for (entry, _), segment in zip(whole, segments, strict=True):
            self._require_listed(entry, segment)
            self.keep(entry, segment)
        return [self._known[entry.name] for entry in entries]

    def _whole(self, entry: SegmentEntry, base: Base) -> Segment:
        segment = base.whole()
        if entry.name not in self._checked:
            self._require_passing(entry, segment)
            self._checked.add(entry.name)
        return segment

    def load(self, name: str) -> Segment | None:
        """Return a segment that no manifest lists, or None where it is absent.

        Raises:
            IndexDamagedError: it fails its checks.
        """
        there = self._storage.load(name)
        return self._decode(there.data, name) if there is not None else None

    def _is_remembered(self, entry: SegmentEntry) -> bool:
        """Take in a segment that an earlier run of this process knew; return whether there was one."""
        found = session.segment(self._storage, entry) if not self._read_all else None
        if found is not None:
            name = entry.name
            self._known[name] = Base(self._storage, name, found) if isinstance(found, Directory) else found
        return found is not None

    def _read(self, entry: SegmentEntry) -> bytes:
        data = entry.inline
        if data is None:
            there = self._storage.load(entry.name)
            if there is None:
                raise damaged(self._storage.name, entry.name, "is missing")
            data = there.data
        # Decoding may tell what is wrong inside, which says more than that the checksums differ.
        if (len(data) != entry.size and not is_directory(data)) or _checksum_of(data) != entry.checksum:
            _ = Base.decode(self._storage, entry.name, data) if is_directory(data) else self._decode(data, entry.name)
            raise damaged(self._storage.name, entry.name, "is not the segment that the manifest lists")
        return data

    def _require_listed(self, entry: SegmentEntry, segment: Segment) -> None:
        """Refuse a segment that has more, or other, changes than its manifest says: nobody knows those."""
        for field, listed, there in (
            ("changes", entry.length, len(segment)),
            ("maxima", dict(entry.maxima), segment.maxima),
            ("passing changes", entry.passing_length, segment.tombstones + segment.expiring),
            ("passing changes", dict(entry.passing), segment.passing),
        ):
            if listed != there:
                what = f"has other {field} than the manifest lists"
                raise damaged(self._storage.name, entry.name, what)

    def _require_base(self, entry: SegmentEntry, base: Base) -> None:
        """Refuse a base of which its manifest says what is not so."""
        if len(base) != entry.length or base.directory.maxima != dict(entry.maxima):
            raise damaged(self._storage.name, entry.name, "has other changes or maxima than the manifest lists")

    def _require_passing(self, entry: SegmentEntry, segment: Segment) -> None:
        """Refuse a base that has more passing changes than its manifest says: that counts those that it had once."""
        listed = dict(entry.passing)
        count = segment.tombstones + segment.expiring
        if count > entry.passing_length or any(
            stamp < listed.get(origin, stamp + 1) for origin, stamp in segment.passing.items()
        ):
            raise damaged(self._storage.name, entry.name, "has other passing changes than the manifest lists")

    def _decoded(self, objects: Sequence[tuple[bytes, str]]) -> list[Segment]:
        try:
            return Segment.decode_all(objects)
        except (FormatError, IndexDamagedError):
            # One by one, to say which it is, and where.
            return [self._decode(data, name) for data, name in objects]

    def _decode(self, data: bytes, name: str) -> Segment:
        with reading(name, self._storage.name):
            return Segment.decode(data, name)


def first_uncovered(entries: Sequence[SegmentEntry], known: Cover) -> int:
    """Return the position of the oldest segment that `known` does not cover, or how many there are."""
    stamp_of = known.vector.get
    for i, entry in enumerate(entries):
        for origin, stamp in entry.maxima:
            if stamp > stamp_of(origin, -1):
                return i
    return len(entries)


def _checksum_of(data: bytes) -> int | None:
    """Return what an object's envelope says its checksum is, or None where it is too short for one."""
    try:
        return checksum(data)
    except IndexDamagedError:
        return None
