"""Changes, and the points of the histories that they belong to."""

from __future__ import annotations

from typing import NamedTuple

ABSENT = 0
"""The value of a key at which nothing is, and of a change that deletes."""

BRANCH_BIT = 1 << 63


class Point(NamedTuple):
    """A commit of an origin: which one it was, the stamp it ended at, and random bits drawn just then."""

    number: int
    stamp: int
    mark: int


NO_POINT = Point(0, 0, 0)

Dot = tuple[int, int]
"""What names a change: its origin and its stamp."""


class Change(NamedTuple):
    """A logged change of a key.

    `write` is ghost state: which write of an application made the value. No rule reads it.
    """

    stamp: int
    origin: int
    value: int
    write: int
    decided: bool = False
    inexact: bool = False

    @property
    def dot(self) -> Dot:
        return self.origin, self.stamp

    @property
    def outcome(self) -> tuple[int, int]:
        """What the change is under any name."""
        return self.stamp, self.value


def order(change: Change) -> tuple[int, int, int]:
    """Sort changes of one key: by stamp, then by content, by name only at the very end."""
    return change.stamp, change.value, change.origin


def order_by_name(change: Change) -> tuple[int, int, int]:
    """Sort changes of one key by stamp and name, as one should not."""
    return change.stamp, change.origin, 0


def branch_name(origin: int, point: Point) -> int:
    """Return the name of a branch of `origin` that stood at `point`: the same on every replica that holds it."""
    return hash((origin, point, 77)) & (BRANCH_BIT - 1) | BRANCH_BIT


def is_branch(origin: int) -> bool:
    """Whether a name is that of a branch; no replica has such an id."""
    return bool(origin & BRANCH_BIT)
