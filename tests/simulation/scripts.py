"""A dozen scripted runs, each to be interrupted at every one of its operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from variants import LONG

import kvsync
from history import merging
from kvsync import Delete, Put

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.testing import Fault
    from world import Replicated, World


@dataclass(frozen=True)
class Script:
    """What was before, and the run to interrupt; `act` is repeated, as its caller would, until it succeeds."""

    setup: Callable[[World], None]
    act: Callable[[World, Fault], Any]
    count: int = 2
    inline_bytes_max: int | None = None
    twice: bool = False


def said(world: World, number: int, *changes: Put | Delete) -> None:
    """Let an application commit these changes, a moment after what was before."""
    world.now += 1
    replica = world.replicas[number]
    replica.unsaid = list(changes)
    world.say(replica)


def written(world: World, number: int, **values: bytes | None) -> None:
    """Let an application write behind kvsync's back."""
    data = world.replicas[number].data
    for key, value in values.items():
        if value is None:
            data.pop(key, None)
        else:
            data[key] = value


def met(world: World, *pairs: Sequence[int], **options: Any) -> None:
    for i, j in pairs:
        world.now += 1
        world.sync(world.replicas[i], world.replicas[j], **options)


def run(changes: Sequence[Put | Delete] = (), **options: Any) -> Callable[[World, Fault], Any]:
    def act(world: World, fault: Fault) -> Any:
        world.now += 1
        one, other = world.replicas[:2]
        return world.sync(one, other, fault, changes=list(changes), **options)

    return act


def both_populated(world: World) -> None:
    said(world, 0, *(Put(f"k{i}", b"old%d" % i) for i in range(6)))
    met(world, (0, 1))


def changed_both_ways(world: World) -> None:
    both_populated(world)
    said(world, 0, Put("k0", b"a"), Delete("k1"), Put("new-a", b"1"))
    said(world, 1, Put("k2", b"b"), Delete("k3"), Put("new-b", b"2"))


def conflicting(world: World) -> None:
    both_populated(world)
    said(world, 0, Put("k0", b"mine"), Delete("k1"), Put("k2", b"mine too"), Put("same", b"="))
    said(world, 1, Put("k0", b"theirs"), Put("k1", b"kept"), Delete("k2"), Put("same", b"="), Put("k4", b"plain"))


def conflicting_newer_first(world: World) -> None:
    both_populated(world)
    said(world, 1, Put("k0", b"theirs"), Put("k1", b"kept"), Delete("k2"))
    said(world, 0, Put("k0", b"mine"), Delete("k1"), Put("k2", b"mine too"))


def value_missing(world: World) -> None:
    both_populated(world)
    said(world, 2, Put("k0", b"from c"), Put("k5", b"c too"))
    good = world.replicas[2].data["k0"]
    written(world, 2, k0=b"not what was logged")
    met(world, (2, 0))
    written(world, 2, k0=good)
    met(world, (1, 2))


def relayed(world: World) -> None:
    both_populated(world)
    met(world, (1, 2))
    said(world, 2, Put("k0", b"c"), Delete("k4"))
    met(world, (1, 2))
    said(world, 0, Put("k5", b"a"))


def many(world: World) -> None:
    said(world, 0, *(Put(f"m{i:03}", b"%d" % i) for i in range(12)))
    said(world, 1, *(Put(f"n{i:03}", b"%d" % i) for i in range(12)))


def long_history(world: World) -> None:
    both_populated(world)
    for i in range(8):
        said(world, 0, Put("k0", b"%d" % i), Put(f"h{i}", b"x"))
        met(world, (0, 1))
    said(world, 0, Put("k0", b"last"))


def behind_its_back(world: World) -> None:
    written(world, 0, **{f"k{i}": b"old%d" % i for i in range(6)})
    met(world, (0, 1), scan=True)
    written(world, 0, k0=b"edited", k1=None, fresh=b"a")
    written(world, 1, k2=b"edited", k3=None, other=b"b")


def left_out(world: World) -> None:
    conflicting(world)
    met(world, (0, 1), exclude=["k0", "k1", "k2", "k4"])


ONLY_READ: dict[str, Any] = {"scan": True, "read_only_source": True}

SCRIPTS = {
    "first sync with given changes": Script(
        lambda world: None, run([Put("x", b"1"), Put("y", b"2"), Delete("z")]), twice=True
    ),
    "changes both ways": Script(changed_both_ways, run(), twice=True),
    "given changes against others": Script(changed_both_ways, run([Put("k5", b"given"), Delete("k4")])),
    "conflicts, latest": Script(conflicting, run()),
    "conflicts, source wins though older": Script(conflicting, run(conflict="source"), twice=True),
    "conflicts, target wins though older": Script(conflicting_newer_first, run(conflict="target")),
    "conflicts, both kept": Script(conflicting, run(conflict="keep-both")),
    "conflicts, merged": Script(conflicting, run(conflict=merging)),
    "a missing value is filled": Script(value_missing, run(), count=3),
    "changes of a third replica": Script(relayed, run(), count=3),
    "segments too large for the manifest": Script(many, run(), inline_bytes_max=200),
    "compaction on the way": Script(long_history, run([Put("k0", b"given")])),
    "changes found by a scan": Script(behind_its_back, run(scan=True)),
    "a push": Script(changed_both_ways, run([Put("k5", b"given")], direction="push")),
    "a push that lets the target win": Script(conflicting_newer_first, run(direction="push", conflict="target")),
    "a push that merges": Script(conflicting, run(direction="push", conflict=merging)),
    "a push that keeps both": Script(conflicting, run(direction="push", conflict="keep-both")),
    "a pull": Script(conflicting, run(direction="pull", conflict="source")),
    "a push after a scan": Script(behind_its_back, run(scan=True, direction="push")),
    "a mirror": Script(conflicting, run(direction="mirror", max_delete="100%"), twice=LONG),
    "a mirror after a scan": Script(behind_its_back, run(scan=True, direction="mirror", max_delete="100%")),
    "a mirror with a missing value": Script(value_missing, run(direction="mirror", max_delete="100%"), count=3),
    "a push from a source that is only read": Script(changed_both_ways, run(**ONLY_READ, direction="push")),
    "a mirror of a source that is only read": Script(
        changed_both_ways, run(**ONLY_READ, direction="mirror", max_delete="100%")
    ),
    "a filtered run": Script(changed_both_ways, run([Put("k5", b"given")], exclude=["k0", "k1", "k3", "new-b"])),
    "a filtered run with conflicts": Script(conflicting, run(exclude=["k0", "k1", "k2"], conflict="keep-both")),
    "what a filter left out is filled": Script(left_out, run()),
    "explicit compaction": Script(
        long_history,
        lambda world, fault: compacted(world, world.replicas[0], fault),
    ),
}


def compacted(world: World, at: Replicated, fault: Fault) -> Any:
    environment = world.environment(at)
    with world.survives(fault, environment):
        return kvsync.compact(at.wire(fault), wait_seconds=100, environment=environment)
