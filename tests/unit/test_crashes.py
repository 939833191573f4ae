"""`crashes`: every operation fails once in every way, and a run that it cannot crash is no test."""

from __future__ import annotations

import pytest

from kvsync.errors import UsageError
from kvsync.storages.mapping import MappingStorage
from kvsync.testing import Fault, FaultyStorage, crashes, virtual_environment
from kvsync.types import ABSENT

World = dict[str, bytes]


def empty() -> World:
    return {}


def run(world: World, fault: Fault) -> None:
    storage = FaultyStorage(MappingStorage(world), fault)
    storage.write(["a", "b"], [b"1", b"2"])
    storage.store("manifest", b"M", ABSENT)


def test_every_operation_fails_in_every_way() -> None:
    left = [(fault.mode, fault.at, sorted(world)) for fault, world in crashes(empty, run)]
    after = [[], ["a"], ["a", "b"], [".kvsync/manifest", "a", "b"]]
    assert left == [
        (mode, at, after[at - (mode in {"killed", "raises"})])
        for mode in ("killed", "raises", "lost", "killed-after")
        for at in (1, 2, 3)
    ]


def test_a_run_that_passes_the_fault_by_is_no_test() -> None:
    with pytest.raises(AssertionError, match="the run makes no operation"):
        list(crashes(empty, lambda world, _: MappingStorage(world).read(["a"])))


def test_a_run_that_never_ends_is_no_test() -> None:
    def endless(world: World, fault: Fault) -> None:
        storage = FaultyStorage(MappingStorage(world), fault)
        while not fault.happened:
            storage.read(["a"])

    with pytest.raises(AssertionError, match="has not ended after 20 operations"):
        list(crashes(empty, endless, operations_max=20))


def test_an_error_of_the_run_itself_is_not_taken_for_the_fault() -> None:
    def wrong(world: World, fault: Fault) -> None:
        FaultyStorage(MappingStorage(world), fault).read(["a"])
        message = "wrong from the start"
        raise UsageError(message)

    points = crashes(empty, wrong, modes=["lost"])
    assert next(points)[0].at == 1
    with pytest.raises(UsageError):
        next(points)


def test_virtual_time_stands_still_but_for_sleep() -> None:
    environment = virtual_environment(now=10.0)
    before = environment.clock(), environment.monotonic()
    environment.sleep(2.5)
    assert (environment.clock(), environment.monotonic()) == (12.5, before[1] + 2.5)
    assert virtual_environment(seed=1).nonce() == virtual_environment(seed=1).nonce() != virtual_environment().nonce()
