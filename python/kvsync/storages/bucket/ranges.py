"""A listing in ranges that are requested at the same time, and that shows what a single listing would.

A server lists names in ascending order, from any name on. Each range begins after a name that was there once. It ends
where it meets the first object of the next range, not at the name that the next one began after: that one may be gone,
and a server with an order of its own may have more names there. So what two ranges list touches, and overlaps nowhere.
If that first object is gone, too, the range takes the place of the next one.

The marker of a folder, `a/`, is an empty object that the client shows without its slash, and so in the wrong place.
Empty objects are therefore passed on, and decide nothing.
"""

from __future__ import annotations

from itertools import chain
from operator import lt
from threading import Event
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from kvsync.threads import thread_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["DisorderError", "Page", "Ranges"]


class Page(NamedTuple):
    """Some objects as they are listed: their names, entity tags (None if absent or weak), and sizes."""

    names: list[str]
    tokens: list[bytes | None]
    sizes: list[int]

    @classmethod
    def of(cls, pages: Iterable[Page]) -> Page:
        """Return several pages as one."""
        names, tokens, sizes = cls([], [], [])
        for page in pages:
            names += page.names
            tokens += page.tokens
            sizes += page.sizes
        return cls(names, tokens, sizes)

    def before(self, name: str) -> Page:
        """Return the objects before the one of a name that is not empty."""
        position = self.names.index(name)
        while not self.sizes[position]:
            position = self.names.index(name, position + 1)
        return Page(self.names[:position], self.tokens[:position], self.sizes[:position])

    def ascends(self, after: str = "") -> bool:
        """Whether the names of the objects that are not empty ascend, from a name on."""
        names = self.filled()
        return all(map(lt, chain((after,), names), names))

    def filled(self) -> list[str]:
        """Return the names of the objects that are not empty."""
        if 0 not in self.sizes:
            return self.names
        return [name for name, size in zip(self.names, self.sizes, strict=True) if size]


Pages: TypeAlias = "Callable[[str | None], Iterator[Page]]"


class DisorderError(Exception):
    """The server does not list names in ascending order, or not from a name on; only a single listing is complete."""


class _Range:
    """One of the ranges.

    Attributes:
        after: the name that it begins after; None for the first one.
        pages: what it has listed.
        first: its first object that is not empty; None if there is none.
        has_begun: `first` is known.
        following: the range that goes on where this one ends; None if it ends with the listing.
    """

    def __init__(self, after: str | None) -> None:
        self.after = after
        self.pages: list[Page] = []
        self.first: str | None = None
        self.has_begun = Event()
        self.following: _Range | None = None


class Ranges:
    """Lists in ranges, each in a thread of its own.

    Args:
        pages: lists the objects after a name, or all of them.
        splits: the names that ranges begin after, ascending.
    """

    def __init__(self, pages: Pages, splits: Sequence[str]) -> None:
        self._pages = pages
        self._ranges = [_Range(None), *map(_Range, splits)]
        self._stopped = False

    def listed(self) -> list[Page]:
        """Return all objects, in the order of the server; empty ones may come twice.

        Raises:
            DisorderError: the server does not list as expected.
            Exception: a request failed.
        """
        with thread_pool(len(self._ranges), "kvsync-listing") as threads:
            works = [threads.submit(self._list, position) for position in range(len(self._ranges))]
            try:
                for work in works:
                    work.result()
            finally:
                self._stopped = True
        found: list[Page] = []
        part: _Range | None = self._ranges[0]
        while part is not None:
            found += part.pages
            part = part.following
        return found

    def _list(self, position: int) -> None:
        """List a range until it meets another one, or to the end."""
        part, others = self._ranges[position], iter(self._ranges[position + 1 :])
        following, last = next(others, None), part.after or ""
        try:
            for page in self._pages(part.after):
                if self._stopped:
                    return
                if not page.ascends(last):
                    raise DisorderError
                names = page.filled()
                if names:
                    last = names[-1]
                    part.first = part.first or names[0]
                    part.has_begun.set()
                while following is not None and last > (following.after or ""):
                    first = self._first_of(following)
                    if first is None or first > last:
                        break
                    if first in names:
                        part.pages.append(page.before(first))
                        part.following = following
                        return
                    following = next(others, None)
                part.pages.append(page)
        finally:
            part.has_begun.set()

    @staticmethod
    def _first_of(part: _Range) -> str | None:
        part.has_begun.wait()
        return part.first
