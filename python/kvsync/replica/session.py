"""What this process remembers of the storages that it used: decoded manifests and segments.

Nothing here is ever trusted in place of a look. A manifest is read in every run; what is remembered saves decoding it
again. It is found by its bytes, which say everything: another storage, another process or a damaged byte is another
entry; so is a segment inside a manifest. A segment of its own never changes under the name, size and checksum that a
manifest lists, so it is not read again.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from kvsync.index.manifest import Manifest
from kvsync.native import Directory, Segment
from kvsync.storages.wrapper import innermost

if TYPE_CHECKING:
    from kvsync.index.manifest import SegmentEntry
    from kvsync.storages.contract import Storage
    from kvsync.types import Expectation

__all__ = ["Found", "Session", "StoredManifest", "session"]

BYTES_MAX: Final = 32 << 20
"""How much memory all entries together may take, roughly; the least recently used ones go first."""

ENTRY_BYTES_MAX: Final = 1 << 20
"""Larger entries are not kept: one of them would push out too many others."""

OVERHEAD_BYTES: Final = 1 << 10
"""About what an entry takes beside its bytes."""

ENVELOPE_BYTES: Final = 24
"""The envelope of an index object holds its checksum; to look it up is faster than to hash all of the bytes."""

Key: TypeAlias = "bytes | tuple[int, str, int, int]"
"""Envelope of a manifest or of an inline segment; or storage, name, size and checksum of a segment of its own."""


class StoredManifest(NamedTuple):
    """A manifest as it was read: its version in the storage, and the bytes that it was decoded from."""

    manifest: Manifest
    version: Expectation
    data: bytes


Found: TypeAlias = "StoredManifest | None"
"""A manifest, or None where a storage has none."""


class Kept(NamedTuple):
    """A decoded object, and the bytes that it was decoded from; none where it is found by what lists it."""

    data: bytes
    decoded: Manifest | Segment | Directory


class Session:
    """The most recently used manifests and segments; safe among threads."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._lock = threading.Lock()
        self._entries: OrderedDict[Key, tuple[Kept, int]] = OrderedDict()
        self._storages: WeakKeyDictionary[object, int] = WeakKeyDictionary()
        self._numbers = count()

    def manifest(self, data: bytes) -> Manifest | None:
        """Return the decoded manifest of these bytes, if it is remembered."""
        found = self._find(data[:ENVELOPE_BYTES], data)
        return found if isinstance(found, Manifest) else None

    def keep_manifest(self, data: bytes, manifest: Manifest, *, instead_of: bytes = b"") -> None:
        """Remember a manifest by its bytes, in place of another one, which is not read any more."""
        self._drop(instead_of[:ENVELOPE_BYTES])
        # Its inline segments are held twice: in the bytes and in the entries.
        self._keep(data[:ENVELOPE_BYTES], Kept(data, manifest), 2 * len(data))

    def segment(self, storage: Storage, entry: SegmentEntry) -> Segment | Directory | None:
        """Return a segment that a manifest of `storage` lists, or what one in blocks consists of, if remembered."""
        if entry.inline is not None:
            found = self._find(entry.inline[:ENVELOPE_BYTES], entry.inline)
        else:
            key = self._key_of(storage, entry)
            found = self._find(key, b"") if key is not None else None
        return found if isinstance(found, Segment | Directory) else None

    def keep_segment(self, storage: Storage, entry: SegmentEntry, segment: Segment | Directory) -> None:
        """Remember a segment that a manifest of `storage` lists, or is about to list."""
        if entry.inline is not None:
            self._keep(entry.inline[:ENVELOPE_BYTES], Kept(entry.inline, segment), segment.nbytes + entry.size)
        elif (key := self._key_of(storage, entry)) is not None:
            size = segment.nbytes if isinstance(segment, Directory) else segment.nbytes + entry.size
            self._keep(key, Kept(b"", segment), size)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    def renew_lock(self) -> None:
        """Replace the lock in a forked child: some thread of the parent may have held it."""
        self._lock = threading.Lock()

    def _key_of(self, storage: Storage, entry: SegmentEntry) -> Key | None:
        """Return where a segment of its own is kept; None for a storage that cannot be referred to weakly."""
        try:
            number = self._storages.setdefault(innermost(storage), next(self._numbers))
        except TypeError:
            return None
        return number, entry.name, entry.size, entry.checksum

    def _find(self, key: Key, data: bytes) -> Manifest | Segment | Directory | None:
        with self._lock:
            found = self._entries.get(key)
            if found is None or found[0].data != data:
                return None
            self._entries.move_to_end(key)
            return found[0].decoded

    def _drop(self, key: Key) -> None:
        with self._lock:
            _, freed = self._entries.pop(key, (None, 0))
            self._bytes -= freed

    def _keep(self, key: Key, kept: Kept, size: int) -> None:
        size += OVERHEAD_BYTES
        if size > min(ENTRY_BYTES_MAX, self._bytes_max):
            return
        with self._lock:
            _, before = self._entries.pop(key, (None, 0))
            self._entries[key] = kept, size
            self._bytes += size - before
            while self._bytes > self._bytes_max:
                _, (_, freed) = self._entries.popitem(last=False)
                self._bytes -= freed


session: Final = Session()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=session.renew_lock)
