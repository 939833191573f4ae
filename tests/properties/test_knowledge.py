"""What replicas know, against a model that keeps one status a change and looks at each of them by itself.

The machine plays replicas that make changes, crash in the middle of an exchange, fail to hold values, and exchange in
any order. After each step the immutable value and the model must say the same, and no promise may be broken.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from variants import amount

from kvsync.native import TOMBSTONE, Segment, digest_values
from kvsync.replica.history import Rename, VectorException
from kvsync.replica.knowledge import Knowledge, Missing
from kvsync.replica.points import Point
from kvsync.types import Change

if TYPE_CHECKING:
    from collections.abc import Iterable

COUNT = 3
KEYS = "abc"
REPLICAS = st.integers(0, COUNT - 1)
MARKS = st.integers(0, 2**64 - 1)
Dot = tuple[int, int]


@dataclass
class Model:
    """One replica: which changes it knows, its newest of each key, and what is wrong with some of them."""

    number: int
    known: set[Dot] = field(default_factory=set)
    newest: dict[str, Change] = field(default_factory=dict)
    missing: dict[str, tuple[Change, bytes]] = field(default_factory=dict)
    unreconciled: set[Change] = field(default_factory=set)

    def log(self, change: Change) -> None:
        """Take in a change that is held, and that its key was not known to have been replaced by."""
        entry = self.missing.pop(change.key, None)
        if entry is not None and entry[0].dot != change.dot:
            self.unreconciled.add(entry[0])
        self.unreconciled.discard(change)
        self.known.add(change.dot)
        before = self.newest.get(change.key)
        if before is None or before.order < change.order:
            self.newest[change.key] = change

    def has_reconciled(self, change: Change) -> bool:
        """Whether a change is known, and neither missing nor unreconciled."""
        wrong = {entry.dot for entry, _ in self.missing.values()} | {other.dot for other in self.unreconciled}
        return change.dot in self.known - wrong


def outcome(change: Change) -> tuple[bool, bytes]:
    """Return what a change leaves at its key."""
    return change.deletes, change.digest


class Replicas(RuleBasedStateMachine):
    """Some replicas, each as a `Knowledge` and as a model."""

    def __init__(self) -> None:
        super().__init__()
        self.models = [Model(number) for number in range(COUNT)]
        self.values = [Knowledge() for _ in range(COUNT)]
        self.changes: dict[Dot, Change] = {}
        self.points: list[list[Point]] = [[] for _ in range(COUNT)]
        self.clock = 0

    def change(self, number: int, key: str, content: int) -> Change:
        """Return a new change of a replica, later than everything before."""
        self.clock += 1
        digest = digest_values([b"%d" % content])[0] if content else bytes(32)
        change = Change(key, number + 1, self.clock, 0 if content else TOMBSTONE, 1 if content else 0, digest)
        self.changes[change.dot] = change
        return change

    @rule(
        number=REPLICAS,
        keys=st.sets(st.sampled_from(KEYS), min_size=1),
        content=st.integers(0, 2),
        mark=MARKS,
        crashes=st.booleans(),
    )
    def commit(self, *, number: int, keys: set[str], content: int, mark: int, crashes: bool) -> None:
        """Somebody changes keys of one replica; if that run crashes, the next one adopts what it wrote."""
        local = [self.change(number, key, content) for key in sorted(keys)]
        value = self.values[number]
        if crashes:
            self.values[number] = value.adopt(local, [], replica=number + 1, mark=mark)
        else:
            self.values[number] = value.commit(Segment.from_rows(local), replica=number + 1, mark=mark)
        self.points[number].append(Point(len(self.points[number]) + 1, self.clock, mark))
        for change in local:
            self.models[number].log(change)

    @rule(
        giver=REPLICAS,
        taker=REPLICAS,
        keys=st.sets(st.sampled_from(KEYS), min_size=1),
        mark=MARKS,
        lands_late=st.booleans(),
    )
    def crash(self, *, giver: int, taker: int, keys: set[str], mark: int, lands_late: bool) -> None:
        """A run applies some changes, and dies before it writes the manifest: recovery or a scan adopts them."""
        applied = [change for change in self.missed(giver, taker) if change.key in keys and self.holds(giver, change)]
        if giver == taker:
            return
        ahead = [VectorException(*change.dot, change.stamp, self.point_of(change)) for change in applied]
        assert [self.values[giver].history.point_at(*change.dot) for change in applied] == [
            span.point for span in ahead
        ]
        value = self.values[taker]
        if lands_late:
            local = Segment.from_rows(applied)
            self.values[taker] = value.commit(local, applied, ahead, replica=taker + 1, mark=mark)
        else:
            self.values[taker] = value.adopt(applied, ahead, replica=taker + 1, mark=mark)
        for change in applied:
            self.models[taker].log(change)

    @rule(number=REPLICAS, keys=st.sets(st.sampled_from(KEYS), min_size=1), mark=MARKS)
    def accept(self, *, number: int, keys: set[str], mark: int) -> None:
        """Somebody declares that what one replica holds at some keys is the newest."""
        model, value = self.models[number], self.values[number]
        keys &= model.missing.keys() | {change.key for change in model.unreconciled}
        if not keys:
            return
        contents = {digest_values([b"%d" % content])[0]: content for content in (1, 2)} | {b"": 0}
        local = [self.change(number, key, contents[self.held(number, key)]) for key in sorted(keys)]
        self.values[number] = value.accept(Segment.from_rows(local), replica=number + 1, mark=mark)
        self.points[number].append(Point(len(self.points[number]) + 1, self.clock, mark))
        model.unreconciled = {change for change in model.unreconciled if change.key not in keys}
        for change in local:
            model.missing.pop(change.key, None)
            model.known.add(change.dot)
            model.newest[change.key] = change

    def point_of(self, change: Change) -> Point:
        """Return the write that logged a change where it was made: the least point that proves it."""
        return next(point for point in self.points[change.origin - 1] if point.stamp >= change.stamp)

    @precondition(lambda self: self.clock)
    @rule(one=REPLICAS, two=REPLICAS, fails=st.sets(st.tuples(st.integers(0, 1), st.sampled_from(KEYS))))
    def exchange(self, one: int, two: int, fails: set[tuple[int, str]]) -> None:
        """Two replicas exchange what they miss; some values cannot be applied."""
        if one == two:
            return
        received = [self.missed(two, one), self.missed(one, two)]
        clashing = {change.key for change in received[0]} & {change.key for change in received[1]}
        for key in clashing:  # the greatest of each key wins
            both = [next(change for change in some if change.key == key) for some in received]
            loser = 0 if both[0].order < both[1].order else 1
            received[loser] = [change for change in received[loser] if change.key != key]
        numbers = (one, two)
        segments = [Segment.from_rows(some) for some in received]
        before = [self.values[number] for number in numbers]
        lists = [before[i].unreconciled_after(segments[i], before[1 - i], frozenset()) for i in range(2)]
        learnt = [[change for change in lists[1 - i] if not before[i].cover.covers(*change.dot)] for i in range(2)]
        backfills = [before[i].backfill_from(before[1 - i], segments[i], 0) for i in range(2)]
        expected = [self.expected(numbers[i], numbers[1 - i], received[i]) for i in range(2)]
        assert [set(some) for some in lists] == [unreconciled for unreconciled, _ in expected]
        assert [set(some) for some in backfills] == [backfill for _, backfill in expected]
        history = before[0].history.merged(before[1].history)
        known = self.models[one].known | self.models[two].known
        for i, number in enumerate(numbers):
            applied = [*received[i], *backfills[i]]
            failed = [
                change for change in applied if (i, change.key) in fails or not self.holds(numbers[1 - i], change)
            ]
            entries = [Missing(change, "failed", self.held(number, change.key)) for change in failed]
            unreconciled = [*lists[i], *learnt[i]]
            backfilled = Segment.from_rows(backfills[i])
            self.values[number] = before[i].receive(history, (segments[i], backfilled), entries, unreconciled)
            self.apply(number, applied, entries, unreconciled, known)

    def expected(self, taker: int, giver: int, received: list[Change]) -> tuple[set[Change], set[Change]]:
        """Return what stays or becomes unreconciled, and what can be filled, change by change."""
        model, other = self.models[taker], self.models[giver]
        by_key = {change.key: change for change in received}
        unreconciled, backfill = set(model.unreconciled), set()
        for key, (change, _) in model.missing.items():
            if key not in by_key:
                if key not in other.missing:
                    backfill.add(change)
            elif outcome(by_key[key]) != outcome(change) and not other.has_reconciled(change):
                unreconciled.add(change)
        return unreconciled, backfill

    def apply(
        self,
        number: int,
        applied: list[Change],
        failed: list[Missing],
        unreconciled: Iterable[Change],
        known: set[Dot],
    ) -> None:
        """Do in the model what a run does at its end."""
        model = self.models[number]
        for change in applied:
            model.missing.pop(change.key, None)
            before = model.newest.get(change.key)
            if before is None or before.order < change.order:
                model.newest[change.key] = change
        model.missing.update({entry.change.key: (entry.change, entry.held) for entry in failed})
        model.unreconciled = set(unreconciled)
        model.known = set(known)

    def missed(self, giver: int, taker: int) -> list[Change]:
        """Return the newest changes of `giver` that `taker` does not know, ascending by key."""
        newest, known = self.models[giver].newest, self.models[taker].known
        return [newest[key] for key in sorted(newest) if newest[key].dot not in known]

    def holds(self, number: int, change: Change) -> bool:
        """Whether a replica holds the value of a change."""
        model = self.models[number]
        return change.key not in model.missing and model.newest.get(change.key) == change

    def held(self, number: int, key: str) -> bytes:
        """Return the digest of what a replica holds at a key."""
        model = self.models[number]
        if key in model.missing:
            return model.missing[key][1]
        newest = model.newest.get(key)
        return newest.digest if newest is not None and not newest.deletes else b""

    @invariant()
    def both_say_the_same(self) -> None:
        """The immutable value and the model know the same, and miss the same."""
        for value, model in zip(self.values, self.models, strict=True):
            assert {dot for dot in self.changes if value.cover.covers(*dot)} == model.known
            assert {entry.change.key: (entry.change, entry.held) for entry in value.missing} == model.missing
            assert set(value.unreconciled) == model.unreconciled
            for change in self.changes.values():
                assert value.has_reconciled(change) == model.has_reconciled(change)

    @invariant()
    def every_change_that_is_known_is_proven(self) -> None:
        """By the least point of its origin's whole history that reaches it, and in one place: none is ahead in vain."""
        for value in self.values:
            for change in self.changes.values():
                known = value.cover.covers(*change.dot)
                assert value.history.point_at(*change.dot) == (self.point_of(change) if known else None)
            for origin, chain in value.history.chains.items():
                assert chain == tuple(self.points[origin - 1][: len(chain)])
            for span in value.history.exceptions:
                assert span.first > value.history.reaches(span.origin)

    @invariant()
    def lists_are_in_order(self) -> None:
        """A manifest that lists them is refused otherwise."""
        for value in self.values:
            keys = [entry.change.key for entry in value.missing]
            names = [(change.key, change.dot) for change in value.unreconciled]
            assert keys == sorted(set(keys))
            assert names == sorted(set(names))

    @invariant()
    def what_is_known_is_logged_or_beaten(self) -> None:
        """No vector claims a change whose key has an older one as its newest."""
        for value, model in zip(self.values, self.models, strict=True):
            for dot, change in self.changes.items():
                if value.cover.covers(*dot):
                    assert model.newest[change.key].order >= change.order

    @invariant()
    def equal_replicas_have_nothing_to_tell(self) -> None:
        """It is symmetric, and where it holds, both know and hold the same."""
        for one in range(COUNT):
            for two in range(COUNT):
                equal = self.values[one].has_nothing_for(self.values[two])
                assert equal == self.values[two].has_nothing_for(self.values[one])
                if equal:
                    assert self.models[one].newest == self.models[two].newest
                    assert not self.models[one].missing


Replicas.TestCase.settings = settings(max_examples=amount(200, 8000), stateful_step_count=30, deadline=None)
TestReplicas = Replicas.TestCase


CHANGES = st.builds(
    Change,
    st.sampled_from(KEYS),
    st.integers(1, 3),
    st.integers(1, 6),
    st.just(0),
    st.just(1),
    st.just(b"d" * 32),
    st.just(0),
)
RENAMES = st.builds(
    lambda origin, ends, name: Rename(origin, min(ends), max(ends), name),
    st.integers(1, 3),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.integers(4, 6),
)


@given(
    st.lists(CHANGES, unique_by=lambda change: change.key),
    st.sets(CHANGES),
    st.lists(RENAMES, max_size=3, unique_by=lambda rename: rename.origin),
)
def test_names_follow_those_in_the_log(missing: list[Change], unreconciled: set[Change], renames: list[Rename]) -> None:
    def named(change: Change) -> Change:
        spans = [(rename.origin, rename.first, rename.last, rename.name) for rename in renames]
        return Change._make(Segment.from_rows([change]).renamed(spans).rows(0, 1)[0])

    entries = [Missing(change, "failed", b"h" * 32) for change in sorted(missing)]
    after = Knowledge(missing=tuple(entries), unreconciled=tuple(sorted(unreconciled))).renamed(renames)
    assert after.missing == tuple(entry._replace(change=named(entry.change)) for entry in entries)
    names = {named(change) for change in unreconciled}
    assert after.unreconciled == tuple(sorted(names, key=lambda change: (change.key, change.dot)))
