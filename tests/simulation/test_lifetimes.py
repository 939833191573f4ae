"""Random histories of values that expire, over storages that keep the time and storages that do not."""

from __future__ import annotations

import pytest
from variants import amount

import lifetimes

CHUNK = 50
CHUNKS = range(amount(2, 100))


@pytest.mark.parametrize("chunk", CHUNKS)
def test_what_expires_is_neither_deleted_nor_revived_and_all_that_lives_is_equal(chunk: int) -> None:
    for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        lifetimes.play(seed)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_times_that_applications_set_behind_its_back_travel_as_well(chunk: int) -> None:
    for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        lifetimes.edited(seed)


@pytest.mark.parametrize("seed", [1758])
def test_an_expired_value_that_is_not_held_any_more_makes_no_delete(seed: int) -> None:
    """A missing value was said to stand where an expired one had been emptied; its absence was logged as a delete."""
    lifetimes.edited(seed)


@pytest.mark.parametrize("seed", [85005658])
def test_a_decision_for_a_value_that_went_a_little_early_claims_nothing(seed: int) -> None:
    """Its side was said to hold the value, which the scan had not found; its absence was logged as a delete."""
    lifetimes.edited(seed)


@pytest.mark.parametrize("seed", [81001698])
def test_a_time_that_comes_unseen_is_told_from_an_old_delete(seed: int) -> None:
    """An old intent had meant to delete the key; the newest value went missing everywhere (test_missing_values.py)."""
    lifetimes.edited(seed)


@pytest.mark.parametrize("seed", [364, 2569])
def test_an_expired_value_that_is_held_for_good_is_not_revived(seed: int) -> None:
    """One was left by an interrupted run, one by a decision; a scan found both as new."""
    lifetimes.play(seed)


@pytest.mark.parametrize("seed", [81000144, 81001276])
def test_a_time_that_an_application_set_and_never_told_looks_like_a_delete(seed: int) -> None:
    """The run that was to tell it was killed; in the first history that value was all that its storage held."""
    lifetimes.play(seed)


def test_the_same_seed_gives_the_same_history() -> None:
    one, other = (lifetimes.play(8) for _ in range(2))
    assert [replica.data for replica in one.replicas] == [replica.data for replica in other.replicas]


def test_histories_have_everything_in_them() -> None:
    """Values that expire, and storages of both kinds: a change to the histories may lose them unseen."""
    worlds = [lifetimes.play(seed) for seed in range(20)]
    kinds = {isinstance(replica, lifetimes.Keeping) for world in worlds for replica in world.replicas}
    changes = [change for world in worlds for change in world.known.values()]
    assert kinds == {True, False}
    assert sum(change.expires > 0 for change in changes) > len(changes) / 4
    assert sum(change.deletes for change in changes) > 10
    assert any(world.retimed for world in worlds)
