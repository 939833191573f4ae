"""Vouching: the digests of values that are not read, since the other side has a value with the MD5 that is claimed.

Only `trust="etag"` does that. Some storages tell an MD5 of each value with its version token. A digest is only ever
taken of bytes: a claim says that a value has the same bytes as one of the other side, whose digest is known. So a log
has the BLAKE3 of each value, as always, and whoever reads a value finds out if the claim was wrong.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from kvsync.digesting import Digested, read_batches
from kvsync.native import Hasher, digest_values
from kvsync.storages.contract import OpaqueTokens, TornRead, has_sizes, has_streaming
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kvsync.scan.known import Known
    from kvsync.storages.contract import Storage

__all__ = ["Voucher", "claims_of"]


def claims_of(storage: Storage) -> Callable[[bytes], bytes | None] | None:
    """Return what tells the MD5 of a value from its version token, or None if nothing does."""
    tokens = storage.capabilities.tokens
    return tokens.md5_of if isinstance(tokens, OpaqueTokens) and has_sizes(storage) else None


class Content(NamedTuple):
    """What is compared of two values."""

    md5: bytes
    size: int


class Voucher(NamedTuple):
    """The side whose values are known.

    Attributes:
        storage: where they are.
        known: their tokens and digests, as they are now.
        racy: keys whose token does not prove that the digest belongs to it.
    """

    storage: Storage
    known: Known
    racy: set[str]

    def of(
        self, storage: Storage, tokens: Mapping[str, bytes], on_batch: Callable[[], None]
    ) -> dict[str, tuple[bytes, int]]:
        """Return {key: (digest, size)} of those values of another storage that this side has, too, as it claims.

        Args:
            storage: the other one, just listed.
            tokens: {key: version token} of values there.
            on_batch: called between batches that are read on this side.
        """
        claims = _claims(storage, tokens)
        ours = zip(claims, self.known.digests(list(claims)), strict=True)
        digests = {key: digest for key, digest in ours if digest is not None and key not in self.racy}
        return {
            key: (digests[key], content.size)
            for key, content in self._contents(digests, on_batch)
            if claims[key] == content
        }

    def _contents(self, digests: Mapping[str, bytes], on_batch: Callable[[], None]) -> Iterator[tuple[str, Content]]:
        """Yield MD5 and size of the values here that have these digests."""
        keys = list(digests)
        if claims_of(self.storage) is not None:
            tokens = zip(keys, self.known.tokens(keys), strict=True)
            yield from _claims(self.storage, {key: token for key, token in tokens if token}).items()
            return
        for key, digest, content in _read(self.storage, keys, on_batch):
            if digest == digests[key]:
                yield key, content


def _read(storage: Storage, keys: Sequence[str], on_batch: Callable[[], None]) -> Iterator[tuple[str, bytes, Content]]:
    """Yield each key whose value can be read, with the BLAKE3 and the content of the value."""
    from hashlib import md5  # noqa: PLC0415 - it takes long to load

    for some, values in read_batches(storage, keys):
        on_batch()
        if isinstance(values, Digested):
            # Read once more, in parts: few values are so large, and those of a folder are in the machine's memory.
            hashes, blake3, size = md5(usedforsecurity=False), Hasher(), 0
            for part in _parts(storage, some[0]):
                hashes.update(part)
                blake3.update(part)
                size += len(part)
            yield some[0], blake3.digest(), Content(hashes.digest(), size)
            continue
        held = {key: value for key, value in zip(some, values, strict=True) if isinstance(value, bytes)}
        for (key, value), digest in zip(held.items(), digest_values(list(held.values())), strict=True):
            yield key, digest, Content(md5(value, usedforsecurity=False).digest(), len(value))


def _parts(storage: Storage, key: str) -> Iterator[bytes]:
    """Yield the parts of a large value, as far as they can be read."""
    parts = storage.read_stream(key) if has_streaming(storage) else None
    if parts is not None and not isinstance(parts, Unreadable):
        with suppress(TornRead):
            yield from parts


def _claims(storage: Storage, tokens: Mapping[str, bytes]) -> dict[str, Content]:
    """Return what a storage claims of values, by key."""
    md5_of = claims_of(storage)
    if md5_of is None or not has_sizes(storage):
        return {}
    told = {key: md5 for key, token in tokens.items() if (md5 := md5_of(token)) is not None}
    keys: Sequence[str] = list(told)
    sizes = zip(keys, storage.sizes(keys), strict=True)
    return {key: Content(told[key], size) for key, size in sizes if size is not None}
