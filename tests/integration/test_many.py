"""Three and more replicas: in any shape, under every policy, with clocks that disagree, backups, and clones."""

from __future__ import annotations

import copy
import itertools
import random
from typing import TYPE_CHECKING, Any

import pytest
from places import START, UNLIKE, Clock, Place, make, plain
from variants import covering

import kvsync
from kvsync import Delete, Put

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Mapping = dict[str, bytes]
POLICIES = ["latest", "source", "target", "keep-both", "callable"]

# A log at hand as a whole has a digest of its newest changes, and two that differ are compared in full. A large log has
# none, and a history that forked shows by its points.
SMALL_AND_LARGE = [3, 3000]


def policy_named(name: str) -> Any:
    return (lambda _c, s, t: b"+".join(sorted(v for v in (s, t) if v is not None))) if name == "callable" else name


def chain(count: int) -> list[tuple[int, int]]:
    return [(i, i + 1) for i in range(count - 1)]


def star(count: int) -> list[tuple[int, int]]:
    return [(0, i) for i in range(1, count)]


def ring(count: int) -> list[tuple[int, int]]:
    return [(i, (i + 1) % count) for i in range(count)]


def mesh(count: int) -> list[tuple[int, int]]:
    return list(itertools.combinations(range(count), 2))


def diameter(count: int, edges: Sequence[tuple[int, int]]) -> int:
    """Return the longest of all shortest ways."""
    far = [[0 if i == j else count for j in range(count)] for i in range(count)]
    for i, j in edges:
        far[i][j] = far[j][i] = 1
    for k, i, j in itertools.product(range(count), repeat=3):
        far[i][j] = min(far[i][j], far[i][k] + far[k][j])
    return max(map(max, far))


def agree(replicas: Sequence[Mapping]) -> bool:
    return all(plain(replica) == plain(replicas[0]) for replica in replicas)


@pytest.mark.parametrize(
    ("shape", "policy", "count"), covering([(chain,), (star,), (ring,), (mesh,)], POLICIES, [3, 5, 8])
)
def test_every_shape_converges(shape: Callable[[int], list[tuple[int, int]]], policy: str, count: int) -> None:
    """Everybody writes, deletes and contradicts everybody else; then twice the diameter and one more round suffice."""
    chance = random.Random(f"{shape.__name__} {policy} {count}")
    clock = Clock()
    replicas: list[Mapping] = [{} for _ in range(count)]
    edges = shape(count)

    def run(one: Mapping, other: Mapping) -> None:
        kvsync.sync(one, other, clock=clock, conflict=policy_named(policy))

    for season in range(3):
        for number, replica in enumerate(replicas):
            changes = [
                Put(f"k{i}", b"%d from %d" % (season, number)) if chance.random() < 0.7 else Delete(f"k{i}")
                for i in chance.sample(range(12), 5)
            ]
            kvsync.commit(replica, changes, clock=clock)
            if chance.random() < 0.4:
                run(*(replicas[i] for i in chance.choice(edges)))
        for _ in range(2 * diameter(count, edges) + 1):
            for i, j in edges:
                run(replicas[i], replicas[j])
        assert agree(replicas)
        for i, j in edges:
            result = kvsync.sync(replicas[i], replicas[j], clock=clock)
            assert (result.pushed, result.pulled, result.conflicts) == (0, 0, [])


@pytest.mark.parametrize(("first", "second"), UNLIKE)
def test_news_travel_through_a_middleman(folder: Path, first: str, second: str) -> None:
    """C hears of A only through B, and B's own change in between wins over A's older one."""
    clock = Clock()
    a, b, c = (make(kind, folder, name) for kind, name in ((first, "a"), (second, "b"), (first, "c")))

    def run(one: Place, other: Place, changes: Sequence[Put | Delete] = ()) -> kvsync.SyncResult:
        return kvsync.sync(one.target, other.target, changes, clock=clock)

    run(a, b, [Put("x", b"a"), Put("y", b"a"), Put("z", b"a")])
    run(b, c, [Put("y", b"b"), Delete("z")])
    assert c.values() == {"x": b"a", "y": b"b"}
    run(c, b, [Put("x", b"c")])
    assert run(a, b).pulled == 3
    assert a.values() == b.values() == c.values() == {"x": b"c", "y": b"b"}
    assert run(a, c).pushed == 0


def test_an_older_change_hides_below_a_common_one() -> None:
    """A-B and B-C share a lot; A and C meet for the first time, with a newest change in common and older ones not."""
    clock = Clock()
    a: Mapping = {}
    b: Mapping = {}
    c: Mapping = {}
    kvsync.commit(a, [Put(f"a{i}", b"old") for i in range(50)], clock=clock)
    kvsync.commit(c, [Put(f"c{i}", b"old") for i in range(50)], clock=clock)
    kvsync.commit(a, [Put("hidden on a", b"1")], clock=clock)
    kvsync.commit(b, [Put("common", b"1")], clock=clock)
    kvsync.sync(b, c, clock=clock)
    kvsync.commit(b, [Delete("common"), Put("common 2", b"2")], clock=clock)
    kvsync.sync(b, a, clock=clock)
    result = kvsync.sync(a, c, clock=clock)
    assert (result.pushed, result.pulled, result.conflicts) == (53, 0, [])
    assert plain(a) == plain(c)
    assert "common" not in c
    kvsync.sync(b, c, clock=clock)
    assert agree([a, b, c])


@pytest.mark.parametrize("order", list(itertools.permutations([(0, 1), (1, 2), (2, 0)])))
def test_one_conflict_met_by_two_pairs_makes_one_copy(order: Sequence[tuple[int, int]]) -> None:
    """Three replicas hold three values of one key: two are kept, each once, wherever the conflicts were met."""
    clock = Clock()
    replicas: list[Mapping] = [{}, {}, {}, {}]
    for number in range(3):
        kvsync.commit(replicas[number], [Put("k", b"from %d" % number)], clock=clock)
    kvsync.sync(replicas[0], replicas[3], clock=clock)
    for _ in range(3):
        for i, j in [*order, (3, 0), (1, 3)]:
            kvsync.sync(replicas[i], replicas[j], clock=clock, conflict="keep-both")
    assert agree(replicas)
    values = sorted(plain(replicas[0]).values())
    assert values == [b"from 0", b"from 1", b"from 2"]
    assert replicas[0]["k"] == b"from 2"


@pytest.mark.parametrize("first", ["source", "target"])
def test_two_pairs_decide_one_conflict_differently(first: str) -> None:
    """The same conflict is decided for one side here and for the other there: one decision wins everywhere, for
    good."""
    clock = Clock()
    a: Mapping = {}
    b: Mapping = {}
    kvsync.commit(a, [Put("k", b"a")], clock=clock)
    kvsync.commit(b, [Put("k", b"b")], clock=clock)
    c: Mapping = {}
    d: Mapping = {}
    kvsync.sync(a, c, clock=clock)
    kvsync.sync(b, d, clock=clock)
    kvsync.sync(a, b, clock=clock, conflict=first)  # type: ignore[arg-type]
    kvsync.sync(d, c, clock=clock, conflict=first)  # type: ignore[arg-type]
    replicas = [a, b, c, d]
    for _ in range(5):
        for i, j in ring(4):
            kvsync.sync(replicas[i], replicas[j], clock=clock, conflict=first)  # type: ignore[arg-type]
    assert agree(replicas)
    for i, j in mesh(4):
        assert not kvsync.sync(replicas[i], replicas[j], clock=clock).conflicts


# Clocks


@pytest.mark.parametrize("policy", POLICIES)
def test_clocks_an_hour_apart(policy: str) -> None:
    clock = Clock()
    replicas: list[Mapping] = [{}, {}, {}]
    offsets = [-3600.0, 0.0, 3600.0]

    def of(number: int) -> Callable[[], float]:
        return lambda: clock() + offsets[number]

    chance = random.Random(policy)
    for season in range(4):
        for number in range(3):
            changes = [Put(f"k{i}", b"%d %d" % (season, number)) for i in chance.sample(range(8), 4)]
            kvsync.commit(replicas[number], changes, clock=of(number))
        for _ in range(3):
            for i, j in ring(3):
                kvsync.sync(replicas[i], replicas[j], clock=of(i), conflict=policy_named(policy), wait_seconds=0)
        assert agree(replicas)


def test_a_change_after_what_it_saw_wins_though_its_clock_is_behind() -> None:
    """B's clock is an hour behind A's. What B writes after having seen A's change is newer all the same."""
    a: Mapping = {}
    b: Mapping = {}
    kvsync.sync(a, b, [Put("k", b"a")], clock=lambda: START + 3600)
    result = kvsync.sync(b, a, [Put("k", b"b")], clock=lambda: START)
    assert (a["k"], b["k"]) == (b"b", b"b")
    assert not result.conflicts


@pytest.mark.parametrize("step", [-0.5, -100, -3600])
def test_a_clock_that_runs_backwards(step: float) -> None:
    """Each call sees an earlier time than the one before; no stamp is used twice, and the last word stays the last."""
    now = START + 1e7
    replicas: list[Mapping] = [{}, {}, {}]

    def back() -> Callable[[], float]:
        nonlocal now
        now += step
        return lambda then=now: then  # type: ignore[misc]

    for i in range(20):
        kvsync.sync(replicas[i % 3], replicas[(i + 1) % 3], [Put("k", b"%d" % i)], clock=back(), max_drift_seconds=1e9)
    for _ in range(3):
        for i, j in ring(3):
            kvsync.sync(replicas[i], replicas[j], clock=back(), max_drift_seconds=1e9)
    assert agree(replicas)
    assert replicas[0]["k"] == b"19"
    stamps = [(change.origin, change.stamp) for replica in replicas for change in kvsync.log(replica)]
    assert len(set(stamps)) == 1


def test_a_clock_that_ran_away_is_refused() -> None:
    a: Mapping = {}
    b: Mapping = {}
    kvsync.commit(a, [Put("k", b"1")], clock=lambda: START + 2 * 86_400)
    for source, target in ((a, b), (b, a)):
        with pytest.raises(kvsync.ClockError, match="172800 seconds in the future"):
            kvsync.sync(source, target, clock=lambda: START)
    assert plain(b) == {}
    kvsync.sync(a, b, clock=lambda: START, max_drift_seconds=3 * 86_400)
    assert plain(b) == plain(a)


# Away for long, restored, cloned, made anew


def test_a_replica_that_was_away_for_long() -> None:
    """Others went through hundreds of runs and compactions. It comes back with old values, and revives nothing."""
    clock = Clock()
    a: Mapping = {}
    b: Mapping = {}
    c: Mapping = {}
    kvsync.sync(a, b, [Put(f"k{i}", b"0") for i in range(60)], clock=clock)
    kvsync.sync(a, c, clock=clock)
    for i in range(200):
        kvsync.sync(a, b, [Put(f"k{i % 30}", b"%d" % i), Delete(f"k{30 + i % 20}")], clock=clock)
    kvsync.compact(a)
    kvsync.compact(b)
    kvsync.commit(c, [Put("k59", b"made while away")], clock=clock)
    clock.sleep(86_400 * 400)
    kvsync.sync(c, b, clock=clock)
    kvsync.sync(a, b, clock=clock)
    assert agree([a, b, c])
    assert a["k59"] == b"made while away"
    assert not {f"k{i}" for i in range(30, 50)} & a.keys()


def old_and_new(count: int) -> tuple[Mapping, Mapping, Mapping, Clock]:
    """Return A, B as it was, B as it is, where A and B went on together."""
    clock = Clock()
    a: Mapping = {}
    b: Mapping = {}
    kvsync.sync(
        a, b, [*(Put(f"quiet/{i}", b"quiet") for i in range(count)), Put("k", b"1"), Put("d", b"1")], clock=clock
    )
    kvsync.sync(b, a, [Put("z", b"1")], clock=clock)
    old = copy.deepcopy(b)
    kvsync.sync(b, a, [Put("k", b"2"), Delete("d"), Put("n", b"1")], clock=clock)
    return a, old, b, clock


@pytest.mark.parametrize("count", [3, 3000])
def test_a_restored_replica_gets_what_it_lost(count: int) -> None:
    a, b, was, clock = old_and_new(count)
    kvsync.sync(a, b, clock=clock)
    assert plain(a) == plain(b) == plain(was)
    kvsync.sync(b, a, [Put("after", b"1")], clock=clock)
    assert plain(a) == plain(b)


@pytest.mark.parametrize("count", [3, 3000])
def test_a_restored_replica_that_scans_first(count: int) -> None:
    a, b, was, clock = old_and_new(count)
    kvsync.sync(b, a, scan=True, clock=clock)
    assert plain(a) == plain(b) == plain(was)


@pytest.mark.parametrize("count", SMALL_AND_LARGE)
def test_a_restored_replica_that_was_written_to_first(count: int) -> None:
    """A backup of B was restored, and B was used before it met A again. Its newest stamp was then later than any that
    A knew of it, so nothing looked wrong; what B had done between the backup and its loss, A held and B never got
    back."""
    a, b, was, clock = old_and_new(count)
    kvsync.commit(b, [Put("after", b"1")], clock=clock)
    for _ in range(3):
        kvsync.sync(a, b, clock=clock)
    assert plain(a) == plain(b)
    assert plain(a) == plain(was) | {"after": b"1"}


def test_a_restored_replica_among_three() -> None:
    """B is restored and meets C, which knows of its later life from A only."""
    a, b, was, clock = old_and_new(3)
    c: Mapping = {}
    kvsync.sync(a, c, clock=clock)
    kvsync.sync(c, b, clock=clock)
    kvsync.sync(b, a, [Put("after", b"1")], clock=clock)
    kvsync.sync(c, b, clock=clock)
    assert agree([a, b, c])
    assert plain(a) == plain(was) | {"after": b"1"}


@pytest.mark.parametrize("count", [3, 3000])
def test_a_clone_is_recognised(count: int) -> None:
    """A replica was copied with its index, and both were used. They meet: nothing of either is lost."""
    a, _, b, clock = old_and_new(count)
    clone = copy.deepcopy(b)
    kvsync.commit(b, [Put("k", b"by b")], clock=clock)
    kvsync.commit(clone, [Put("z", b"by the clone"), Put("c", b"1")], clock=clock)
    kvsync.sync(b, clone, clock=clock)
    assert plain(b) == plain(clone)
    assert (b["k"], b["z"], b["c"]) == (b"by b", b"by the clone", b"1")
    assert kvsync.status(b).replica != kvsync.status(clone).replica
    for _ in range(3):
        kvsync.sync(a, b, clock=clock)
        kvsync.sync(a, clone, clock=clock)
    assert agree([a, b, clone])


@pytest.mark.parametrize("count", [3, 3000])
def test_a_clone_that_met_a_third_first(count: int) -> None:
    """C met the clone before it met the original, whose change has the lower stamp: C took it for known, for good."""
    c, _, a, clock = old_and_new(count)
    clone = copy.deepcopy(a)
    kvsync.commit(a, [Put("k", b"by a")], clock=clock)
    kvsync.commit(clone, [Put("z", b"by the clone")], clock=clock)
    kvsync.sync(c, clone, clock=clock)
    kvsync.sync(a, clone, clock=clock)
    for _ in range(3):
        for one, other in ((a, c), (a, clone), (c, clone)):
            kvsync.sync(one, other, clock=clock)
    assert agree([a, c, clone])
    assert a["k"] == b"by a"


def test_a_clone_that_never_meets_its_original() -> None:
    """Both copies sync with A in turns only: a new id for one of them, and all three agree."""
    a, _, b, clock = old_and_new(3)
    clone = copy.deepcopy(b)
    for i in range(4):
        kvsync.sync(a, b, clock=clock)
        kvsync.sync(b, a, [Put(f"b{i}", b"1")], clock=clock)
        kvsync.sync(a, clone, clock=clock)
        kvsync.sync(clone, a, [Put(f"clone{i}", b"1")], clock=clock)
    for _ in range(2):
        kvsync.sync(a, b, clock=clock)
        kvsync.sync(a, clone, clock=clock)
    assert agree([a, b, clone])
    assert {f"b{i}" for i in range(4)} | {f"clone{i}" for i in range(4)} <= a.keys()


def test_a_clone_that_is_written_to_before_it_meets_anybody() -> None:
    """The clone changed a key, then the original changed another and met A. To A, all of the clone's changes were
    known."""
    a, _, b, clock = old_and_new(3)
    clone = copy.deepcopy(b)
    kvsync.commit(clone, [Put("clone's", b"1")], clock=clock)
    kvsync.sync(b, a, [Put("b's", b"1")], clock=clock)
    kvsync.commit(clone, [Put("clone's second", b"1")], clock=clock)
    for _ in range(3):
        kvsync.sync(clone, a, clock=clock)
        kvsync.sync(a, b, clock=clock)
    assert agree([a, b, clone])
    assert "clone's" in a


def test_stamps_are_never_used_twice() -> None:
    """A restored replica goes on under a new id, so none of its new changes has the name of one that others know."""
    a, b, was, _ = old_and_new(3)
    kvsync.sync(a, b, clock=lambda: START)
    kvsync.sync(b, a, [Put("after", b"1")], clock=lambda: START)
    names: dict[tuple[int, int], bytes] = {}
    for replica in (a, b, was):
        for change in kvsync.log(replica):
            assert names.setdefault((change.origin, change.stamp), change.digest) == change.digest


@pytest.mark.parametrize("scan", [False, True])
def test_a_source_that_was_dropped_and_made_anew(scan: bool) -> None:
    """Under the same name there is an empty storage now: it is a new replica, and is filled, not copied to the
    others."""
    a, _, b, clock = old_and_new(3)
    before = plain(a)
    b.clear()
    kvsync.sync(b, a, scan=scan, clock=clock)
    assert plain(a) == plain(b) == before
    kvsync.sync(b, a, [Put("k", b"3")], clock=clock, scan=scan)
    assert a["k"] == b"3"


def test_many_lives_of_one_storage() -> None:
    """A source is dropped and made anew fifty times: the other keeps working, and its index stays small."""
    clock = Clock()
    keeper: Mapping = {}
    for i in range(50):
        kvsync.sync({}, keeper, [Put(f"k{i % 5}", b"%d" % i)], clock=clock)
    assert plain(keeper) == {f"k{i % 5}": b"%d" % i for i in range(45, 50)}
    assert len(keeper[".kvsync/manifest"]) < 50 * 250
