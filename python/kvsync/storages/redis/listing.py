"""The listing of all values with their tokens, in order, in bounded memory."""

from __future__ import annotations

from itertools import tee
from typing import TYPE_CHECKING, cast

from kvsync.native import digest_values
from kvsync.storages.expiry import token_of
from kvsync.storages.redis.conditions import pieces
from kvsync.storages.skips import Skips
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvsync.storages.redis.values import Fetched, Values

__all__ = ["FETCH_VALUE_BYTES", "Listing"]

FETCH_COUNT = 512
FETCH_VALUE_BYTES = 32 << 10
"""The most bytes of values read at a time; larger values are read one by one, once their sizes are known."""
NO_LIMIT = 1 << 50


class Listing:
    """All keys of a storage and their tokens.

    Args:
        values: their layout.
        foreign: keys whose names are not UTF-8 are none that anybody wants to copy.

    Attributes:
        skips: what the last listing skipped.
    """

    def __init__(self, values: Values, *, foreign: bool) -> None:
        self.skips = Skips()
        self._values = values
        self._foreign = foreign

    def batches(self) -> Iterator[tuple[list[str], list[bytes]]]:
        """Yield keys and tokens, in UTF-8 byte order.

        Raises:
            StorageError: the server cannot be listed.
        """
        self.skips = Skips()
        found: set[bytes] = set()
        for page in self._values.names():
            found.update(page)
        names = sorted(found)
        found.clear()
        parts = (names[start : start + FETCH_COUNT] for start in range(0, len(names), FETCH_COUNT))
        asked, answered = tee((keys, list(map(self._values.name_of, keys))) for keys in map(self._texts, parts) if keys)
        fetched = self._values.fetch((some for _, some in asked), FETCH_VALUE_BYTES)
        for (keys, some), values in zip(answered, fetched, strict=True):
            yield self._with_tokens(keys, some, values)

    def _texts(self, names: Sequence[bytes]) -> list[str]:
        """Return names as keys, without those that cannot be keys."""
        try:
            return [name.decode() for name in names]
        except UnicodeDecodeError:
            return self.skips.decoded(names, harmless=self._foreign)

    def _with_tokens(self, keys: list[str], names: Sequence[bytes], fetched: Fetched) -> tuple[list[str], list[bytes]]:
        found, expires = fetched
        if not expires and {*map(type, found)} == {bytes}:
            return keys, digest_values(cast("list[bytes]", found))
        values = {i: value for i, value in enumerate(found) if isinstance(value, bytes)}
        tokens = dict(zip(values, digest_values(list(values.values())), strict=True))
        tokens.update((i, token_of(tokens[i], at)) for i, at in expires.items() if i in tokens)
        values.clear()
        large = {i: size for i, size in enumerate(found) if isinstance(size, int)}
        others = [i for i, size in large.items() if size < 0]
        self._skip([keys[i] for i in others], [names[i] for i in others])
        for i in others:
            del large[i]
        tokens.update(self._large(names, {i: size for i, size in large.items() if i not in expires}))
        tokens.update(self._large_expiring(names, {i: size for i, size in large.items() if i in expires}))
        order = sorted(tokens)
        return [keys[i] for i in order], [tokens[i] for i in order]

    def _large(self, names: Sequence[bytes], sizes: dict[int, int]) -> Iterator[tuple[int, bytes]]:
        positions = list(sizes)
        for start, stop in pieces(list(sizes.values())):
            some = positions[start:stop]
            found = zip(some, self._values.get([names[i] for i in some]), strict=True)
            held = {i: value for i, value in found if isinstance(value, bytes)}
            yield from zip(held, digest_values(list(held.values())), strict=True)

    def _large_expiring(self, names: Sequence[bytes], sizes: dict[int, int]) -> Iterator[tuple[int, bytes]]:
        """Read values by a script, which costs a copy, so that values and times are of the same moment."""
        positions = list(sizes)
        for start, stop in pieces(list(sizes.values())):
            some = positions[start:stop]
            ((values, expires),) = self._values.fetch([[names[i] for i in some]], NO_LIMIT)
            held = {i: value for i, value in enumerate(values) if isinstance(value, bytes)}
            for i, digest in zip(held, digest_values(list(held.values())), strict=True):
                yield some[i], token_of(digest, expires.get(i, 0))

    def _skip(self, keys: Sequence[str], names: Sequence[bytes]) -> None:
        """Note keys of other types, which are no values."""
        for key, value in zip(keys, self._values.get(names) if names else (), strict=True):
            if isinstance(value, Unreadable):
                self.skips.add(key, value.reason)
