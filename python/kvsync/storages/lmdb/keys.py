"""Keys as LMDB stores them, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["decoded", "encoded"]


def encoded(keys: Sequence[str]) -> tuple[list[bytes | None], bool]:
    """Encode keys, None for those with a lone surrogate; also return whether all keys could be encoded."""
    try:
        return [key.encode() for key in keys], True
    except UnicodeEncodeError:
        return [_encoded_one(key) for key in keys], False


def decoded(keys: Sequence[bytes], *, storage: str) -> list[str]:
    """Decode keys.

    Raises:
        StorageError: one is not UTF-8; the error names `storage`.
    """
    try:
        return [key.decode() for key in keys]
    except UnicodeDecodeError as error:
        message = f"it has a key that is not UTF-8: {error.object!r:.200}; delete it, or name another database"
        raise StorageError(message, storage=storage) from error


def _encoded_one(key: str) -> bytes | None:
    try:
        return key.encode()
    except UnicodeEncodeError:
        return None
