"""What storages that keep expiry have in common: the tokens of their values.

A value that stays for ever has its BLAKE3 as a token; one that expires has the BLAKE3 and then its time, 8 bytes,
little-endian. So the same value with another time is another version of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.native import digest_values
from kvsync.types import Refusal, Written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.storages.contract import Storage

__all__ = ["lasting_only", "noted", "parts_of", "token_of", "tokens_of"]

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


def lasting_only(
    storage: Storage,
    keys: Sequence[str],
    values: Sequence[bytes],
    expires: Sequence[int],
    expect: Sequence[bytes | None] | None,
    reason: str,
) -> Written:
    """Write to a storage that keeps no expiry, whose tokens are digests: what stays; the rest is refused."""
    refused = tuple(Refusal(key, reason, changed=False) for key, due in zip(keys, expires, strict=True) if due)
    kept = [i for i, due in enumerate(expires) if not due]
    written = storage.write(
        [keys[i] for i in kept], [values[i] for i in kept], [expect[i] for i in kept] if expect is not None else None
    )
    return noted(keys, values, expires, (*refused, *written.refused))


def noted(keys: Sequence[str], values: Sequence[bytes], expires: Sequence[int], refused: Sequence[Refusal]) -> Written:
    """Return what became of a batch with the tokens of what was written."""
    digests = digest_values(list(values))
    if not refused:
        return Written((), tuple(tokens_of(digests, expires)))
    unwritten = {refusal.key for refusal in refused}
    written = zip(keys, digests, expires, strict=True)
    tokens = tuple(None if key in unwritten else token_of(digest, due) for key, digest, due in written)
    return Written(tuple(refused), tokens)
