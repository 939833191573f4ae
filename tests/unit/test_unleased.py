"""Another run removes what a log consisted of, while somebody looks at it, or holds a lease that was taken away."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

import kvsync
from kvsync import Delete, Put
from kvsync.replica.base import SIZES
from kvsync.storages.mapping import MappingStorage
from kvsync.testing import Fault, FaultyStorage, virtual_environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvsync.environment import Environment
    from kvsync.storages.contract import Storage

LOOKS: dict[str, Callable[[Storage, Storage, Environment], Any]] = {
    "plan": lambda a, b, environment: kvsync.plan(a, b, scan=True, max_delete="100%", environment=environment),
    "log": lambda a, _b, _environment: kvsync.log(a),
    "status": lambda a, _b, _environment: kvsync.status(a),
}
RUNS: dict[str, Callable[[Storage, Storage, Environment], Any]] = {
    "sync": lambda a, b, environment: kvsync.sync(a, b, scan=True, max_delete="100%", environment=environment),
    "commit": lambda a, _b, environment: kvsync.commit(a, puts(40), environment=environment),
    "compact": lambda a, _b, environment: kvsync.compact(a, environment=environment),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in {"base": 20, "target": 256, "pack": 1024, "small_pack": 1024, "read_ahead": 600}.items():
        monkeypatch.setattr(SIZES, name, size)


def puts(number: int) -> list[Put]:
    return [Put(f"k{i:03}", b"%d" % number) for i in range(number)]


def with_blocks() -> tuple[dict[str, bytes], dict[str, bytes], Environment]:
    """Return two storages whose logs differ, the first in blocks and two newer segments."""
    one, other, environment = dict[str, bytes](), dict[str, bytes](), virtual_environment()
    kvsync.sync(one, other, puts(60), environment=environment)
    kvsync.commit(one, puts(5), environment=environment)
    kvsync.commit(one, [Delete("k050")], environment=environment)
    kvsync.commit(other, puts(7), environment=environment)
    return one, other, environment


def each_moment(
    look: Callable[[Storage, Storage, Environment], Any],
    meanwhile: Callable[[dict[str, bytes], dict[str, bytes], Environment], Any],
) -> int:
    """Let something happen before the first operation of `look`, the second and so on; return how often it fails."""
    failures = 0
    for at in count(1):
        world, happened = with_blocks(), list[int]()
        happen = partial(_happen, at, happened, partial(meanwhile, *world))
        one, other, environment = world
        sides = [FaultyStorage(MappingStorage(data), Fault(before=happen)) for data in (one, other)]
        sides[1].fault = sides[0].fault
        try:
            look(sides[0], sides[1], environment)
        except kvsync.LockLostError:
            failures += 1
        if not happened:
            assert at > 1
            return failures
        kvsync.sync(one, other, environment=environment, wait_seconds=200)
        assert one["new"] == other["new"] == b"1"
        assert kvsync.verify(one, other).intact
    raise AssertionError


def _happen(at: int, happened: list[int], meanwhile: Callable[[], Any], number: int) -> None:
    if number == at and not happened:
        happened.append(at)
        meanwhile()


def change_all(one: dict[str, bytes], other: dict[str, bytes], environment: Environment) -> None:
    kvsync.sync(one, other, [Put("new", b"1"), *puts(30)], environment=environment, wait_seconds=200)
    for data in (one, other):
        kvsync.compact(data, environment=environment, wait_seconds=200)


def take_over(one: dict[str, bytes], other: dict[str, bytes], environment: Environment) -> None:
    for data in (one, other):
        kvsync.unlock(data, force=True, environment=environment)
    change_all(one, other, environment)


@pytest.mark.parametrize("look", LOOKS)
def test_a_log_that_another_run_changes_meanwhile_is_not_damaged(look: str) -> None:
    assert each_moment(LOOKS[look], change_all) == 0


@pytest.mark.parametrize("run", RUNS)
def test_a_run_whose_lease_was_taken_away_says_so_and_tells_of_no_damage(run: str) -> None:
    assert each_moment(RUNS[run], take_over) > 0


def delete_most(one: dict[str, bytes], other: dict[str, bytes], environment: Environment) -> None:
    deletes = [Delete(key) for key in other if key.startswith("k")]
    kvsync.sync(one, other, [Put("new", b"1"), *deletes], environment=environment, wait_seconds=200)


def test_what_another_run_deletes_meanwhile_is_no_loss_to_a_plan() -> None:
    assert each_moment(_plan_with_budget, delete_most) == 0


def test_what_another_run_deletes_meanwhile_is_no_loss_to_a_run_whose_lease_it_took() -> None:
    def unlock_and_delete(one: dict[str, bytes], other: dict[str, bytes], environment: Environment) -> None:
        for data in (one, other):
            kvsync.unlock(data, force=True, environment=environment)
        delete_most(one, other, environment)

    def scan(one: Storage, other: Storage, environment: Environment) -> None:
        kvsync.sync(one, other, scan=True, environment=environment)

    assert each_moment(scan, unlock_and_delete) > 0


def test_a_plan_within_another_run_says_that_it_is_at_work_rather_than_that_values_are_lost() -> None:
    told: list[str] = []

    def look(one: dict[str, bytes], other: dict[str, bytes], environment: Environment) -> None:
        try:
            _plan_with_budget(MappingStorage(one), MappingStorage(other), environment)
        except kvsync.LockHeldError as error:
            told.append(str(error))

    def run(one: Storage, other: Storage, environment: Environment) -> None:
        deletes = [Delete(f"k{i:03}") for i in range(60)]
        kvsync.sync(one, other, [Put("new", b"1"), *deletes], environment=environment)

    each_moment(run, look)
    assert told
    assert all("looks like a loss" in error for error in told)


def _plan_with_budget(one: Storage, other: Storage, environment: Environment) -> None:
    kvsync.plan(one, other, scan=True, environment=environment)


@pytest.mark.parametrize("look", [LOOKS["plan"], LOOKS["log"], RUNS["sync"]], ids=["plan", "log", "sync"])
def test_damage_that_stays_is_told(look: Callable[[Storage, Storage, Environment], Any]) -> None:
    one, other, environment = with_blocks()
    for name in [name for name in one if name.startswith(".kvsync/pack/")]:
        del one[name]
    kvsync.commit(other, puts(60), environment=environment)
    with pytest.raises(kvsync.IndexDamagedError, match="is missing"):
        look(MappingStorage(one), MappingStorage(other), environment)
