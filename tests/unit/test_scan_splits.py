"""A scan tells a storage where to begin, from what the last scan saw, and finds the same as one that does not."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from obstore.store import MemoryStore

import kvsync
from kvsync import Delete, Put
from kvsync.scan import folding, splits
from kvsync.storages.bucket import BucketStorage
from kvsync.storages.wrapper import WrappedStorage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.storages.contract import Pages

KEYS = [f"{number:03}" for number in range(100)]


class Split(WrappedStorage):
    """Notes where its scans were split."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(BucketStorage(store))
        self.splits: list[list[str]] = []

    def scan(self, splits: Sequence[str] = ()) -> Pages:
        self.splits.append(list(splits))
        yield from super().scan(splits)


@pytest.fixture(params=[1 << 20, 1 << 10, 1 << 8], ids=["one piece", "some pieces", "a piece for each split"])
def storage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Split:
    monkeypatch.setattr(splits, "PART_COUNT_MIN", 10)
    monkeypatch.setattr(folding.SIZES, "piece", request.param)
    monkeypatch.setattr(folding.SIZES, "inline", 0)
    return Split(MemoryStore())


def put(storage: Split, values: dict[str, bytes]) -> None:
    """Write values as another program would."""
    storage.write(list(values), list(values.values()))


def test_a_second_scan_is_split_evenly_and_complete(storage: Split) -> None:
    put(storage, dict.fromkeys(KEYS, b"1"))
    kvsync.commit(storage, scan=True)
    put(storage, {"": b"2", "zzz": b"2", "050a": b"2", "077": b"2"})
    storage.delete(["010", "020", "030", "099"])
    assert kvsync.commit(storage, scan=True) == 8
    first, second = storage.splits
    assert first == []
    assert len(second) == 9
    ends = [0, *map(int, second), 100]
    assert max(after - before for before, after in pairwise(ends)) <= 25
    assert kvsync.commit(storage, scan=True) == 0


def test_what_was_given_says_where_to_split_too(storage: Split) -> None:
    put(storage, dict.fromkeys(KEYS, b"1"))
    kvsync.commit(storage, [Put(key) for key in KEYS])
    storage.delete(KEYS[:50])
    kvsync.commit(storage, [Delete(key) for key in KEYS[:50]])
    assert kvsync.commit(storage, scan=True) == 0
    assert len(storage.splits[-1]) >= 4


def test_few_keys_are_not_split(storage: Split) -> None:
    put(storage, dict.fromkeys(KEYS[:15], b"1"))
    for _ in range(2):
        kvsync.commit(storage, scan=True)
    assert storage.splits == [[], []]
