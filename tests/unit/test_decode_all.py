"""Segments decoded together: the same as one by one, also where they are large enough for several threads."""

from __future__ import annotations

import random

import pytest

import kvsync
from kvsync import Put
from kvsync.native import Segment
from kvsync.replica.base import SIZES

LARGE = 60_000  # changes: more than two MiB together with its like, from where on threads divide the work


def encoded(name: str, count: int, seed: int) -> bytes:
    chance = random.Random(seed)
    keys = sorted({f"{chance.getrandbits(80):020x}" for _ in range(count)})
    return Segment.from_values(keys, [b"%d" % seed] * len(keys), 7, 1 << 40).encode(name)


@pytest.mark.parametrize("sizes", [[], [0], [3, 5], [LARGE, LARGE], [LARGE, 2, 0, LARGE, 9]])
def test_it_is_what_decoding_one_by_one_is(sizes: list[int]) -> None:
    names = [f"segment/{number:016x}-0" for number in range(len(sizes))]
    objects = [(encoded(name, size, size), name) for name, size in zip(names, sizes, strict=True)]
    together = Segment.decode_all(objects)
    for (data, name), segment in zip(objects, together, strict=True):
        alone = Segment.decode(data, name)
        assert segment.rows(0, len(segment)) == alone.rows(0, len(alone))
        assert segment.encode(name) == data
        assert (segment.maxima, segment.value_bytes) == (alone.maxima, alone.value_bytes)


@pytest.mark.parametrize("size", [50, LARGE])
@pytest.mark.parametrize("place", [0.1, 0.5, 0.999])
def test_the_first_damaged_one_is_named_as_if_alone(size: int, place: float) -> None:
    names = [f"segment/{number:016x}-0" for number in range(4)]
    objects = [(encoded(name, size, number), name) for number, name in enumerate(names)]
    for number in (1, 3):
        data = bytearray(objects[number][0])
        data[int(len(data) * place)] ^= 0x40
        objects[number] = (bytes(data), names[number])
    with pytest.raises(kvsync.IndexDamagedError) as alone:
        Segment.decode(*objects[1])
    with pytest.raises(kvsync.IndexDamagedError) as together:
        Segment.decode_all(objects)
    assert (together.value.name, together.value.offset) == (names[1], alone.value.offset)
    assert str(together.value) == str(alone.value)


def test_a_damaged_one_among_large_ones_is_named_with_its_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SIZES, "base", 1 << 30)  # none of them is kept in blocks
    a: dict[str, bytes] = {}
    b: dict[str, bytes] = {}
    for turn in range(2):
        kvsync.commit(a, [Put(f"{turn}/{number}", b"x") for number in range(LARGE)])
    names = [key for key in a if key.startswith(".kvsync/segment/")]
    assert len(names) == 2
    whole = a[names[1]]
    a[names[1]] = whole[:-1] + bytes([whole[-1] ^ 1])
    with pytest.raises(kvsync.IndexDamagedError) as raised:
        kvsync.sync(a, b)
    assert raised.value.name == names[1].removeprefix(".kvsync/")
    assert raised.value.storage == f"dict at {id(a):#x}"
    a[names[1]] = whole
    assert kvsync.sync(a, b).pushed == 2 * LARGE
