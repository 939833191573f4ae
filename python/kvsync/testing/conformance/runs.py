"""Whole runs: the storage is made equal with a dict, and runs of several processes exclude each other."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import kvsync
from kvsync import Delete, Put
from kvsync.testing.conformance.racing import PROCESSES, racing_processes, sendable
from kvsync.testing.conformance.tools import listing

if TYPE_CHECKING:
    from kvsync.storages.contract import Storage
    from kvsync.testing.conformance.racing import Reopen

__all__ = ["RunRaceTests", "RunTests"]

COMMITS = 5
WAIT_SECONDS = 120


class RunTests:
    """`sync` works with the storage on either side."""

    def test_a_dict_and_the_storage_become_equal(self, storage: Storage) -> None:
        data: dict[str, bytes] = {}
        assert kvsync.sync(data, storage, changes=[Put("a", b"1"), Put("b", b""), Put("c/d", b"3")]).pushed == 3
        kvsync.commit(storage, [Put("b", b"2"), Delete("a")])
        assert kvsync.sync(storage, data).pushed == 2
        assert storage.read(["a", "b", "c/d"]) == [data.get(key) for key in ("a", "b", "c/d")] == [None, b"2", b"3"]
        result = kvsync.sync(data, storage)
        assert (result.pushed, result.pulled) == (0, 0)

    def test_a_scan_finds_what_was_written_to_the_storage(self, storage: Storage) -> None:
        data: dict[str, bytes] = {}
        storage.write(["a", "b"], [b"1", b"2"])
        assert kvsync.sync(storage, data, scan=True).pushed == 2
        storage.write(["a", "c"], [b"4", b"3"])
        assert kvsync.sync(storage, data, scan=True).pushed == 2
        assert {key: data[key] for key in listing(storage)} == {"a": b"4", "b": b"2", "c": b"3"}


def commit_often(reopen: Reopen, racer: int) -> None:
    """Commit one change after the other, each in a run of its own."""
    with contextlib.closing(reopen()) as storage:
        for number in range(COMMITS):
            kvsync.commit(storage, [Put(f"{racer}/{number}", b"%d" % number)], wait_seconds=WAIT_SECONDS)


class RunRaceTests:
    """A run holds the lease, whichever process it is in, so no change of another run is lost."""

    def test_runs_of_several_processes_lose_no_change(self, storage: Storage, reopen: Reopen) -> None:
        reopen, pools = sendable(reopen), racing_processes()
        for racer in [pool.submit(commit_often, reopen, number) for number, pool in enumerate(pools)]:
            racer.result(WAIT_SECONDS * 2)
        expected = {f"{racer}/{number}" for racer in range(PROCESSES) for number in range(COMMITS)}
        assert {change.key for change in kvsync.log(storage)} == set(listing(storage)) == expected
