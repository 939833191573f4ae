"""Changes that a replica knows of and lacks, and what other replicas make of the key meanwhile."""

from __future__ import annotations

import pytest

import kvsync
from kvsync import Delete, Put
from kvsync.testing import Fault
from lifetimes import Keeping
from scripts import met, said, written
from world import World

A, B, C = range(3)


def traces(world: World) -> set[bytes]:
    """Return every value that can still be had: those that stand somewhere, and those kept aside."""
    standing = {value for replica in world.replicas for value in replica.values().values()}
    return standing | {lost.value for replica in world.replicas for lost in kvsync.lost(replica.storage())}


@pytest.mark.parametrize("conflict", ["latest", "keep-both"])
def test_a_change_made_over_a_missing_value_meets_its_conflict_wherever_it_arrives(conflict: str) -> None:
    """C lacks B's change, since it has one of its own that is not logged yet; A takes C's to B, where it wins."""
    world = World(1, 3)
    said(world, B, Put("k", b"from b"))
    written(world, C, k=b"from c")
    met(world, (B, C), guard="check")
    met(world, (C, A), scan=True)
    met(world, (A, B), conflict=conflict)
    assert world.replicas[B].data["k"] == b"from c"
    assert b"from b" in traces(world)


def test_a_change_made_over_a_missing_value_is_not_answered_by_who_got_it_from_there() -> None:
    """A has C's change from C itself, and has never heard of B's value; that answers nothing."""
    world = World(1, 3)
    said(world, B, Put("k", b"from b"))
    written(world, C, k=b"from c")
    met(world, (B, C), guard="check")
    met(world, (C, A), scan=True)
    said(world, A, Put("other", b"a reason to sync again"))
    met(world, (C, A), (C, B))
    assert world.replicas[B].data["k"] == b"from c"
    assert b"from b" in traces(world)


@pytest.mark.parametrize("conflict", ["latest", "keep-both"])
def test_a_missing_value_that_loses_a_conflict_is_kept_by_who_holds_it(conflict: str) -> None:
    """C lacks B's change, since its value was not the logged one for a while; A's wins at C, and C takes it to B."""
    world = World(1, 3)
    said(world, B, Put("k", b"from b"))
    written(world, B, k=b"another")
    met(world, (B, C))
    written(world, B, k=b"from b")
    said(world, A, Put("k", b"from a"))
    met(world, (A, C), (C, B), conflict=conflict)
    assert world.replicas[B].data["k"] == b"from a"
    assert b"from b" in traces(world)


@pytest.mark.parametrize("equal", [Put("k", b"same"), Delete("k")], ids=["put", "delete"])
def test_a_missing_value_is_still_wanted_when_an_equal_change_comes_in(equal: Put | Delete) -> None:
    """C lacks B's change, and then hears of the same outcome from A: C's log has it, C's storage does not."""
    world = World(1, 3)
    said(world, C, Put("k", b"old"))
    met(world, (A, C), (B, C))
    said(world, B, equal)
    written(world, C, k=b"not logged yet")
    met(world, (B, C), guard="check")
    written(world, C, k=b"old")
    said(world, A, equal)
    met(world, (A, C), (B, C), (A, B))
    for _ in range(2):
        met(world, (A, C), (B, C), scan=True)
    world.check_values(world.replicas[C])
    assert world.replicas[C].data.get("k") == equal.value


@pytest.mark.parametrize("expiring", [False, True], ids=["deleted", "expired"])
def test_a_delete_that_repeats_an_interrupted_one_does_not_leave_a_value_missing_for_ever(*, expiring: bool) -> None:
    """B's delete did not reach A, whose application then puts a new value, and soon deletes it itself.

    Or gives it a time, behind kvsync's back, that comes before a scan sees it: that is not told from a delete.
    """
    world = World(1, 2)
    if expiring:
        world.replicas[A] = Keeping(A, clock=lambda: world.now)
    said(world, A, Put("k", b"old"))
    met(world, (A, B))
    said(world, B, Delete("k"))
    a = world.replicas[A]

    def die(_count: int) -> None:
        # The intent is there, the delete is not.
        if any("segment/" in name for name in a.data.keys() - before):
            fault.at, fault.before = fault.count, None

    before, fault = set(a.data), Fault(mode="killed", before=die)
    world.sync(a, world.replicas[B], fault)
    assert a.held_at("k") == b"old"
    said(world, A, Put("k", b"new"))
    if isinstance(a, Keeping):
        a.kept["k"] = (b"new", int(world.now * 1000) + 1000)
        world.now += 2
    else:
        written(world, A, k=None)
    assert a.log().manifest.intents, "the intent to delete is remembered"
    met(world, (A, B), scan=True, max_delete="100%")
    world.now += 10_000
    for _ in range(3):
        met(world, (A, B), scan=True, max_delete="100%")
    assert not a.log().manifest.knowledge.missing
    assert "k" not in world.replicas[B].data


def test_a_missing_value_that_an_interrupted_run_brought_is_no_new_change() -> None:
    """C fills in B's value and dies before it can say so; its scan then took that old value for a change made now."""
    world = World(1, 3)
    said(world, C, Put("k", b"old"))
    met(world, (A, C), (B, C))
    said(world, B, Put("k", b"from b"))
    written(world, B, k=b"another")
    met(world, (B, C))
    written(world, B, k=b"from b")
    c = world.replicas[C]
    assert [entry.change.key for entry in c.log().manifest.knowledge.missing] == ["k"]

    def die(_count: int) -> None:
        if c.data["k"] == b"from b":
            fault.at, fault.before = fault.count, None

    fault = Fault(mode="killed", before=die)
    world.sync(world.replicas[B], c, fault)
    assert c.data["k"] == b"from b"
    assert c.log().manifest.knowledge.missing
    said(world, A, Put("other", b"1"))
    met(world, (A, B))
    said(world, A, Put("k", b"newer"))
    met(world, (C, A), scan=True)
    assert c.data["k"] == world.replicas[A].data["k"] == b"newer"
    assert not c.log().manifest.knowledge.missing
