"""What is known of a storage: every key with its token and digest, in runs of pieces, and what has changed since."""

from __future__ import annotations

from bisect import bisect_right
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

from kvsync.native import FoundValues, Piece, Segment
from kvsync.scan.pieces import Feed
from kvsync.storages.expiry import token_of
from kvsync.types import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kvsync.index.inventory import Inventory
    from kvsync.scan.pieces import Pieces, Source

__all__ = ["Known", "Noted", "patch_of"]

Noted: TypeAlias = tuple[bytes, bytes] | None
"""Token and digest of a value; None for a key that is gone."""


class Known:
    """Every key of a storage with its token and digest, without holding all of them.

    Attributes:
        pieces: where the pieces of the storage are read.
        stored: the inventory that is stored, if there is one that can be read.
        correction: what the log knows otherwise than the inventory.
        found: what a scan found otherwise than both: its values, or the changes that log just these.
        changes: what is newer than all of that.
        garbage: names of the pieces of an inventory that cannot be read in whole.
        rest: returns what is noted of keys of which nothing else here says anything.
    """

    def __init__(
        self,
        pieces: Pieces,
        stored: Inventory | None = None,
        correction: Piece | None = None,
        changes: dict[str, Noted] | None = None,
        garbage: tuple[str, ...] = (),
        rest: Callable[[Sequence[str]], Sequence[Noted]] | None = None,
    ) -> None:
        self.pieces = pieces
        self.stored = stored
        self.correction = correction
        self.found: FoundValues | Segment = FoundValues()
        self.changes: dict[str, Noted] = changes if changes is not None else {}
        self.garbage = garbage
        self.rest = rest

    @property
    def runs(self) -> Sequence[Sequence[Source]]:
        """The base, then its patches, oldest to newest."""
        stored = self.stored.runs if self.stored is not None else ((),)
        return (*stored, (self.correction,)) if self.correction is not None and len(self.correction) else stored

    @property
    def lengths(self) -> list[int]:
        """The number of pieces of each run."""
        return list(map(len, self.runs))

    def feed(self) -> Feed:
        """Return what supplies a reader of all runs."""
        return Feed(self.pieces, self.runs)

    @property
    def noted(self) -> list[Piece]:
        """What the stored inventory does not say yet, but for `changes`; oldest to newest."""
        found = self.found
        piece = Piece.of_puts(found) if isinstance(found, Segment) else Piece.of_found(found)
        return [piece for piece in (self.correction, piece) if piece is not None and len(piece)]

    def tokens(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the token of each key, empty where it proves nothing; None where no value is known."""
        return [noted and noted[0] for noted in self._noted(keys)]

    def digests(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the digest of each key's value; None where no value is known."""
        return [noted and noted[1] for noted in self._noted(keys)]

    def _noted(self, keys: Sequence[str]) -> list[Noted]:
        found: dict[str, Noted] = {key: self.changes[key] for key in keys if key in self.changes}
        if len(self.found):
            left = [key for key in keys if key not in found]
            found.update((key, noted) for key, noted in zip(left, _found_at(self.found, left), strict=True) if noted)
        for run in reversed(self.runs):
            left = sorted({key for key in keys if key not in found})
            if not left:
                break
            found.update(self._in_run(run, left))
        left = [key for key in keys if key not in found]
        if left and self.rest is not None:
            found.update(zip(left, self.rest(left), strict=True))
        return [found.get(key) for key in keys]

    def _in_run(self, run: Sequence[Source], keys: Sequence[str]) -> Iterator[tuple[str, Noted]]:
        """Yield what one run notes of some ascending keys, loading the pieces that may have one."""
        firsts = [source.first or "" for source in run]
        for position, some in groupby(keys, lambda key: bisect_right(firsts, key) - 1):
            if position >= 0:
                wanted = list(some)
                for key, entry in zip(wanted, self.pieces.of(run[position]).find(wanted), strict=True):
                    if entry is not None:
                        token, digest = entry
                        yield key, None if digest is None else (token, digest)


def _found_at(found: FoundValues | Segment, keys: Sequence[str]) -> list[Noted]:
    if isinstance(found, Segment):
        rows = (row and Change._make(row) for row in found.find(keys))
        return [(token_of(row.digest, row.expires), row.digest) if row and not row.deletes else None for row in rows]
    values = found.find(keys)
    return [value and (value[3], value[0]) for value in values]


def patch_of(changes: Mapping[str, Noted]) -> Piece:
    """Return changes as a piece."""
    tokens = [entry[0] if entry is not None else b"" for entry in changes.values()]
    return Piece.build(list(changes), tokens, [entry and entry[1] for entry in changes.values()])
