"""Stamping: when the changes that scans found were made, as far as the storages say so.

A time that the storage tells is exact. Otherwise a change was made after the last scan and before this one, and its
stamp says the latest possible time. Both sides of a run are stamped by one look at the clock, and a key that was
changed on both at an unknown time has one stamp: neither which side was scanned first nor how much was found there
decides which change is the greater, but its content.
"""

from __future__ import annotations

from itertools import starmap
from typing import TYPE_CHECKING, NamedTuple

from kvsync.native import stamp_found

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.native import FoundValues, Segment
    from kvsync.replica.log import Log

__all__ = ["Stamped", "Unstamped", "stamped"]


class Unstamped(NamedTuple):
    """What a scan found to be changed in one storage.

    Attributes:
        log: of the storage.
        origin: the id under which its changes are stamped.
        puts: what is there now, with the times that the storage tells.
        deletes: keys where nothing is any more.
        deleted_ms: when each of them was deleted, wall-clock milliseconds; empty where no storage tells that.
    """

    log: Log
    origin: int
    puts: FoundValues
    deletes: Sequence[str]
    deleted_ms: Sequence[int | None] = ()


class Stamped(NamedTuple):
    """What a scan found, stamped.

    Attributes:
        changes: what is to be logged.
        shared: the least and the greatest stamp of those of them that are changes of the other side; None without any.
    """

    changes: Segment
    shared: tuple[int, int] | None


def stamped(sides: Sequence[Unstamped], now_ms: int) -> list[Stamped]:
    """Return the changes of each side; none of their stamps is in the future.

    A value of unknown age in a storage without a log counts as old: it must not beat what a peer knows to be newer. One
    that both sides hold is one change, of the first of them.
    """
    manifests = [side.log.manifest for side in sides]
    found = stamp_found(
        [
            (side.puts, side.deletes, side.deleted_ms, side.origin, manifest.clock, bool(manifest.history.chains))
            for side, manifest in zip(sides, manifests, strict=True)
        ],
        now_ms,
    )
    return list(starmap(Stamped, found))
