"""What the suite leaves to its long variant, `make test-long`: larger numbers, and every combination of parameters.

In the short variant each value of each parameter is still in some test, and with `covering` each two values meet.
"""

from __future__ import annotations

import os
from itertools import product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LONG", "amount", "covering", "in_turns", "spread"]

LONG = os.environ.get("KVSYNC_TEST_LONG", "") not in {"", "0"}
"""Whether this is the long variant."""

SPREAD = 2


def amount(short: int, long: int) -> int:
    """Return how many of something this variant takes."""
    return long if LONG else short


def covering(rows: Sequence[tuple[Any, ...]], many: Sequence[Any], few: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return combinations in which each two values meet: each row with each of `many`, and `few` in turns.

    >>> covering([("a",), ("b",)], [1, 2], ["x", "y"])
    [('a', 1, 'x'), ('a', 2, 'y'), ('b', 1, 'y'), ('b', 2, 'x')]
    """
    assert len(rows) >= len(few) <= len(many)
    if LONG:
        return [(*row, one, other) for row, one, other in product(rows, many, few)]
    places = product(range(len(rows)), range(len(many)))
    return [(*rows[row], many[at], few[(row + at) % len(few)]) for row, at in places]


def in_turns(rows: Sequence[tuple[Any, ...]], values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return each row with one of the values, in turns.

    >>> in_turns([("a",), ("b",), ("c",)], [1, 2])
    [('a', 1), ('b', 2), ('c', 1)]
    """
    assert len(rows) >= len(values)
    if LONG:
        return [(*row, value) for row, value in product(rows, values)]
    return [(*row, values[number % len(values)]) for number, row in enumerate(rows)]


def spread(rows: Sequence[tuple[Any, ...]], values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return combinations in which each row meets two values, and each value some row.

    >>> spread([("a",), ("b",)], [1, 2, 3])
    [('a', 1), ('a', 2), ('b', 3), ('b', 1)]
    """
    assert len(rows) * SPREAD >= len(values)
    if LONG:
        return [(*row, value) for row, value in product(rows, values)]
    turns = ((row, number * SPREAD + at) for number, row in enumerate(rows) for at in range(SPREAD))
    return [(*row, values[turn % len(values)]) for row, turn in turns]
