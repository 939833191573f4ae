"""Parts of an index object: near ones are read as one, and each comes back as it was asked for."""

from __future__ import annotations

import random

import pytest

from kvsync.storages.mapping import MappingStorage
from kvsync.storages.ranges import GAP_BYTES_MAX, SPAN_BYTES_MAX, read_ranges
from kvsync.testing import CountingStorage
from kvsync.types import ABSENT

NAME = "pack/0123456789abcdef0123456789abcdef"


def stored(data: bytes, *, plain: bool = True) -> CountingStorage:
    mapping: dict[str, bytes] = {}
    storage = CountingStorage(MappingStorage(mapping if plain else _Mapping(mapping)))
    storage.store(NAME, data, ABSENT)
    return storage


class _Mapping(dict[str, bytes]):
    """No plain dict, so that its objects are read as a whole."""


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("seed", range(10))
def test_each_range_comes_back_as_it_was_asked_for(seed: int, *, plain: bool) -> None:
    chance = random.Random(seed)
    data = chance.randbytes(200_000)
    storage = stored(data, plain=plain)
    ranges = [(chance.randrange(210_000), chance.choice([1, 24, 5_000, 60_000])) for _ in range(chance.randint(1, 30))]
    if chance.random() < 0.5:
        ranges.sort()
    assert read_ranges(storage, NAME, ranges) == [data[offset : offset + length] for offset, length in ranges]
    assert read_ranges(storage, "pack/absent", ranges) is None
    assert (storage.operations["load_ranges"] == 2) == plain


def test_ranges_with_a_small_gap_are_read_as_one() -> None:
    storage = stored(bytes(1_000_000))
    read_ranges(storage, NAME, [(0, 10), (10 + GAP_BYTES_MAX, 5), (500_000, 7)])
    assert storage.keys["load_ranges"] == 2
    assert storage.object_bytes["load_ranges"] == GAP_BYTES_MAX + 15 + 7


def test_what_is_read_as_one_is_bounded() -> None:
    storage = stored(bytes(3 * SPAN_BYTES_MAX))
    length = SPAN_BYTES_MAX // 2
    read = read_ranges(storage, NAME, [(place * length, length) for place in range(6)])
    assert read is not None
    assert set(map(len, read)) == {length}
    assert storage.keys["load_ranges"] == 3
