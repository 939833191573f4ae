"""A holder that lost its lease wakes in the middle of a write: its last write lands late."""

from __future__ import annotations

import pytest

from kvsync import Put, errors
from kvsync.testing import Fault, crashes
from world import World


def world_with_one_change() -> World:
    world = World(1, 2)
    source, target = world.replicas
    source.unsaid = [Put("k", b"first")]
    world.say(source)
    world.sync(source, target, scan=True)
    world.now += 1
    source.data["k"] = b"second"
    return world


def count_of_the_value_write(world: World, *, scan: bool = True) -> int:
    """Return which operation of a run puts the value: the one before which the target still holds the old one."""
    state = world.snapshot()
    seen: list[int] = []
    source, target = world.replicas

    def watch(count: int) -> None:
        if target.data.get("k") == b"first":
            seen.append(count)

    world.sync(source, target, Fault(before=watch), scan=scan)
    world.restore(state)
    return seen[-1]


@pytest.mark.parametrize("in_flight", [False, True], ids=["before its condition", "past its condition"])
def test_a_late_write_of_an_older_value_is_neither_kept_nor_taken_for_a_new_change(*, in_flight: bool) -> None:
    """L8 and L9: the thief pushed `third`, then the old holder's `second` arrives; nobody wrote `second` now."""
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
    if in_flight:
        target.data["k"] = b"second"
    world.now += 500
    for _ in range(3):
        world.sync(source, target, scan=True)
    assert source.data["k"] == b"third"
    assert target.data["k"] == b"third"
    world.check_values(source)
    world.check_values(target)


def test_a_late_delete_of_what_had_expired_is_no_delete_that_anybody_made() -> None:
    """The old holder was emptying k, whose value had expired; by the time it got there, the thief had pushed `third`.

    An intent that put k explained only the value, not its absence: a delete was logged, and took `third` everywhere.
    """
    world = world_with_one_change()
    source = world.replicas[0]
    source.data["k"] = b"first"
    source.unsaid = [Put("k", b"second", world.now + 5)]
    world.say(source)
    world.now += 60
    at = count_of_the_value_write(world, scan=False)
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
        world.sync(source, target, Fault(before=pause))
    target.data.pop("k", None)
    for _ in range(3):
        world.sync(source, target, scan=True, max_delete="100%")
    assert source.data["k"] == target.data["k"] == b"third"
    world.check_values(source)
    world.check_values(target)


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
