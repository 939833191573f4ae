"""Keys as LMDB stores them, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["decoded", "encoded"]


def encoded(keys: Sequence[str]) -> tuple[list[bytes | None], bool]:
    """Encode keys, None for those with a lone surrogate; also return whether all keys could be encoded."""
    try:
        return [key.encode() for key in keys], True
    except UnicodeEncodeError:
        return [_encoded_one(key) for key in keys], False


def decoded(keys: Sequence[bytes]) -> list[str | None]:
    """Decode keys; None for those that are not UTF-8."""
    try:
        return [key.decode() for key in keys]
    except UnicodeDecodeError:
        return [_decoded_one(key) for key in keys]


def _decoded_one(key: bytes) -> str | None:
    try:
        return key.decode()
    except UnicodeDecodeError:
        return None


def _encoded_one(key: str) -> bytes | None:
    try:
        return key.encode()
    except UnicodeEncodeError:
        return None
