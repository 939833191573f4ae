"""The listing of all values with their tokens, in order, in bounded memory."""

from __future__ import annotations

from itertools import tee
from typing import TYPE_CHECKING, NamedTuple

from kvsync.native import Page, digest_values
from kvsync.storages.redis.conditions import pieces
from kvsync.storages.skips import Skips
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvsync.storages.contract import Pages
    from kvsync.storages.redis.values import Fetched, Values

__all__ = ["FETCH_VALUE_BYTES", "Listing"]

FETCH_COUNT = 512
FETCH_VALUE_BYTES = 32 << 10
"""The most bytes of values read at a time; larger values are read one by one, once their sizes are known."""
NO_LIMIT = 1 << 50


class _Large(NamedTuple):
    """A large value: its position, digest, size, and when it expires (0: never)."""

    position: int
    digest: bytes
    size: int
    expires: int


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

    def batches(self) -> Pages:
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
            yield self._page(keys, some, values)

    def _texts(self, names: Sequence[bytes]) -> list[str]:
        """Return names as keys, without those that cannot be keys."""
        try:
            return [name.decode() for name in names]
        except UnicodeDecodeError:
            return self.skips.decoded(names, harmless=self._foreign)

    def _page(self, keys: list[str], names: Sequence[bytes], fetched: Fetched) -> Page:
        found, expires = fetched
        if not expires and {*map(type, found)} == {bytes}:
            return Page(keys, found)
        values = {i: value for i, value in enumerate(found) if isinstance(value, bytes)}
        sizes = {i: len(value) for i, value in values.items()}
        digests = dict(zip(values, digest_values(list(values.values())), strict=True))
        values.clear()
        large = {i: size for i, size in enumerate(found) if isinstance(size, int)}
        others = [i for i, size in large.items() if size < 0]
        self._skip([keys[i] for i in others], [names[i] for i in others])
        for i in others:
            del large[i]
        for i, digest, size, due in (
            *self._large(names, {i: size for i, size in large.items() if i not in expires}),
            *self._large_expiring(names, {i: size for i, size in large.items() if i in expires}),
        ):
            digests[i], sizes[i], expires[i] = digest, size, due
        order = sorted(digests)
        page = Page()
        page.add_digests(
            [keys[i] for i in order],
            [(digests[i], sizes[i]) for i in order],
            [expires.get(i, 0) for i in order] if expires else None,
        )
        return page

    def _large(self, names: Sequence[bytes], sizes: dict[int, int]) -> Iterator[_Large]:
        positions = list(sizes)
        for start, stop in pieces(list(sizes.values())):
            some = positions[start:stop]
            found = zip(some, self._values.get([names[i] for i in some]), strict=True)
            held = {i: value for i, value in found if isinstance(value, bytes)}
            for (i, value), digest in zip(held.items(), digest_values(list(held.values())), strict=True):
                yield _Large(i, digest, len(value), 0)

    def _large_expiring(self, names: Sequence[bytes], sizes: dict[int, int]) -> Iterator[_Large]:
        """Read values by a script, which costs a copy, so that values and times are of the same moment."""
        positions = list(sizes)
        for start, stop in pieces(list(sizes.values())):
            some = positions[start:stop]
            ((values, expires),) = self._values.fetch([[names[i] for i in some]], NO_LIMIT)
            held = {i: value for i, value in enumerate(values) if isinstance(value, bytes)}
            for (i, value), digest in zip(held.items(), digest_values(list(held.values())), strict=True):
                yield _Large(some[i], digest, len(value), expires.get(i, 0))

    def _skip(self, keys: Sequence[str], names: Sequence[bytes]) -> None:
        """Note keys of other types, which are no values."""
        for key, value in zip(keys, self._values.get(names) if names else (), strict=True):
            if isinstance(value, Unreadable):
                self.skips.add(key, value.reason)
