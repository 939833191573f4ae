"""Draws histories: everything that chance decides is decided here, before anything happens."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from kvsync.options import DIRECTIONS
from kvsync.policy import PolicyName
from kvsync.testing.faults import FAULT_MODES
from kvsync.testing.simulation.events import (
    BackUp,
    Clone,
    Compact,
    Crash,
    Damage,
    Event,
    Forget,
    History,
    Land,
    Newcomer,
    PutBack,
    Scan,
    SetClock,
    Sync,
    TakenMeanwhile,
    Way,
    Write,
    WrittenMeanwhile,
    Wrote,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from kvsync.types import Direction


__all__ = ["HAZARDS", "Hazard", "Setting", "draw"]

Hazard: TypeAlias = Literal[
    "unlogged",
    "crashes",
    "restores",
    "clones",
    "newcomers",
    "late",
    "clocks",
    "collection",
    "forgotten",
    "damage",
    "directions",
    "read-only",
    "filters",
]
HAZARDS: tuple[Hazard, ...] = get_args(Hazard)
POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
PLACES = (2, 3, 3, 4, 5, 6)
EVENTS = (8, 15, 25, 40)
GRACES = ("0s", "0s", "10s")
PAUSES = (0.0, 0.001, 1.0, 1.0, 30.0)
JUMPS = (-3600.0, -60.0, -0.5, 0.5, 60.0, 3600.0)


@dataclass(frozen=True)
class Setting:
    """What may happen in histories.

    Attributes:
        kinds: the kinds of storages, by name; each history has one kind, or a mix of them.
        hazards: what may go wrong.
        policies: the policies of runs.
    """

    kinds: tuple[str, ...] = ("dict",)
    hazards: Collection[Hazard] = HAZARDS
    policies: Sequence[PolicyName] = POLICIES


def draw(seed: int, setting: Setting) -> History:
    """Return the history of a seed."""
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    count = chance.choice(PLACES)
    kinds = _kinds(chance, setting, count)
    edges = [(i, chance.randrange(i)) for i in range(1, count)]
    edges += [pair for pair in combinations(range(count), 2) if chance.random() < 0.3]
    dealer = _Dealer(seed, chance, setting, kinds, edges)
    for _ in range(chance.choice(EVENTS)):
        dealer.deal()
    pairs = tuple(dict.fromkeys((min(edge), max(edge)) for edge in edges))
    grace = chance.choice(GRACES) if "collection" in setting.hazards else "30d"
    return History(seed, kinds, pairs, tuple(dealer.events), grace)


def _kinds(chance: random.Random, setting: Setting, count: int) -> tuple[str, ...]:
    if chance.random() < 0.5:
        return (chance.choice(setting.kinds),) * count
    return tuple(chance.choice(setting.kinds) for _ in range(count))


@dataclass
class _Dealer:
    """Deals one event after another.

    Attributes:
        is_edited: applications also write behind kvsync's back in this history, so every run scans or looks.
        policies: those of this history: one half of all have one policy throughout.
        backups: the events that took backups, and of which places.
    """

    seed: int
    chance: random.Random
    setting: Setting
    kinds: tuple[str, ...]
    edges: list[tuple[int, int]]
    events: list[Event] = field(default_factory=list)
    writes: int = 0
    backups: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        chance, hazards = self.chance, self.setting.hazards
        self.keys = [f"k{number}" for number in range(1, chance.choice((2, 3, 4, 5)))]
        self.is_edited = "unlogged" in hazards and chance.random() < 0.5
        self.is_crashing = "crashes" in hazards and chance.random() < 0.5
        # By a source of its own: the other hazards of a seed are the same with directions and without.
        self.directing = random.Random(self.seed)  # noqa: S311 - repeatable on purpose
        self.is_directed = "directions" in hazards and self.directing.random() < 0.5
        self.is_filtered = "filters" in hazards and self.directing.random() < 0.5
        # Of a storage that is only read nobody can tell a restore from an edit.
        self.is_read_only = "read-only" in hazards and not {"restores", "clones", "newcomers", "damage"} & set(hazards)
        self.is_damaged = "damage" in hazards and chance.random() < 0.3
        policies = self.setting.policies
        self.policies = policies if chance.random() < 0.5 else (policies[0],)
        deals: list[tuple[float, Callable[[int, float], None]]] = [(0.34, self._write), (0.3, self._sync)]
        deals += [(0.05, self._scan), (0.02, self._compact)]
        deals += [(0.1, self._back_up), (0.08, self._put_back)] if "restores" in hazards else []
        deals += [(0.04, self._clone)] if "clones" in hazards else []
        deals += [(0.01, self._newcomer)] if "newcomers" in hazards else []
        deals += [(0.04, self._forget)] if "forgotten" in hazards else []
        deals += [(0.05, self._set_clock)] if "clocks" in hazards and chance.random() < 0.3 else []
        deals += [(0.03, self._long_life)]
        deals += [(0.08, self._damage)] if self.is_damaged else []
        self.weights = [weight for weight, _ in deals]
        self.deals = [deal for _, deal in deals]

    def deal(self) -> None:
        """Deal one event, or several that belong together."""
        (deal,) = self.chance.choices(self.deals, self.weights)
        deal(self.chance.randrange(len(self.kinds)), self.chance.choice(PAUSES))

    def _add(self, make: Callable[[int], Event]) -> None:
        self.events.append(make(len(self.events) + 1))

    def _write(self, at: int, after: float) -> None:
        logged = not self.is_edited or self.chance.random() < 0.3
        writes, crash = self._wrote(self.chance.choice((1, 1, 1, 2, 3))), self._crash() if logged else None
        self._add(lambda number: Write(number, after, at, writes, logged, crash))

    def _wrote(self, count: int) -> tuple[Wrote, ...]:
        keys = self.chance.sample(self.keys, min(count, len(self.keys)))
        first, self.writes = self.writes + 1, self.writes + len(keys)
        return tuple(Wrote(first + i, key, self.chance.random() < 0.25) for i, key in enumerate(keys))

    def _crash(self) -> Crash | None:
        if not self.is_crashing or self.chance.random() > 0.3:
            return None
        if "late" in self.setting.hazards and self.chance.random() < 0.3:
            return Crash(self.chance.randrange(1, 4), "killed", ends=False, of_values=True)
        mode = self.chance.choice(FAULT_MODES)
        return Crash(self.chance.randrange(1, 40), mode, ends=self.chance.random() < 0.5)

    def _scan(self, at: int, after: float) -> None:
        crash = self._crash()
        self._add(lambda number: Scan(number, after, at, crash))

    def _compact(self, at: int, after: float) -> None:
        crash = self._crash()
        self._add(lambda number: Compact(number, after, at, crash))

    def _sync(self, _at: int, after: float) -> None:
        source, target = self.chance.choice(self.edges)
        if self.chance.random() < 0.5:
            source, target = target, source
        self._meet(source, target, after)

    def _meet(self, source: int, target: int, after: float) -> None:
        scan = self.chance.random() < (0.85 if self.is_edited else 0.15)
        guard: Literal["none", "check"] = "check" if self.is_edited or self.chance.random() < 0.1 else "none"
        given = self._wrote(self.chance.choice((1, 2))) if self.chance.random() < 0.15 else ()
        policy, crash, backup = self.chance.choice(self.policies), self._crash(), self._taken_meanwhile(source, target)
        meanwhile = self._written_meanwhile({wrote.key for wrote in given})
        direction = self._direction()
        if direction == "mirror":
            policy = "latest"
        read_only = direction in {"push", "mirror"} and self.is_read_only and self.directing.random() < 0.5
        given, scan = ((), True) if read_only else (given, scan)
        rest = (crash, backup, meanwhile, direction, read_only, () if given else self._excluded())
        self._add(lambda n: Sync(n, after, source, target, given, policy, scan, guard, *rest))
        if crash is not None and not crash.ends:
            self._land(len(self.events), source, target)

    def _direction(self) -> Direction:
        return self.directing.choice(DIRECTIONS) if self.is_directed and self.directing.random() < 0.6 else "both"

    def _excluded(self) -> tuple[str, ...]:
        if not self.is_filtered or self.directing.random() < 0.4:
            return ()
        return tuple(self.directing.sample(self.keys, self.directing.randrange(1, len(self.keys) + 1)))

    def _taken_meanwhile(self, source: int, target: int) -> TakenMeanwhile | None:
        if "restores" not in self.setting.hazards or self.chance.random() > 0.06:
            return None
        of_target = self.chance.random() < 0.5
        self.backups.append((len(self.events) + 1, target if of_target else source))
        return TakenMeanwhile(self.chance.randrange(1, 30), of_target)

    def _written_meanwhile(self, given: set[str]) -> tuple[WrittenMeanwhile, ...]:
        """Return writes during a run, to keys that it is not given: what its caller says replaces what is there."""
        if not self.is_edited or self.chance.random() > 0.2:
            return ()
        writes = [wrote for wrote in self._wrote(self.chance.choice((1, 2))) if wrote.key not in given]
        operations = sorted(self.chance.randrange(1, 40) for _ in writes)
        sides = [self.chance.random() < 0.5 for _ in writes]
        return tuple(map(WrittenMeanwhile, operations, sides, writes))

    def _land(self, run: int, source: int, target: int) -> None:
        """Let a write that was cut off land after somebody else's event; a run that scans then finds it soon."""
        if not self.is_edited or self.chance.random() < 0.3:
            return
        pause = self.chance.choice((1.0, 100.0, 400.0))
        for _ in range(self.chance.choice((0, 1, 2))):
            self._write(self.chance.choice((source, target)), 1.0)
        self._add(lambda number: Land(number, pause, run))
        self._add(lambda number: Sync(number, 1.0, source, target, scan=True, guard="check"))

    def _back_up(self, at: int, after: float) -> None:
        self.backups.append((len(self.events) + 1, at))
        self._add(lambda number: BackUp(number, after, at))

    def _put_back(self, _at: int, after: float) -> None:
        if self.backups:
            backup, at = self.chance.choice(self.backups)
            if self.chance.random() < 0.1:
                at = self.chance.randrange(len(self.kinds))
            self._add(lambda number: PutBack(number, after, at, backup))

    def _clone(self, at: int, after: float) -> None:
        others = [i for i, kind in enumerate(self.kinds) if i != at and kind == self.kinds[at]]
        if others:
            of = self.chance.choice(others)
            self._add(lambda number: Clone(number, after, at, of))

    def _forget(self, at: int, after: float) -> None:
        which, crash = self.chance.random(), self._crash()
        self._add(lambda number: Forget(number, after, at, which, crash))

    def _newcomer(self, at: int, after: float) -> None:
        self._add(lambda number: Newcomer(number, after, at))

    def _set_clock(self, at: int, after: float) -> None:
        seconds = self.chance.choice(JUMPS)
        self._add(lambda number: SetClock(number, after, at, seconds))

    def _long_life(self, _at: int, after: float) -> None:
        """Let two storages live on for long, while others are away."""
        one, other = self.chance.choice(self.edges)
        for _ in range(self.chance.choice((3, 8, 20))):
            self._write(one, after)
            if self.chance.random() < 0.5:
                self._meet(one, other, 1.0)

    def _damage(self, at: int, after: float) -> None:
        ways: tuple[Way, ...] = get_args(Way)
        way, which, where = self.chance.choice(ways), self.chance.random(), self.chance.random()
        other = self.chance.randrange(len(self.kinds))
        self._add(lambda number: Damage(number, after, at, way, which, where, other))
