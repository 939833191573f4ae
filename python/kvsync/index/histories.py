"""Histories in bytes: chains of points, exceptions, and how far peers know each origin (docs/index-format.md)."""

from __future__ import annotations

from bisect import bisect_left
from itertools import chain as joined
from struct import Struct, pack
from typing import TYPE_CHECKING

import msgpack

from kvsync.index.bounds import check_history
from kvsync.index.objects import field_error, is_uint
from kvsync.replica.history import History, VectorException
from kvsync.replica.points import Chain, Point

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["pack_entries", "pack_history", "pack_note", "unpack_entries", "unpack_history", "unpack_note"]

POINT = Struct("<QQQ")
WIDTHS = {"B": 8, "H": 16, "I": 32}
EXCEPTION_WIDTH = 6


def pack_history(history: History) -> tuple[list[tuple[int, bytes]], list[list[int]]]:
    """Return the chains and the exceptions of a history as the format has them."""
    chains = [
        (origin, pack(f"<{3 * len(chain)}Q", *joined.from_iterable(chain))) for origin, chain in history.chains.items()
    ]
    return chains, [[span.origin, span.first, span.last, *span.point] for span in history.exceptions]


def unpack_history(chains: object, exceptions: object) -> History | None:
    """Return the history of two fields, or None where they are not what the format says."""
    known = _chains(chains)
    spans = _exceptions(exceptions)
    if known is None or spans is None:
        return None
    history = History(known, spans)
    return history if History(known).with_exceptions(spans).exceptions == spans else None


def pack_note(history: History) -> bytes:
    """Return what an intent notes beside its changes: what its giver can prove of them."""
    return msgpack.packb(pack_history(history), use_bin_type=True) if history.chains or history.exceptions else b""


def unpack_note(note: bytes, storage: str, name: str) -> History:
    """Return what an intent notes beside its changes.

    Raises:
        IndexDamagedError: it is not what the format says.
    """
    if not note:
        return History()
    try:
        fields = msgpack.unpackb(note, raw=False, strict_map_key=True)
    except (ValueError, msgpack.UnpackException):
        raise field_error(storage, name, "note") from None
    history = unpack_history(*fields) if type(fields) is list and len(fields) == 2 else None  # noqa: PLR2004
    if history is None:
        raise field_error(storage, name, "note")
    check_history(history, storage, name, "note")
    return history


def pack_entries(entries: Mapping[int, Point], chains: Mapping[int, Chain]) -> bytes:
    """Return how far each origin is known: for each chain the place of a point in it, counted from 1.

    What is no point of a chain proves nothing here, and is left out.
    """
    numbers = [_place(chain, entries[origin]) if origin in entries else 0 for origin, chain in chains.items()]
    greatest = max(numbers, default=0)
    if not greatest:
        return b""
    code = next(code for code, bits in WIDTHS.items() if greatest < 1 << bits)
    return Struct(f"<{len(numbers)}{code}").pack(*numbers)


def _place(chain: Chain, point: Point) -> int:
    """Return the place of a point in a chain, counted from 1; 0 where it is none of its points."""
    at = bisect_left(chain, point)
    return at + 1 if at < len(chain) and chain[at] == point else 0


def unpack_entries(column: object, chains: Mapping[int, Chain]) -> dict[int, Point] | None:
    """Return what `pack_entries` packed, or None where it is not what the format says."""
    if type(column) is not bytes:
        return None
    if not column:
        return {}
    code = next((code for code, bits in WIDTHS.items() if len(column) == len(chains) * bits // 8), None)
    if code is None:
        return None
    numbers = Struct(f"<{len(chains)}{code}").unpack(column)
    pairs = [(number, origin, chain) for number, (origin, chain) in zip(numbers, chains.items(), strict=True) if number]
    if not pairs or any(number > len(chain) for number, _, chain in pairs):
        return None
    found = {origin: chain[number - 1] for number, origin, chain in pairs}
    least = next(code for code, bits in WIDTHS.items() if max(numbers) < 1 << bits)
    return found if least == code else None


def _chains(rows: object) -> dict[int, Chain] | None:
    if type(rows) is not list:
        return None
    chains: dict[int, Chain] = {}
    last = 0
    for row in rows:
        if type(row) is not list or len(row) != 2:  # noqa: PLR2004
            return None
        origin, column = row
        chain = _chain(column)
        if not is_uint(origin) or origin <= last or chain is None:
            return None
        chains[origin] = chain
        last = origin
    return chains


def _chain(column: object) -> Chain | None:
    if type(column) is not bytes or not column or len(column) % POINT.size:
        return None
    chain = tuple(map(Point._make, POINT.iter_unpack(column)))
    before = (0, 0)
    for number, stamp, _ in chain:
        if number <= before[0] or stamp <= before[1]:
            return None
        before = number, stamp
    return chain


def _exceptions(rows: object) -> tuple[VectorException, ...] | None:
    if type(rows) is not list:
        return None
    spans = []
    for row in rows:
        if type(row) is not list or len(row) != EXCEPTION_WIDTH or not all(map(is_uint, row)):
            return None
        origin, first, last, *point = row
        span = VectorException(origin, first, last, Point(*point))
        if not origin or first > last or last > span.point.stamp:
            return None
        spans.append(span)
    return tuple(spans)
