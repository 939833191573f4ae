"""Every scripted run fails at every one of its operations, on either storage; the next run ends right."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import pytest

from history import MODES
from kvsync.index import compaction
from scripts import SCRIPTS, Script
from world import Fuse, World

if TYPE_CHECKING:
    from collections.abc import Iterator

OPERATIONS_MAX = 5000


def prepared(script: Script, kind: str) -> World:
    world = World(1, script.count)
    for replica in world.replicas:
        replica.transactional, replica.marking = kind == "transactional", kind == "marking"
    script.setup(world)
    return world


def finish(world: World, script: Script) -> None:
    """Repeat the run as its caller would, then let all replicas meet."""
    script.act(world, Fuse())
    pairs = list(combinations(range(script.count), 2))
    world.settle(pairs, 5)
    world.check_equal()


def outcome(world: World) -> dict[str, bytes]:
    return world.replicas[0].values()


def failing_points(script: Script, world: World) -> Iterator[tuple[Fuse, World]]:
    """Yield a world after a failure at each operation of the run, until the run gets through."""
    state = world.snapshot()
    for mode in MODES:
        for at in range(1, OPERATIONS_MAX):
            world.restore(state)
            fuse = Fuse(at, mode)
            script.act(world, fuse)
            if fuse.count < at:
                break
            yield fuse, world
        else:
            pytest.fail("the run never ends")


@pytest.mark.parametrize("kind", ["plain", "transactional", "marking"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_failure_at_any_operation_loses_and_revives_nothing(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = SCRIPTS[name]
    if script.inline_bytes_max is not None:
        monkeypatch.setattr(compaction, "INLINE_BYTES_MAX", script.inline_bytes_max)
    world = prepared(script, kind)
    undisturbed = world.snapshot()
    finish(world, script)
    expected = outcome(world)
    world.restore(undisturbed)
    points = 0
    for fuse, broken in failing_points(script, world):
        finish(broken, script)
        assert outcome(broken) == expected, f"{fuse.mode} at operation {fuse.at}"
        points += 1
    assert points >= len(MODES) * 4


@pytest.mark.parametrize("kind", ["plain", "marking"])
@pytest.mark.parametrize("name", [name for name, script in SCRIPTS.items() if script.twice])
def test_a_second_failure_at_any_operation_of_the_recovery_changes_nothing(name: str, kind: str) -> None:
    script = SCRIPTS[name]
    world = prepared(script, kind)
    undisturbed = world.snapshot()
    finish(world, script)
    expected = outcome(world)
    world.restore(undisturbed)
    state = world.snapshot()
    for mode in ("killed", "raises"):
        for at in range(1, OPERATIONS_MAX):
            world.restore(state)
            first = Fuse(at, mode)
            script.act(world, first)
            if first.count < at:
                break
            broken = world.snapshot()
            for again in range(1, OPERATIONS_MAX):
                world.restore(broken)
                second = Fuse(again, "killed")
                script.act(world, second)
                if second.count < again:
                    break
                finish(world, script)
                assert outcome(world) == expected, f"{mode} at {at}, then killed at {again}"
