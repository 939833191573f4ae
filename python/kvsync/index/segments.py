"""The segments of a storage, each read at most once, and checked against what its manifest lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.errors import FormatError, IndexDamagedError
from kvsync.index.objects import damaged, reading
from kvsync.index.recent import recent_segments
from kvsync.native import Segment, checksum
from kvsync.types import Change

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvsync.index.manifest import SegmentEntry
    from kvsync.storages.contract import Storage

__all__ = ["Segments", "changes_of"]

ROWS_COUNT = 4096


def changes_of(segment: Segment) -> Iterator[Change]:
    """Yield the changes of a segment, ascending by key, without making them all at once."""
    for start in range(0, len(segment), ROWS_COUNT):
        yield from map(Change._make, segment.rows(start, min(start + ROWS_COUNT, len(segment))))


class Segments:
    """Those segments of a storage that were read or written in a run.

    Args:
        storage: where they lie.
        afresh: each is read, also where an earlier run of this process knew it.
    """

    def __init__(self, storage: Storage, *, afresh: bool) -> None:
        self._storage = storage
        self._afresh = afresh
        self._known: dict[str, Segment] = {}

    def __contains__(self, name: str) -> bool:
        """Whether a segment need not be read any more."""
        return name in self._known

    def keep(self, entry: SegmentEntry, segment: Segment) -> None:
        """Take in what was just written, so that it is not read back."""
        self._known[entry.name] = segment
        if not self._afresh:
            recent_segments.keep(self._storage, entry, segment)

    def of(self, entries: Sequence[SegmentEntry]) -> list[Segment]:
        """Return listed segments; large ones are decoded by several threads.

        Raises:
            IndexDamagedError: one is missing, damaged, or not the one that the manifest lists.
        """
        wanted = [entry for entry in entries if entry.name not in self._known and not self._recalled(entry)]
        if wanted:
            objects = [(self._read(entry), entry.name) for entry in wanted]
            for entry, segment in zip(wanted, self._decoded(objects), strict=True):
                self.keep(entry, segment)
        return [self._known[entry.name] for entry in entries]

    def load(self, name: str) -> Segment | None:
        """Return a segment that no manifest lists, or None where it is not there.

        Raises:
            IndexDamagedError: it fails its checks.
        """
        there = self._storage.load(name)
        return self._decode(there.data, name) if there is not None else None

    def _recalled(self, entry: SegmentEntry) -> bool:
        """Take in a segment that an earlier run of this process knew, if one did."""
        segment = recent_segments.find(self._storage, entry) if not self._afresh else None
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
        # Where this fails, the bytes are looked at all the same: what is wrong within says more than that they differ.
        if len(data) != entry.size or _checksum_of(data) != entry.checksum:
            self._decode(data, entry.name)
            raise damaged(self._storage.name, entry.name, "is not the segment that the manifest lists")
        return data

    def _decoded(self, objects: Sequence[tuple[bytes, str]]) -> list[Segment]:
        try:
            return Segment.decode_all(objects)
        except (FormatError, IndexDamagedError):
            # One by one, to say which it is, and where.
            return [self._decode(data, name) for data, name in objects]

    def _decode(self, data: bytes, name: str) -> Segment:
        with reading(name, self._storage.name):
            return Segment.decode(data, name)


def _checksum_of(data: bytes) -> int | None:
    """Return what an object's envelope says its checksum is, or None where it is too short for one."""
    try:
        return checksum(data)
    except IndexDamagedError:
        return None
