"""The events of a history, as plain data: nothing in them depends on chance, so any part of a history can be replayed.

Storages are named by their numbers, writes by numbers of their own. `after` is how many seconds pass before an event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from kvsync.policy import PolicyName
    from kvsync.testing.faults import FaultMode
    from kvsync.types import Direction

__all__ = [
    "BackUp",
    "Clone",
    "Compact",
    "Crash",
    "Damage",
    "Event",
    "Forget",
    "History",
    "Land",
    "Newcomer",
    "PutBack",
    "Scan",
    "SetClock",
    "Sync",
    "TakenMeanwhile",
    "Way",
    "Write",
    "WrittenMeanwhile",
    "Wrote",
]

Way: TypeAlias = Literal["flip", "older", "swap", "remove"]
"""How an index object is damaged: a bit flips; an older copy of it is put back; another storage's takes its place."""


class Wrote(NamedTuple):
    """One write of an application: its number, its key, and whether it is a delete."""

    number: int
    key: str
    deletes: bool = False

    @property
    def value(self) -> bytes | None:
        """The value, which no other write has; None for a delete."""
        return None if self.deletes else b"v%d" % self.number

    @property
    def name(self) -> str:
        """What stories call it."""
        return f"{'d' if self.deletes else 'v'}{self.number}"


class Crash(NamedTuple):
    """A fault at an operation of a run, counted from 1.

    `ends` says that a killed process has ended for good, which its own machine sees. Otherwise it is merely cut off,
    and the write at which that happened may still land. `of_values` counts only operations that change values.
    """

    operation: int
    mode: FaultMode
    ends: bool = True
    of_values: bool = False


class TakenMeanwhile(NamedTuple):
    """A backup of one side, taken just before an operation of a run."""

    operation: int
    of_target: bool


class WrittenMeanwhile(NamedTuple):
    """A write behind kvsync's back into one side, just before an operation of a run."""

    operation: int
    of_target: bool
    wrote: Wrote


@dataclass(frozen=True)
class Event:
    """What all events have: a number that is its own for good, and the seconds that pass before it."""

    number: int
    after: float


@dataclass(frozen=True)
class Write(Event):
    """An application changes keys of a storage, through kvsync or behind its back."""

    at: int
    writes: tuple[Wrote, ...]
    logged: bool
    crash: Crash | None = None


@dataclass(frozen=True)
class Scan(Event):
    """A storage is scanned, and what is found is committed."""

    at: int
    crash: Crash | None = None


@dataclass(frozen=True)
class Sync(Event):
    """A run over two storages."""

    source: int
    target: int
    given: tuple[Wrote, ...] = ()
    conflict: PolicyName = "latest"
    scan: bool = False
    guard: Literal["none", "check"] = "none"
    crash: Crash | None = None
    backup: TakenMeanwhile | None = None
    meanwhile: tuple[WrittenMeanwhile, ...] = ()
    direction: Direction = "both"
    read_only: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compact(Event):
    """The log of a storage is compacted."""

    at: int
    crash: Crash | None = None


@dataclass(frozen=True)
class BackUp(Event):
    """All bytes of a storage are copied to a safe place."""

    at: int


@dataclass(frozen=True)
class PutBack(Event):
    """All bytes of a storage are replaced by a backup, its own or another one's; `backup` is the event that took it."""

    at: int
    backup: int


@dataclass(frozen=True)
class Clone(Event):
    """All bytes of a storage are replaced by those of another one; both are used on."""

    at: int
    of: int


@dataclass(frozen=True)
class Forget(Event):
    """A storage is told that one of the peers that it knows does not come back; it may come back all the same.

    `which` chooses the peer, as a part of the whole.
    """

    at: int
    which: float
    crash: Crash | None = None


@dataclass(frozen=True)
class Newcomer(Event):
    """A new, empty storage takes the place of one."""

    at: int


@dataclass(frozen=True)
class Land(Event):
    """The write at which a run was cut off lands; `run` is the event of that run."""

    run: int


@dataclass(frozen=True)
class SetClock(Event):
    """The clock of a machine jumps by some seconds, forward or back."""

    at: int
    seconds: float


@dataclass(frozen=True)
class Damage(Event):
    """An index object of a storage is damaged.

    `which` and `where` choose the object and a place in it, as parts of the whole. `other` is the storage that another
    object comes from.
    """

    at: int
    way: Way
    which: float
    where: float
    other: int


@dataclass(frozen=True)
class History:
    """A whole history: the kinds of its storages, which pairs of them meet, and what happens, in order."""

    seed: int
    kinds: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    events: tuple[Event, ...]
    grace: str = "30d"
    """The runs' `tombstone_grace`."""
