"""The listing of a storage, compared page by page with what is known of it, without holding all keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvsync.native import Walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from kvsync.scan.known import Known
    from kvsync.scan.pieces import Feed

__all__ = ["Listing", "compare"]


class Listing(NamedTuple):
    """How a listing differs from what was known.

    Attributes:
        tokens: {key: version token} of the keys that are new, or whose token is no proof that they are unchanged.
        digests: {key: digest} of those of them that were known.
        gone: known keys that were not listed.
        known: how many keys were known.
        is_empty: nothing was listed.
    """

    tokens: Mapping[str, bytes]
    digests: Mapping[str, bytes]
    gone: Sequence[str]
    known: int
    is_empty: bool


def compare(
    known: Known, pages: Iterable[tuple[Sequence[str], Sequence[bytes]]], on_page: Callable[[], None]
) -> Listing:
    """Compare the pages of a listing, ascending by key, with what is known.

    Raises:
        IndexDamagedError: a piece of the inventory cannot be read.
        UsageError: the keys do not ascend.
    """
    walk, feed = Walk(known.lengths), known.feed()
    listed: dict[str, bytes] = {}
    digests: dict[str, bytes] = {}
    gone: list[str] = []
    is_empty = True
    for keys, tokens in pages:
        on_page()
        is_empty = is_empty and not keys
        done = 0
        while done < len(keys):
            feed.supply(walk)
            changed, missed, done = walk.compare(keys, tokens, done)
            gone += missed
            for position, digest in changed:
                listed[keys[position]] = tokens[position]
                if digest is not None:
                    digests[keys[position]] = digest
    return Listing(listed, digests, [*gone, *_rest(walk, feed)], walk.known, is_empty)


def _rest(walk: Walk, feed: Feed) -> Iterator[str]:
    """Yield the known keys behind the listing."""
    feed.supply(walk)
    yield from walk.rest()
    while walk.needs() is not None:
        feed.supply(walk)
        yield from walk.rest()
