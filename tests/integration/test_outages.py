"""A storage goes away in the middle of a run, and comes back: the next run of the process has nothing to wait for."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

import kvsync
from kvsync import Delete, Put, StorageError
from kvsync.storages.mapping import MappingStorage
from kvsync.testing import Fault, FaultyStorage, virtual_environment

if TYPE_CHECKING:
    from kvsync.environment import Environment


class Outage:
    """Both storages fail from one operation on, until `at` is moved out of reach."""

    def __init__(self, at: int) -> None:
        self.at: float = at

    def check(self, number: int) -> None:
        if number >= self.at:
            message = "the server is away"
            raise StorageError(message)


def edited(environment: Environment) -> tuple[dict[str, bytes], dict[str, bytes]]:
    one, other = dict[str, bytes](), dict[str, bytes]()
    kvsync.sync(one, other, [Put("old", b"1"), Put("both", b"1"), Put("gone", b"1")], environment=environment)
    one |= {"both": b"22", "new": b"1"}
    other["both"] = b"333"
    kvsync.commit(other, [Delete("gone")], environment=environment)
    return one, other


@pytest.mark.parametrize("away", ["source", "target", "both"])
def test_an_outage_at_any_moment_locks_nobody_of_this_process_out(away: str) -> None:
    for at in count(1):
        environment = virtual_environment()
        one, other = edited(environment)
        outage = Outage(at)
        sides = [
            FaultyStorage(MappingStorage(data), Fault(before=outage.check if away in {side, "both"} else None))
            for side, data in (("source", one), ("target", other))
        ]
        if away == "both":
            sides[1].fault = sides[0].fault
        try:
            kvsync.sync(sides[0], sides[1], scan=True, environment=environment)
        except StorageError:
            started = environment.clock()
            outage.at = float("inf")
            kvsync.sync(sides[0], sides[1], scan=True, wait_seconds=0, environment=environment)
            assert environment.clock() == started
        else:
            assert at > 10
            break
        assert values(one) == values(other)
        assert kvsync.verify(one, other).intact


def values(data: dict[str, bytes]) -> dict[str, bytes]:
    return {key: value for key, value in data.items() if not key.startswith(".kvsync/")}
