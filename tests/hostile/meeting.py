"""A good replica meets a forged one: what may come of it, and what must not."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forging import Forger
from small_worlds import World, index_of, values_of, world_of

import kvsync
from kvsync import Put
from kvsync.environment import Environment
from kvsync.native import digest_values
from kvsync.replica.log import Log
from kvsync.storages.mapping import MappingStorage
from kvsync.types import Change

if TYPE_CHECKING:
    from collections.abc import Callable

WORLD_COUNT = 40
POLICIES = ("latest", "source", "source", "target", "keep-both")
GIVEN = Put("given", b"ours")


@dataclass(frozen=True)
class Outcome:
    """What became of a meeting: which error, if any, and what was forged."""

    error: kvsync.KvsyncError | None
    forged: str

    @property
    def word(self) -> str:
        """The kind of the error, or that the result was right."""
        return "right" if self.error is None else type(self.error).__name__


def meet(seed: int) -> Outcome:
    """Let a good replica meet a forged one, then another good one, and look at all that may have gone wrong."""
    chance = random.Random(seed)
    world = world_of(seed % WORLD_COUNT).copy()
    forged = Forger(world, chance).forge()
    policy = chance.choice(POLICIES)
    is_source = chance.random() < 0.75
    changes = [GIVEN] if is_source and chance.random() < 0.4 else []
    _is_shown(world, chance)
    before, spoilt = dict(world.good), values_of(world.forged)
    pair = (world.good, world.forged) if is_source else (world.forged, world.good)
    error: kvsync.KvsyncError | None = None
    try:
        result = world.sync(*pair, *changes, conflict=policy, scan=chance.random() < 0.1, wait_seconds=0)
    except kvsync.KvsyncError as raised:
        error = raised
    if error is not None and _came_late(world, error):
        # What was decided by then is logged.
        _matches_its_log(world.good)
        assert set(values_of(world.good).values()) <= {*before.values(), *spoilt.values(), GIVEN.value}
    elif error is not None:
        _is_untouched(world, before, changes)
    else:
        _is_right(world, before, spoilt, result, changes)
        if is_source and policy == "source":
            _source_has_won(world, before, changes, spoilt)
    _goes_on(world)
    return Outcome(error, forged)


def _is_shown(world: World, chance: random.Random) -> None:
    """Whoever only looks at the forged replica gets an error or an answer, and writes nothing."""
    there = dict(world.forged)
    looks: list[Callable[[], object]] = [
        lambda: kvsync.status(world.forged),
        lambda: kvsync.log(world.forged),
        lambda: kvsync.verify(world.forged),
        lambda: kvsync.lost(world.forged),
        lambda: kvsync.plan(world.good, world.forged, environment=world.environment),
    ]
    with suppress(kvsync.KvsyncError):
        str(chance.choice(looks)())
    assert world.forged == there


def _came_late(world: World, error: kvsync.KvsyncError) -> bool:
    """Whether the storage failed in the middle, or had an old segment of its own that no run needs at first."""
    if isinstance(error, kvsync.IndexDamagedError):
        return f".kvsync/{error.name}" in world.forged and str(error.name).startswith("segment/")
    return isinstance(error, kvsync.StorageError)


def _is_untouched(world: World, before: dict[str, bytes], changes: list[Put]) -> None:
    if not changes:
        assert index_of(world.good) == index_of(before)
    given = {change.key: change.value for change in changes}
    left = values_of(world.good)
    assert left in (values_of(before), values_of(before) | given)


def _is_right(
    world: World, before: dict[str, bytes], spoilt: dict[str, bytes], result: Any, changes: list[Put]
) -> None:
    """Hold the good replica against its own log, and its values against those that there were."""
    _matches_its_log(world.good)
    there = {*before.values(), *spoilt.values(), *(change.value for change in changes)}
    assert set(values_of(world.good).values()) <= there


def _source_has_won(world: World, before: dict[str, bytes], changes: list[Put], spoilt: dict[str, bytes]) -> None:
    """What the forged replica cannot have known of the source stays, whatever it claims."""
    for change in changes:
        assert world.good[change.key] == change.value
    for key in unpublished(before):
        assert world.good.get(key) == before.get(key), key


def unpublished(replica: dict[str, bytes]) -> list[str]:
    """Return the keys that the last commit of a replica changed."""
    log = Log.read(MappingStorage(replica), Environment())
    own = log.manifest.replica
    chain = log.manifest.history.chains[own]
    since = chain[-2].stamp if len(chain) > 1 else 0
    changes = [Change._make(row) for segment in log.all_segments() for row in segment.rows(0, len(segment))]
    return [change.key for change in changes if change.origin == own and change.stamp > since]


def _matches_its_log(replica: dict[str, bytes]) -> None:
    storage = MappingStorage(replica)
    log = Log.read(storage, Environment())
    keys = sorted({row[0] for segment in log.all_segments() for row in segment.rows(0, len(segment))})
    missing = {entry.change.key for entry in log.manifest.knowledge.missing}
    for key, change in zip(keys, log.newest(keys), strict=True):
        assert change is not None
        if key in missing or change.expires:
            continue
        value = replica.get(key)
        assert (value is None) == change.deletes, (key, value, change)
        assert value is None or digest_values([value])[0] == change.digest
    assert set(values_of(replica)) <= set(keys)


def _goes_on(world: World) -> None:
    """The good replica and another good one meet as if nothing had been."""
    one, two = world.good, world.other
    if "given" in one:
        world.sync(one, two)
    else:
        world.sync(one, two, Put("next", b"1"))
    missing = {
        entry.change.key
        for replica in (one, two)
        for entry in Log.read(MappingStorage(replica), Environment()).manifest.knowledge.missing
    }
    left = ({key: value for key, value in values_of(each).items() if key not in missing} for each in (one, two))
    assert next(left) == next(left)
    _matches_its_log(two)
