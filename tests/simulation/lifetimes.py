"""Random histories of values that expire: half of the storages keep the time, half do not, and all share one clock.

What must hold beside what holds everywhere: nothing but an application makes a tombstone, at the end every storage that
keeps expiry has the greatest change of each key unless its time has come, and those that do not keep it have beyond
that only values whose newest change expired.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any, cast

from history import KEYS, POLICIES, STEPS, compact, quiet
from kvsync import Delete, Put
from kvsync.native import digest_values
from kvsync.storages.mapping import MappingStorage
from kvsync.testing import FAULT_MODES, ExpiringStorage, Fault
from kvsync.types import Unreadable
from world import RESERVED, Replicated, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kvsync.storages.contract import Storage
    from kvsync.types import Change

LIVES = (2.0, 20.0, 60.0, 600.0, 7200.0, 40_000.0)
"""Virtual seconds that a value may live: some end within a run that waits for a lease, some after the last one."""

MOMENTS = (0.0, 0.001, 1.0, 30.0, 30.0, 500.0, 5000.0)
SKEW_SECONDS = 2.0
NEAR_MS = 15_000
"""How near to its time a value may be there or not, for clocks that differ."""

Dot = tuple[int, int]
Write = tuple[str, bytes]


def always_readable() -> bool:
    return False


@dataclass
class Plain(Replicated):
    """A replica whose values stay, and some of which cannot be read at times, as `blinks` says."""

    blinks: Callable[[], bool] = always_readable

    def storage(self) -> Storage:
        return blinking(MappingStorage(self.data), self.blinks)


@dataclass
class Keeping(Plain):
    """A replica whose values expire by the world's clock."""

    clock: Callable[[], float] = float
    kept: dict[str, tuple[bytes, int]] = field(default_factory=dict)

    def storage(self) -> Storage:
        return blinking(ExpiringStorage(self.kept, self.data, clock=self.clock), self.blinks)

    def values(self) -> dict[str, bytes]:
        now_ms = int(self.clock() * 1000)
        return {key: value for key, (value, due) in self.kept.items() if not 0 < due <= now_ms}

    def held_at(self, key: str) -> bytes | None:
        return self.values().get(key)

    def encoded(self) -> bytes | None:
        return self.data.get("manifest")


def blinking(storage: Any, blinks: Callable[[], bool]) -> Storage:
    """Make some values of a storage unreadable, as `blinks` says."""
    inner = storage.read

    def read(keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        return [
            Unreadable("not now") if value is not None and not key.startswith(RESERVED) and blinks() else value
            for key, value in zip(keys, inner(keys), strict=True)
        ]

    storage.read = read
    return cast("Storage", storage)


class MortalWorld(World):
    """A world whose applications give values a time, put it off, take it off, and sometimes say so themselves."""

    def __init__(self, seed: int, count: int) -> None:
        super().__init__(seed, count, transactional=True, dying=seed % 10 == 0)
        keeping = self.random.sample(range(count), (count + 1) // 2)
        self.blinking = 0.0
        for number, replica in enumerate(self.replicas):
            if number in keeping:
                self.replicas[number] = Keeping(number, blinks=self.blinks, clock=lambda: self.now)
            else:
                self.replicas[number] = Plain(number, transactional=replica.transactional, blinks=self.blinks)
        if self.random.random() < 0.3:
            for replica in self.replicas:
                replica.skew = self.random.uniform(-SKEW_SECONDS, SKEW_SECONDS)
        # Tombstones that an application may have made, by replica and key, and those that were seen.
        self.allowed: Counter[tuple[int, str]] = Counter()
        self.tombstones: defaultdict[tuple[int, str], set[Dot]] = defaultdict(set)
        self.mortal: set[Write] = set()
        self.retimed: set[Write] = set()
        # Other times that an application set in its own storage, until a run of its says them: (value, due).
        self.untold: dict[tuple[int, str], tuple[bytes, int]] = {}

    def blinks(self) -> bool:
        """Whether a value that is being read cannot be, this once."""
        return self.blinking > 0 and self.random.random() < self.blinking

    @contextmanager
    def blind(self, often: float) -> Iterator[None]:
        """Let values be unreadable that often."""
        self.blinking = often
        try:
            yield
        finally:
            self.blinking = 0.0

    # What the applications do

    def due(self) -> float | None:
        """Return when a value is to expire, or None for never."""
        return self.now + self.random.choice(LIVES) if self.random.random() < 0.7 else None

    def speech(self, at: Replicated, count: int) -> list[Put | Delete]:
        """Return what an application says of some keys: new values, other times for those it has, deletes."""
        said: list[Put | Delete] = []
        for key in self.random.sample(KEYS, count):
            value, kind = at.held_at(key), self.random.random()
            if kind < 0.15:
                said.append(Delete(key))
            elif kind < 0.4 and value is not None:
                said.append(self.another_time(at, key, value))
            else:
                said.append(Put(key, self.value(key), self.due()))
        return said

    def another_time(self, at: Replicated, key: str, value: bytes) -> Put:
        """Return a change of when a stored value expires; half of those that can be are done already."""
        self.retimed.add((key, digest_values([value])[0]))
        if not isinstance(at, Keeping) or self.random.random() < 0.5:
            return Put(key, value, self.due())
        self.retime(at, key, LIVES[-3:])
        self.untold[at.number, key] = at.kept[key]
        return Put(key)

    def say(self, at: Replicated, fault: Fault | None = None) -> None:
        if at.unsaid:
            super().say(at, fault)
            self.tell(at)

    def give(
        self, one: Replicated, other: Replicated, changes: list[Put | Delete], fault: Fault, **options: Any
    ) -> None:
        super().give(one, other, changes, fault, **options)
        self.tell(one)

    def tell(self, at: Replicated) -> None:
        """Note that kvsync knows of all times, unless the run that was to say them failed."""
        if not at.unsaid:
            self.untold = {where: said for where, said in self.untold.items() if where[0] != at.number}

    def sync(self, one: Replicated, other: Replicated, fault: Fault | None = None, **options: Any) -> Any:
        """As everywhere; what goes at a time that was never told looks deleted, and may be all that there was."""
        if options.get("scan") and any(number in {one.number, other.number} for number, _ in self.untold):
            options["max_delete"] = "100%"
        return super().sync(one, other, fault, **options)

    def retime(self, at: Keeping, key: str, lives: Sequence[float]) -> None:
        """Let an application set another time in its own storage."""
        value, _ = at.kept[key]
        due = int((self.now + self.random.choice(lives)) * 1000) if self.random.random() < 0.7 else 0
        at.kept[key] = (value, due)
        at.unreported.add((key, value))
        self.retimed.add((key, digest_values([value])[0]))
        self.note(key, value, due)

    def note(self, key: str, value: bytes, due: float | None) -> None:
        """Note that a value may go by itself."""
        if due:
            self.mortal.add((key, digest_values([value])[0]))

    def remember(self, at: Replicated, change: Put | Delete) -> None:
        if change.deletes:
            self.allowed[at.number, change.key] += 1
        elif change.value is not None:
            self.note(change.key, change.value, change.expires)
        super().remember(at, change)

    def follow(self, at: Replicated, key: str, value: bytes | None, past: set[Write]) -> None:
        replaced = set(at.replaced)
        super().follow(at, key, value, past)
        if value is not None:
            own = (key, digest_values([value])[0])
            past.discard(own)
            if own not in replaced:
                at.replaced.discard(own)

    def again(self, change: Put | Delete) -> Put | Delete:
        """Give up what was said of a value that has gone since: the rest is said again, with its time as it was."""
        if change.value is None and not change.deletes:
            return Put(change.key, self.value(change.key), self.due())
        return super().again(change)

    def edit(self, at: Replicated, keys: str, count: int) -> None:
        """Let an application write straight into the storage: a value, perhaps with a time, another time, a delete."""
        if at.locked:
            return
        for key in self.random.sample(keys, count):
            before, kind = at.held_at(key), self.random.random()
            at.edited.add(key)
            past = set() if before is None else {(key, digest_values([before])[0])}
            if before is not None and kind < 0.25:
                self.allowed[at.number, key] += 1
                self.put(at, key, None)
                self.follow(at, key, None, past)
            elif before is not None and kind < 0.5 and isinstance(at, Keeping):
                # Nobody but the storage knows of the new time: once it has come unseen, it looks like a delete.
                self.allowed[at.number, key] += 1
                self.retime(at, key, LIVES)
            else:
                value, due = self.value(key), self.due() if isinstance(at, Keeping) else None
                self.allowed[at.number, key] += due is not None
                self.note(key, value, due)
                self.put(at, key, value, due)
                at.unreported.add((key, value))
                self.follow(at, key, value, past)

    def put(self, at: Replicated, key: str, value: bytes | None, due: float | None = None) -> None:
        """Put a value into a storage, or nothing."""
        if isinstance(at, Keeping):
            at.kept.pop(key, None)
            if value is not None:
                at.kept[key] = (value, int((due or 0) * 1000))
        else:
            at.data.pop(key, None)
            if value is not None:
                at.data[key] = value

    def settle(
        self,
        pairs: Sequence[tuple[int, int]],
        rounds: int,
        policy: Callable[[], Any] = lambda: "latest",
        **options: Any,
    ) -> int:
        """Sync all pairs until a round writes no manifest: what is known, and not moved, also takes its way."""
        for done in range(rounds + 1):
            before = [replica.encoded() for replica in self.replicas]
            for replica in self.replicas:
                self.say(replica)
            for i, j in pairs:
                self.sync(self.replicas[i], self.replicas[j], conflict=policy(), **options)
            if before == [replica.encoded() for replica in self.replicas]:
                return done
        message = f"still moving after {rounds} rounds"
        raise AssertionError(message)

    # What must hold

    def check(self, at: Replicated) -> None:
        """Beside what holds everywhere: no log has more tombstones of its own than the application made deletes."""
        super().check(at)
        own = at.log().manifest.replica
        for change in at.newest.values():
            if change.deletes and not change.decided and change.origin == own:
                made = self.tombstones[at.number, change.key]
                if change.dot not in made and self.went_untold(at, change.key):
                    self.allowed[at.number, change.key] += 1
                    del self.untold[at.number, change.key]
                made.add(change.dot)
                assert len(made) <= self.allowed[at.number, change.key], f"{at.number} made a delete up: {change}"

    def went_untold(self, at: Replicated, key: str) -> bool:
        """Whether a value went at a time that its application set and never came to tell: that looks like a delete."""
        said = self.untold.get((at.number, key))
        return said is not None and cast("Keeping", at).kept.get(key) in {None, said} and 0 < said[1] <= self.now * 1000

    def check_lives(self) -> None:
        """All know the greatest change of each key, and hold what it says now."""
        greatest: dict[str, Change] = {}
        for change in self.known.values():
            if change.key not in greatest or change.order > greatest[change.key].order:
                greatest[change.key] = change
        for replica in self.replicas:
            self.check(replica)
            assert not replica.log().manifest.knowledge.missing, f"{replica.number} misses values"
            assert replica.newest == greatest, f"{replica.number} knows something else"
            assert replica.values().keys() <= greatest.keys()
            for change in greatest.values():
                self.check_held(replica, change)

    def check_held(self, at: Replicated, change: Change) -> None:
        """A key holds what its newest change says: nothing once that expired, but for who cannot keep the time."""
        value, now_ms = at.held_at(change.key), int(self.now * 1000)
        says = f"{at.number} holds {value!r} for {change} at {now_ms}"
        if change.deletes:
            assert value is None, says
            return
        fits = value is not None and digest_values([value])[0] == change.digest
        near = change.expires and abs(change.expires - now_ms) <= NEAR_MS
        if near or (change.expired(now_ms) and not isinstance(at, Keeping)):
            assert value is None or fits, says
        elif change.expired(now_ms):
            assert value is None, says
        else:
            assert fits, says
            assert not isinstance(at, Keeping) or at.kept[change.key][1] == change.expires, says

    def check_kept(self) -> None:
        """As everywhere, of values that stay: what may have gone by itself leaves no trace."""
        for write in self.mortal:
            self.past.pop(write, None)
        super().check_kept()

    def check_not_back(self) -> None:
        """Predicate 7, as `World.check_equal` asks it, of values that were given a time once."""
        logged = {(row.key, row.digest) for row in self.known.values() if not row.decided}
        for key, change in self.replicas[0].newest.items():
            final = (key, change.digest)
            if not change.decided and not change.deletes and final not in self.retimed:
                assert not [write for write in logged if final in self.past.get(write, set())], f"{key} went back"


def topology(world: World) -> list[tuple[int, int]]:
    """Return the pairs that ever meet: all, a ring, a line, a star, or a tree."""
    count = len(world.replicas)
    shape = world.random.choice(("mesh", "ring", "line", "star", "tree"))
    if shape == "mesh":
        return list(combinations(range(count), 2))
    if shape == "star":
        return [(0, number) for number in range(1, count)]
    line = [(number - 1, number) for number in range(1, count)]
    if shape == "tree":
        return [(world.random.randrange(number), number) for number in range(1, count)]
    return [*line, (count - 1, 0)] if shape == "ring" and count > 2 else line


def begun(seed: int) -> tuple[MortalWorld, list[tuple[int, int]]]:
    world = MortalWorld(seed, 2 + seed % 5)
    return world, topology(world)


def met(world: World, pairs: list[tuple[int, int]]) -> tuple[Replicated, Replicated]:
    """Return two that meet now, either of them as the source."""
    i, j = world.random.choice(pairs)
    one, other = world.replicas[i], world.replicas[j]
    return (one, other) if world.random.random() < 0.5 else (other, one)


def unreadable(seed: int) -> float:
    """Return how often a value cannot be read: in a third of the histories without crashes.

    Recovery takes what it cannot read for something else than what an interrupted run wrote.
    """
    return 0.15 if seed % 6 == 3 else 0.0


def planted(world: World, *, crashing: bool) -> Fault:
    chance = world.random
    return Fault(chance.randrange(1, 40), chance.choice(FAULT_MODES)) if crashing and chance.random() < 0.4 else Fault()


def play(seed: int, policies: tuple[Any, ...] = POLICIES) -> MortalWorld:
    """Play a history whose applications say all they do; runs may scan all the same, and must find nothing."""
    world, pairs = begun(seed)
    chance, often = world.random, unreadable(seed)
    for _ in range(STEPS):
        world.now += chance.choice(MOMENTS)
        fault, kind = planted(world, crashing=seed % 2 == 0), chance.random()
        one, other = met(world, pairs)
        if kind < 0.4:
            fresh = world.speech(one, chance.randrange(1, 4))
            for change in fresh:
                world.remember(one, change)
            one.unsaid += fresh
            world.say(one, fault)
        elif kind < 0.55:
            world.say(one)
            given = world.speech(one, chance.randrange(1, 4))
            world.give(one, other, given, fault, conflict=chance.choice(policies), scan=chance.random() < 0.3)
        elif kind < 0.93:
            options: dict[str, Any] = chance.choice(({}, {"scan": True}, {"guard": "check"}))
            with world.blind(often):
                world.sync(one, other, fault, conflict=chance.choice(policies), **options)
        else:
            compact(world, one, fault)
    finish(world, pairs, policies, lambda: {"scan": chance.random() < 0.5}, blinded=often > 0)
    return world


def edited(seed: int, policies: tuple[Any, ...] = POLICIES) -> MortalWorld:
    """Play a history whose applications also write, and set times, behind kvsync's back; all runs look for it."""
    world, pairs = begun(seed)
    chance, often = world.random, unreadable(seed)
    everything = {"scan": True, "max_delete": "100%"}
    for _ in range(STEPS):
        world.now += chance.choice(MOMENTS)
        fault, kind = planted(world, crashing=seed % 2 == 0), chance.random()
        one, other = met(world, pairs)
        if kind < 0.4:
            world.edit(one, KEYS, chance.randrange(1, 4))
        elif kind < 0.93:
            fault.before = partial(meddle, world, (one, other), chance.choice((0.0, 0.03, 0.1)))
            with world.blind(often):
                world.sync(one, other, fault, conflict=chance.choice(policies), **everything)
        else:
            compact(world, one, fault)
    finish(world, pairs, policies, lambda: everything, blinded=often > 0)
    return world


def meddle(world: MortalWorld, where: tuple[Replicated, ...], often: float, _operation: int) -> None:
    """Let an application write in between two operations of a run, or time pass."""
    if world.random.random() < often:
        world.edit(world.random.choice(where), KEYS, 1)
    if world.random.random() < often:
        world.now += 1.0


def finish(
    world: MortalWorld,
    pairs: list[tuple[int, int]],
    policies: tuple[Any, ...],
    options: Callable[[], dict[str, Any]],
    *,
    blinded: bool,
) -> None:
    """Let all meet while some values still live, then once none does.

    A value that loses a conflict while it cannot be read is not kept.
    """
    chance = world.random
    for seconds in (300.0, 100_000.0):
        world.now += seconds
        world.settle(pairs, 2 * len(world.replicas) + 1, lambda: chance.choice(policies), **options())
        world.check_lives()
    world.check_not_back()
    if not blinded:
        world.check_kept()
    quiet(world, pairs)
