"""The pieces of an inventory: read one at a time, side by side, by whoever walks along its runs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeAlias

from kvsync.index.inventory import PieceEntry, load_piece
from kvsync.index.objects import reading
from kvsync.native import Merge, Piece
from kvsync.threads import thread_pool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvsync.storages.contract import Storage

__all__ = ["Feed", "Pieces", "Source", "merged"]

CACHED_BYTES = 64 << 20
"""Pieces of so many bytes stay in memory, so that what a run looks up after its scan is at hand."""

LOADERS = 8
"""So many pieces are requested at a time."""

Source: TypeAlias = PieceEntry | Piece
"""A piece that an inventory lists, or one that was made in memory."""


class Reader(Protocol):
    """Something that reads runs of pieces, and says which run it needs the next piece of."""

    def needs(self) -> int | None:
        """Return the run, or None while it can go on."""
        ...

    def supply(self, run: int, piece: Piece) -> None:
        """Take the next piece of a run."""
        ...


class Pieces:
    """The pieces of one storage. The first ones that are read stay in memory, up to a limit."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._cached: dict[str, Piece] = {}
        self._left = CACHED_BYTES

    def of(self, source: Source) -> Piece:
        """Return a piece, loading it unless it is in memory.

        Raises:
            IndexDamagedError: it is absent, damaged, or not the one that the inventory lists.
        """
        if isinstance(source, Piece):
            return source
        piece = self._cached.get(source.name)
        return piece if piece is not None else self._keep(source, load_piece(self.storage, source))

    def load(self, sources: Sequence[Source]) -> None:
        """Load pieces into memory, several at a time; the storage has to allow that.

        Raises:
            IndexDamagedError: one is absent, damaged, or not the one that the inventory lists.
        """
        entries = [source for source in sources if isinstance(source, PieceEntry) and source.name not in self._cached]
        if len(entries) <= 1:
            return
        with thread_pool(min(len(entries), LOADERS), "kvsync-pieces") as threads:
            for entry, piece in zip(entries, threads.map(partial(load_piece, self.storage), entries), strict=True):
                self._keep(entry, piece)

    def _keep(self, source: PieceEntry, piece: Piece) -> Piece:
        if piece.nbytes <= self._left:
            self._left -= piece.nbytes
            self._cached[source.name] = piece
        return piece


class Feed:
    """Supplies a reader with the pieces of some runs, as it needs them."""

    def __init__(self, pieces: Pieces, runs: Sequence[Sequence[Source]]) -> None:
        self._pieces = pieces
        self._rest = [iter(run) for run in runs]

    def supply(self, reader: Reader) -> None:
        """Let a reader go on.

        Raises:
            IndexDamagedError: a piece that it needs cannot be read, or does not follow the one before it.
        """
        while (run := reader.needs()) is not None:
            source = next(self._rest[run])
            piece = self._pieces.of(source)
            with reading(source.name if isinstance(source, PieceEntry) else "", self._pieces.storage.name):
                reader.supply(run, piece)


def merged(
    pieces: Pieces,
    runs: Sequence[Sequence[Source]],
    piece_bytes: int,
    *,
    drops_gone: bool,
    start: str | None = None,
    stop: str | None = None,
) -> Iterator[Piece]:
    """Yield the pieces of one run that says what `runs` do from the key `start` on, up to the key `stop`.

    Args:
        pieces: where the pieces are read.
        runs: the newest last.
        piece_bytes: a piece is cut once it has so many bytes.
        drops_gone: leave out keys that are gone, since nothing is below.
        start: None for the first key.
        stop: None for all.
    """
    feed = Feed(pieces, runs)
    merge = Merge(list(map(len, runs)), piece_bytes, drops_gone, start, stop)
    while not merge.done:
        feed.supply(merge)
        piece = merge.step()
        if piece is not None:
            yield piece
