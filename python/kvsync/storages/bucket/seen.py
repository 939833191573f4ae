"""What a scan of a bucket saw, kept so that what follows it need not ask once more for each key."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from array import array

__all__ = ["Listed", "Seen"]


@dataclass(slots=True)
class Seen:
    """The sizes that a scan saw, until the first write."""

    keys: list[str]
    sizes: array[int]
    read_ms: dict[str, int | None] = field(default_factory=dict)
    """When the values that were read since were last modified: it belongs to the value that was read."""

    def size(self, key: str) -> int | None:
        """Return the bytes of a value that was listed, or None."""
        position = bisect_left(self.keys, key)
        found = position < len(self.keys) and self.keys[position] == key
        return self.sizes[position] if found else None


@dataclass(slots=True)
class Listed:
    """The tokens that the last scan listed, and which values turned out to be others when they were read."""

    keys: list[str]
    tokens: list[bytes | None]
    moved: set[str] = field(default_factory=set)

    def compare(self, key: str, token: bytes | None) -> None:
        """Note whether what was read is what was listed."""
        position = bisect_left(self.keys, key)
        listed = position < len(self.keys) and self.keys[position] == key
        if not listed or token is None or self.tokens[position] != token:
            self.moved.add(key)
