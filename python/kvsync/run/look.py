"""A look at what is at some keys: each value's digest, with a version token that belongs to just that value."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvsync.digesting import Digested, digests
from kvsync.storages.contract import has_expiry, has_tokens
from kvsync.storages.expiry import token_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kvsync.storages.contract import Storage
    from kvsync.types import Unreadable

__all__ = ["Look", "Seen"]


class Seen(NamedTuple):
    """What was at a key.

    Attributes:
        found: the digest of its value, `Unreadable`, or None if nothing was there.
        token: what a conditional write has to expect, so that it replaces this value and no other; None: nothing.
    """

    found: Digested | Unreadable | None
    token: bytes | None


class Look:
    """Looks at values, so that what is written on condition of what was seen replaces nothing else.

    A token is always taken before its value is read. If the value changes in between, then what is read does not have
    that token, nor does what is there: a write on that condition is refused.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._listed: Mapping[str, bytes] | None = None

    def at(self, keys: Sequence[str]) -> Iterator[tuple[str, Seen]]:
        """Yield each key with what is there."""
        if self._storage.capabilities.tokens == "blake3":
            yield from self._digested(keys)
            return
        tokens = dict(zip(keys, self._tokens(keys), strict=True))
        for key, found in digests(self._storage, keys):
            yield key, Seen(found, None if found is None else tokens[key])

    def _digested(self, keys: Sequence[str]) -> Iterator[tuple[str, Seen]]:
        """Yield what is there where the token follows from digest and expiry."""
        storage = self._storage
        times = dict(zip(keys, storage.expiries(keys), strict=True)) if has_expiry(storage) else {}
        for key, found in digests(storage, keys):
            token = token_of(found.digest, times.get(key, 0)) if isinstance(found, Digested) else None
            yield key, Seen(found, token)

    def _tokens(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """Return version tokens; from one listing of the whole storage if it does not return those of single keys."""
        if has_tokens(self._storage):
            return self._storage.tokens(keys)
        if self._listed is None:
            pages = self._storage.scan()
            self._listed = {key: token for some in pages for key, token in zip(*some, strict=True)}
        return [self._listed.get(key) for key in keys]
