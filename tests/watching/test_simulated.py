"""Whole watches in simulated time: hints, lost hints, outages, restarts, and two of them on one pair."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from simulated import Actor, Place, PlaceStorage, Watcher, World
from variants import amount

from kvsync.environment import Environment
from kvsync.errors import BudgetError, ConflictError, LockHeldError, StorageError
from kvsync.options import Options
from kvsync.run.lock import lock
from kvsync.watching.events import Outage, WatchRun
from kvsync.watching.heartbeat import IDLE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUR = 3600.0
MARGIN = 60.0


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


@pytest.fixture
def places(world: World) -> tuple[Place, Place]:
    return Place(world, "alpha"), Place(world, "beta")


def runs_of(watcher: Watcher) -> list[WatchRun]:
    return [event for event in watcher.events if isinstance(event, WatchRun)]


def outages_of(watcher: Watcher) -> list[Outage]:
    return [event for event in watcher.events if isinstance(event, Outage)]


def test_a_write_reaches_the_other_side_at_once_in_both_directions(world: World, places: tuple[Place, Place]) -> None:
    one, other = places
    watcher = Watcher(world, one, other)
    world.pass_time(10)
    one.put("a", b"1")
    world.pass_time(0.3)
    assert other.values == {"a": b"1"}
    other.put("a", b"2")
    other.put("b", b"3")
    world.pass_time(0.3)
    assert one.values == {"a": b"2", "b": b"3"}
    one.put("a", None)
    world.pass_time(0.3)
    assert other.values == {"b": b"3"}
    assert not outages_of(watcher)


def test_a_quiet_pair_makes_no_runs_but_the_full_ones(world: World, places: tuple[Place, Place]) -> None:
    one, _ = places
    one.put("a", b"1")
    watcher = Watcher(world, *places)
    world.pass_time(5)
    settled = len(watcher.events)
    assert [run.reason for run in runs_of(watcher)] == ["start", "hint"]  # the second for what the first one wrote
    world.pass_time(10 * HOUR)
    assert [run.reason for run in runs_of(watcher)[settled:]] == ["full"] * 10
    one.put("a", b"2")
    world.pass_time(HOUR / 2)
    moved, echo = runs_of(watcher)[settled + 10 :]
    assert (moved.result.pushed, echo.result.pushed, echo.result.pulled) == (1, 0, 0)


def test_a_storage_without_hints_is_scanned_at_the_interval(world: World) -> None:
    one, other = Place(world, "alpha", has_hints=False), Place(world, "beta")
    watcher = Watcher(world, one, other, every=30)
    world.pass_time(5)
    one.put("a", b"1")
    world.pass_time(31)
    assert other.values == {"a": b"1"}
    notes = [note for run in runs_of(watcher) for note in run.result.notes]
    assert notes == ["alpha is scanned at the interval, since it does not tell of changes"]
    other.put("b", b"2")
    world.pass_time(1)
    assert one.values == {"a": b"1", "b": b"2"}


@pytest.mark.parametrize("lost", range(12))
def test_any_single_hint_may_be_lost(world: World, places: tuple[Place, Place], lost: int) -> None:
    one, other = places
    numbers = iter(range(1_000))
    for place in places:
        place.drops = lambda _number: next(numbers) == lost
    Watcher(world, one, other)
    world.pass_time(5)
    for step in range(3):
        one.put(f"k{step}", b"1")
        world.pass_time(5)
        other.put(f"m{step}", b"2")
        world.pass_time(5)
    world.pass_time(HOUR + MARGIN)
    assert one.values == other.values == {f"k{n}": b"1" for n in range(3)} | {f"m{n}": b"2" for n in range(3)}


@pytest.mark.parametrize("seed", range(amount(10, 500)))
def test_half_of_all_hints_may_be_lost(seed: int) -> None:
    world = World(seed)
    one, other = Place(world, "alpha"), Place(world, "beta")
    for place in (one, other):
        place.drops = lambda _number: world.random.random() < 0.5
    Watcher(world, one, other, options=Options(scan=True, max_delete="100%"))
    world.pass_time(5)
    for step in range(30):
        world.random.choice((one, other)).put(f"k{world.random.randrange(5)}", b"%d" % step)
        world.pass_time(world.random.expovariate(1 / 5))
    world.pass_time(HOUR + MARGIN)
    assert one.values == other.values
    assert one.values
    world.close()


def test_an_outage_is_waited_out_and_told(world: World, places: tuple[Place, Place]) -> None:
    one, other = places
    beats: list[float] = []
    watcher = Watcher(world, one, other, beat=lambda: beats.append(world.now))
    world.pass_time(100)
    assert 9 <= len(beats) <= 14
    other.away = True
    began = world.now
    world.pass_time(600)
    one.put("a", b"1")
    found = outages_of(watcher)
    assert {outage.side for outage in found} == {"target"}
    assert all(isinstance(outage.error, StorageError) and not outage.lasting for outage in found)
    assert began <= found[0].since <= began + 30
    assert {outage.since for outage in found} == {found[0].since}
    assert [outage.failures for outage in found] == list(range(1, len(found) + 1))
    assert 10 <= len(found) <= 25
    assert max(beats) <= began + 30  # a supervisor sees it by the age of the last one
    other.away = False
    world.pass_time(61)
    assert other.values == {"a": b"1"}
    back = next(run for run in runs_of(watcher) if run.outage is not None)
    assert back.outage == found[-1]
    assert max(beats) > world.now - IDLE_SECONDS - 1


def test_an_emptied_storage_empties_no_other_one(world: World, places: tuple[Place, Place]) -> None:
    one, other = places
    values = {f"k{number}": b"1" for number in range(10)}
    one.data.update(values)
    watcher = Watcher(world, one, other)
    world.pass_time(10)
    for key in values:
        other.put(key, None)
    world.pass_time(2 * HOUR)
    found = outages_of(watcher)
    assert all(isinstance(outage.error, BudgetError) and outage.lasting for outage in found)
    assert 4 <= len(found) <= 12
    assert one.values == values
    for key, value in values.items():
        other.put(key, value)
    world.pass_time(61)
    assert isinstance(watcher.events[-1], WatchRun)
    assert one.values == other.values == values


def test_a_storage_whose_index_is_gone_is_not_taken_for_a_new_one(world: World, places: tuple[Place, Place]) -> None:
    """As a folder whose disk is not mounted any more."""
    one, other = places
    one.put("a", b"1")
    watcher = Watcher(world, one, other)
    world.pass_time(10)
    kept = dict(other.data)
    other.data.clear()
    one.put("b", b"2")
    world.pass_time(120)
    assert other.data == {}
    assert "its index is gone" in str(outages_of(watcher)[-1].error)
    other.data.update(kept)
    world.pass_time(61)
    assert other.values == {"a": b"1", "b": b"2"}


def test_conflicts_under_the_policy_fail_are_told_and_never_lost(world: World, places: tuple[Place, Place]) -> None:
    one, other = places
    watcher = Watcher(world, one, other, options=Options(scan=True, conflict="fail"))
    world.pass_time(10)
    one.data["a"], other.data["a"] = b"1", b"2"
    one.changed(["a"])
    world.pass_time(3 * HOUR)
    assert {type(outage.error) for outage in outages_of(watcher)} == {ConflictError}
    assert (one.values, other.values) == ({"a": b"1"}, {"a": b"2"})
    other.put("a", b"1")
    world.pass_time(HOUR + MARGIN)
    assert isinstance(watcher.events[-1], WatchRun)


def test_two_watches_on_one_pair_do_not_fight(world: World, places: tuple[Place, Place]) -> None:
    one, other = places
    first, second = Watcher(world, one, other), Watcher(world, one, other)
    world.pass_time(30)
    writes, late = 200, 0
    for number in range(writes):
        place, there = (one, other) if number % 2 else (other, one)
        place.put(f"k{number % 7}", b"%d" % number)
        world.pass_time(world.random.uniform(0.2, 1.0))
        late += there.values != place.values
    world.pass_time(MARGIN)
    assert one.values == other.values
    assert not outages_of(first) + outages_of(second)
    waited, runs = first.watch.waited + second.watch.waited, first.watch.runs + second.watch.runs
    assert late <= writes * 0.02
    assert waited <= runs * 0.05, (waited, runs)
    assert runs <= writes * 3  # two a write, and those of the one that stands by


def test_the_second_watch_takes_over_when_the_first_one_dies(world: World, places: tuple[Place, Place]) -> None:
    one, other = places
    first, second = Watcher(world, one, other), Watcher(world, one, other)
    world.pass_time(30)
    one.put("a", b"1")
    world.pass_time(0.02)  # in the middle of a run
    first.kill()
    world.pass_time(90)  # the lease has to expire
    assert other.values == {"a": b"1"}
    world.pass_time(MARGIN)
    other.put("b", b"2")
    world.pass_time(3)
    other.put("c", b"3")
    world.pass_time(0.3)
    assert one.values == {"a": b"1", "b": b"2", "c": b"3"}
    assert second.watch.runs > 0


def test_a_watch_that_begins_while_somebody_holds_the_lease_waits_patiently(
    world: World, places: tuple[Place, Place]
) -> None:
    one, other = places
    first = Watcher(world, one, other)
    world.pass_time(5)
    one.put("a", b"1")
    world.pass_time(0.02)  # in the middle of a run
    first.kill()
    second = Watcher(world, one, other)
    world.pass_time(90)
    assert other.values == {"a": b"1"}
    assert 3 <= second.watch.waited <= 12
    assert runs_of(second)[0].reason == "start"


def test_a_lease_that_is_held_for_long_is_told(world: World, places: tuple[Place, Place]) -> None:
    one, other = places
    Watcher(world, one, other)
    world.pass_time(5)

    def hold(actor: Actor) -> None:
        environment = Environment(lambda: world.now, lambda: world.now, actor.wait, random.Random(0))
        with lock((PlaceStorage(one, actor),), Options(lease_seconds=1_000), environment):
            actor.wait(600)

    world.act(hold)
    watcher = Watcher(world, one, other)
    world.pass_time(300)
    one.put("a", b"1")
    found = outages_of(watcher)
    assert {type(outage.error) for outage in found} == {LockHeldError}
    assert 2 <= len(found) <= 6
    world.pass_time(400)
    assert isinstance(watcher.events[-1], WatchRun)
    assert other.values == {"a": b"1"}


@pytest.mark.parametrize("seed", range(amount(2, 50)))
def test_a_day_of_outages_restarts_and_a_takeover_ends_equal(seed: int) -> None:
    world = World(seed)
    # In an outage that lasts for hours more than half of the few keys are overwritten.
    options = Options(scan=True, max_delete="100%")
    places = one, other = Place(world, "alpha"), Place(world, "beta")
    chance, begin = world.random, world.now
    for place in places:
        place.drops = lambda _number: chance.random() < 0.1
    watcher, second = Watcher(world, one, other, options=options), None
    written: dict[str, bytes] = {}
    number = restarts = outages = 0
    while world.now < begin + 24 * HOUR:
        number += 1
        place, event = chance.choice(places), chance.random()
        if event < 0.6:
            key = f"{place.name} {chance.randrange(20)}"  # only one side writes it, so that its last value is known
            written[key] = b"%d" % number
            place.put(key, written[key])
            world.pass_time(chance.choice((0, 0.01, 0.03)))  # in the middle of a run
        elif event < 0.8:
            place.put(f"shared {chance.randrange(5)}", b"%d" % number)
        elif event < 0.9 or place.away:
            place.away = not place.away
            outages += place.away
        else:
            watcher.kill()
            world.pass_time(chance.uniform(0, 100))
            watcher = Watcher(world, one, other, options=options)
            restarts += 1
        if second is None and world.now > begin + 12 * HOUR:
            second = Watcher(world, one, other, options=options)
        world.pass_time(chance.expovariate(1 / 400))
    one.away = other.away = False
    written["last"] = b"1"
    one.put("last", b"1")
    world.pass_time(chance.choice((0, 0.01, 0.03)))
    watcher.kill()  # for good: the second one takes over
    world.pass_time(HOUR + 2 * MARGIN)
    assert restarts > 5
    assert outages > 5
    assert second is not None
    assert one.values == other.values
    assert written.items() <= one.values.items()
    world.close()
