"""Manifests that are not decoded twice: found by their bytes, and by nothing else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

import kvsync
from kvsync import Put
from kvsync.errors import IndexDamagedError
from kvsync.index.manifest import Manifest
from kvsync.index.recent import BYTES_MAX, COUNT_MAX, RecentManifests, recent
from kvsync.native import Cover


def manifest(number: int = 1) -> Manifest:
    return Manifest(number, 1, bytes(16), 0, Cover())


def test_what_was_kept_is_found_by_equal_bytes() -> None:
    known = RecentManifests()
    known.keep(b"one", manifest())
    assert known.find(bytes(bytearray(b"one"))) == manifest()
    assert known.find(b"two") is None
    known.clear()
    assert known.find(b"one") is None


def test_only_the_newest_few_are_kept() -> None:
    known = RecentManifests()
    for number in range(COUNT_MAX + 3):
        known.keep(b"%d" % number, manifest(number + 1))
    assert [known.find(b"%d" % number) is None for number in range(5)] == [True, True, True, False, False]


def test_large_ones_are_not_kept() -> None:
    known = RecentManifests()
    known.keep(bytes(BYTES_MAX), manifest())
    known.keep(bytes(BYTES_MAX + 1), manifest())
    assert known.find(bytes(BYTES_MAX)) is not None
    assert known.find(bytes(BYTES_MAX + 1)) is None


def test_many_threads_keep_at_once() -> None:
    known = RecentManifests(4)

    def work(thread: int) -> None:
        for number in range(500):
            known.keep(b"%d of %d" % (number % 7, thread), manifest())
            known.find(b"1 of 1")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_what_a_run_wrote_is_what_a_reader_decodes() -> None:
    a: dict[str, bytes] = {}
    b: dict[str, bytes] = {}
    for turn in range(40):
        kvsync.sync(a, b, changes=[Put(f"k{turn % 7}", b"%d" % turn)])
        for side in (a, b):
            data = side[".kvsync/manifest"]
            assert recent.find(data) == Manifest.decode(data, "here")


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
