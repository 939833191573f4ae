"""Two indices as a pair of storages would hold them, made from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

import reference

ORIGIN_A, ORIGIN_B, ORIGIN_C = 0x1111_1111_1111_1111, 0x9999_9999_9999_9999, 0xCCCC_CCCC_CCCC_CCCC
START_MS = 1_790_000_000_000
MONTH_MS = 30 * 24 * 3600 * 1000
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Pair:
    """Two indices as bytes, what each side's vector covers, and what each side misses."""

    a: bytes
    b: bytes
    vector_a: dict[int, int]
    vector_b: dict[int, int]
    rows_a: reference.Segment
    rows_b: reference.Segment

    @property
    def entries(self) -> int:
        """Entries of both together."""
        return len(self.rows_a) + len(self.rows_b)

    @property
    def bytes(self) -> int:
        """Bytes of both together."""
        return len(self.a) + len(self.b)


NAME = "segment/0000000000000001-0"


def keys(count: int, chance: random.Random) -> list[str]:
    """Return `count` different keys of 20 to 40 bytes, ascending."""
    numbers = sorted(chance.sample(range(10**12), count))
    return [f"user/{number:012d}/" + "".join(chance.choices(ALPHABET, k=2 + number % 21)) for number in numbers]


def owners(count: int, missing: int, layout: str, chance: random.Random) -> list[str]:
    """Say of each key, in order, who holds it: "both", "a" or "b"; `missing` keys each are held by one."""
    alone = ["a"] * missing + ["b"] * missing
    chance.shuffle(alone)
    places = range(count - len(alone), count) if layout == "tail" else chance.sample(range(count), len(alone))
    held = ["both"] * count
    for place, owner in zip(places, alone, strict=True):
        held[place] = owner
    return held


def pair(entries: int, layout: str, seed: int = 20) -> Pair:
    """Return two indices of `entries` each, of which 1 % is missing on the other side.

    The missing entries are the newest; by key they are the last ("tail") or anywhere ("scattered").
    """
    chance = random.Random(seed)
    missing = entries // 100
    held = owners(entries + missing, missing, layout, chance)
    rows: dict[str, reference.Segment] = {"a": [], "b": []}
    for key, owner in zip(keys(len(held), chance), held, strict=True):
        origin = {"a": ORIGIN_A, "b": ORIGIN_B}.get(owner) or chance.choice((ORIGIN_A, ORIGIN_B, ORIGIN_C))
        ms = START_MS + chance.randrange(MONTH_MS) + (MONTH_MS if owner != "both" else 0)
        row = (key, origin, ms << 16, 0, chance.randrange(16, 4096), chance.randbytes(32), 0)
        for side in "ab" if owner == "both" else owner:
            rows[side].append(row)
    common = dict.fromkeys((ORIGIN_A, ORIGIN_B, ORIGIN_C), (START_MS + MONTH_MS) << 16)
    return Pair(
        a=reference.encode_segment(rows["a"], NAME),
        b=reference.encode_segment(rows["b"], NAME),
        vector_a={**common, ORIGIN_A: (START_MS + 2 * MONTH_MS) << 16},
        vector_b={**common, ORIGIN_B: (START_MS + 2 * MONTH_MS) << 16},
        rows_a=rows["a"],
        rows_b=rows["b"],
    )
