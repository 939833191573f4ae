"""How an inventory grows: what a run noted becomes a patch, patches become one, and fold into the base.

A patch is merged with the patches before it that are no larger, as in a binary counter, so their number grows with the
logarithm of what they hold, and so does how often an entry is written. Once all patches together pass a tenth of the
base they become one; the next runs move pieces of that one into the base, those first that cover least of it for what
they hold, until it is below a twentieth. So a run with few changes writes few bytes, and none writes a large base anew.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import chain, groupby, pairwise
from typing import TYPE_CHECKING

from kvsync.index.inventory import PieceEntry
from kvsync.index.objects import PIECE_PREFIX, store_if
from kvsync.scan.pieces import merged
from kvsync.types import ABSENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kvsync.environment import Environment
    from kvsync.index.inventory import Run
    from kvsync.native import Piece
    from kvsync.scan.pieces import Pieces, Source

__all__ = ["SIZES", "Folding", "Sizes"]

PATCHES_SHARE = 10
"""All patches together stay below the base divided by this."""

FOLD_SHARE = 20
"""The oldest patch folds into the base until it is below the base divided by this."""

REBASE_SHARE = 4
"""A base of at most so many times the bytes that a run noted is written anew with them."""

SMALL_SHARE = 4
"""A piece that is smaller than a piece of the base divided by this becomes one with its neighbours."""

HEAD_BYTES = 160
"""An object has no more than this around the columns of a piece."""


@dataclass(slots=True)
class Sizes:
    """How large the parts of an inventory are, in bytes.

    Attributes:
        piece: of the base: what a reader holds of it at a time.
        patch_piece: of a patch: smaller, since a piece of a patch folds into many pieces of the base.
        inline: a run up to this size lives in the inventory itself.
        rebase: a base up to this size is written anew once its patches are too large.
    """

    piece: int = 1 << 20
    patch_piece: int = 1 << 18
    inline: int = 16 << 10
    rebase: int = 4 << 20


SIZES = Sizes()
"""What all inventories go by; the simulator and tests have smaller ones."""


class Folding:
    """Makes the next runs of an inventory, and stores their pieces.

    Args:
        pieces: where the pieces are read and written.
        environment: gives names.
        keep: called before each write, to keep the lease.

    Attributes:
        stored: names of the pieces that were stored; a piece that was folded into twice left one that no run has.
    """

    def __init__(self, pieces: Pieces, environment: Environment, keep: Callable[[], None]) -> None:
        self._pieces = pieces
        self._storage = pieces.storage
        self._environment = environment
        self._keep = keep
        self.stored: list[str] = []

    def next_runs(self, runs: Sequence[Run], noted: Sequence[Piece]) -> tuple[Run, ...]:
        """Return the runs that say what `runs` and then `noted` do."""
        base, *patches = runs
        news = [[piece] for piece in noted]
        added = sum(piece.nbytes + HEAD_BYTES for piece in noted)
        is_large = _size(base) > max(SIZES.rebase, REBASE_SHARE * added)
        if not is_large and (sum(map(_size, patches)) + added) * PATCHES_SHARE > _size(base):
            return (self._run([base, *patches, *news], SIZES.piece, drops_gone=True),)
        if base and patches and _size(patches[0]) * FOLD_SHARE > _size(base):
            base, oldest = self._folded(base, patches[0], added)
            patches[:1] = [oldest] if oldest else []
        sizes = [*map(_size, patches), added]
        start = 0 if sum(sizes) * PATCHES_SHARE > _size(base) else _first_to_merge(sizes)
        patch = self._run([*patches[start:], *news], SIZES.patch_piece, drops_gone=False)
        return (base, *patches[:start], *([patch] if patch else []))

    def _folded(self, base: Run, patch: Run, bytes_min: int) -> tuple[Run, Run]:
        """Move pieces of the oldest patch, of more than so many bytes together, into the base."""
        moved = 0
        while base and patch and moved <= bytes_min:
            position = _cheapest(base, patch)
            base = self._with_piece(base, patch[position], _stop_of(patch, position))
            moved += patch[position].size
            patch = (*patch[:position], *patch[position + 1 :])
        return base, patch

    def _with_piece(self, base: Run, patch: PieceEntry, stop: str | None) -> Run:
        """Return the base with the entries of one piece of a patch, which end before the key `stop`.

        Pieces of the base that have none of these keys are passed on.
        """
        low, high = _covered(base, patch.first, stop)
        result = list(base[:low])
        for start, end, is_touched in self._groups(base, low, high, patch):
            old = base[start:end]
            if is_touched:
                piece_bytes = _evenly(_size(old), SIZES.piece)
                bounds = (base[start].first if start else None, _stop_of(base, end - 1))
                result += self._run([old, [patch]], piece_bytes, drops_gone=True, bounds=bounds)
            else:
                result += old
        return (*result, *base[high:])

    def _groups(self, base: Run, low: int, high: int, patch: PieceEntry) -> Iterator[tuple[int, int, bool]]:
        """Yield groups of pieces of the base: from which position up to which, and whether the patch has keys there."""
        piece = self._pieces.of(patch)
        ranks = [0, *piece.ranks([entry.first for entry in base[low + 1 : high]]), len(piece)]
        touched = [
            before < after or entry.size * SMALL_SHARE < SIZES.piece
            for entry, (before, after) in zip(base[low:high], pairwise(ranks), strict=True)
        ]
        for is_touched, group in groupby(range(low, high), lambda position: touched[position - low]):
            positions = list(group)
            yield positions[0], positions[-1] + 1, is_touched

    def _run(
        self,
        sources: Sequence[Sequence[Source]],
        piece_bytes: int,
        *,
        drops_gone: bool,
        bounds: tuple[str | None, str | None] = (None, None),
    ) -> Run:
        """Merge sources into a run, and store its pieces, but for a single one that is small."""
        start, stop = bounds
        pieces = merged(self._pieces, sources, piece_bytes, drops_gone=drops_gone, start=start, stop=stop)
        first, second = next(pieces, None), next(pieces, None)
        if first is None:
            return ()
        if second is None:
            return (self._entry(first, inline=first.nbytes <= SIZES.inline),)
        return tuple(self._entry(piece, inline=False) for piece in chain((first, second), pieces))

    def _entry(self, piece: Piece, *, inline: bool) -> PieceEntry:
        name = PIECE_PREFIX + self._environment.nonce().hex()
        data = piece.encode(name, not inline and self._storage.capabilities.distance == "network")
        if not inline:
            self._keep()
            store_if(self._storage, name, data, ABSENT)
            self.stored.append(name)
        return PieceEntry.of(name, piece, data, inline=inline)


def _size(run: Run) -> int:
    return sum(entry.size for entry in run)


def _first_to_merge(sizes: Sequence[int]) -> int:
    """Return the position of the oldest patch that the newest one becomes one with."""
    start = len(sizes) - 1
    total = sizes[start]
    while start and sizes[start - 1] <= total:
        start -= 1
        total += sizes[start]
    return start


def _stop_of(run: Run, position: int) -> str | None:
    """Return the key before which a piece of a run ends; None for the last one."""
    return run[position + 1].first if position + 1 < len(run) else None


def _covered(base: Run, start: str, stop: str | None) -> tuple[int, int]:
    """Return which pieces of the base, which is not empty, have the keys from `start` up to `stop`."""
    firsts = [entry.first for entry in base]
    low = max(bisect_right(firsts, start) - 1, 0)
    return low, len(base) if stop is None else max(bisect_left(firsts, stop), low + 1)


def _cheapest(base: Run, patch: Run) -> int:
    """Return the position of the piece of a patch that covers least of the base for each of its bytes."""

    def cost(position: int) -> float:
        low, high = _covered(base, patch[position].first, _stop_of(patch, position))
        return _size(base[low:high]) / patch[position].size

    return min(range(len(patch)), key=cost)


def _evenly(total: int, piece_bytes: int) -> int:
    """Return how large pieces may be so that none of them is much smaller than the others."""
    count = round(total / piece_bytes)
    return total // count + 1 if count > 1 else 2 * piece_bytes
