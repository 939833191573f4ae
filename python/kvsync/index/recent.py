"""Manifests and segments that this process wrote or read lately: a loop of runs decodes none twice.

Manifests are found by their bytes alone, which say everything: another storage, another process, or a damaged byte is
another entry. The envelope, with its checksum, leads to the entry, since to hash all of the bytes takes longer than to
compare them. Segments are found by what a manifest lists, since not to read them is what counts.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias
from weakref import WeakKeyDictionary

from kvsync.index.manifest import Manifest
from kvsync.index.objects import MANIFEST
from kvsync.storages.wrapper import innermost

if TYPE_CHECKING:
    from kvsync.index.manifest import SegmentEntry
    from kvsync.native import Segment
    from kvsync.storages.contract import Storage
    from kvsync.types import Expectation

__all__ = ["Found", "RecentManifests", "RecentSegments", "load_manifest", "recent", "recent_segments"]

COUNT_MAX = 32
BYTES_MAX = 128 << 10
"""So many are kept, each of at most so many bytes: 4 MiB of manifests in all, and of segments for each storage.

Segments that were encoded here have those bytes beside them, up to as many again.
"""

ENVELOPE_BYTES: Final = 24
NOTHING: Final = b"", None

Found: TypeAlias = "tuple[Manifest, Expectation] | None"
"""A manifest and its version, or None where kvsync has never been."""

SegmentKey: TypeAlias = "tuple[str, int, int]"
"""A segment's name, size and checksum."""


class RecentManifests:
    """The last few manifests by their bytes; safe among threads."""

    def __init__(self, count_max: int = COUNT_MAX) -> None:
        self.count_max = count_max
        self._lock = threading.RLock()
        self._manifests: dict[bytes, tuple[bytes, Manifest]] = {}

    def find(self, data: bytes) -> Manifest | None:
        """Return the manifest of these bytes, if it is still known."""
        kept, manifest = self._manifests.get(data[:ENVELOPE_BYTES], NOTHING)
        return manifest if kept == data else None

    def keep(self, data: bytes, manifest: Manifest) -> None:
        """Remember a manifest, and forget the oldest where there are too many."""
        if len(data) > BYTES_MAX or not self.count_max:
            return
        with self._lock:
            while len(self._manifests) >= self.count_max:
                del self._manifests[next(iter(self._manifests))]
            self._manifests[data[:ENVELOPE_BYTES]] = data, manifest

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._manifests.clear()

    def renew_lock(self) -> None:
        """Go on in a forked child, where nobody has it."""
        self._lock = threading.RLock()


class RecentSegments:
    """The last few segments of each storage, for as long as that is there; safe among threads.

    A segment never changes under its name, size and checksum. That it is still in the storage is not looked at: who
    wants to know that must not ask here.
    """

    def __init__(self, count_max: int = COUNT_MAX) -> None:
        self.count_max = count_max
        self._lock = threading.RLock()
        self._segments: WeakKeyDictionary[object, dict[SegmentKey, Segment]] = WeakKeyDictionary()

    def find(self, storage: Storage, entry: SegmentEntry) -> Segment | None:
        """Return a segment that a manifest of `storage` lists, if it is still known."""
        with suppress(TypeError):  # a storage that cannot be referred to weakly
            return self._segments.get(innermost(storage), {}).get((entry.name, entry.size, entry.checksum))
        return None

    def keep(self, storage: Storage, entry: SegmentEntry, segment: Segment) -> None:
        """Remember a segment of `storage`, and forget the oldest where there are too many."""
        if segment.nbytes > BYTES_MAX or not self.count_max:
            return
        with self._lock, suppress(TypeError):
            kept = self._segments.setdefault(innermost(storage), {})
            while len(kept) >= self.count_max:
                del kept[next(iter(kept))]
            kept[entry.name, entry.size, entry.checksum] = segment

    def renew_lock(self) -> None:
        """Go on in a forked child, where nobody has it."""
        self._lock = threading.RLock()


recent: Final = RecentManifests()
recent_segments: Final = RecentSegments()


def _renew_locks() -> None:
    """Replace, in a forked child, locks that some other thread of the parent may have held."""
    for known in (recent, recent_segments):
        known.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


def load_manifest(storage: Storage, seen: Found = None) -> Found:
    """Read a storage's manifest; one that is still at the version `seen` is not decoded again.

    Raises:
        IndexDamagedError: it fails its checks.
    """
    there = storage.load(MANIFEST)
    if there is not None and seen is not None and there.version == seen[1]:
        return seen
    if there is None:
        return None
    manifest = recent.find(there.data)
    if manifest is None:
        manifest = Manifest.decode(there.data, storage.name)
        recent.keep(there.data, manifest)
    return manifest, there.version
