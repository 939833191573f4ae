"""Step 3: pull the segments that may hold what the other side misses, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kvsync.native import Segment
    from kvsync.run.side import Pair

__all__ = ["Pulled", "pull"]


class Pulled(NamedTuple):
    """The segments of both sides, oldest to newest."""

    source: list[Segment]
    target: list[Segment]


def pull(pair: Pair) -> Pulled:
    """Read the segments of both logs, back to the oldest that the other side does not know.

    Where a history is in doubt, version vectors prove nothing, so both logs are read whole.

    Raises:
        IndexDamagedError: a segment is absent, damaged, or not the one that the manifest lists.
    """
    source, target = pair.source.log, pair.target.log
    if pair.in_doubt:
        return Pulled(source.all_segments(), target.all_segments())
    return Pulled(
        source.segments_since(target.manifest.cover),
        target.segments_since(source.manifest.cover),
    )
