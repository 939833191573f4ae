"""Reading and digesting many stored values of unknown size, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from kvsync.native import Hasher, digest_values
from kvsync.storages.contract import LARGE_BYTES, TornRead, has_sizes, has_streaming
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvsync.storages.contract import Storage, SupportsSizes, SupportsStreaming

__all__ = ["BATCH_BYTES", "BATCH_COUNT", "Digested", "digests", "read_batches"]

BATCH_COUNT = 4096
BATCH_BYTES = 8 << 20
"""A batch holds at most so many keys and bytes of values (one value may be larger)."""

FIRST_COUNT = 16
GROWTH = 8
"""Where a storage tells no sizes, the first batch is this small, and each further one at most so many times larger."""


class Digested(NamedTuple):
    """What is known of a stored value once it was read.

    Attributes:
        digest: its BLAKE3.
        size: its bytes.
        version: its version token, where it was read in parts and the storage tells; else empty.
    """

    digest: bytes
    size: int
    version: bytes = b""


Values: TypeAlias = "list[bytes | Unreadable | None]"
ReadBatch: TypeAlias = "tuple[Sequence[str], Values | Digested]"
"""Some keys with their values, or one key with the digest of a value that is too large to hold."""


def digests(storage: Storage, keys: Sequence[str]) -> Iterator[tuple[str, Digested | Unreadable | None]]:
    """Yield each key with the digest of its value: `Unreadable` where it cannot be read, None where it is absent."""
    for some, values in read_batches(storage, keys):
        if isinstance(values, Digested):
            yield some[0], values
            continue
        taken = iter(digest_values([value for value in values if isinstance(value, bytes)]))
        for key, value in zip(some, values, strict=True):
            yield key, Digested(next(taken), len(value)) if isinstance(value, bytes) else value


def read_batches(storage: Storage, keys: Sequence[str]) -> Iterator[ReadBatch]:
    """Yield the values of `keys`, in their order, a batch at a time; a large one is digested in parts instead."""
    return _by_size(storage, keys) if has_sizes(storage) else _by_guess(storage, keys)


def _by_guess(storage: Storage, keys: Sequence[str]) -> Iterator[ReadBatch]:
    """Read batches whose count follows from the sizes met so far."""
    start, count = 0, FIRST_COUNT
    while start < len(keys):
        some = keys[start : start + count]
        values = storage.read(some)
        yield some, values
        start += len(some)
        size = sum(len(value) for value in values if isinstance(value, bytes))
        fitting = max(BATCH_BYTES * len(some) // max(size, 1), 1)
        count = min(fitting, count * GROWTH, BATCH_COUNT)


def _by_size(storage: SupportsSizes, keys: Sequence[str]) -> Iterator[ReadBatch]:
    """Read batches that fit, and large values in parts, or at least alone."""
    for first in range(0, len(keys), BATCH_COUNT):
        group = keys[first : first + BATCH_COUNT]
        sizes = storage.sizes(group)
        if sum(filter(None, sizes)) <= BATCH_BYTES:
            yield group, storage.read(group)
            continue
        start = total = 0
        for position, size in enumerate(sizes):
            if position > start and total + (size or 0) > BATCH_BYTES:
                yield group[start:position], storage.read(group[start:position])
                start, total = position, 0
            total += size or 0
            if total > LARGE_BYTES:
                key = group[position]
                yield [key], _stream(storage, key) if has_streaming(storage) else storage.read([key])
                start, total = position + 1, 0
        if start < len(group):
            yield group[start:], storage.read(group[start:])


def _stream(storage: SupportsStreaming, key: str) -> Digested | list[bytes | Unreadable | None]:
    parts = storage.read_stream(key)
    if parts is None or isinstance(parts, Unreadable):
        return [parts]
    hasher, size = Hasher(), 0
    try:
        for part in parts:
            hasher.update(part)
            size += len(part)
    except TornRead as torn:
        return [Unreadable(str(torn))]
    return Digested(hasher.digest(), size, getattr(parts, "version", b""))
