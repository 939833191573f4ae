"""What the last scan of a bucket listed, so that the calls after it need not ask the server again for each key."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ListingCache"]


class ListingCache:
    """Sizes and tokens as the last scan listed them.

    Attributes:
        filled: a scan has listed the bucket.
        changed: the keys whose value, when it was read, was not the listed one.
        read_ms: when the values read since the scan were last modified.
    """

    def __init__(self) -> None:
        self.filled = False
        self.changed: set[str] = set()
        self.read_ms: dict[str, int | None] = {}
        self._keys: list[str] = []
        self._tokens: list[bytes | None] = []
        self._sizes: array[int] | None = None

    def fill(self, keys: list[str], tokens: list[bytes | None], sizes: Sequence[int]) -> None:
        """Keep a listing, its keys in ascending order."""
        self.filled, self.changed, self.read_ms = True, set(), {}
        self._keys, self._tokens, self._sizes = keys, tokens, array("Q", sizes)

    def lists(self, key: str) -> bool:
        """Whether the last scan listed a key."""
        return self._position(key) is not None

    def forget_sizes(self) -> None:
        """Forget sizes and times, as something is about to be written; what was listed stays."""
        self._sizes, self.read_ms = None, {}

    def size(self, key: str) -> int | None:
        """Return the listed size of a value; None if it was not listed, or something was written since."""
        position = self._position(key)
        return None if position is None or self._sizes is None else self._sizes[position]

    def note_read(self, key: str, token: bytes | None, modified_ms: int | None) -> None:
        """Note the token and the time of a value that was read."""
        if self._sizes is not None:
            self.read_ms[key] = modified_ms
        if self.filled:
            position = self._position(key)
            if position is None or token is None or self._tokens[position] != token:
                self.changed.add(key)

    def _position(self, key: str) -> int | None:
        position = bisect_left(self._keys, key)
        return position if position < len(self._keys) and self._keys[position] == key else None
