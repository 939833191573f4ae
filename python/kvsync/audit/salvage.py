"""Find what is left of a log: every intact segment and block, also inside of a manifest that is damaged elsewhere."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgpack

from kvsync.audit.index import SEGMENT_PREFIX, decoded
from kvsync.errors import IndexDamagedError
from kvsync.native import KIND_SEGMENT, Segment, unseal
from kvsync.replica.base import Base

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvsync.audit.index import Index

__all__ = ["salvaged"]

START = b"kvsy" + bytes([KIND_SEGMENT])
"""How the envelope of a segment begins."""

LENGTH_AT = slice(8, 16)
ENVELOPE_BYTES = 24

TRIES = 1000
"""A manifest holds far fewer segments; what looks like more of them is no reason to read on for ever."""


def salvaged(index: Index) -> list[Segment]:
    """Return every intact segment of a storage: of the log, in the manifest, or not listed any more.

    Of a segment in blocks they are the intact blocks.

    An intent is one of them, and so is what was merged into others: the values tell which of it was applied, and what
    is newer.
    """
    found = list(index.segments)
    found += [base.salvaged() for base in index.bases if not any(base.segment is segment for segment in found)]
    listed = {entry.name for entry in index.manifest.segments} if index.manifest is not None else set()
    for name in index.names:
        there = index.storage.load(name) if name.startswith(SEGMENT_PREFIX) and name not in listed else None
        if there is not None:
            with suppress(IndexDamagedError):
                old = decoded(index.storage, name, there.data)
                found.append(old.salvaged() if isinstance(old, Base) else old)
    if index.manifest is None and index.data is not None:
        found += _inside(index.data)
    return found


def _inside(data: bytes) -> Iterator[Segment]:
    """Yield the intact segments within the bytes of a manifest; each has a checksum of its own."""
    at = -1
    for _ in range(TRIES):
        at = data.find(START, at + 1)
        if at < 0:
            return
        length = int.from_bytes(data[at:][LENGTH_AT], "little")
        sealed = data[at : at + ENVELOPE_BYTES + length]
        with suppress(IndexDamagedError, ValueError, msgpack.UnpackException):
            yield Segment.decode(sealed, _name_in(unseal(KIND_SEGMENT, sealed)))


def _name_in(body: bytes) -> str:
    """Return the name that an object says it has, which comes first in it."""
    unpacker = msgpack.Unpacker(raw=False)
    unpacker.feed(body)
    unpacker.read_map_header()
    unpacker.skip()
    return str(unpacker.unpack())
