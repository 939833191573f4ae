"""What a process remembers: manifests that are not decoded twice, found by their bytes; segments not read twice."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

import kvsync
from kvsync import Put
from kvsync.errors import IndexDamagedError
from kvsync.index.manifest import Manifest, SegmentEntry
from kvsync.native import Segment
from kvsync.replica.session import ENTRY_BYTES_MAX, OVERHEAD_BYTES, Session, session
from kvsync.storages.mapping import MappingStorage
from kvsync.testing import CountingStorage


def manifest(number: int = 1) -> Manifest:
    return Manifest.fresh(number)


def size_of(data: bytes) -> int:
    """Return what a manifest of these bytes counts for."""
    return 2 * len(data) + OVERHEAD_BYTES


def test_a_manifest_is_found_by_equal_bytes() -> None:
    known = Session()
    known.keep_manifest(b"one", manifest())
    assert known.manifest(bytes(bytearray(b"one"))) == manifest()
    assert known.manifest(b"two") is None
    known.clear()
    assert known.manifest(b"one") is None


def test_equal_envelopes_are_not_enough() -> None:
    known = Session()
    known.keep_manifest(b"e" * 24 + b"one", manifest())
    assert known.manifest(b"e" * 24 + b"two") is None


def test_the_least_recently_used_go_first() -> None:
    known = Session(3 * size_of(b"1"))
    for number in (b"1", b"2", b"3"):
        known.keep_manifest(number, manifest())
    assert known.manifest(b"1") is not None
    known.keep_manifest(b"4", manifest())
    assert [known.manifest(number) is None for number in (b"1", b"2", b"3", b"4")] == [False, True, False, False]


def test_the_bound_is_in_bytes() -> None:
    known = Session(10 * size_of(b"12"))
    for number in range(1000):
        known.keep_manifest(b"%d" % number, manifest())
    kept = sum(known.manifest(b"%d" % number) is not None for number in range(1000))
    assert 5 < kept <= 11


def test_what_is_kept_again_counts_once() -> None:
    known = Session(2 * size_of(b"1"))
    for _ in range(10):
        known.keep_manifest(b"1", manifest())
    known.keep_manifest(b"2", manifest())
    assert known.manifest(b"1") is not None


def test_a_manifest_that_was_replaced_is_not_kept() -> None:
    known = Session(2 * size_of(b"1"))
    known.keep_manifest(b"1", manifest())
    known.keep_manifest(b"2", manifest(), instead_of=b"1")
    known.keep_manifest(b"3", manifest())
    assert [known.manifest(data) is not None for data in (b"1", b"2", b"3")] == [False, True, True]


def test_runs_leave_one_manifest_a_side() -> None:
    session.clear()
    a: dict[str, bytes] = {}
    b: dict[str, bytes] = {}
    past = []
    for turn in range(5):
        kvsync.sync(a, b, changes=[Put("k", b"%d" % turn)])
        past += [side[".kvsync/manifest"] for side in (a, b)]
    assert [session.manifest(data) is not None for data in past] == [False] * 8 + [True] * 2


def test_large_ones_are_not_kept() -> None:
    known = Session()
    largest = bytes((ENTRY_BYTES_MAX - OVERHEAD_BYTES) // 2)
    known.keep_manifest(largest, manifest())
    known.keep_manifest(largest + b"x", manifest())
    assert known.manifest(largest) is not None
    assert known.manifest(largest + b"x") is None


def test_many_threads_keep_at_once() -> None:
    known = Session(4 * size_of(b"1 of 1"))

    def work(thread: int) -> None:
        for number in range(500):
            known.keep_manifest(b"%d of %d" % (number % 7, thread), manifest())
            known.manifest(b"1 of 1")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_what_a_run_wrote_is_what_a_reader_decodes() -> None:
    a: dict[str, bytes] = {}
    b: dict[str, bytes] = {}
    for turn in range(40):
        kvsync.sync(a, b, changes=[Put(f"k{turn % 7}", b"%d" % turn)])
        for side in (a, b):
            data = side[".kvsync/manifest"]
            assert session.manifest(data) == Manifest.decode(data, "here")


def test_a_damaged_byte_is_seen_although_the_manifest_was_known() -> None:
    a: dict[str, bytes] = {}
    b: dict[str, bytes] = {}
    kvsync.sync(a, b, changes=[Put("k", b"1")])
    kvsync.sync(a, b)
    data = bytearray(a[".kvsync/manifest"])
    data[40] ^= 1
    a[".kvsync/manifest"] = bytes(data)
    with pytest.raises(IndexDamagedError):
        kvsync.sync(a, b)


def entry(number: int = 1, size: int = 100) -> SegmentEntry:
    return SegmentEntry(f"segment/{number}", (), 0, (), 0, size, 7, None)


EMPTY = Segment.from_rows([])


def test_a_segment_is_known_by_storage_name_size_and_checksum() -> None:
    known, storage = Session(), MappingStorage({})
    known.keep_segment(storage, entry(), EMPTY)
    assert known.segment(CountingStorage(storage), entry()) is EMPTY
    assert known.segment(MappingStorage({}), entry()) is None
    assert known.segment(storage, entry(2)) is None
    assert known.segment(storage, entry()._replace(size=99)) is None
    assert known.segment(storage, entry()._replace(checksum=8)) is None


def test_an_inline_segment_is_known_by_its_bytes_in_any_storage() -> None:
    known = Session()
    data = EMPTY.encode("segment/1")
    inline = entry()._replace(inline=data)
    known.keep_segment(MappingStorage({}), inline, EMPTY)
    assert known.segment(MappingStorage({}), inline) is EMPTY
    assert known.segment(MappingStorage({}), inline._replace(inline=data[:-1] + b"?")) is None
    assert known.manifest(data) is None


def test_segments_that_are_large_in_memory_are_not_kept() -> None:
    known, storage = Session(), MappingStorage({})
    large = Segment.from_values([f"{'x' * 2000}{number:09d}" for number in range(2000)], [b""] * 2000, 1, 1)
    stored = large.encode("segment/1", compress=True)
    assert len(stored) < ENTRY_BYTES_MAX < large.nbytes
    for segment in (large, Segment.decode(stored, "segment/1")):
        known.keep_segment(storage, entry(1, len(stored)), segment)
        assert known.segment(storage, entry(1, len(stored))) is None


def test_a_child_of_a_fork_waits_for_no_thread_of_its_parent() -> None:
    with session._lock:
        child = os.fork()
        if not child:
            a: dict[str, bytes] = {}
            try:
                signal.alarm(20)
                kvsync.sync(MappingStorage(a), {}, changes=[Put("k", b"1")])
                os._exit(0 if a["k"] == b"1" else 1)
            finally:
                os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def test_another_storage_in_the_same_place_knows_nothing_of_the_one_before() -> None:
    """A number is given to each storage object, since its address is used again."""
    known, addresses = Session(), set()
    for _ in range(50):
        storage = MappingStorage({})
        addresses.add(id(storage))
        assert known.segment(storage, entry()) is None
        known.keep_segment(storage, entry(), EMPTY)
        assert known.segment(storage, entry()) is EMPTY
        del storage
    assert len(addresses) < 50


def test_what_cannot_be_referred_to_weakly_is_read_each_time() -> None:
    known = Session()
    known.keep_segment(1, entry(), EMPTY)  # type: ignore[arg-type]
    assert known.segment(1, entry()) is None  # type: ignore[arg-type]


LARGE = [Put(f"key/{number:05d}", b"%d" % number) for number in range(1000)]


def pair_with_a_large_segment() -> tuple[dict[str, bytes], CountingStorage, dict[str, bytes]]:
    """Return the values of a storage that has a segment of its own object, not merged with others; and another."""
    held: dict[str, bytes] = {}
    storage, other = CountingStorage(MappingStorage(held)), dict[str, bytes]()
    kvsync.sync(storage, other, changes=LARGE[:1])
    kvsync.commit(storage, LARGE)
    assert any(name.startswith(".kvsync/segment/") for name in held)
    return held, storage, other


def test_a_run_reads_no_segment_that_this_process_wrote() -> None:
    held, storage, other = pair_with_a_large_segment()
    storage.reset()
    assert kvsync.sync(storage, other).pushed == len(LARGE)
    known = storage.operations["load"]
    held, storage, other = pair_with_a_large_segment()
    again = CountingStorage(MappingStorage(held))  # as another process would
    assert kvsync.sync(again, other).pushed == len(LARGE)
    assert again.operations["load"] == known + 1
    assert kvsync.verify(again, other).equal


def test_a_segment_that_was_replaced_is_not_taken_for_the_known_one() -> None:
    held, storage, other = pair_with_a_large_segment()
    backup = dict(held)
    kvsync.commit(storage, [Put(put.key, b"later") for put in LARGE])
    held.clear()
    held.update(backup)
    kvsync.commit(storage, [Put(put.key, b"else") for put in LARGE])
    kvsync.sync(storage, other)
    assert {other[put.key] for put in LARGE} == {b"else"}
    assert kvsync.verify(storage, other).equal


def test_who_asks_what_is_there_sees_damage_although_the_segment_is_known() -> None:
    held, storage, other = pair_with_a_large_segment()
    for name in [name for name in held if name.startswith(".kvsync/segment/")]:
        held[name] = held[name][:-1]
    with pytest.raises(IndexDamagedError):
        list(kvsync.log(storage))
    with pytest.raises(IndexDamagedError):
        kvsync.sync(storage, other, dry_run=True)
    assert kvsync.sync(storage, other).pushed == len(LARGE)
