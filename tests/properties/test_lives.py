"""Lives: what two replicas make of each other's histories, against the tree of lives that they come from.

An origin's lives are a tree of points: each has one before it, and a fork is where two have the same one before them. A
replica knows one path of it, up to some point and with some of the older ones forgotten.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsync.index.manifest import Manifest
from kvsync.replica.history import History, Rename, VectorException
from kvsync.replica.knowledge import Knowledge
from kvsync.replica.lives import Standing, compare
from kvsync.replica.peers import REPLACED
from kvsync.replica.points import Chain, Point, branch_name, is_branch
from kvsync.types import Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ORIGINS = (1, 2, 3)
STAMP_MAX = 25
FRESH = (101, 102)

Tree = tuple[Chain, ...]
"""For each point of an origin's lives the whole path to it."""


@st.composite
def trees(draw: st.DrawFn, *, forks: bool = True) -> Tree:
    """Draw the lives of an origin: each point follows an earlier one, or begins a life."""
    size = draw(st.integers(1, 7))
    marks = draw(st.permutations(range(size)))
    paths: list[Chain] = []
    for mark in marks:
        before = draw(st.sampled_from([(), *paths])) if forks else (paths[-1] if paths else ())
        number, stamp, _ = before[-1] if before else (0, 0, 0)
        paths.append((*before, Point(number + 1, stamp + draw(st.integers(1, 3)), mark)))
    return tuple(paths)


@st.composite
def chains(draw: st.DrawFn, tree: Tree) -> Chain:
    """Draw a path of a tree with some of its older points."""
    *older, last = draw(st.sampled_from(tree))
    return (*(point for point in older if draw(st.booleans())), last)


@st.composite
def exceptions(draw: st.DrawFn, tree: Tree, origin: int) -> VectorException:
    """Draw changes that somebody gave, who could prove them."""
    giver = draw(chains(tree))
    first = draw(st.integers(1, giver[-1].stamp))
    point = next(point for point in giver if point.stamp >= first)
    return VectorException(origin, first, draw(st.integers(first, point.stamp)), point)


World = dict[int, Tree]


def worlds(*, forks: bool = True) -> st.SearchStrategy[World]:
    """Draw the lives of all origins."""
    return st.fixed_dictionaries({origin: trees(forks=forks) for origin in ORIGINS})


@st.composite
def histories(draw: st.DrawFn, world: World, *, ahead: bool = True) -> History:
    """Draw what a replica knows."""
    known = {origin: draw(chains(tree)) for origin, tree in sorted(world.items()) if draw(st.booleans())}
    spans = [
        draw(exceptions(tree, origin))
        for origin, tree in world.items()
        for _ in range(draw(st.integers(0, 2)) if ahead else 0)
    ]
    return History(known).with_exceptions(spans)


class Two(NamedTuple):
    """Two replicas that meet."""

    source: Manifest
    target: Manifest

    @property
    def swapped(self) -> Two:
        return Two(self.target, self.source)


NOTHING: Mapping[int, int] = {}


def manifest(
    replica: int, history: History, gone: Mapping[int, int] = NOTHING, collected: Mapping[int, int] = NOTHING
) -> Manifest:
    return Manifest.fresh(replica)._replace(knowledge=Knowledge(history), gone=gone, collected=collected)


@st.composite
def meetings(draw: st.DrawFn, *, ahead: bool = True, forks: bool = True) -> Two:
    """Draw two replicas with different ids that know the same lives."""
    world = draw(worlds(forks=forks))
    source, target = draw(st.permutations([1, 2, 3, 4]))[:2]
    floors = st.dictionaries(st.sampled_from(ORIGINS), st.integers(1, STAMP_MAX))
    one, other = (
        manifest(replica, draw(histories(world, ahead=ahead)), collected=draw(floors)) for replica in (source, target)
    )
    return Two(one, other)


def dots_of(history: History, origins: Iterable[int]) -> set[tuple[int, int]]:
    """Return which changes a history covers, one by one."""
    return {
        (origin, stamp) for origin in origins for stamp in range(1, STAMP_MAX) if history.cover.covers(origin, stamp)
    }


def change(origin: int, stamp: int) -> Change:
    return Change("k", origin, stamp, 0, 1, b"d" * 32)


def renamed(dot: tuple[int, int], renames: Iterable[Rename]) -> tuple[int, int]:
    """Return what a change is called after it was renamed, once for each list."""
    names = [rename.name for rename in renames if rename.holds(change(*dot))]
    return (names[0], dot[1]) if names else dot


# -------------------------------------------------------------------------------------------------- compare


@given(st.data())
def test_equal_histories_change_nothing(data: st.DataObject) -> None:
    """The older points of both may differ."""
    world = data.draw(worlds())
    ends = {origin: data.draw(st.sampled_from(tree)) for origin, tree in world.items() if data.draw(st.booleans())}
    one, other = (History({origin: data.draw(chains((path,))) for origin, path in ends.items()}) for _ in range(2))
    source, target = data.draw(st.permutations([1, 2, 3, 4]))[:2]
    assert one.says_same(other)
    found = compare(manifest(source, one), manifest(target, other))
    assert found == (Standing(source, one, {}), Standing(target, other, {}))


@given(st.data())
def test_a_lesser_entry_that_is_proven_changes_nothing(data: st.DataObject) -> None:
    """Only a replica of whose own history somebody knows more needs a fresh id."""
    world = data.draw(worlds())
    mine: dict[int, Chain] = {}
    theirs: dict[int, Chain] = {}
    for origin, tree in world.items():
        greater = data.draw(chains(tree))
        stood = data.draw(st.integers(1, len(greater)))
        lesser = greater[:stood] if data.draw(st.booleans()) else greater[stood - 1 : stood]
        mine[origin], theirs[origin] = (lesser, greater) if data.draw(st.booleans()) else (greater, lesser)
    source, target = data.draw(st.permutations([1, 2, 3, 4]))[:2]
    one, other = compare(manifest(source, History(mine)), manifest(target, History(theirs)))
    assert (one.history, one.renames) == (History(mine), ())
    assert (other.history, other.renames) == (History(theirs), ())
    assert one.needs_id == (
        source in mine and mine[source][-1] != theirs[source][-1] and mine[source][-1] in theirs[source]
    )
    assert other.needs_id == (
        target in mine and theirs[target][-1] != mine[target][-1] and theirs[target][-1] in mine[target]
    )


def branches(mine: Chain, theirs: Chain) -> bool:
    """Whether the first of two chains is the one that becomes a branch."""
    return mine[-1].rank < theirs[-1].rank and mine[-1] not in theirs


@given(meetings(ahead=False))
def test_a_fork_makes_a_branch_of_the_lesser_side_from_the_greatest_common_point(two: Two) -> None:
    for side, other, standing in zip(two, two.swapped, compare(*two), strict=True):
        before, theirs = side.history.chains, other.history.chains
        expected, renames, floors = dict(before), [], dict(side.collected)
        for origin in sorted(before.keys() & theirs.keys()):
            if branches(before[origin], theirs[origin]):
                entry = before[origin][-1]
                proven = max(set(before[origin]) & set(theirs[origin]), default=None)
                upto = before[origin].index(proven) + 1 if proven else 0
                expected[origin] = before[origin][:upto]
                expected[branch_name(origin, entry)] = (entry,)
                stamp = proven.stamp if proven else -1
                renames.append(Rename(origin, stamp + 1, entry.stamp, branch_name(origin, entry)))
                if floors.get(origin, 0) > stamp:
                    floors[branch_name(origin, entry)] = floors.get(origin, 0)
                    floors[origin] = stamp
        assert standing.history == History({origin: chain for origin, chain in expected.items() if chain})
        assert standing.renames == tuple(renames)
        assert standing.collected == {origin: floor for origin, floor in floors.items() if floor > 0}
        assert list(standing.history.chains) == sorted(standing.history.chains)


@given(meetings())
def test_no_change_is_forgotten_and_none_is_claimed_anew(two: Two) -> None:
    for side, standing in zip(two, compare(*two), strict=True):
        known = dots_of(side.history, ORIGINS)
        after = {renamed(dot, standing.renames) for dot in known}
        assert after <= dots_of(standing.history, {origin for origin, _ in after})
        assert dots_of(standing.history, ORIGINS) == {dot for dot in after if dot[0] in ORIGINS}
        assert all(is_branch(rename.name) for rename in standing.renames)
        assert standing.replica == side.replica


@given(meetings())
def test_then_both_are_of_one_life_and_meeting_again_changes_nothing(two: Two) -> None:
    standings = compare(*two)
    one, other = (
        manifest(fresh, standing.history, {standing.replica: REPLACED}, standing.collected)
        if standing.needs_id
        else manifest(standing.replica, standing.history, collected=standing.collected)
        for fresh, standing in zip(FRESH, standings, strict=True)
    )
    for origin in one.history.chains.keys() & other.history.chains.keys():
        mine, theirs = one.history.chains[origin], other.history.chains[origin]
        assert mine[-1] in theirs or theirs[-1] in mine
    again = compare(one, other)
    assert again == tuple(Standing(side.replica, side.history, side.collected) for side in (one, other))


@given(meetings())
def test_it_makes_no_difference_who_is_the_source(two: Two) -> None:
    assert compare(*two) == compare(*two.swapped)[::-1]


@given(meetings(forks=False, ahead=False))
def test_on_one_life_with_all_its_points_nobody_doubts(two: Two) -> None:
    world = {origin: chain for side in two for origin, chain in side.history.chains.items()}
    whole = [
        manifest(
            side.replica, History({o: tuple(sorted({*chain, *world[o]})) for o, chain in side.history.chains.items()})
        )
        for side in two
    ]
    assert all(not standing.renames for standing in compare(*whole))


MINE = (Point(1, 10, 1), Point(2, 20, 2))
FURTHER = (*MINE, Point(3, 30, 3))
FORKED = (MINE[0], Point(2, 25, 9))
AHEAD = VectorException(1, 35, 35, Point(4, 40, 4))


@pytest.mark.parametrize(
    ("own", "other", "needs"),
    [
        (History({1: MINE}), History({1: MINE}), False),
        (History({1: MINE}), History({1: MINE[:1]}), False),
        (History({1: MINE}), History(), False),
        (History(), History(), False),
        (History({1: MINE}), History({1: FURTHER}), True),
        (History(), History({1: MINE}), True),
        (History({1: MINE}), History({1: FORKED}), True),
        (History({1: FORKED}), History({1: MINE}), False),
        (History({1: MINE}), History({1: MINE}, (AHEAD,)), True),
        (History({1: MINE}), History({}, (AHEAD,)), True),
        (History({1: MINE}, (AHEAD,)), History({1: MINE}), True),
        (History({1: (*FURTHER, AHEAD.point)}), History({1: MINE}, (AHEAD,)), False),
        (History({1: MINE}), History({}, (VectorException(1, 15, 15, MINE[1]),)), False),
        # What is of another life gets another name, and is nobody's own then.
        (History({1: MINE}), History({}, (VectorException(1, 15, 15, Point(2, 21, 7)),)), False),
    ],
)
def test_a_fresh_id_is_needed_where_somebody_knows_more_of_the_own_history(
    own: History, other: History, needs: bool
) -> None:
    assert compare(manifest(1, own), manifest(9, other))[0].needs_id == needs
    assert compare(manifest(9, other), manifest(1, own))[1].needs_id == needs


def test_an_id_that_is_gone_or_taken_is_not_used_on() -> None:
    nothing = History()
    gone = {1: REPLACED}
    assert [s.needs_id for s in compare(manifest(1, nothing, gone), manifest(2, nothing))] == [True, False]
    assert [s.needs_id for s in compare(manifest(2, nothing, gone), manifest(1, nothing))] == [False, True]
    assert [s.needs_id for s in compare(manifest(1, nothing), manifest(1, nothing))] == [False, True]


# ----------------------------------------------------------------------------------------------------- branch


@given(st.data())
def test_all_who_know_a_life_up_to_one_point_choose_one_name(data: st.DataObject) -> None:
    path = data.draw(trees())[-1]
    one, other = (History({origin: data.draw(chains((path,)))}) for origin in (1, 1))
    somewhere = st.sampled_from([None, *path[:-1]])
    branched, rename = one.branched(1, data.draw(somewhere))
    elsewhere, same = other.branched(1, data.draw(somewhere))
    assert rename.name == same.name == branch_name(1, path[-1])
    assert branched.chains[rename.name] == elsewhere.chains[rename.name] == (path[-1],)
    assert History({2: one.chains[1]}).branched(2, None)[1].name != rename.name


@given(st.data())
def test_branching_twice_is_branching_once(data: st.DataObject) -> None:
    chain = data.draw(chains(data.draw(trees())))
    history = History({1: chain})
    proven = data.draw(st.sampled_from([None, *chain[:-1]]))
    once, rename = history.branched(1, proven)
    again = History({**once.chains, 1: chain}).branched(1, proven)
    assert again == (once, rename)


# ---------------------------------------------------------------------------------------------------- settled


@given(st.data())
def test_what_is_ahead_is_renamed_exactly_where_another_life_is_known(data: st.DataObject) -> None:
    world = data.draw(worlds())
    own, by = data.draw(histories(world)), data.draw(histories(world))
    settled, renames = own.settled(by)
    assert settled.chains == own.chains
    for span in own.exceptions:
        chain = by.chains.get(span.origin, ())
        for stamp in range(span.first, span.last + 1):
            rivals = [o.point for o in by.exceptions if o.origin == span.origin and o.first <= stamp <= o.last]
            is_reached = bool(chain) and chain[-1].stamp >= stamp
            is_other = span.point not in chain and (is_reached or any(rival != span.point for rival in rivals))
            name = branch_name(span.origin, span.point) if is_other else span.origin
            assert renamed((span.origin, stamp), renames) == (name, stamp)
            assert settled.point_at(name, stamp) == span.point
            assert settled.cover.covers(span.origin, stamp) != is_other
    assert all(one.origin != other.origin or one.last < other.first for one, other in pairwise(sorted(renames)))


@given(st.data())
def test_what_the_own_history_comes_to_reach_is_no_longer_ahead_of_it(data: st.DataObject) -> None:
    world = data.draw(worlds())
    own = data.draw(histories(world))
    stamp = data.draw(st.integers(1, STAMP_MAX))
    committed = own.committed(1, stamp, mark=1000)
    settled, renames = committed.settled(committed)
    reached = settled.reaches(1)
    assert reached == max(stamp, own.reaches(1))
    assert all(span.origin != 1 or span.first > reached for span in settled.exceptions)
    for span in own.exceptions:
        for each in range(span.first, span.last + 1):
            is_reached = span.origin == 1 and each <= reached
            name = branch_name(1, span.point) if is_reached else span.origin
            assert renamed((span.origin, each), renames) == (name, each)
            assert settled.point_at(name, each) == span.point


# ----------------------------------------------------------------------------------------------------- merged


@given(st.data())
def test_on_one_life_merging_is_a_union(data: st.DataObject) -> None:
    world = data.draw(worlds(forks=False))
    one, two, three = (data.draw(histories(world)) for _ in range(3))
    both = one.merged(two)
    assert both == two.merged(one)
    assert one.merged(one) == one
    assert both.merged(two) == both.merged(one) == both
    assert one.merged(History()) == one
    left, right = both.merged(three), one.merged(two.merged(three))
    assert left.chains == right.chains
    assert left.cover == right.cover
    assert dots_of(both, ORIGINS) == dots_of(one, ORIGINS) | dots_of(two, ORIGINS)
    for origin, chain in both.chains.items():
        assert set(chain) == {*one.chains.get(origin, ()), *two.chains.get(origin, ())}
    for origin, stamp in dots_of(both, ORIGINS):
        point = both.point_at(origin, stamp)
        assert point is not None
        assert any(point in path and point.stamp >= stamp for path in world[origin])


# ------------------------------------------------------------------------------------------------------ cover


@given(st.data())
def test_the_cover_is_what_chains_and_exceptions_say(data: st.DataObject) -> None:
    history = data.draw(histories(data.draw(worlds())))
    for one, other in pairwise(history.exceptions):
        assert (one.origin, one.last) < (other.origin, other.first)
        touching = one.origin == other.origin and one.last + 1 == other.first
        assert not touching or one.point != other.point
    for origin in ORIGINS:
        chain = history.chains.get(origin, ())
        for stamp in range(1, STAMP_MAX):
            reaching = [point for point in chain if point.stamp >= stamp]
            spans = [e for e in history.exceptions if e.origin == origin and e.first <= stamp <= e.last]
            assert len(spans) + bool(reaching) <= 1
            assert history.cover.covers(origin, stamp) == bool(reaching or spans)
            points = [span.point for span in spans] or reaching
            assert history.point_at(origin, stamp) == (points[0] if points else None)
    assert history.cover.vector == {origin: chain[-1].stamp for origin, chain in history.chains.items()}
    assert history.entries == {origin: chain[-1] for origin, chain in history.chains.items()}


@given(st.data())
def test_exceptions_are_added_once_and_in_any_order(data: st.DataObject) -> None:
    world = data.draw(worlds())
    history = data.draw(histories(world))
    origins = st.sampled_from(ORIGINS)
    spans = [data.draw(exceptions(world[origin], origin)) for origin in data.draw(st.lists(origins, max_size=4))]
    added = history.with_exceptions(spans)
    assert added.chains == history.chains
    asked = {(span.origin, stamp) for span in spans for stamp in range(span.first, span.last + 1)}
    assert dots_of(added, ORIGINS) == dots_of(history, ORIGINS) | asked
    assert added.with_exceptions(spans) == added
    assert history.with_exceptions(data.draw(st.permutations(spans))).cover == added.cover
    for origin, stamp in dots_of(history, ORIGINS):
        assert added.point_at(origin, stamp) == history.point_at(origin, stamp)


@given(st.data())
def test_what_is_restricted_to_some_changes_proves_these_alike(data: st.DataObject) -> None:
    history = data.draw(histories(data.draw(worlds())))
    origins, stamp_min = data.draw(st.sets(st.sampled_from(ORIGINS))), data.draw(st.integers(1, STAMP_MAX))
    part = history.restricted(origins, stamp_min)
    assert all(part.chains.values())
    for origin in ORIGINS:
        for stamp in range(stamp_min, STAMP_MAX):
            expected = history.point_at(origin, stamp) if origin in origins else None
            assert part.point_at(origin, stamp) == expected
