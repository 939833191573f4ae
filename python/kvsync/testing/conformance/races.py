"""Races: of several writers that expect the same version, exactly one succeeds.

In most of them every success adds one to a counter, which is the contested object or value itself. So a counter that is
less than the number of successes shows an update that was lost.
"""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

from kvsync.testing.conformance.racing import (
    COUNTER,
    START_SECONDS,
    THREADS,
    create_in_turns,
    create_object,
    create_value,
    object_of_turn,
    pass_object_on,
    race_in_turns,
    race_processes,
    race_threads,
    racing_processes,
    replace_object,
    replace_value,
    sendable,
    suspended_often,
)
from kvsync.testing.conformance.tools import HOUR_MS, SOON_MS, expiring_of, now_ms, wait_until_gone
from kvsync.types import ABSENT, ANY

if TYPE_CHECKING:
    from kvsync.storages.contract import Storage
    from kvsync.testing.conformance.racing import Reopen

__all__ = [
    "DeleteRaceTests",
    "ExpiryRaceTests",
    "ObjectRaceTests",
    "ProcessRaceTests",
    "ProcessValueRaceTests",
    "ValueRaceTests",
]


class ObjectRaceTests:
    """Index objects change by compare-and-swap, whoever else is writing."""

    def test_threads_that_replace_an_object_lose_no_update(self, storage: Storage, handles: list[Storage]) -> None:
        storage.store("manifest", b"0", ABSENT)
        succeeded = race_threads(handles, replace_object)
        stored = storage.load("manifest")
        assert stored is not None
        assert int(stored.data) == succeeded > 0

    def test_threads_that_share_a_handle_lose_no_update(self, storage: Storage) -> None:
        storage.store("manifest", b"0", ABSENT)
        succeeded = race_threads([storage] * THREADS, replace_object)
        stored = storage.load("manifest")
        assert stored is not None
        assert int(stored.data) == succeeded > 0

    def test_of_many_threads_one_creates_an_object(self, storage: Storage, handles: list[Storage]) -> None:
        for turn, won in race_in_turns(handles, create_object):
            assert len(won) == 1
            stored = storage.load(object_of_turn(turn))
            assert stored is not None
            assert stored.data == b"%d" % won[0]


class DeleteRaceTests:
    """An index object is removed on condition, whoever else is removing it."""

    def test_of_many_threads_one_removes_an_object(self, storage: Storage, handles: list[Storage]) -> None:
        storage.store("lease", b"0", ABSENT)
        succeeded = race_threads(handles, pass_object_on)
        stored = storage.load("lease")
        assert stored is not None
        assert int(stored.data) == succeeded > 0


class ValueRaceTests:
    """Values are written on condition, whoever else is writing."""

    def test_threads_that_replace_a_value_lose_no_update(self, storage: Storage, handles: list[Storage]) -> None:
        storage.write([COUNTER], [b"0"])
        succeeded = race_threads(handles, replace_value)
        assert storage.read([COUNTER]) == [b"%d" % succeeded]
        assert succeeded > 0

    def test_of_many_threads_one_creates_a_value(self, storage: Storage, handles: list[Storage]) -> None:
        for turn, won in race_in_turns(handles, create_value):
            assert len(won) == 1
            assert storage.read([f"new {turn}"]) == [b"%d" % won[0]]


class ExpiryRaceTests:
    """A value that has expired is replaced by one writer."""

    def test_of_many_threads_one_replaces_what_has_expired(self, storage: Storage, handles: list[Storage]) -> None:
        keys = [f"k{number}" for number in range(20)]
        later = now_ms() + HOUR_MS
        expiring_of(storage).write_expiring(keys, [b"old"] * 20, [now_ms() + SOON_MS] * 20)
        wait_until_gone(storage, keys)
        barrier = Barrier(len(handles))

        def race(racer: int) -> set[str]:
            barrier.wait(30)
            turned = keys[racer:] + keys[:racer]
            expires = [later + racer, 0] * 10
            mine = expiring_of(handles[racer])
            with suspended_often(racer):
                written = mine.write_expiring(turned, [b"%d" % racer] * 20, expires, [None] * 20)
            assert all(refusal.changed for refusal in written.refused)
            return set(keys) - {refusal.key for refusal in written.refused}

        with ThreadPoolExecutor(len(handles)) as pool:
            won = list(pool.map(race, range(len(handles))))
        assert sorted(key for some in won for key in some) == sorted(keys)
        winners = [racer for key in keys for racer, some in enumerate(won) if key in some]
        assert storage.read(keys) == [b"%d" % racer for racer in winners]


class ProcessRaceTests:
    """Index objects change by compare-and-swap, whichever process is writing."""

    def test_of_several_processes_one_creates_an_object_of_a_new_storage(self, reopen: Reopen) -> None:
        reopen, pools, turns = sendable(reopen), racing_processes(), 30
        start = time.time() + START_SECONDS
        racers = [pool.submit(create_in_turns, reopen, racer, start, turns) for racer, pool in enumerate(pools)]
        won = [racer.result(120) for racer in racers]
        assert [sum(column) for column in zip(*won, strict=True)] == [1] * turns
        with contextlib.closing(reopen()) as storage:
            for turn in range(turns):
                stored = storage.load(object_of_turn(turn))
                assert stored is not None
                assert won[int(stored.data)][turn]
            storage.remove(storage.objects(), ANY)

    def test_processes_that_replace_an_object_lose_no_update(self, storage: Storage, reopen: Reopen) -> None:
        storage.store("manifest", b"0", ABSENT)
        succeeded = race_processes(reopen, replace_object)
        stored = storage.load("manifest")
        assert stored is not None
        assert int(stored.data) == succeeded > 0


class ProcessValueRaceTests:
    """Values are written on condition, whichever process is writing."""

    def test_processes_that_replace_a_value_lose_no_update(self, storage: Storage, reopen: Reopen) -> None:
        storage.write([COUNTER], [b"0"])
        succeeded = race_processes(reopen, replace_value)
        assert storage.read([COUNTER]) == [b"%d" % succeeded]
        assert succeeded > 0
