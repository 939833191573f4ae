"""What a preview says of a run: what would change, without what has no effect, and what would be left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.digesting import digests
from kvsync.result import MissingKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvsync.native import Segment
    from kvsync.run.delta import Inbound
    from kvsync.run.side import Side

__all__ = ["effective", "still_missing"]


def effective(side: Side, copy: Segment) -> Segment:
    """Return what a side gets, without deletes of what is not there: a new storage learns of each old one."""
    vain = list(_absent(side, copy.deletes(0, len(copy))))
    return copy.without(vain) if vain else copy


def _absent(side: Side, keys: Sequence[str]) -> Iterator[str]:
    """Yield the keys, of some ascending ones, at which a side would hold nothing before it gets anything."""
    keys = [key for key in keys if side.pending.get(key) is None]
    if side.scan is None:
        yield from (key for key, found in digests(side.storage, keys) if found is None or key in side.pending)
        return
    held = side.scan.current.digests(keys)
    yield from (key for key, digest in zip(keys, held, strict=True) if digest is None or key in side.pending)


def still_missing(side: Side, inbound: Inbound) -> Iterator[MissingKey]:
    """Yield the keys whose newest value a side does not hold, and would try again to get.

    Whether it gets it this time shows only when it is written. A newer change of the key has not failed yet.
    """
    entries = side.log.manifest.knowledge.missing
    newer = inbound.log.find([entry.change.key for entry in entries]) if entries else []
    for entry, row in zip(entries, newer, strict=True):
        if row is None:
            yield MissingKey(entry.change.key, side.label, entry.reason)
