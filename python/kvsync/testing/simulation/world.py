"""The world of a history: its storages and their machines, virtual time, and what the simulator knows."""

from __future__ import annotations

import os
import random
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from kvsync.process import Process
from kvsync.testing.simulation.ghosts import NOTHING, Ghosts, Holding
from kvsync.testing.simulation.machines import LATE_SECONDS, START, environment_on
from kvsync.testing.simulation.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvsync.environment import Environment
    from kvsync.testing.faults import Fault
    from kvsync.testing.simulation.disks import Disk, MakeDisk
    from kvsync.testing.simulation.events import Event, History
    from kvsync.testing.simulation.ghosts import Heads
    from kvsync.testing.simulation.wire import CutOff

__all__ = ["NAMES", "Backup", "BrokenPromiseError", "Place", "World"]

NAMES = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")


class BrokenPromiseError(AssertionError):
    """A history broke a promise.

    Attributes:
        kind: which promise, in two or three words that are the same for all histories that break it.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Backup(NamedTuple):
    """A copy of a disk, the place that it is of, what that and its partner in a run held, and the writes so far.

    And whether its index is, or was, tampered with.
    """

    of: int
    copy: Any
    holding: Holding
    partner: Heads
    writes: frozenset[int]
    is_damaged: bool
    was_damaged: bool


@dataclass
class Place:
    """A storage, and the clock of the machine beside it.

    Attributes:
        holding: what it holds, as the simulator knows it.
        is_damaged: its index was tampered with, and not removed since.
        was_damaged: its index was ever tampered with since it was last new.
        known: the places that it has met since it was last new, or that those had met.
    """

    number: int
    kind: str
    disk: Disk
    skew: float = 0.0
    holding: Holding = field(default_factory=Holding)
    is_damaged: bool = False
    was_damaged: bool = False
    known: set[int] = field(default_factory=set)

    @property
    def name(self) -> str:
        return NAMES[self.number]

    def empty(self) -> None:
        """Let a new, empty storage take the place."""
        self.disk.empty()
        self.holding = Holding()
        self.is_damaged = self.was_damaged = False
        self.known = set()

    def knows(self, other: Place) -> bool:
        """Whether two places know each other, and each of them all that the other one knows."""
        return {self.number, other.number} <= self.known == other.known

    def meet(self, other: Place) -> None:
        """Note that two places have met."""
        self.known |= other.known | {other.number, self.number}
        other.known |= self.known


@dataclass
class World:
    """Everything that a history happens in.

    Attributes:
        lines: the story so far, by the number of the event.
        backups: all backups, by the number of the event that took them.
        cut_off: writes that may still land and when they were cut off, by the number of the run's event.
        alive: runs that were cut off, and whose processes still run.
        counts: how often something happened or was told, for the report.
        older: what objects of the indexes held at backups, by place and name.
        meetings: how often two places met at the end.
    """

    history: History
    places: list[Place]
    now: float = START
    ghosts: Ghosts = field(default_factory=Ghosts)
    lines: dict[int, str] = field(default_factory=dict)
    backups: dict[int, Backup] = field(default_factory=dict)
    cut_off: dict[int, tuple[float, CutOff]] = field(default_factory=dict)
    alive: set[int] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)
    older: dict[tuple[int, str], list[bytes]] = field(default_factory=dict)
    meetings: int = 0

    @classmethod
    def of(cls, history: History, kinds: dict[str, MakeDisk], directory: str) -> World:
        """Return a new world, with new disks below `directory`."""
        places = [
            Place(number, kind, kinds[kind](os.path.join(directory, NAMES[number])))
            for number, kind in enumerate(history.kinds)
        ]
        return cls(history, places)

    def count(self, what: str, times: int = 1) -> None:
        """Count something for the report."""
        if times:
            self.counts[what] = self.counts.get(what, 0) + times

    def tell(self, event: Event, text: str) -> None:
        """Add the line of an event to the story."""
        self.lines[event.number] = text

    def tell_ending(self) -> None:
        """Add the line after which only the last meetings come."""
        self.lines[1_000_000] = "everybody meets until nothing moves"

    # Machines

    def environment(self, at: Place, run: int) -> Environment:
        """Return where a run on the machine of a place gets time and randomness from, and what it sees of others."""
        process = Process(f"machine {at.number}", run + 1, 0)
        return environment_on(
            process,
            clock=lambda: self.now + at.skew,
            monotonic=lambda: self.now,
            sleep=self.pass_time,
            chance=random.Random(self.history.seed << 20 ^ run),  # noqa: S311 - repeatable on purpose
            has_ended=lambda other: other != process and other.pid - 1 not in self.alive,
        )

    def pass_time(self, seconds: float) -> None:
        """Let seconds pass."""
        self.now += seconds

    @contextmanager
    def wires(self, places: Sequence[Place], fault: Fault) -> Iterator[list[Wire]]:
        """Open storages behind one fault; close them at the end, in whatever way it ends."""
        with ExitStack() as stack:
            wires = [Wire(place.disk.open(), fault, place.number, place.name) for place in places]
            for wire in wires:
                stack.enter_context(closing(wire))
            yield wires

    # What the storages hold

    def observe(
        self,
        places: Sequence[Place],
        known: Sequence[Heads] = (),
        *,
        finished: bool,
        scanned: bool = False,
        one_way: bool = False,
    ) -> None:
        """Look at what places hold after a run over one of them, or two; `known` is what kvsync knew of those before.

        A run that `finished` and `scanned` saw what was written behind its back. What one that failed wrote may be as
        unknown to the next one.
        """
        before = [place.holding.heads for place in places]
        partners = known[::-1] if known else [{}]
        for place, own, partner in zip(places, before, partners, strict=True):
            place.holding.heads = self.heads_of(place.disk.values(), own, partner, finished=finished, one_way=one_way)
            if not finished:
                self._doubt(place.holding, own, partner)
            elif scanned:
                place.holding.reveal_all()
            else:
                self.ghosts.learn_unseen(place.holding, partner, one_way=one_way)

    @staticmethod
    def _doubt(holding: Holding, before: Heads, partner: Heads) -> None:
        """Note after a run that failed that the next one may not know what it did."""
        for key in before.keys() | partner.keys() | holding.heads.keys():
            own = before.get(key, NOTHING)
            if holding.at(key) != own:
                holding.hide(key, own)
            if own != partner.get(key, NOTHING):
                holding.doubtful.add(key)

    def heads_of(self, values: dict[str, bytes], own: Heads, partner: Heads, **details: Any) -> Heads:
        """Return the heads of what somebody holds.

        Raises:
            BrokenPromiseError: a value is there that nobody wrote.
        """
        try:
            return self.ghosts.heads_of(values, own, partner, **details)
        except KeyError as error:
            text = f"the value {error.args[0]!r} is there, and nobody wrote it"
            raise BrokenPromiseError("invented value", text) from None

    def held(self, *, but: Place | None = None) -> set[int]:
        """Return the writes that some storage holds, `but` one."""
        places = [place for place in self.places if place is not but]
        return {number for place in places for head in place.holding.heads.values() for number in head}

    def back_up(self, event: Event, at: Place, partner: Place | None = None) -> None:
        """Take a backup of a place, in the middle of a run with `partner` as it may be."""
        self.backups[event.number] = self.backup(at, partner)

    def backup(self, at: Place, partner: Place | None = None) -> Backup:
        """Return a backup of a place."""
        heads, writes = partner.holding.heads if partner else {}, frozenset(self.ghosts.writes)
        return Backup(at.number, at.disk.copy(), at.holding.copy(), heads, writes, at.is_damaged, at.was_damaged)

    def restore(self, at: Place, backup: Backup) -> None:
        """Put the bytes of a place back to a copy, and excuse what only its old ones held."""
        holding, partner = backup.holding, backup.partner
        before = self.held()
        at.disk.put_back(backup.copy)
        at.is_damaged, at.was_damaged = backup.is_damaged, backup.was_damaged
        at.holding = holding.copy()
        since = self.ghosts.writes.keys() - backup.writes
        at.holding.heads = self.heads_of(at.disk.values(), holding.heads, partner, since=since)
        self._doubt(at.holding, holding.heads, partner)
        self.replaced(at, before)

    def replaced(self, at: Place, before: set[int]) -> None:
        """Note that the bytes of a place were replaced: what only its old ones held is excused.

        All places together held what they held `before`.

        Objects of its old index are not put back later: they would be those of an index that is newer than its values.
        """
        self.older = {name: copies for name, copies in self.older.items() if name[0] != at.number}
        self.cut_off = {run: late for run, late in self.cut_off.items() if late[1].at != at.number}
        self.ghosts.destroyed(before, self.held())

    def give_up(self, run: int, *, ends: bool, wires: Sequence[Wire]) -> None:
        """Note that a run was killed: its process has ended, or was cut off."""
        if ends:
            return
        self.alive.add(run)
        for wire in wires:
            if wire.cut_off is not None:
                self.cut_off[run] = (self.now, wire.cut_off)

    def land(self, run: int) -> Place | None:
        """Let the write land at which a run was cut off, if there is one and it is not too late; return where."""
        when, late = self.cut_off.pop(run, (0.0, None))
        if late is None or self.now - when > LATE_SECONDS:
            return None
        place = self.places[late.at]
        with closing(place.disk.open()) as storage:
            getattr(storage, late.method)(*late.arguments)
        self.observe([place], finished=False)
        return place
