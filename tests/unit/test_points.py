"""The points of a history: which are kept, and what two chains have in common."""

from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from kvsync.replica.points import (
    OTHER_COUNT,
    OWN_COUNT,
    Chain,
    Point,
    ascends,
    branch_name,
    common,
    extended,
    is_branch,
    least_at,
    merged,
    thinned,
)

U64_MAX = 2**64 - 1
STAMPS = st.lists(st.integers(1, U64_MAX), max_size=400)
POINTS = st.builds(Point, st.integers(1, U64_MAX), st.integers(1, U64_MAX), st.integers(0, U64_MAX))


def life(length: int) -> Chain:
    """Return all points of a life; stamp and mark follow from the number."""
    return tuple(Point(number, 10 * number, number % 7) for number in range(1, length + 1))


@given(STAMPS)
def test_points_ascend_and_the_newest_are_all_there(stamps: list[int]) -> None:
    chain: Chain = ()
    seen: list[Point] = []
    for mark, stamp in enumerate(stamps):
        before = chain
        chain = thinned(extended(chain, stamp, mark), OWN_COUNT)
        if seen and stamp <= seen[-1].stamp:
            assert chain == before
        else:
            seen.append(Point(len(seen) + 1, stamp, mark))
    assert all(one.number < other.number and one.stamp < other.stamp for one, other in itertools.pairwise(chain))
    assert chain[-OWN_COUNT:] == tuple(seen[-OWN_COUNT:])
    assert set(chain) <= set(seen)


def test_their_number_grows_with_the_logarithm() -> None:
    length = 20_000
    chain: Chain = ()
    for number in range(1, length + 1):
        chain = thinned(extended(chain, number, number), OWN_COUNT)
    assert len(chain) < OWN_COUNT + 4 * length.bit_length()
    # From any point on, the last kept one before it is no further back than that one is old.
    numbers = [point.number for point in chain]
    for stood in range(1, length + 1, 7):
        kept = max((number for number in numbers if number <= stood), default=0)
        assert stood - kept <= length - stood


def test_it_makes_no_difference_how_often_a_chain_is_thinned() -> None:
    whole = life(3_000)
    for count in (OTHER_COUNT, OWN_COUNT):
        often: Chain = ()
        for point in whole:
            often = thinned((*often, point), count)
        assert often == thinned(whole, count)
        assert often == thinned(often, count)


def test_a_point_at_which_a_peer_stands_stays() -> None:
    whole = life(5_000)
    stood = whole[76]
    chain: Chain = ()
    for point in whole[:4_000]:
        chain = thinned((*chain, point), OTHER_COUNT, lambda: {stood, None})
        assert (stood in chain) == (stood.number <= point.number)
    elsewhere = stood._replace(mark=stood.mark + 1)
    assert stood not in thinned(chain, OTHER_COUNT, lambda: {elsewhere})
    assert stood not in thinned(chain, OTHER_COUNT)


def test_a_short_chain_stays_and_nobody_is_asked_about_it() -> None:
    chain = (Point(1, 1, 1), Point(900, 2, 2))
    assert thinned(chain, 2, lambda: 1 // 0 * [None]) == chain


def test_two_replicas_that_thin_apart_keep_points_in_common() -> None:
    """The last one is no older, from the lesser replica's point on, than what that one has missed since.

    Without a peer's help: a life of which a replica knows only the first few points may have none of them left.
    """
    for seed in range(20):
        chance = random.Random(seed)
        chains: list[Chain] = [(), (), ()]
        counts = [OWN_COUNT, OTHER_COUNT, OTHER_COUNT]
        for _ in range(600):
            for _ in range(chance.choice((1, 1, 1, 5, 40))):
                number = chains[0][-1].number + 1 if chains[0] else 1
                chains[0] = thinned(extended(chains[0], 10 * number, chance.getrandbits(64)), counts[0])
            if chance.random() < 0.2:
                giver, taker = chance.sample(range(3), 2)
                both = merged(chains[giver], chains[taker])
                chains[giver], chains[taker] = thinned(both, counts[giver]), thinned(both, counts[taker])
            for one, other in itertools.combinations([chain for chain in chains if chain], 2):
                shared = common(one, other)
                lesser, greater = sorted((one[-1], other[-1]))
                stood = shared.number if shared is not None else 0
                assert lesser.number - stood <= greater.number - lesser.number


@given(st.sets(POINTS, max_size=6), st.sets(POINTS, max_size=6), st.sets(POINTS, max_size=3))
def test_common_and_merged_are_those_of_sets(one: set[Point], other: set[Point], both: set[Point]) -> None:
    mine, theirs = tuple(sorted(one | both)), tuple(sorted(other | both))
    assert common(mine, theirs) == max((one | both) & (other | both), default=None)
    union = tuple(sorted(one | other | both))
    if ascends(union):
        assert merged(mine, theirs) == union
    assert merged(mine, mine) == mine


@given(STAMPS, st.sets(POINTS, min_size=1, max_size=6))
def test_points_that_contradict_a_chain_are_dropped(stamps: list[int], forged: set[Point]) -> None:
    chain: Chain = ()
    for each in stamps:
        chain = extended(chain, each, 0)
    other = tuple(point for point in sorted(forged) if not chain or point < chain[-1]) + chain[-1:]
    if chain and ascends(other):
        both = merged(chain, other)
        assert ascends(both)
        assert both == merged(other, chain)
        assert both[-1] == chain[-1]
        assert set(chain) & set(other) <= set(both)


@given(STAMPS, st.integers(0, U64_MAX))
def test_the_least_point_at_a_stamp_is_the_first_that_reaches_it(stamps: list[int], stamp: int) -> None:
    chain: Chain = ()
    for each in stamps:
        chain = extended(chain, each, 0)
    reaching = [point for point in chain if point.stamp >= stamp]
    assert least_at(chain, stamp) == (reaching[0] if reaching else None)


@given(st.tuples(st.integers(1, U64_MAX), POINTS), st.tuples(st.integers(1, U64_MAX), POINTS))
def test_a_branch_is_named_by_its_origin_and_point_alone(one: tuple[int, Point], other: tuple[int, Point]) -> None:
    assert is_branch(branch_name(*one))
    assert (branch_name(*one) == branch_name(*other)) == (one == other)
    origin, point = one
    for at in range(3):
        changed = Point._make((*point[:at], point[at] ^ 1, *point[at + 1 :]))
        assert branch_name(origin, changed) != branch_name(origin, point)


def test_the_name_of_a_branch_is_fixed_by_the_format() -> None:
    assert branch_name(7, Point(3, 1_700_000_000_000 << 16, 5)) == 11324877635073229947
    assert not is_branch(2**63 - 1)
