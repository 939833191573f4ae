"""What a peer claims of others: never believed where it could change what a good replica holds."""

from __future__ import annotations

import random
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from forging import LATE, MANIFEST_KEY, SOON, opened, sealed
from small_worlds import World, environment_of, index_of, values_of

import kvsync
from kvsync import Put
from kvsync.native import Segment, checksum
from kvsync.types import Change

if TYPE_CHECKING:
    from collections.abc import Callable


def met_world() -> World:
    """Return a world in which all have met, and then the good one and the forged one each changed `k`."""
    world = World(environment_of(1))
    for i in range(3):
        world.sync(world.good, world.forged, Put("k", b"%d" % i), Put("shared", b"%d" % i))
    world.sync(world.good, world.other)
    kvsync.commit(world.good, [Put("k", b"ours")], environment=world.environment)
    kvsync.commit(world.forged, [Put("k", b"theirs")], environment=world.environment)
    return world


def rewritten(world: World, **fields: Any) -> dict[str, Any]:
    """Rewrite fields of the forged manifest."""
    body = opened(world.forged[MANIFEST_KEY]) | fields
    world.forged[MANIFEST_KEY] = sealed(body)
    return body


def claim(world: World, points: list[list[int]], *, kept: int = 99) -> None:
    """Let the forged replica claim points of the good one's history after the first `kept` that it really knows."""
    body, good = opened(world.forged[MANIFEST_KEY]), opened(world.good[MANIFEST_KEY])["replica"]
    for row in body["chains"]:
        if row[0] == good:
            row[1][kept:] = points
    stamps = [point[1] for point in points]
    rewritten(world, chains=body["chains"], clock=max([body["clock"], *stamps]))


def own_points(world: World) -> list[list[int]]:
    body = opened(world.good[MANIFEST_KEY])
    return next(row[1] for row in body["chains"] if row[0] == body["replica"])


def name_a_branch(world: World) -> None:
    """Give the last change of the forged replica the name of a branch."""
    body = opened(world.forged[MANIFEST_KEY])
    row = body["segments"][-1]
    segment = Segment.decode(row[7], row[0])
    change = Change._make(segment.rows(0, 1)[0])
    data = Segment.from_rows([change._replace(origin=2**63 + 5)]).encode(row[0])
    body["segments"][-1] = [row[0], [[2**63 + 5, change.stamp]], 1, [], 0, len(data), checksum(data), data]
    chains = [[origin, points[:-1] if origin == body["replica"] else points] for origin, points in body["chains"]]
    chains = [row for row in chains if row[1]]
    rewritten(world, chains=[*chains, [2**63 + 5, [[1, change.stamp, 1]]]], segments=body["segments"])


def own_id(world: World) -> int:
    found: int = opened(world.good[MANIFEST_KEY])["replica"]
    return found


CLAIMS: dict[str, Callable[[World], object]] = {
    "further": lambda world: claim(world, [[99, SOON, 1]]),
    "further, and nothing else": lambda world: claim(world, [[99, SOON, 1]], kept=0),
    "as far, with another mark": lambda world: claim(world, [[*own_points(world)[-1][:2], 1]]),
    "as far, with a greater mark": lambda world: claim(world, [[*own_points(world)[-1][:2], 2**64 - 1]]),
    "one stamp further": lambda world: claim(world, [[5, own_points(world)[-1][1] + 1, 1]]),
    "ahead": lambda world: rewritten(
        world,
        clock=SOON,
        exceptions=[[own_id(world), own_points(world)[-1][1], SOON, 99, SOON, 1]],
    ),
    "by a branch": name_a_branch,
}


@pytest.mark.parametrize("is_given", [False, True], ids=["committed before", "given"])
@pytest.mark.parametrize("name", CLAIMS)
def test_no_claim_of_our_own_history_beats_the_policy_source(name: str, *, is_given: bool) -> None:
    world = met_world()
    CLAIMS[name](world)
    changes = [Put("k", b"given")] if is_given else []
    world.sync(world.good, world.forged, *changes, conflict="source")
    expected = b"given" if is_given else b"ours"
    assert world.good["k"] == world.forged["k"] == expected
    world.sync(world.good, world.other)
    assert world.other["k"] == expected


@pytest.mark.parametrize("name", CLAIMS)
def test_nor_the_policy_target(name: str) -> None:
    world = met_world()
    CLAIMS[name](world)
    world.sync(world.forged, world.good, conflict="target")
    assert world.good["k"] == world.forged["k"] == b"ours"


def test_not_even_if_the_run_that_met_the_claim_failed() -> None:
    """The claim makes a branch of our changes, and fails; the next run knows them all the same."""
    world = met_world()
    claim(world, [[99, SOON, 1]])

    def fail(progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.sync(world.good, world.forged, conflict="source", on_progress=fail)
    world.sync(world.good, world.forged, conflict="source")
    assert world.good["k"] == world.forged["k"] == b"ours"


def test_a_peer_that_says_again_and_again_that_we_are_gone_costs_some_bytes_a_run() -> None:
    """Each time we go on under a fresh id: nothing is lost, all is told, and it grows by bounded bytes."""
    world = met_world()
    world.sync(world.good, world.forged)
    sizes = []
    for i in range(20):
        body = opened(world.forged[MANIFEST_KEY])
        rewritten(world, gone=sorted([*body["gone"], [own_id(world), 1]]))
        result = world.sync(world.good, world.forged, Put("k", b"%d" % i), conflict="source")
        assert len(result.lives) == 1
        assert world.forged["k"] == b"%d" % i
        sizes.append(len(world.good[MANIFEST_KEY]))
    assert sizes[-1] - sizes[0] < 20 * 400
    world.sync(world.good, world.other)
    assert values_of(world.other) == values_of(world.good)


def test_points_between_those_of_a_history_lock_nobody_out() -> None:
    """A forged point that contradicts a true one would make a chain that nobody reads any more."""
    world = met_world()
    points = own_points(world)
    forged = [points[0], [points[1][0], points[1][1] - 1, 77], *points[2:]]
    claim(world, forged, kept=0)
    world.sync(world.good, world.forged)
    world.sync(world.good, world.forged, Put("a", b"1"))
    world.sync(world.good, world.other)
    assert values_of(world.other) == values_of(world.good)


FUTURE: dict[str, Callable[[dict[str, Any], int], Any]] = {
    "clock": lambda _body, _good: LATE,
    "exceptions": lambda body, _good: [[body["replica"], SOON, SOON, 9, LATE, 1]],
    "peers": lambda body, _good: [[good_row[0], "x", LATE, [], [], 0] for good_row in body["peers"]],
    "collected": lambda _body, _good: [[5, LATE]],
    "collected_ms": lambda _body, _good: LATE >> 16,
    "intents": lambda _body, _good: [["segment/0000000000000001-0", LATE >> 16]],
    "chains": lambda body, _good: [[row[0], [*row[1], [99, LATE, 1]]] for row in body["chains"]],
}


@pytest.mark.parametrize("field", FUTURE)
def test_a_time_far_in_the_future_is_refused_in_every_field(field: str) -> None:
    world = met_world()
    body = opened(world.forged[MANIFEST_KEY])
    clock = {"chains": LATE, "exceptions": SOON}.get(field, body["clock"])
    rewritten(world, **{"clock": clock, field: FUTURE[field](body, own_id(world))})
    before = index_of(world.good), values_of(world.good)
    with pytest.raises(kvsync.ClockError) as refused:
        world.sync(world.good, world.forged)
    assert refused.value.storage is not None
    assert ("manifest" if field == "chains" else field) in str(refused.value)
    assert "do not sync with this storage" in str(refused.value)
    assert (index_of(world.good), values_of(world.good)) == before
    world.sync(world.good, world.other, Put("a", b"1"))
    assert world.other["k"] == b"ours"


def test_a_million_ids_are_refused() -> None:
    world = met_world()
    fresh = sorted({random.Random(i).getrandbits(62) for i in range(9_000)})
    own = opened(world.forged[MANIFEST_KEY])
    clock = own["clock"]
    rewritten(world, chains=sorted([*own["chains"], *([each, [[1, clock, 1]]] for each in fresh)]))
    before = index_of(world.good)
    with pytest.raises(kvsync.IndexDamagedError, match="entries in chains, at most 8,192"):
        world.sync(world.good, world.forged)
    assert index_of(world.good) == before
    numbers = count(1)
    rewritten(world, chains=[[next(numbers), [[1, clock, 1]]] for _ in range(20_000)])
    with pytest.raises(kvsync.IndexDamagedError, match="20,000 entries in chains, at most 16,384"):
        world.sync(world.good, world.forged)
    assert index_of(world.good) == before
