"""Storages that keep something beside a value which travels with it: a file is executable, and has a time.

A storage declares that only where its user asked for it, so that it costs nothing elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeGuard

from kvsync.storages.capabilities import Support
from kvsync.storages.contract import SupportsStreaming

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvsync.storages.contract import Storage
    from kvsync.types import Metadata, Written

__all__ = ["SupportsMetadata", "has_metadata"]


class SupportsMetadata(SupportsStreaming, Protocol):
    """A storage that gives and takes `Metadata` of values.

    It takes what it was asked to take, and that only for keys that are new here: a value that is overwritten keeps what
    is beside it. A crash leaves a value either as it was, or new with its metadata.
    """

    def metadata(self, keys: Sequence[str]) -> list[Metadata | None]:
        """Return what is kept beside each value; None for a key where none is."""
        ...

    def write_with_metadata(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        metadata: Sequence[Metadata | None],
        expect: Sequence[bytes | None] | None = None,
    ) -> Written:
        """Write as `write` does; what is new gets `metadata[i]`."""
        ...

    def write_stream_with_metadata(
        self, key: str, parts: Iterator[bytes], metadata: Metadata | None, expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Write as `write_stream` does; what is new gets `metadata`."""
        ...


def has_metadata(storage: Storage) -> TypeGuard[SupportsMetadata]:
    """Whether `storage` gives and takes what is kept beside values."""
    return Support.METADATA in storage.capabilities.supports
