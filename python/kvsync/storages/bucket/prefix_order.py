"""Objects whose names are directories of others': `a` beside `a/b`, which some servers lose when written at once."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["prefix_levels"]


def prefix_levels(names: Sequence[str]) -> list[list[int]]:
    """Return the positions of names in tiers, above each name those that are its directories; mostly there is one.

    A server that keeps objects in a file system makes the directory `a` for `a/b`. If it takes `a` at that moment,
    either may replace the other's entry, though both were acknowledged: SeaweedFS does so now and then.

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
