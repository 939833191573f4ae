"""The listing of a storage, compared page by page with what is known of it, without holding all keys."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, NamedTuple

from kvsync.native import Page, Walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from kvsync.native import FoundValues, Unread
    from kvsync.scan.known import Known
    from kvsync.scan.pieces import Feed

__all__ = ["Listing", "compare"]


class Listing(NamedTuple):
    """How a listing differs from what was known.

    Attributes:
        found: values that are new or may have changed, and that the listing has read.
        unread: keys that are new, or whose token is no proof that they are unchanged, and that it has not read.
        gone: known keys that were not listed.
        known: how many keys were known.
        is_empty: nothing was listed.
    """

    found: FoundValues
    unread: Unread
    gone: Sequence[str]
    known: int
    is_empty: bool


def compare(
    known: Known, pages: Iterable[Page | tuple[list[str], list[bytes]]], on_page: Callable[[], None]
) -> Listing:
    """Compare the pages of a listing, ascending by key, with what is known.

    Raises:
        IndexDamagedError: a piece of the inventory cannot be read.
        UsageError: the keys do not ascend.
    """
    walk, feed = Walk(known.lengths), known.feed()
    gone: list[str] = []
    is_empty = True
    try:
        for listed in pages:
            on_page()
            page = listed if isinstance(listed, Page) else Page.of_tokens(*listed)
            count = len(page)
            is_empty = is_empty and not count
            done = 0
            while done < count:
                feed.supply(walk)
                missed, done = walk.compare(page, done)
                gone += missed
    finally:
        if isinstance(pages, Generator):
            pages.close()  # an error must not leave a cursor open
    gone += _rest(walk, feed)
    return Listing(*walk.take(), gone, walk.known, is_empty)


def _rest(walk: Walk, feed: Feed) -> Iterator[str]:
    """Yield the known keys behind the listing."""
    feed.supply(walk)
    yield from walk.rest()
    while walk.needs() is not None:
        feed.supply(walk)
        yield from walk.rest()
