"""Random histories: 2 to 6 replicas, random pairs, crashes in half of them, compaction at random."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from variants import amount

import history

if TYPE_CHECKING:
    from world import World

CHUNK = 125
CHUNKS = range(amount(1, 64))


@pytest.mark.parametrize("chunk", CHUNKS)
def test_all_replicas_end_equal_to_the_greatest_change_of_each_key(chunk: int) -> None:
    for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        history.play(seed)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_replicas_converge_with_another_policy_in_every_run(chunk: int) -> None:
    for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        history.play(seed, history.POLICIES)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_nothing_that_was_written_behind_its_back_is_lost(chunk: int) -> None:
    for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        history.edited(seed)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_the_later_change_wins_in_whatever_order_replicas_meet(chunk: int) -> None:
    """With `latest` alone, decisions are made only for values that beat a delete whose time is not exact."""
    for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        history.edited(seed, ("latest",))


def test_histories_of_edits_have_everything_in_them() -> None:
    """Exact and inexact values, deletes, and decisions: a change to the histories may lose them unseen."""
    worlds = [history.edited(seed, ("latest",)) for seed in range(30)]
    changes = [change for world in worlds for change in world.known.values()]
    scanned = [change for change in changes if not change.decided]
    assert sum(change.decided for change in changes) > 10
    assert sum(change.deletes and change.inexact for change in scanned) > 30
    assert sum(not change.deletes and change.inexact for change in scanned) > 100
    assert sum(not change.deletes and not change.inexact for change in scanned) > 100
    assert not [change for change in changes if change.decided and change.inexact]


def test_rings_whose_pairs_disagree_converge_within_two_diameters_and_one() -> None:
    for seed in range(amount(40, 400)):
        history.ring(seed)


def hours_apart(world: World) -> list[float]:
    return [3600.0 * world.random.randrange(-6, 7) for _ in world.replicas]


def test_clocks_hours_apart_change_nothing_but_the_winner() -> None:
    for seed in range(amount(60, 1000)):
        history.play(seed, history.POLICIES, hours_apart)


def test_a_clock_that_runs_backwards_never_repeats_a_stamp() -> None:
    for seed in range(amount(60, 1000)):
        history.play(seed, history.POLICIES, steps=history.backwards)


def test_the_same_seed_gives_the_same_history() -> None:
    one, other = (history.play(7, history.POLICIES) for _ in range(2))
    assert [replica.data for replica in one.replicas] == [replica.data for replica in other.replicas]
