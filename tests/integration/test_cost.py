"""What a run may cost, in operations and bytes of the index: a change that doubles it fails here."""

from __future__ import annotations

import random
import statistics
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from places import Clock, Hooked, make, plain
from variants import covering

import kvsync
from kvsync import Delete, Put
from kvsync.environment import Environment
from kvsync.lease import LeaseRecord, LeaseState
from kvsync.options import Options
from kvsync.replica.log import read_manifest
from kvsync.run.lock import lock
from kvsync.storages.mapping import MappingStorage
from kvsync.testing import Fault, FaultyStorage
from kvsync.types import ANY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from places import Place

ONE_WAY_MAX = 11
BOTH_WAYS_MAX = 14
COUNTS = [1, 100, 5000]
PAIRS = [("dict", "dict"), ("dict", "folder"), ("folder", "sqlite"), ("sqlite", "dict"), ("sqlite", "sqlite")]


def changes(name: str, count: int) -> list[Put]:
    return [Put(f"{name}/{i:06}", b"value %d" % i) for i in range(count)]


def cost(result: kvsync.SyncResult) -> int:
    """Count index operations of both sides."""
    return result.index_operations


def pair(folder: Path, first: str, second: str) -> tuple[Place, Place]:
    """Return two places that know each other."""
    one, two = make(first, folder, "one"), make(second, folder, "two")
    kvsync.sync(one.target, two.target, changes("base", 10))
    kvsync.sync(two.target, one.target, changes("more", 10))
    return one, two


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_nothing_to_do_is_one_load_a_side(folder: Path, first: str, second: str) -> None:
    one, two = pair(folder, first, second)
    for source, target in ((one, two), (two, one)):
        result = kvsync.sync(source.target, target.target)
        assert result.operations == {"source": Counter(load=1), "target": Counter(load=1)}
        assert result.index_operations == 2


@pytest.mark.parametrize(("first", "second", "count", "given"), covering(PAIRS, COUNTS, [True, False]))
def test_one_way(folder: Path, first: str, second: str, given: bool, count: int) -> None:
    one, two = pair(folder, first, second)
    new = changes("new", count)
    if not given:
        kvsync.commit(one.target, new)
    result = kvsync.sync(one.target, two.target, new if given else ())
    assert result.pushed == count
    # A source that logs nothing in the run still has to write down whom it gave what.
    assert cost(result) <= ONE_WAY_MAX + (not given)


@pytest.mark.parametrize(("first", "second", "count", "given"), covering(PAIRS, COUNTS, [True, False]))
def test_both_ways(folder: Path, first: str, second: str, given: bool, count: int) -> None:
    one, two = pair(folder, first, second)
    kvsync.commit(two.target, changes("theirs", count))
    new = changes("new", count)
    if not given:
        kvsync.commit(one.target, new)
    result = kvsync.sync(one.target, two.target, new if given else ())
    assert (result.pushed, result.pulled) == (count, count)
    assert cost(result) <= BOTH_WAYS_MAX
    assert one.values() == two.values()


@pytest.mark.parametrize("policy", ["latest", "source", "target", "keep-both"])
def test_conflicts_cost_no_more_for_being_many(folder: Path, policy: Any) -> None:
    """Apart from the values that are kept, one conflict costs as much as a hundred."""
    costs = []
    for count in (1, 100):
        (folder / f"{count}").mkdir()
        one, two = pair(folder / f"{count}", "dict", "folder")
        kvsync.commit(one.target, changes("new", count))
        kvsync.commit(two.target, [Put(change.key, b"otherwise") for change in changes("new", count)])
        result = kvsync.sync(one.target, two.target, conflict=policy, keep_lost=False)
        assert len(result.conflicts) == count
        costs.append(result.index_operations)
    # One more where a decision is too large to live in the manifest, or where a merge is due.
    assert abs(costs[0] - costs[1]) <= 2
    assert max(costs) <= BOTH_WAYS_MAX + 4


@pytest.mark.parametrize("count", [1, 100])
def test_a_scan_costs_two_more_a_side(folder: Path, count: int) -> None:
    """It reads the inventory and writes it, whatever it finds."""
    one, two = pair(folder, "dict", "folder")
    kvsync.sync(one.target, two.target, scan=True)
    kvsync.sync(one.target, two.target, scan=True)
    idle = kvsync.sync(one.target, two.target, scan=True)
    assert idle.index_operations <= 8 + 2
    for change in changes("new", count):
        assert change.value is not None
        one.put(change.key, change.value)
    result = kvsync.sync(one.target, two.target, scan=True)
    assert result.pushed == count
    assert result.index_operations <= ONE_WAY_MAX + 4


@cache
def long_life() -> dict[str, Any]:
    """Run a pair a thousand times with a few changes each way; return what it cost, and what is left."""
    clock = Clock()
    a: dict[str, bytes] = {}
    b: dict[str, bytes] = {}
    kvsync.sync(a, b, changes("base", 100), clock=clock)
    costs = []
    peak = 0
    for i in range(1000):
        kvsync.commit(b, [Put(f"b/{i * 7 % 500}", b"%d" % i), Delete(f"a/{i * 3 % 500}")], clock=clock)
        result = kvsync.sync(a, b, [Put(f"a/{i * 11 % 500}", b"%d" % i), Delete(f"b/{i * 5 % 500}")], clock=clock)
        costs.append(result.index_operations)
        peak = max(peak, *(len(x[".kvsync/manifest"]) for x in (a, b)))
    assert plain(a) == plain(b)
    return {"costs": costs, "peak": peak, "replicas": (a, b)}


def test_compaction_is_amortised() -> None:
    """Over a thousand runs, what compaction adds to the fixed part is less than two operations a run."""
    costs = long_life()["costs"]
    fixed = min(costs)
    assert fixed <= BOTH_WAYS_MAX
    assert sum(costs) - len(costs) * fixed < 2 * len(costs)
    assert max(costs) <= 3 * BOTH_WAYS_MAX


def test_a_long_life_leaves_a_small_index() -> None:
    life = long_life()
    assert life["peak"] < 128 << 10
    for replica in life["replicas"]:
        status = kvsync.status(replica)
        objects = [key for key in replica if key.startswith(".kvsync/")]
        assert status.segments <= 40
        assert len(objects) <= 40
        assert sum(len(replica[key]) for key in objects) < 512 << 10
        # At most a small multiple of what is alive: 1,100 keys.
        assert status.changes <= 4 * 1100


def test_a_tiny_run_of_a_long_lived_pair_writes_little() -> None:
    """Ten values of 60 bytes among many, after hundreds of runs: each side writes a manifest of some KiB."""
    chance, clock = random.Random(1), Clock()
    a: dict[str, bytes] = {}
    b: dict[str, bytes] = {}
    keys = [f"user/{i:08}/state" for i in range(5000)]
    kvsync.sync(a, b, [Put(key, chance.randbytes(60)) for key in keys], clock=clock)
    sizes = []
    for _ in range(400):
        kvsync.sync(a, b, [Put(key, chance.randbytes(60)) for key in chance.sample(keys, 10)], clock=clock)
        sizes.append(sum(len(x[".kvsync/manifest"]) for x in (a, b)))
    assert statistics.fmean(sizes[200:]) < 14 << 10
    assert max(sizes) < 18 << 10


def test_what_is_outside_of_the_manifest_stays_there() -> None:
    """Old segments lie outside, new ones inside; a merge brings none back, though few keys make it small."""
    chance, clock = random.Random(2), Clock()
    a: dict[str, bytes] = {}
    kvsync.commit(a, changes("base", 1000), clock=clock)
    most = 0
    for i in range(300):
        kvsync.commit(a, [Put(f"{chance.randrange(20)}", b"%d" % i) for _ in range(3)], clock=clock)
        found = read_manifest(MappingStorage(a))
        assert found is not None
        inline = [entry.inline is not None for entry in found.manifest.segments]
        assert inline == sorted(inline)
        most = max(most, inline.count(False))
    assert most > 1


def test_a_peer_a_little_behind_reads_little() -> None:
    """After a thousand runs, a third that missed the last ten of them does not read the whole log."""
    clock = Clock()
    a: dict[str, bytes] = {}
    b: dict[str, bytes] = {}
    c: dict[str, bytes] = {}
    kvsync.sync(a, b, changes("base", 20_000), clock=clock)
    for i in range(200):
        kvsync.sync(a, b, changes(f"run {i}", 20), clock=clock)
    kvsync.sync(a, c, clock=clock)
    for i in range(10):
        kvsync.sync(a, b, changes(f"late {i}", 20), clock=clock)
    bytes_read = Meter(a)
    kvsync.sync(bytes_read, c, clock=clock)
    assert bytes_read.loaded < 200 << 10
    assert plain(c) == plain(a)


class Meter(Hooked):
    """Counts the bytes of index objects."""

    def __init__(self, target: Any) -> None:
        super().__init__(target)
        self.loaded = self.stored = 0

    def load(self, name: str) -> Any:
        there = self.inner.load(name)
        self.loaded += len(there.data) if there is not None else 0
        return there

    def store(self, name: str, data: bytes, expect: Any) -> Any:
        self.stored += len(data)
        return self.inner.store(name, data, expect)


def of_size(size: int) -> tuple[dict[str, int], int]:
    """Return bytes and operations of a run with a hundred changes each way among so many keys."""
    clock = Clock()
    a: dict[str, bytes] = {}
    b: dict[str, bytes] = {}
    kvsync.sync(a, b, changes("base", size), clock=clock)
    kvsync.sync(b, a, changes("more", 1000), clock=clock)
    # Two more, so that neither the first merge nor its garbage falls into what is measured.
    for i in range(2):
        kvsync.sync(a, b, changes(f"again {i}", 100), clock=clock)
    kvsync.commit(b, changes("theirs", 100), clock=clock)
    one, two = Meter(a), Meter(b)
    result = kvsync.sync(one, two, changes("ours", 100), clock=clock)
    assert (result.pushed, result.pulled) == (100, 100)
    return {"loaded": one.loaded + two.loaded, "stored": one.stored + two.stored}, result.index_operations


def test_cost_does_not_grow_with_the_storage() -> None:
    """A hundred changes among a thousand keys, and among a hundred thousand: the same operations, the same bytes."""
    small, few = of_size(1000)
    large, many = of_size(100_000)
    assert few == many
    for name in small:
        assert large[name] < 1.3 * small[name]


@pytest.mark.parametrize("count", [1, 5000])
def test_values_are_read_and_written_in_batches(folder: Path, count: int) -> None:
    one, two = pair(folder, "dict", "dict")
    result = kvsync.sync(one.target, two.target, changes("new", count))
    assert result.operations["target"]["write"] <= 2
    assert result.operations["source"]["read"] <= 2


def test_equal_values_are_not_copied() -> None:
    """Two storages hold the same hundred thousand values already: they are logged on both sides, and none is
    written."""
    a = {f"k{i}": b"%d" % i for i in range(20_000)}
    b = dict(a)
    result = kvsync.sync(a, b, scan=True)
    assert (result.pushed, result.pulled) == (0, 0)
    for operations in result.operations.values():
        assert operations["write"] == operations["delete"] == 0


def test_a_run_costs_the_same_the_hundredth_time() -> None:
    """The fixed part does not creep: the cheapest of the last runs is as cheap as the cheapest of the first."""
    costs = long_life()["costs"]
    cheapest: Callable[[list[int]], int] = min
    assert cheapest(costs[-100:]) <= cheapest(costs[:100]) + 1


def marking(values: dict[str, bytes]) -> MappingStorage:
    """Return a storage that marks its lease as released, as those do that remove nothing on condition.

    Like a bucket, it only claims to keep conditions.
    """
    storage = MappingStorage(values)
    storage.capabilities = replace(storage.capabilities, lease_stays=True, conditions="claimed")
    return storage


REQUESTS_MAX = 10
"""Requests of a run beyond the values themselves, both sides together; the tries of a first contact apart."""
TRIES = 3
"""What a first run tries of the conditions of a storage that only claims to keep them."""


def test_a_first_run_costs_five_a_side() -> None:
    """The manifest read, the lease made and tried three times, the index listed; an intent and a manifest."""
    values: list[dict[str, bytes]] = [{}, {}]
    one, two = map(marking, values)
    result = kvsync.sync(one, two, changes("first", 3))
    for counts in result.operations.values():
        index = {name: counts[name] for name in ("load", "store", "objects", "remove")}
        assert index == {"load": 1, "store": 3 + TRIES, "objects": 1, "remove": 0}
    assert cost(result) == REQUESTS_MAX + 2 * TRIES
    assert plain(values[0]) == plain(values[1])


@pytest.mark.parametrize("new", [0, 1], ids=["source", "target"])
def test_one_new_storage_and_one_that_is_not(new: int) -> None:
    values: list[dict[str, bytes]] = [{}, {}, {}]
    kvsync.sync(*opened(values[1:]), changes("first", 3))
    pair = [values[1], values[1]]
    pair[new] = values[0]
    result = kvsync.sync(*opened(pair), changes("more", 3))
    assert (result.pushed, result.pulled) == ((3, 3) if new == 0 else (6, 0))
    assert plain(values[0]) == plain(values[1]) != {}
    assert [counts["load"] for counts in result.operations.values()] == [1, 1]


def test_an_interrupted_first_run_is_recovered() -> None:
    """Its lease is there, and says so; there is no manifest yet."""
    values: list[dict[str, bytes]] = [{}, {}]
    fault = Fault(at=9)
    one = FaultyStorage(marking(values[0]), fault)
    with suppress(kvsync.StorageError):
        kvsync.sync(one, marking(values[1]), changes("first", 3))
    assert fault.happened
    assert "manifest" not in {name.removeprefix(".kvsync/") for name in values[0]}
    assert kvsync.sync(*opened(values), changes("again", 3)).missing == []
    assert plain(values[0]) == plain(values[1])
    assert {key for key in values[0] if key.startswith("again")}


def test_a_first_scan_asks_for_no_inventory() -> None:
    """The listing of the index says that there is none."""
    values: list[dict[str, bytes]] = [{"a": b"1"}, {"b": b"2"}]
    one, two = map(marking, values)
    result = kvsync.sync(one, two, scan=True)
    assert (result.pushed, result.pulled) == (1, 1)
    assert [counts["load"] for counts in result.operations.values()] == [1, 1]
    assert plain(values[0]) == plain(values[1])


@pytest.mark.parametrize("gone", [("lease",), ("lease", "manifest")], ids="+".join)
def test_a_storage_that_has_lost_its_lease_is_not_taken_for_a_new_one(gone: tuple[str, ...]) -> None:
    values: list[dict[str, bytes]] = [{}, {}]
    kvsync.sync(*opened(values), changes("first", 3))
    kvsync.sync(*opened(values), changes("more", 2000))
    for name in gone:
        del values[1][f".kvsync/{name}"]
    if "manifest" in gone:
        with pytest.raises(kvsync.IndexDamagedError, match="the log that it listed is there"):
            kvsync.sync(*opened(values), changes("again", 1))
        return
    assert kvsync.sync(*opened(values), changes("again", 1)).pushed == 1
    assert plain(values[0]) == plain(values[1])


def opened(values: list[dict[str, bytes]]) -> tuple[MappingStorage, MappingStorage]:
    """Return two storages as another process would open them."""
    return marking(values[0]), marking(values[1])


KINDS: dict[str, tuple[int, int, int, int]] = {
    "given": (0, 0, 1, 8),
    "stored, one way": (1, 0, 0, 7),
    "stored on the target": (0, 1, 0, 7),
    "stored on both": (1, 1, 0, 8),
    "given, and stored on the source": (1, 0, 1, 9),
    "given, and stored on the target": (0, 1, 1, 10),
}
"""Changes committed to the source before, to the target before, and given; and what the run costs then."""


@pytest.mark.parametrize("process", ["one", "turns", "cold"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_run_costs_at_most_ten(kind: str, process: str) -> None:
    """Whether this process was the last one there, another was, or it has never been there: the same."""
    at_source, at_target, given, expected = KINDS[kind]
    values: list[dict[str, bytes]] = [{}, {}]
    processes = [opened(values), opened(values)]
    kvsync.sync(*opened(values), changes("first", 1))
    for i in range(6):
        ours = {"one": processes[0], "turns": processes[i % 2], "cold": opened(values)}[process]
        for number, stored in enumerate((at_source, at_target)):
            if stored:
                kvsync.commit(opened(values)[number], changes(f"stored {number} {i}", 3))
        result = kvsync.sync(*ours, changes(f"given {i}", 3 * given))
        assert result.pushed == 3 * (at_source + given)
        assert result.pulled == 3 * at_target
        assert cost(result) == expected <= REQUESTS_MAX
        assert kvsync.sync(*ours).operations == {"source": Counter(load=1), "target": Counter(load=1)}
    assert plain(values[0]) == plain(values[1])


def test_a_first_run_with_a_storage_that_has_a_log() -> None:
    values: list[dict[str, bytes]] = [{}, {}]
    kvsync.commit(opened(values)[0], changes("before", 3))
    result = kvsync.sync(*opened(values))
    assert result.pushed == 3
    assert cost(result) == 8 + TRIES <= REQUESTS_MAX + TRIES


def test_a_lease_that_was_released_by_itself_is_looked_at() -> None:
    """The manifest names no lease then, or one of before: lease and manifest are read once more, on that side."""
    values: list[dict[str, bytes]] = [{}, {}]
    kvsync.sync(*opened(values), changes("first", 1))
    assert unlocked_by_hand(values[0])
    result = kvsync.sync(*opened(values), changes("more", 1))
    assert [counts["load"] for counts in result.operations.values()] == [4, 1]
    assert cost(result) == 8 + 4
    assert cost(kvsync.sync(*opened(values), changes("again", 1))) == 8


def unlocked_by_hand(values: dict[str, bytes], state: LeaseState = LeaseState.RELEASED) -> bool:
    """Leave a lease as a holder does that could not release it by its manifest."""
    storage = marking(values)
    record = LeaseRecord(state, bytes(16), "by hand", 0, 0, 0)
    return bool(storage.store("lease", record.encode(), ANY))


def test_what_another_process_has_done_already_is_found_done() -> None:
    values: list[dict[str, bytes]] = [{}, {}]
    one, two = map(marking, values)
    kvsync.sync(one, two, changes("first", 1))
    kvsync.commit(one, changes("ours", 3))
    assert kvsync.sync(*opened(values)).pushed == 3
    before = [dict(data) for data in values]
    result = kvsync.sync(one, two)
    assert (result.pushed, result.pulled, result.committed) == (0, 0, (0, 0))
    assert values == before
    assert result.operations == {"source": Counter(load=1), "target": Counter(load=1)}


def test_a_run_that_waits_finds_done_what_the_other_has_done() -> None:
    """It looks again after each wait; with nothing left to be done it never acquires a lease."""
    values: list[dict[str, bytes]] = [{}, {}]
    kvsync.sync(*opened(values), changes("first", 1))
    kvsync.commit(marking(values[0]), changes("ours", 3))
    source, target = opened(values)

    def another_process() -> Iterator[None]:
        with lock((marking(values[1]),), Options(), Environment()):
            yield
        assert kvsync.sync(*opened(values)).pushed == 3

    other = another_process()
    next(other)
    result = kvsync.sync(source, target, environment=Environment(sleep=lambda _seconds: next(other, None)))
    assert (result.pushed, result.pulled) == (0, 0)
    assert plain(values[0]) == plain(values[1])


def test_a_source_that_holds_changes_ahead_of_its_vector_is_read_under_its_lease() -> None:
    """The delta begins where the vector ends, though both know what is ahead: large segments are loaded for it."""
    values: list[dict[str, bytes]] = [{}, {}]
    third: dict[str, bytes] = {}
    kvsync.sync(*opened(values), changes("first", 3))
    kvsync.commit(marking(third), changes("theirs", 600))

    class Dying(Hooked):
        def store(self, name: str, data: bytes, expect: Any) -> Any:
            if name == "manifest":
                raise KeyboardInterrupt
            return self.inner.store(name, data, expect)

    with pytest.raises(KeyboardInterrupt):
        kvsync.sync(marking(third), Dying(marking(values[0])))
    kvsync.sync(*opened(values), changes("again", 1))
    ahead = [read_manifest(storage) for storage in opened(values)]
    assert all(found is not None and found.manifest.cover.exceptions for found in ahead)

    class Compacting(Hooked):
        """Another process that compacts as soon as it is let."""

        def store(self, name: str, data: bytes, expect: Any) -> Any:
            version = self.inner.store(name, data, expect)
            if name == "manifest":
                with suppress(kvsync.LockHeldError):
                    kvsync.compact(marking(values[0]), wait_seconds=0)
            return version

    source, target = opened(values)
    assert kvsync.sync(Compacting(source), target, changes("more", 1)).pushed == 1
    assert plain(values[0]) == plain(values[1])


def test_what_stopped_a_run_is_told_though_the_other_side_cannot_be_finalised() -> None:
    """What was pushed is finalised on the way out; where that fails as well, an interrupt is still an interrupt."""
    values: list[dict[str, bytes]] = [{}, {}]
    kvsync.sync(*opened(values), changes("first", 1))
    for storage, name in zip(opened(values), ("ours", "theirs"), strict=True):
        kvsync.commit(storage, changes(name, 1))

    class Down(Hooked):
        def store(self, name: str, data: bytes, expect: Any) -> Any:
            if name == "manifest":
                raise kvsync.StorageError("down")
            return self.inner.store(name, data, expect)

    def interrupt(progress: kvsync.Progress) -> None:
        if progress.step == "pull":
            raise KeyboardInterrupt

    source, target = opened(values)
    with pytest.raises(KeyboardInterrupt):
        kvsync.sync(source, Down(target), on_progress=interrupt)
    kvsync.sync(*opened(values))
    assert plain(values[0]) == plain(values[1])


def test_a_manifest_that_was_written_between_look_and_lease_is_read_again() -> None:
    values: list[dict[str, bytes]] = [{}, {}]
    kvsync.sync(*opened(values), changes("first", 1))
    kvsync.commit(marking(values[0]), [Put("a", b"ours")])

    class Overtaken(Hooked):
        def store(self, name: str, data: bytes, expect: Any) -> Any:
            if name == "lease" and b"theirs" not in values[1].values():
                kvsync.commit(marking(values[1]), [Put("b", b"theirs")])
            return self.inner.store(name, data, expect)

    result = kvsync.sync(marking(values[0]), Overtaken(marking(values[1])))
    assert (result.pushed, result.pulled) == (1, 1)
    # The manifest, the lease that it names no more, once refused and once looked at, and the manifest twice again.
    assert [counts["load"] for counts in result.operations.values()] == [1, 5]
    assert plain(values[0]) == plain(values[1]) == {"first/000000": b"value 0", "a": b"ours", "b": b"theirs"}


def test_where_conditions_do_not_hold_no_lease_is_believed() -> None:
    """Another may have had it between look and lease, and the storage would not tell."""
    values: list[dict[str, bytes]] = [{}, {}]
    one, two = map(advisory, values)
    kvsync.sync(one, two, changes("first", 1))
    kvsync.commit(one, changes("ours", 1))
    result = kvsync.sync(one, two)
    assert result.pushed == 1
    assert [counts["load"] for counts in result.operations.values()] == [3, 3]


def advisory(values: dict[str, bytes]) -> MappingStorage:
    """Return a storage whose user says that nobody else writes to it."""
    storage = marking(values)
    storage.capabilities = replace(storage.capabilities, conditions="advisory")
    return storage


@pytest.mark.parametrize("interrupted", [False, True])
def test_what_a_run_that_failed_left_is_looked_at(*, interrupted: bool) -> None:
    """Its lease does not say what it left, so that nothing is believed of it."""
    values: list[dict[str, bytes]] = [{}, {}]
    kvsync.sync(*opened(values), changes("first", 1))
    for storage in opened(values):
        kvsync.commit(storage, [Put("a", b"%d" % id(storage))])
    with pytest.raises(kvsync.ConflictError):
        kvsync.sync(*opened(values), conflict="fail")
    if interrupted:
        assert all(unlocked_by_hand(each, LeaseState.INTERRUPTED) for each in values)
    result = kvsync.sync(*opened(values))
    # The manifest, the lease, refused and looked at, the manifest again, and the intent that might be there.
    count = 5 if interrupted else 4
    assert [counts["load"] for counts in result.operations.values()] == [count, count]
    assert plain(values[0]) == plain(values[1])


def test_a_manifest_that_is_gone_is_not_taken_for_a_new_storage() -> None:
    """Its lease names a holder that nothing says has finished, so it counts as held for its life."""
    values: list[dict[str, bytes]] = [{}, {}]
    clock = Clock()
    kvsync.sync(*opened(values), changes("first", 2000), clock=clock)
    kvsync.sync(*opened(values), changes("second", 2000), clock=clock)
    del values[1][".kvsync/manifest"]
    with pytest.raises(kvsync.LockHeldError):
        kvsync.sync(*opened(values), changes("more", 1), clock=clock, wait_seconds=0)
    clock.now += 100
    with pytest.raises(kvsync.IndexDamagedError, match="the log that it listed is there"):
        kvsync.sync(*opened(values), changes("more", 1), clock=clock)


def test_a_manifest_that_is_replaced_during_a_run_is_not_written_over() -> None:
    values: list[dict[str, bytes]] = [{}, {}]
    kvsync.sync(*opened(values), changes("first", 1))

    class Replaced(Hooked):
        def write(self, keys: Any, written: Any, expect: Any = None) -> Any:
            values[1][".kvsync/manifest"] = values[0][".kvsync/manifest"]
            return self.inner.write(keys, written, expect)

    source, target = opened(values)
    with pytest.raises(kvsync.LockLostError):
        kvsync.sync(source, Replaced(target), changes("more", 1))
    assert values[1][".kvsync/manifest"] == values[0][".kvsync/manifest"]
