"""The inventory: which pieces say what the last scan of a storage saw (docs/index-format.md, kinds 4 and 6)."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, cast

from kvsync.errors import FormatError, IndexDamagedError
from kvsync.index import bounds
from kvsync.index.objects import INVENTORY, PIECE_PREFIX, damaged, field_error, is_uint, pack, reading, unpack
from kvsync.native import KIND_INVENTORY, Piece, checksum

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvsync.storages.contract import Storage

__all__ = ["Inventory", "PieceEntry", "Run", "is_piece_error", "load_piece", "read_inventory"]

FIELDS = (INVENTORY, "nonce", "runs", "garbage")

NONCE_BYTES = 16

RUNS_MAX = 1_024
PIECES_MAX = 1_048_576
GARBAGE_MAX = 1_048_576

PIECE_NAME = re.compile(r"piece/[0-9a-f]{32}")


class PieceEntry(NamedTuple):
    """One piece: its name, what it begins with, its size, and how to recognise it.

    Attributes:
        name: of the object, below `.kvsync/`.
        first: its first key.
        length: number of entries.
        size: bytes of the encoded piece.
        checksum: of the encoded piece.
        inline: the encoded piece, where the inventory holds it; else None.
    """

    name: str
    first: str
    length: int
    size: int
    checksum: int
    inline: bytes | None

    @classmethod
    def of(cls, name: str, piece: Piece, data: bytes, *, inline: bool) -> PieceEntry:
        """Describe a piece, which is not empty, that was encoded as `data`."""
        return cls(name, piece.first or "", len(piece), len(data), checksum(data), data if inline else None)


Run: TypeAlias = tuple[PieceEntry, ...]
"""Pieces that follow one another."""


class Inventory(NamedTuple):
    """What the last scan of a storage saw.

    Attributes:
        nonce: 16 bytes, fresh in each write: the manifest that is in step with it names them.
        runs: the base, then its patches, oldest to newest; of a key the newest entry counts.
        garbage: names of pieces that no run has any more, to be removed.
    """

    nonce: bytes
    runs: tuple[Run, ...]
    garbage: tuple[str, ...] = ()

    @property
    def stored(self) -> Iterator[PieceEntry]:
        """The pieces that are objects of their own."""
        return (entry for run in self.runs for entry in run if entry.inline is None)

    def encode(self) -> bytes:
        """Return the sealed object."""
        fields: dict[str, object] = {"name": INVENTORY, "nonce": self.nonce, "runs": self.runs, "garbage": self.garbage}
        return pack(KIND_INVENTORY, fields)

    @classmethod
    def decode(cls, data: bytes, storage: str) -> Inventory:
        """Read a sealed inventory.

        Raises:
            IndexDamagedError: it fails its checks.
            FormatError: a newer kvsync wrote it.
        """
        bounds.check_bytes(data, storage, INVENTORY)
        fields = unpack(KIND_INVENTORY, data, FIELDS, storage)
        nonce, runs, garbage = fields["nonce"], fields["runs"], fields["garbage"]
        if type(nonce) is not bytes or len(nonce) != NONCE_BYTES:
            raise field_error(storage, INVENTORY, "nonce")
        if type(runs) is not list or not 0 < len(runs) <= RUNS_MAX or not all(map(_is_run, runs)):
            raise field_error(storage, INVENTORY, "runs")
        if sum(map(len, runs)) > PIECES_MAX:
            raise field_error(storage, INVENTORY, "runs")
        if type(garbage) is not list or len(garbage) > GARBAGE_MAX or not all(map(_is_name, garbage)):
            raise field_error(storage, INVENTORY, "garbage")
        inventory = cls(nonce, tuple(tuple(map(PieceEntry._make, run)) for run in runs), tuple(garbage))
        names = [entry.name for run in inventory.runs for entry in run]
        if len(set(names) | set(garbage)) < len(names) + len(garbage):
            raise field_error(storage, INVENTORY, "names")
        return inventory


def _is_run(rows: object) -> bool:
    """Whether rows describe pieces whose first keys ascend."""
    if type(rows) is not list or not all(map(_is_row, rows)):
        return False
    firsts = [cast("PieceEntry", row)[1] for row in rows]
    return all(first < following for first, following in pairwise(firsts))


def _is_row(row: object) -> bool:
    if type(row) is not list or len(row) != len(PieceEntry._fields):
        return False
    name, first, length, size, check, inline = row
    if not _is_name(name) or type(first) is not str or not (is_uint(length) and is_uint(size) and is_uint(check)):
        return False
    if inline is None:
        return length > 0
    return length > 0 and type(inline) is bytes and len(inline) == size and _checksum_of(inline) == check


def _is_name(name: object) -> bool:
    return type(name) is str and PIECE_NAME.fullmatch(name) is not None


def read_inventory(storage: Storage) -> Inventory | None:
    """Return what the last scan wrote down; None where it is absent, or cannot be read, since it can be found again.

    Raises:
        FormatError: a newer kvsync wrote it.
    """
    there = storage.load(INVENTORY)
    if there is None:
        return None
    try:
        return Inventory.decode(there.data, storage.name)
    except FormatError:
        raise
    except IndexDamagedError:
        return None


def load_piece(storage: Storage, entry: PieceEntry) -> Piece:
    """Return a piece that an inventory lists.

    Raises:
        IndexDamagedError: it is absent, damaged, or not the one that the inventory lists.
        FormatError: a newer kvsync wrote it.
    """
    data = entry.inline
    if data is None:
        there = storage.load(entry.name)
        if there is None:
            raise damaged(storage.name, entry.name, "is missing")
        data = there.data
    with reading(entry.name, storage.name):
        piece = Piece.decode(data, entry.name)
    if (len(data), checksum(data), len(piece), piece.first) != (entry.size, entry.checksum, entry.length, entry.first):
        raise damaged(storage.name, entry.name, "is not the piece that the inventory lists")
    return piece


def is_piece_error(error: IndexDamagedError) -> bool:
    """Whether an error tells of a piece, which can be found again."""
    return not isinstance(error, FormatError) and (error.name or "").startswith(PIECE_PREFIX)


def _checksum_of(data: bytes) -> int | None:
    try:
        return checksum(data)
    except IndexDamagedError:
        return None
