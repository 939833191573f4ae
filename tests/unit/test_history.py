"""Histories of storages that were put back from a backup, or copied and used on."""

from __future__ import annotations

import copy
import itertools
import random

import pytest
from variants import amount

import kvsync
from kvsync import Delete, Put


@pytest.mark.parametrize("seed", range(amount(15, 300)))
@pytest.mark.parametrize("again", [False, True], ids=["restored", "copied"])
def test_a_storage_with_two_lives_loses_neither(seed: int, again: bool) -> None:
    """B is restored from a backup of a random moment, or copied then, and used before it meets A again."""
    chance = random.Random(seed)
    now = [1_700_000_000.0]

    def clock() -> float:
        now[0] += 0.01
        return now[0]

    def some(store: dict[str, bytes], label: str, count: int) -> list[Put | Delete]:
        keys = [f"k{chance.randrange(60)}" for _ in range(count)]
        return [
            Delete(key) if chance.random() < 0.2 else Put(key, f"{label}{i}".encode()) for i, key in enumerate(keys)
        ]

    a: dict[str, bytes] = {}
    b: dict[str, bytes] = {}
    bulk = [Put(f"bulk/{i:05d}", b"x") for i in range(chance.choice((0, 3_000)))]
    kvsync.sync(a, b, bulk, clock=clock)
    moment = chance.randrange(1, 60)
    backup: dict[str, bytes] = {}
    for turn in range(60):
        if turn == moment:
            backup = copy.deepcopy(b)
        kvsync.commit(b, some(b, f"b{turn}.", chance.randrange(1, 4)), clock=clock)
        if chance.random() < 0.5:
            kvsync.sync(*chance.choice([(a, b), (b, a)]), clock=clock)
    kvsync.sync(a, b, clock=clock)
    unmatched = dict(a)
    restored = backup
    for turn in range(chance.choice((1, 5, 80))):
        kvsync.commit(restored, [Put(f"after{turn}", b"new life")], clock=clock)
    lives = [a, restored, b] if again else [a, restored]
    for _ in range(3):
        for one, other in itertools.combinations(lives, 2):
            kvsync.sync(one, other, clock=clock)
    plain = [{k: v for k, v in life.items() if not k.startswith(".kvsync/")} for life in lives]
    assert all(life == plain[0] for life in plain)
    for key, value in unmatched.items():
        if not key.startswith(".kvsync/"):
            assert plain[0].get(key) == value, f"{key} of the life that ended"
    assert plain[0]["after0"] == b"new life"
