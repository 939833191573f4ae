"""Every scripted run fails at every one of its operations, on either storage; the next run ends right."""

from __future__ import annotations

from itertools import combinations

import pytest
from variants import in_turns

from kvsync.index import compaction
from kvsync.testing import FAULT_MODES, Fault, crashes
from scripts import SCRIPTS, Script
from world import World


def prepared(script: Script, kind: str) -> World:
    world = World(1, script.count)
    for replica in world.replicas:
        replica.transactional, replica.marking = kind == "transactional", kind == "marking"
    script.setup(world)
    return world


def finish(world: World, script: Script) -> dict[str, bytes]:
    """Repeat the run as its caller would, let all replicas meet, and return what they hold."""
    script.act(world, Fault())
    pairs = list(combinations(range(script.count), 2))
    world.settle(pairs, 5)
    world.check_equal()
    return world.replicas[0].values()


@pytest.mark.parametrize("kind", ["plain", "transactional", "marking"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_failure_at_any_operation_loses_and_revives_nothing(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = SCRIPTS[name]
    if script.inline_bytes_max is not None:
        monkeypatch.setattr(compaction, "INLINE_BYTES_MAX", script.inline_bytes_max)
    world = prepared(script, kind)
    undisturbed = world.back_to(world.snapshot())
    expected = finish(world, script)
    points = 0
    for fault, broken in crashes(undisturbed, script.act):
        assert finish(broken, script) == expected, fault
        points += 1
    assert points >= len(FAULT_MODES) * 4


@pytest.mark.parametrize(
    ("name", "kind"), in_turns([(name,) for name, script in SCRIPTS.items() if script.twice], ["plain", "marking"])
)
def test_a_second_failure_at_any_operation_of_the_recovery_changes_nothing(name: str, kind: str) -> None:
    script = SCRIPTS[name]
    world = prepared(script, kind)
    undisturbed = world.back_to(world.snapshot())
    expected = finish(world, script)
    for first, broken in crashes(undisturbed, script.act, modes=("killed", "raises")):
        for second, again in crashes(broken.back_to(broken.snapshot()), script.act, modes=("killed",)):
            assert finish(again, script) == expected, f"{first}, then {second}"
