"""The segments of a storage: each is read at most once in a run, and checked against what its manifest lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.errors import FormatError, IndexDamagedError
from kvsync.index.objects import damaged, reading
from kvsync.native import Segment, checksum
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
        self._known: dict[str, Segment] = {}

    def __contains__(self, name: str) -> bool:
        """Whether a segment is at hand."""
        return name in self._known

    def keep(self, entry: SegmentEntry, segment: Segment) -> None:
        """Take in what was just read or written, so that it is not read again."""
        self._known[entry.name] = segment
        if not self._read_all:
            session.keep_segment(self._storage, entry, segment)

    def of(self, entries: Sequence[SegmentEntry]) -> list[Segment]:
        """Return listed segments; several threads decode large ones.

        Raises:
            IndexDamagedError: one is absent, damaged, or not the one that the manifest lists.
        """
        wanted = [entry for entry in entries if entry.name not in self._known and not self._is_remembered(entry)]
        if wanted:
            objects = [(self._read(entry), entry.name) for entry in wanted]
            for entry, segment in zip(wanted, self._decoded(objects), strict=True):
                self._require_listed(entry, segment)
                self.keep(entry, segment)
        return [self._known[entry.name] for entry in entries]

    def load(self, name: str) -> Segment | None:
        """Return a segment that no manifest lists, or None where it is absent.

        Raises:
            IndexDamagedError: it fails its checks.
        """
        there = self._storage.load(name)
        return self._decode(there.data, name) if there is not None else None

    def _is_remembered(self, entry: SegmentEntry) -> bool:
        """Take in a segment that an earlier run of this process knew; return whether there was one."""
        segment = session.segment(self._storage, entry) if not self._read_all else None
        if segment is not None:
            self._known[entry.name] = segment
        return segment is not None

    def _read(self, entry: SegmentEntry) -> bytes:
        data = entry.inline
        if data is None:
            there = self._storage.load(entry.name)
            if there is None:
                raise damaged(self._storage.name, entry.name, "is missing")
            data = there.data
        # Decoding may tell what is wrong inside, which says more than that the checksums differ.
        if len(data) != entry.size or _checksum_of(data) != entry.checksum:
            self._decode(data, entry.name)
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
