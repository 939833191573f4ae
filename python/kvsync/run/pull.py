"""Step 3: pull the segments that may hold what the other side misses, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kvsync.replica.base import Layers
    from kvsync.run.side import Pair

__all__ = ["Pulled", "pull"]


class Pulled(NamedTuple):
    """The segments of both sides, oldest to newest."""

    source: Layers
    target: Layers


def pull(pair: Pair) -> Pulled:
    """Read the segments of both logs, back to the oldest that the other side does not know.

    Where a history is in doubt, version vectors prove nothing, so both logs are read whole. Of a base in blocks only
    the directory is read here: which of its blocks differ is seen in step 4.

    Raises:
        IndexDamagedError: a segment is absent, damaged, or not the one that the manifest lists.
    """
    source, target = pair.source.log, pair.target.log
    if pair.in_doubt:
        return Pulled(source.all_layers(), target.all_layers())
    return Pulled(
        source.layers_since(target.manifest.cover),
        target.layers_since(source.manifest.cover),
    )
