"""The order in which to write objects such as `a` and `a/b`: some servers lose one if they are written together."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["prefix_levels"]


def prefix_levels(names: Sequence[str]) -> list[list[int]]:
    """Group the positions of names so that a name comes in a later group than those that it is a directory of.

    There is usually one group. A server that stores objects in a file system creates the directory `a` for `a/b`. If it
    writes `a` at the same moment, either may replace the other, though both were acknowledged: SeaweedFS does that now
    and then.

    >>> prefix_levels(["a/b/c", "a", "a/b", "ab", "c/d"])
    [[1, 3, 4], [2], [0]]
    """
    current = set(names)
    found: dict[int, list[int]] = {}
    for position, name in enumerate(names):
        parts = name.split("/")[:-1]
        above = accumulate(parts, lambda path, part: f"{path}/{part}")
        found.setdefault(sum(path in current for path in above), []).append(position)
    return [found[depth] for depth in sorted(found)]
