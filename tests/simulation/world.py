"""A world of small replicas under one seed: virtual time, crashes at any operation, and what must hold throughout.

Each replica stands on a machine of its own, and so does every run that has it as its source. A run that is killed is
dead for good, which its own machine sees; or it is merely cut off, which looks the same from everywhere, and the last
conditional write that it had begun may still land.
"""

from __future__ import annotations

import copy
import random
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import kvsync
from kvsync import Delete, Put
from kvsync.expiry import may_be_gone
from kvsync.index.manifest import Manifest
from kvsync.lease import LeaseState
from kvsync.native import digest_values
from kvsync.process import Process
from kvsync.replica.points import is_branch
from kvsync.run.holder import read_lease
from kvsync.storages.contract import Support
from kvsync.storages.mapping import MappingStorage
from kvsync.testing import Fault, FaultError, FaultyStorage, Killed
from kvsync.testing.simulation.machines import LATE_SECONDS, START, WAIT_SECONDS, environment_on
from watch import MANIFEST, Log, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kvsync.environment import Environment
    from kvsync.storages.contract import Storage
    from kvsync.types import Change, Conflict

RESERVED = ".kvsync/"


class Wire(FaultyStorage):
    """A storage behind a fault, which looks at what is written."""

    def __init__(self, inner: Storage, fault: Fault, watch: Watch | None = None) -> None:
        super().__init__(inner, fault)
        self.watch = watch

    @property
    def identity(self) -> str:
        return f"wire {id(self)}"

    def around(self, method: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        operation = self.seen(method, call)
        try:
            return super().around(method, operation, *args, **kwargs)
        except Killed:
            if self.watch is not None and method in {"write", "delete"}:
                self.may_land(partial(operation, *args), args[-1])
            raise

    def may_land(self, operation: Callable[[], Any], expect: list[bytes | None] | None) -> None:
        """Note a write that was cut off before it took effect, if it is conditional on a value that is there.

        Where it is to create a key, a delete makes its condition hold again (docs/protocol.md).
        """
        assert self.watch is not None
        at = self.watch.at
        if self.fault.mode == "killed" and expect and expect[0] is not None and not at.transactional and not at.cut_off:
            at.cut_off.append(operation)

    def seen(self, method: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return what makes the call and checks its effect."""
        if method == "store":
            return self.checked_store
        watch = self.watch
        if watch is None or method not in {"write", "write_expiring", "delete"}:
            return call

        def watched(keys: list[str], *rest: Any) -> Any:
            value = None if method == "delete" else rest[0][0]
            return watch.over(keys[0], value, partial(call, keys, *rest))

        return watched

    def checked_store(self, name: str, data: bytes, expect: Any) -> Any:
        """Predicate 1: a manifest write that succeeds has the next generation, while somebody holds the lease."""
        before = self.inner.load(name) if name == "manifest" else None
        version = self.inner.store(name, data, expect)
        if name == "manifest":
            was = Manifest.decode(before.data, self.name).generation if before is not None else 0
            assert Manifest.decode(data, self.name).generation == was + 1
            assert self.inner.load("lease") is not None
        return version


class TransactionalWire(Wire):
    """The same over a mapping that undoes what was not committed, as a database does."""

    def __init__(self, inner: Storage, fault: Fault, watch: Watch | None = None) -> None:
        super().__init__(inner, fault, watch)
        self.capabilities = replace(inner.capabilities, supports=inner.capabilities.supports | {Support.TRANSACTION})

    @contextmanager
    def transaction(self) -> Iterator[None]:
        data: dict[str, bytes] = self.inner.mapping  # type: ignore[attr-defined]
        before = dict(data)
        assert self.watch is not None
        self.watch.at.locked = True
        try:
            yield
            self.around("commit", lambda: None)
        except BaseException:
            data.clear()
            data.update(before)
            raise
        finally:
            self.watch.at.locked = False


class DatedStorage(MappingStorage):
    """A mapping that tells when each value was written, as a folder does."""

    def __init__(self, mapping: dict[str, bytes], times: dict[str, int], now: Callable[[], float]) -> None:
        super().__init__(mapping)
        self.times, self.now = times, now

    def write(self, keys: Sequence[str], values: Sequence[bytes], expect: Any = None) -> Any:
        written = super().write(keys, values, expect)
        refused = {refusal.key for refusal in written.refused}
        self.times.update(dict.fromkeys(set(keys) - refused, int(self.now() * 1000)))
        return written

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        return [self.times.get(key) for key in keys]


class Opened:
    """A storage as two processes keep it open from run to run, in turns; a copy of the world opens its own."""

    def __init__(self) -> None:
        self.storages: list[MappingStorage | None] = [None, None]
        self.runs = self.turn = 0

    def pass_on(self) -> None:
        """Give the next run to either of them, in no order that a run could rely on."""
        self.runs += 1
        self.turn = self.runs * 0x9E3779B9 >> 16 & 1

    def of(self, data: dict[str, bytes]) -> MappingStorage:
        """Return the storage of the process whose turn it is."""
        storage = self.storages[self.turn]
        if storage is None or storage.mapping is not data:
            storage = self.storages[self.turn] = MappingStorage(data)
            storage.capabilities = replace(storage.capabilities, lease_stays=True, conditions="claimed")
        return storage

    def __deepcopy__(self, _memo: Any) -> Opened:
        return Opened()


@dataclass
class Replicated:
    """One storage of the world, the clock of the machine beside it, and what its application still wants to say.

    unreported: what the application ever wrote here behind kvsync's back.
    replaced: values that the application itself replaced here, knowing them or not, by key and digest.
    held: what its missing entries said at the last check.
    marking: its lease is marked as released, as in a bucket, and its conditions are only claimed; its runs are of two
        processes, each of which remembers how it left it.
    locked: a transaction is open, and keeps the application's writes out.
    edited: keys that the application wrote behind kvsync's back since the last check.
    cut_off: the write at which a run was killed, if it may still land.
    now: what tells the time to a storage that notes when each value was written; None for one that does not.
    times: when each of its values was written, in milliseconds.
    """

    number: int
    data: dict[str, bytes] = field(default_factory=dict)
    skew: float = 0.0
    transactional: bool = False
    marking: bool = False
    unsaid: list[Put | Delete] = field(default_factory=list)
    failed: bool = False
    newest: dict[str, Change] = field(default_factory=dict)
    unreported: set[tuple[str, bytes]] = field(default_factory=set)
    replaced: set[tuple[str, bytes]] = field(default_factory=set)
    locked: bool = False
    edited: set[str] = field(default_factory=set)
    cut_off: list[Callable[[], Any]] = field(default_factory=list)
    held: dict[str, bytes] = field(default_factory=dict)
    last_log: Log | None = None
    opened: Opened = field(default_factory=Opened)
    now: Callable[[], float] | None = None
    times: dict[str, int] = field(default_factory=dict)

    def storage(self) -> Storage:
        if self.now is not None:
            return DatedStorage(self.data, self.times, self.now)
        return self.opened.of(self.data) if self.marking else MappingStorage(self.data)

    def wire(self, fault: Fault, said: Sequence[Put | Delete] = ()) -> Wire:
        self.opened.pass_on()
        kind = TransactionalWire if self.transactional else Wire
        # A value that is given with a time may be too late: then its key is emptied.
        outcomes = {
            change.key: {change.value} | ({None} if change.expires else set())
            for change in said
            if change.deletes or change.value is not None
        }
        wire = kind(self.storage(), fault, Watch(self, outcomes))
        wire.name = f"replica {self.number}"
        return wire

    def values(self) -> dict[str, bytes]:
        return {key: value for key, value in self.data.items() if not key.startswith(RESERVED)}

    def without_lease(self) -> dict[str, bytes]:
        return {key: value for key, value in self.data.items() if key != RESERVED + "lease"}

    def lease_state(self) -> LeaseState | None:
        """Return in which state the lease is; None where it is free."""
        record = read_lease(self.storage())
        return None if record is None else record.state

    def held_at(self, key: str) -> bytes | None:
        return self.data.get(key)

    def encoded(self) -> bytes | None:
        return self.data.get(MANIFEST)

    def log(self) -> Log:
        encoded = self.encoded()
        if self.last_log is None or self.last_log.encoded != encoded:
            self.last_log = Log.read(self.storage(), encoded)
        return self.last_log


def dies(run: int) -> bool:
    """Whether a run that is killed is dead for good."""
    return run * 0x9E3779B9 >> 16 & 1 == 1


class World:
    """Some replicas, one random source, one virtual time; `check` holds the predicates after each step."""

    def __init__(
        self,
        seed: int,
        count: int,
        *,
        skews: Sequence[float] = (),
        transactional: bool = False,
        marking: bool = False,
        dying: bool = False,
        dated: bool = False,
    ) -> None:
        self.random = random.Random(seed)
        self.now = START
        self.replicas = [Replicated(i) for i in range(count)]
        for replica, skew in zip(self.replicas, skews, strict=False):
            replica.skew = skew
        for replica in self.replicas:
            replica.transactional = transactional and self.random.random() < 0.5
            replica.marking = marking and (seed + replica.number) % 2 == 1
            if dated and not replica.marking and (seed // 2 + replica.number // 2) % 3:
                replica.now = lambda: self.now
        self.known: dict[tuple[int, int, str], Change] = {}
        # Each write of the application by its key and digest, with the writes it had seen: its causal past.
        self.past: dict[tuple[str, bytes], set[tuple[str, bytes]]] = {}
        self.serial = 0
        self.log: list[str] = []
        # Whether killed runs may be dead for good; the runs there were, those that are dead, and writes that may land.
        self.dying = dying
        self.runs = seed
        self.dead: set[int] = set()
        self.landing: list[tuple[float, Replicated, Callable[[], Any]]] = []

    def environment(self, at: Replicated) -> Environment:
        """Return where a run on the machine of a replica gets time and randomness from, and what it sees of others."""
        self.runs += 1
        process = Process(f"machine {at.number}", self.runs, 0)
        return environment_on(
            process,
            clock=lambda: self.now + at.skew,
            monotonic=lambda: self.now,
            sleep=self.pass_time,
            chance=self.random,
            has_ended=lambda other: other.pid in self.dead,
        )

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def value(self, key: str) -> bytes:
        self.serial += 1
        return f"{key}={self.serial}".encode()

    # What happens

    def change(self, at: Replicated, keys: str, count: int, fault: Fault | None = None) -> None:
        """Let the application change some keys; a commit that fails is said again before the next one."""
        fresh = self.fresh(keys, count)
        for change in fresh:
            self.remember(at, change)
        at.unsaid += fresh
        self.say(at, fault)

    def fresh(self, keys: str, count: int) -> list[Put | Delete]:
        """Return what an application may want to say of some keys."""
        return [
            Delete(key) if self.random.random() < 0.25 else Put(key, self.value(key))
            for key in self.random.sample(keys, min(count, len(keys)))
        ]

    def edit(self, at: Replicated, keys: str, count: int) -> None:
        """Let the application write straight into the storage, without a word to kvsync."""
        if at.locked:
            return
        for key in self.random.sample(keys, count):
            before = at.data.pop(key, None)
            at.edited.add(key)
            deletes = before is not None and self.random.random() < 0.25
            value = None if deletes else self.value(key)
            if value is not None:
                at.data[key] = value
                at.times[key] = int(self.now * 1000)
                at.unreported.add((key, value))
            self.follow(at, key, value, set() if before is None else {(key, digest_values([before])[0])})

    def remember(self, at: Replicated, change: Put | Delete) -> None:
        """Note what a write has seen: what its replica's log names for the key, what that had seen, and so on."""
        seen = at.newest.get(change.key)
        pending = [said for said in at.unsaid if said.key == change.key and said.value is not None]
        past = {(said.key, digest_values([said.value])[0]) for said in pending if said.value is not None}
        if seen is not None and not seen.deletes:
            past.add((change.key, seen.digest))
        self.follow(at, change.key, change.value, past)

    def follow(self, at: Replicated, key: str, value: bytes | None, past: set[tuple[str, bytes]]) -> None:
        """Note a write of the application, which follows upon `past` and all that this had seen."""
        for earlier in tuple(past):
            past |= self.past.get(earlier, set())
        at.replaced |= past
        if value is not None:
            self.past[key, digest_values([value])[0]] = past

    def say(self, at: Replicated, fault: Fault | None = None) -> None:
        """Commit what the application has to say; what failed is said again, as new writes that know what is there."""
        if not at.unsaid:
            return
        if at.failed:
            again, at.unsaid = at.unsaid, []
            at.replaced |= {(said.key, digest_values([said.value])[0]) for said in again if said.value is not None}
            for change in map(self.again, again):
                self.remember(at, change)
                at.unsaid.append(change)
        at.failed = True
        environment = self.environment(at)
        with self.survives(fault, environment):
            wire = at.wire(fault or Fault(), at.unsaid)
            kvsync.commit(wire, at.unsaid, wait_seconds=WAIT_SECONDS, environment=environment)
            at.unsaid = []
            at.failed = False
        self.check(at)

    def again(self, change: Put | Delete) -> Put | Delete:
        """Return what to say instead of a change that a run failed with."""
        return change if change.value is None else Put(change.key, self.value(change.key), change.expires)

    def give(
        self, one: Replicated, other: Replicated, changes: list[Put | Delete], fault: Fault, **options: Any
    ) -> None:
        """Sync and give changes with it; those of a run that fails are said again, as new writes."""
        self.say(one)
        for change in changes:
            self.remember(one, change)
        one.unsaid, one.failed = changes, True
        if self.sync(one, other, fault, changes=changes, **options) is not None:
            one.unsaid, one.failed = [], False

    def sync(self, one: Replicated, other: Replicated, fault: Fault | None = None, **options: Any) -> Any:
        fault = fault or Fault()
        result = None
        environment = self.environment(one)
        # Nor does a policy decide over a value whose missing successor was replaced unseen.
        unsure = (change.key for side in (one, other) for change in side.log().manifest.knowledge.unreconciled)
        lacking = one.log().held.keys() | other.log().held.keys() | set(unsure)
        with self.survives(fault, environment):
            options = {"wait_seconds": WAIT_SECONDS, "environment": environment, **options}
            source = one.wire(fault, options.get("changes", ()))
            result = kvsync.sync(source, other.wire(fault), **options)
        self.check(one)
        self.check(other)
        if result is not None and options.get("conflict", "latest") == "latest":
            self.check_latest(result.conflicts, lacking | {lack.key for lack in result.missing})
        if result is not None and any(operations["store"] for operations in result.operations.values()):
            # It acquired both leases, and has finished.
            assert LeaseState.HELD not in {one.lease_state(), other.lease_state()}, "a lease stays held"
        return result

    def check_latest(self, conflicts: Sequence[Conflict], lacking: set[str]) -> None:
        """A value does not lose to a delete whose time is not exact, unless it is missing, or either is a decision."""
        for conflict in conflicts:
            if conflict.source.decided or conflict.target.decided or conflict.key in lacking:
                continue
            source_wins = conflict.winner == "source"
            winner, loser = (conflict.source, conflict.target) if source_wins else (conflict.target, conflict.source)
            assert loser.deletes or not (winner.deletes and winner.inexact), f"an older delete won: {conflict}"

    @contextmanager
    def survives(self, fault: Fault | None, environment: Environment) -> Iterator[None]:
        process = environment.process()
        try:
            yield
        except (Killed, FaultError) as error:
            assert fault is not None
            assert fault.happened
            dead = self.dying and isinstance(error, Killed) and dies(process.pid)
            for replica in self.replicas:
                if not dead:
                    self.landing += [(self.now, replica, write) for write in replica.cut_off]
                replica.cut_off.clear()
            if dead:
                self.dead.add(process.pid)
            else:
                # The lease ends, and everybody else gets their turn.
                self.now += 200.0

    def land(self) -> list[Replicated]:
        """Let the writes that were cut off land, unless it is too late; return where."""
        landing, self.landing = self.landing, []
        recent = [(replica, write) for cut_off, replica, write in landing if self.now - cut_off <= LATE_SECONDS]
        for _, write in recent:
            write()
        return [replica for replica, _ in recent]

    # What must hold

    def check(self, at: Replicated) -> None:
        """Predicates 2 and 3: what a cover covers is logged or beaten; the newest change of a key never falls."""
        log = at.log()
        newest = log.newest
        for key, was in at.newest.items():
            assert key in newest, f"{key} fell out of the log of {at.number}"
            assert newest[key].order >= was.order, f"{key} fell back in {at.number}"
        self.check_wanted(at, log)
        at.newest, at.held = newest, log.held
        at.edited.clear()
        for change in newest.values():
            self.known[change.origin, change.stamp, change.key] = change
        cover = log.manifest.cover
        for (origin, stamp, key), change in self.known.items():
            if cover.covers(origin, stamp):
                assert key in newest, f"{at.number} claims {change} and has nothing"
                assert newest[key].order >= change.order, f"{at.number} claims {change} and has {newest[key]}"

    def check_wanted(self, at: Replicated, log: Log) -> None:
        """A missing entry stays while its value is not there, also where an equal change comes in."""
        for key in at.held.keys() - log.held.keys() - at.edited:
            value, was, now = at.held_at(key), at.newest[key], log.newest[key]
            held = b"" if value is None else digest_values([value])[0]
            equal = (was.deletes, was.digest) == (now.deletes, now.digest)
            fits = {b"" if now.deletes else now.digest} | (
                {b""} if may_be_gone(now.expires, int(self.now * 1000)) else set()
            )
            stale = equal and held == at.held[key] and held not in fits
            assert not stale, f"{key} is not missing any more in {at.number}, and not there"

    def check_values(self, at: Replicated) -> None:
        """Predicate 4: a key that is not missing holds the value that its newest change names."""
        missing = {entry.change.key for entry in at.log().manifest.knowledge.missing}
        values = at.values()
        for key, change in at.newest.items():
            if key in missing:
                continue
            if change.deletes:
                assert key not in values, f"{key} should be gone in {at.number}"
            else:
                assert key in values, f"{key} is not in {at.number}"
                assert digest_values([values[key]])[0] == change.digest, f"{key} is stale in {at.number}"
        assert values.keys() <= at.newest.keys() | missing

    def settle(
        self,
        pairs: Sequence[tuple[int, int]],
        rounds: int,
        policy: Callable[[], Any] = lambda: "latest",
        **options: Any,
    ) -> int:
        """Sync all pairs, round after round, until a round moves nothing; return how many rounds it took."""
        for replica in self.replicas:
            self.say(replica)
        for done in range(rounds + 1):
            moved = 0
            for i, j in pairs:
                result = self.sync(self.replicas[i], self.replicas[j], conflict=policy(), **options)
                moved += result.pushed + result.pulled + len(result.conflicts)
            if not moved:
                return done
        message = f"still moving after {rounds} rounds"
        raise AssertionError(message)

    def check_equal(self) -> None:
        """Predicate 6: all replicas agree, in data and in log, and on the greatest change of each key."""
        first = self.replicas[0]
        for replica in self.replicas:
            self.check(replica)
            self.check_values(replica)
            knowledge = replica.log().manifest.knowledge
            assert not knowledge.missing
            # What a branch names may stay: who could reconcile it may know it by another name.
            assert all(is_branch(change.origin) for change in knowledge.unreconciled)
            assert replica.values() == first.values(), f"{replica.number} differs from {first.number}"
            assert replica.newest == first.newest
        greatest: dict[str, Change] = {}
        for change in self.known.values():
            if change.key not in greatest or change.order > greatest[change.key].order:
                greatest[change.key] = change
        assert first.newest == greatest
        for key, change in first.newest.items():
            # Predicate 7: nothing that survived had seen the final value and replaced it. A decision is a write of its
            # own, at the moment it was made, though of an older write's value.
            if change.decided:
                continue
            final = (key, change.digest)
            logged = {(row.key, row.digest) for row in self.known.values() if not row.decided}
            went_back = [write for write in logged if final in self.past.get(write, set())]
            assert change.deletes or not went_back, f"{key} went back"

    def check_kept(self) -> None:
        """What the application wrote and did not replace itself is the final value, or lost a conflict and was kept."""
        lost = self.past.keys() - set().union(*(replica.replaced for replica in self.replicas))
        for replica in self.replicas:
            lost -= {(value.key, value.digest) for value in kvsync.lost(replica.storage())} if lost else set()
            values = replica.values()
            digests = digest_values(list(values.values()))
            # A copy that keep-both keeps stands beside its key.
            lost -= {(key.partition("~")[0], digest) for key, digest in zip(values, digests, strict=True)}
        assert not lost, f"lost without a trace: {sorted(lost)}"

    def snapshot(self) -> Any:
        return copy.deepcopy((self.now, self.random.getstate(), self.serial, self.replicas, self.known, self.past))

    def restore(self, state: Any) -> None:
        state = copy.deepcopy(state)
        self.now, randomness, self.serial, self.replicas, self.known, self.past = state
        self.random.setstate(randomness)

    def back_to(self, state: Any) -> Callable[[], World]:
        """Return what restores `state`, as often as it is called."""

        def make() -> World:
            self.restore(state)
            return self

        return make
