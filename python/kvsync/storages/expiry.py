"""The tokens of values in storages that keep expiry.

The token of a value that never expires is its BLAKE3; otherwise it is the BLAKE3 and then the time, 8 bytes,
little-endian. So a value with another time has another token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.native import digest_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.storages.batch import Batch
    from kvsync.storages.contract import Storage
    from kvsync.types import Written

__all__ = ["parts_of", "token_of", "tokens_of", "write_unexpiring", "written_with_digests"]

DIGEST_BYTES = 32
TIME_BYTES = 8


def token_of(digest: bytes, expires: int) -> bytes:
    """Return the token of a value that expires at wall-clock milliseconds (0: never).

    >>> len(token_of(bytes(32), 0)), len(token_of(bytes(32), 1_700_000_000_000))
    (32, 40)
    """
    return digest + expires.to_bytes(TIME_BYTES, "little", signed=True) if expires else digest


def tokens_of(digests: Sequence[bytes], expires: Sequence[int]) -> list[bytes]:
    """Return the tokens of values."""
    if not any(expires):
        return list(digests)
    return [token_of(digest, due) for digest, due in zip(digests, expires, strict=True)]


def parts_of(token: bytes) -> tuple[bytes, int]:
    """Return a token's digest and time; an empty digest, which no value has, where it is no token.

    >>> parts_of(token_of(bytes(32), 1_700_000_000_000)) == (bytes(32), 1_700_000_000_000)
    True
    """
    if len(token) == DIGEST_BYTES:
        return token, 0
    expires = int.from_bytes(token[DIGEST_BYTES:], "little", signed=True)
    if len(token) != DIGEST_BYTES + TIME_BYTES or not expires:
        return b"", 0
    return token[:DIGEST_BYTES], expires


def write_unexpiring(storage: Storage, batch: Batch, reason: str) -> Written:
    """Write to a storage that keeps no expiry and whose tokens are digests; refuse the values that expire."""
    for key, due in zip(batch.keys, batch.expires, strict=True):
        if due:
            batch.refuse(key, reason)
    batch.drop_refused()
    written = storage.write(batch.keys, batch.values, batch.expect)
    batch.refused.update((refusal.key, refusal) for refusal in written.refused)
    return written_with_digests(batch)


def written_with_digests(batch: Batch) -> Written:
    """Return the outcome of a call with the tokens of what was written."""
    batch.drop_refused()  # a time may be refused because no token can hold it
    return batch.written(tokens_of(digest_values(list(batch.values)), batch.expires))
