"""Carry what is kept beside values, such as the time of a file, between two storages that both do so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.storages.metadata import has_metadata
from kvsync.storages.wrapper import WrappedStorage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvsync.storages.contract import Storage
    from kvsync.storages.metadata import SupportsMetadata
    from kvsync.types import Written

__all__ = ["carrying"]


def carrying(giver: Storage, taker: Storage) -> Storage:
    """Return `taker`, or where both storages keep metadata, `taker` taking that of `giver` with each value."""
    return _Carrying(giver, taker) if has_metadata(giver) and has_metadata(taker) else taker


class _Carrying(WrappedStorage):
    """A storage whose writes bring along what another one keeps beside the values."""

    def __init__(self, giver: SupportsMetadata, taker: SupportsMetadata) -> None:
        super().__init__(taker)
        self._giver = giver
        self._taker = taker

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Write values with their metadata."""
        return self._taker.write_with_metadata(keys, values, self._giver.metadata(keys), expect)

    def write_stream(self, key: str, parts: Iterator[bytes], expect: Sequence[bytes | None] | None = None) -> Written:
        """Write a value from its parts, with its metadata."""
        (metadata,) = self._giver.metadata([key])
        return self._taker.write_stream_with_metadata(key, parts, metadata, expect)
