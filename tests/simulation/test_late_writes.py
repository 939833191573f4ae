"""A holder that lost its lease wakes in the middle of a write: its last write lands late."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import pytest

from kvsync import Put, errors
from kvsync.testing import Fault, crashes
from world import World, dies

if TYPE_CHECKING:
    from world import Replicated


def world_with_one_change(count: int = 2) -> World:
    world = World(1, count)
    source = world.replicas[0]
    source.unsaid = [Put("k", b"first")]
    world.say(source)
    for replica in world.replicas[1:]:
        world.sync(source, replica, scan=True)
    world.now += 1
    source.data["k"] = b"second"
    return world


def count_of_the_value_write(world: World, *, scan: bool = True) -> int:
    """Return which operation of a run puts the value: the one before which the target still holds the old one."""
    state = world.snapshot()
    seen: list[int] = []
    source, target = world.replicas[:2]

    def watch(count: int) -> None:
        if target.data.get("k") == b"first":
            seen.append(count)

    world.sync(source, target, Fault(before=watch), scan=scan, max_delete="100%")
    world.restore(state)
    return seen[-1]


def test_a_late_write_of_an_older_value_is_refused() -> None:
    """L8: the thief pushed `third`, then the old holder's `second` arrives, on condition of `first`."""
    world = world_with_one_change()
    at = count_of_the_value_write(world)
    source, target = world.replicas

    def pause(count: int) -> None:
        if count != at:
            return
        world.now += 500
        world.sync(source, target, scan=True)
        source.data["k"] = b"third"
        world.now += 1
        world.sync(source, target, scan=True)
        assert target.data["k"] == b"third"

    fault = Fault(before=pause)
    with pytest.raises(errors.LockLostError):
        world.sync(source, target, fault, scan=True, guard="none")
    assert target.data["k"] == b"third"
    assert held_in_the_end(world) == b"third"


def cut_off(world: World) -> list[Replicated]:
    """Cut a run off where it is about to write `second`; let another run take the target's lease over."""
    at = count_of_the_value_write(world)
    source, target, third = world.replicas
    world.sync(source, target, Fault(at, "killed"), scan=True, max_delete="100%")
    world.sync(target, third, scan=True)
    assert target.log().manifest.intents
    assert target.data["k"] == b"first"
    return world.replicas


def held_in_the_end(world: World) -> bytes | None:
    """Let all meet once the old intents are forgotten; return what all of them hold."""
    world.now += 1000
    for _ in range(2):
        for one, other in combinations(world.replicas, 2):
            world.sync(one, other, scan=True, max_delete="100%")
    for replica in world.replicas:
        world.check_values(replica)
    (value,) = {replica.data.get("k") for replica in world.replicas}
    return value


def test_a_late_write_is_no_new_change() -> None:
    """L9: it lands after the takeover; meanwhile the source has gone on to `third`, which has seen `second`."""
    world = world_with_one_change(3)
    source, target, third = cut_off(world)
    source.data["k"] = b"third"
    world.now += 1
    world.sync(source, third, scan=True)
    target.data["k"] = b"second"
    world.now += 1
    result = world.sync(source, target, scan=True)
    assert not result.conflicts
    assert held_in_the_end(world) == b"third"


@pytest.mark.parametrize("made", [b"second", None], ids=["put", "delete"])
def test_a_later_change_that_repeats_what_a_lost_run_meant_to_do_is_a_change(made: bytes | None) -> None:
    """R6: a newer value is logged, so that the lost run's write fails; within its ten minutes the newer one was put
    back as if that had landed."""
    world = world_with_one_change(3)
    if made is None:
        world.now += 1
        del world.replicas[0].data["k"]
    source, target, third = cut_off(world)
    world.now += 1
    target.data["k"] = b"anew"
    world.sync(target, source, scan=True)
    world.sync(target, third, scan=True)
    world.now += 1
    if made is None:
        del target.data["k"]
    else:
        target.data["k"] = made
    world.sync(target, third, scan=True, max_delete="100%")
    assert held_in_the_end(world) == made


def test_a_holder_that_is_dead_for_good_is_not_remembered() -> None:
    """It writes nothing more, so whatever is found is somebody's change; and nobody waits for it."""
    world = World(1, 2, dying=True)
    source, target = world.replicas
    source.unsaid = [Put("k", b"first")]
    world.say(source)
    world.sync(source, target, scan=True)
    world.now += 1
    source.data["k"] = b"second"
    at = count_of_the_value_write(world)
    source, target = world.replicas
    world.runs = next(run for run in range(1000) if dies(run + 1))
    started = world.now
    world.sync(source, target, Fault(at, "killed"), scan=True)
    assert world.dead
    target.data["k"] = b"anew"
    result = world.sync(source, target, scan=True, wait_seconds=0)
    assert world.now == started
    assert [conflict.key for conflict in result.conflicts] == ["k"]
    assert not target.log().manifest.intents


def test_a_late_delete_of_what_had_expired_is_refused() -> None:
    """The old holder was emptying k, whose value had expired; by the time it got there, the thief had pushed `third`.

    An intent that put k explained only the value, not its absence: a delete was logged, and took `third` everywhere.
    """
    world = world_with_one_change()
    source = world.replicas[0]
    source.data["k"] = b"first"
    source.unsaid = [Put("k", b"second", world.now + 5)]
    world.say(source)
    world.now += 60
    at = count_of_the_value_write(world)
    source, target = world.replicas

    def pause(count: int) -> None:
        if count != at:
            return
        world.now += 500
        world.sync(source, target)
        source.unsaid = [Put("k", b"third")]
        world.say(source)
        world.sync(source, target)
        assert target.data["k"] == b"third"

    with pytest.raises(errors.LockLostError):
        world.sync(source, target, Fault(before=pause), scan=True)
    assert held_in_the_end(world) == b"third"


def synced(world: World, fault: Fault) -> None:
    source, target = world.replicas
    world.sync(source, target, fault)


def test_what_a_target_got_is_logged_before_the_source_gets_its_own() -> None:
    """D5: until then a new key that the application deletes comes back, after a crash; so that time is kept short."""
    world = World(1, 2)
    source, target = world.replicas
    source.unsaid = [Put("base", b"0"), Put("other", b"0")]
    world.say(source)
    world.sync(source, target, scan=True)
    world.now += 1
    source.unsaid = [Put("new", b"1")]
    world.say(source)
    target.unsaid = [Put(f"theirs {i}", b"1") for i in range(5)]
    world.say(target)
    back = []
    for _, broken in crashes(world.back_to(world.snapshot()), synced, modes=["killed"]):
        source, target = broken.replicas
        if "new" in target.data:
            del target.data["new"]
            broken.sync(source, target, scan=True, max_delete="100%")
            back.append("new" in target.data)
    assert len(back) > 1 >= back.count(True)


def test_a_late_write_that_others_would_take_for_known_is_a_change_of_its_own() -> None:
    """A commit is cut off before its value; its replica makes later changes, and then the value lands.

    Logged under its old stamp, it went to nobody: whoever knew the later changes claimed to know this one, too.
    """
    world = World(1, 3)
    source, target, third = world.replicas
    source.unsaid = [Put("k", b"first")]
    world.say(source)
    for replica in (target, third):
        world.sync(source, replica, scan=True)
    at = count_of_the_commits_value_write(world, Put("k", b"second"))
    source, target, third = world.replicas
    source.unsaid = [Put("k", b"second")]
    world.say(source, Fault(at, "killed"))
    source.unsaid, source.failed = [], False
    assert source.data["k"] == b"first"
    source.data["other"] = b"1"
    world.sync(source, target, scan=True)
    assert source.log().manifest.intents
    source.data["k"] = b"second"
    world.now += 1
    world.sync(source, target, scan=True)
    world.sync(source, third, scan=True)
    assert held_in_the_end(world) == b"second"


def count_of_the_commits_value_write(world: World, change: Put) -> int:
    """Return which operation of a commit puts the value: the one before which the source still holds the old one."""
    state = world.snapshot()
    seen: list[int] = []
    source = world.replicas[0]

    def watch(count: int) -> None:
        if source.data.get("k") == b"first":
            seen.append(count)

    source.unsaid = [change]
    world.say(source, Fault(before=watch))
    world.restore(state)
    return seen[-1]
