"""Two servers are scanned at the same time; whatever one of the scans does, the other one ends before the run does."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import kvsync
from kvsync.environment import Environment
from kvsync.errors import BudgetError, StorageError
from kvsync.storages.mapping import MappingStorage

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvsync.storages.contract import Pages

WAIT_SECONDS = 20.0
VALUES = {"a": b"1", "b": b"2", "c": b"3"}


class Server(MappingStorage):
    """A dict that counts as a server, and calls `then` before it lists anything."""

    def __init__(self, values: dict[str, bytes], then: Callable[[], object], *, distance: Any = "network") -> None:
        super().__init__(values)
        self.capabilities = replace(self.capabilities, distance=distance)
        self.then = then
        self.threads: set[threading.Thread] = set()
        self.listing = False

    def scan(self) -> Pages:
        self.threads.add(threading.current_thread())
        self.listing = True
        try:
            self.then()
            yield from super().scan()
        finally:
            self.listing = False


def test_two_servers_are_scanned_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=WAIT_SECONDS)  # broken unless both list before either is done
    one, other = Server(dict(VALUES), both.wait), Server({"d": b"4"}, both.wait)
    result = kvsync.sync(one, other, scan=True)
    assert (result.pushed, result.pulled) == (3, 1)
    assert kvsync.verify(MappingStorage(one.mapping), MappingStorage(other.mapping)).equal
    assert len(one.threads | other.threads) == 2


def test_what_does_not_wait_takes_no_thread() -> None:
    sides = [Server(dict(VALUES), int, distance=distance) for distance in ("network", "memory")]
    kvsync.sync(sides[0], sides[1], scan=True)
    assert set().union(*(side.threads for side in sides)) == {threading.main_thread()}


def fails() -> None:
    message = "the server is gone"
    raise StorageError(message)


class Endless(Server):
    """A server that lists page after page until it is told to stop."""

    def scan(self) -> Pages:
        yield from super().scan()
        self.listing = True
        try:
            for number in range(10_000_000):
                yield [f"x{number:08d}"], [b""]
        finally:
            self.listing = False


@pytest.mark.parametrize("is_source", [True, False])
def test_a_scan_that_fails_stops_the_other_one(is_source: bool) -> None:
    endless = Endless(dict(VALUES), int)
    sides: list[Server] = [Server(dict(VALUES), fails), endless]
    with pytest.raises(StorageError, match="the server is gone"):
        kvsync.sync(sides[not is_source], sides[is_source], scan=True)
    assert not endless.listing
    assert not any(thread.name == "kvsync-scan" for thread in threading.enumerate())
    # Both leases were released.
    kvsync.sync(MappingStorage(sides[0].mapping), MappingStorage(endless.mapping), scan=True, wait_seconds=0)


@pytest.mark.parametrize("is_source", [True, False])
def test_a_budget_of_either_side_stops_the_run(is_source: bool) -> None:
    sides = [Server(dict(VALUES), int), Server(dict(VALUES), int)]
    kvsync.sync(sides[0], sides[1], scan=True)
    emptied = sides[0 if is_source else 1]
    for key in VALUES:
        del emptied.mapping[key]
    with pytest.raises(BudgetError):
        kvsync.sync(sides[0], sides[1], scan=True)
    assert {key for key in sides[1 if is_source else 0].mapping if not key.startswith(".kvsync")} == set(VALUES)


def test_leases_are_kept_while_the_other_side_is_scanned() -> None:
    """The one that is done first is kept by the thread of the other; nobody else may take it meanwhile."""
    clock = [1_700_000_000.0]
    started, over = threading.Event(), threading.Event()

    class Slow(Server):
        def scan(self) -> Pages:
            started.wait(WAIT_SECONDS)
            for _ in range(30):
                clock[0] += 10
                yield [], []
            yield from super().scan()
            over.set()

    one, other = Slow(dict(VALUES), int), Server(dict(VALUES), started.set)
    environment = Environment(clock=lambda: clock[0], monotonic=lambda: clock[0])
    kvsync.sync(one, other, scan=True, lease_seconds=60, environment=environment)
    assert over.is_set()


@pytest.mark.parametrize("distance", ["network", "memory"])
@pytest.mark.parametrize("is_source", [True, False])
def test_a_run_is_cancelled_between_the_pages_of_a_scan(is_source: bool, distance: Any) -> None:
    cancel = threading.Event()
    endless = Endless(dict(VALUES), cancel.set, distance=distance)
    sides: list[Server] = [Server(dict(VALUES), int, distance=distance), endless]
    with pytest.raises(kvsync.CancelledError):
        kvsync.sync(sides[not is_source], sides[is_source], scan=True, cancel=cancel)
    assert not endless.listing
    assert not any(thread.name == "kvsync-scan" for thread in threading.enumerate())
    # Both leases were released.
    kvsync.sync(MappingStorage(sides[0].mapping), MappingStorage(endless.mapping), scan=True, wait_seconds=0)
