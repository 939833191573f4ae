"""Forges index objects: real ones of small worlds, rewritten field by field, with checksums that are right."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, TypeAlias

import msgpack
from small_worlds import DAY_SECONDS, START_SECONDS, World

import kvsync
from kvsync.native import KIND_LEASE, KIND_MANIFEST, Segment, checksum, seal, unseal
from kvsync.types import Change

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

Body: TypeAlias = dict[str, Any]
Path: TypeAlias = list[Any]

MANIFEST_KEY = ".kvsync/manifest"
LAST = 2**64 - 1
SOON = int((START_SECONDS + DAY_SECONDS / 2) * 1000) << 16
LATE = int((START_SECONDS + 3 * DAY_SECONDS) * 1000) << 16
NUMBERS = (0, 1, 2, 255, 2**31, 2**32 - 1, 2**53, 2**62, 2**63 - 1, 2**63, LAST - 1, LAST, SOON, LATE)
STRINGS = ("", "x", "x" * 100_000, "../../x", "a/../b", "\0", ".KVSYNC/x", "manifest", "lease", "\u2028", "segment/")
TYPES: tuple[Any, ...] = (None, True, False, -1, -(2**63), 1.5, float("nan"), "text", b"bytes", [], [[]], {}, {"a": 1})
COUNTS = (3, 50, 2_000)


def opened(data: bytes) -> Body:
    """Return the fields of a manifest, its columns as rows."""
    body: Body = msgpack.unpackb(unseal(KIND_MANIFEST, data))
    body["chains"] = [[origin, _rows(column, 3)] for origin, column in body["chains"]]
    body["peers"] = [[*row[:3], list(row[3]), list(row[4]), *row[5:]] for row in body["peers"]]
    return body


def sealed(body: Body) -> bytes:
    """Return a manifest of these fields with a valid checksum, whatever they are."""
    body = {**body, "chains": _packed_chains(body["chains"]), "peers": _packed_peers(body["peers"], body["chains"])}
    return seal(KIND_MANIFEST, msgpack.packb(body, use_bin_type=True))


def _rows(column: bytes, width: int) -> list[list[int]]:
    return [list(row) for row in struct.iter_unpack(f"<{width}Q", column)]


def _packed_chains(rows: Any) -> Any:
    if type(rows) is not list:
        return rows
    return [[*row[:1], *map(_column, row[1:])] if type(row) is list else row for row in rows]


def _packed_peers(rows: Any, chains: Any) -> Any:
    if type(rows) is not list:
        return rows
    return [
        [*row[:3], *(_places(numbers, chains) for numbers in row[3:5]), *row[5:]] if type(row) is list else row
        for row in rows
    ]


def _places(numbers: Any, chains: Any) -> Any:
    """Return places in chains as a column that fits the chains; what is something else stays as it is."""
    if type(numbers) is not list:
        return numbers
    try:
        padded = [*numbers, *[0] * (len(chains) - len(numbers))]
        places = [min(place, len(chain)) for place, (_, chain) in zip(padded, chains, strict=False)]
        return bytes(places) if any(places) else b""
    except (TypeError, ValueError):
        return numbers


def _column(rows: Any) -> Any:
    """Return rows of numbers as a column; what is something else stays as it is."""
    try:
        return b"".join(struct.pack(f"<{len(row)}Q", *row) for row in rows) if type(rows) is list else rows
    except (struct.error, TypeError):
        return rows


class Forger:
    """Rewrites the manifest of a world's forged replica; all that it draws comes from one seed."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.chance = chance
        self.world = world
        self.body = opened(world.forged[MANIFEST_KEY])
        self.good = opened(world.good[MANIFEST_KEY])
        self.numbers = [*NUMBERS, *_numbers_in(self.good["chains"]), *_numbers_in(self.body["chains"])]
        self.ids = [self.good["replica"], self.body["replica"], *(row[0] for row in self.body["chains"])]

    def forge(self) -> str:
        """Rewrite the manifest, and return what was done to it."""
        done = []
        for _ in range(self.chance.choice([1, 1, 1, 2, 3])):
            edit = self.chance.choice(EDITS)
            try:
                done.append(f"{edit.__name__.strip('_')} {edit(self)}")
            except (TypeError, IndexError, KeyError, ValueError, AttributeError, OverflowError, kvsync.KvsyncError):
                continue  # an earlier edit left nothing that this one could rewrite
        self.world.forged[MANIFEST_KEY] = sealed(self.body)
        return ", ".join(done)

    # Edits of anything

    def _leaf(self) -> tuple[Any, Any, str]:
        """Return a container, the position of something in it, and where that is."""
        field = self.chance.choice(list(self.body))
        container: Any = self.body
        at: Any = field
        where = field
        while type(container[at]) is list and container[at] and self.chance.random() < 0.85:
            container, at = container[at], self.chance.randrange(len(container[at]))
            where += f"[{at}]"
        return container, at, where

    def extreme(self) -> str:
        container, at, where = self._leaf()
        old = container[at]
        if type(old) is int:
            near = [old - 1, old + 1] if 0 < old < LAST else [old]
            container[at] = self.chance.choice([*self.numbers, *near])
        elif type(old) is str:
            container[at] = self.chance.choice([*STRINGS, old + "x", old * 2])
        elif type(old) is bytes:
            container[at] = self.chance.choice([b"", b"\0" * 16, b"x" * 100_000, old[:-1], old + b"\0", old[::-1]])
        else:
            container[at] = self.chance.choice(TYPES)
        return f"{where} = {container[at]!r:.40}"

    def another_type(self) -> str:
        container, at, where = self._leaf()
        container[at] = self.chance.choice(TYPES)
        return f"{where} = {container[at]!r:.40}"

    def _some_list(self) -> tuple[list[Any], str]:
        lists = list(_lists_in(self.body))
        found: tuple[list[Any], str] = self.chance.choice([each for each in lists if each[0]])
        return found

    def swap(self) -> str:
        rows, where = self._some_list()
        one, two = self.chance.randrange(len(rows)), self.chance.randrange(len(rows))
        rows[one], rows[two] = rows[two], rows[one]
        return f"{where} {one} {two}"

    def duplicate(self) -> str:
        rows, where = self._some_list()
        rows.insert(self.chance.randrange(len(rows) + 1), self.chance.choice(rows))
        return where

    def drop(self) -> str:
        rows, where = self._some_list()
        del rows[self.chance.randrange(len(rows))]
        return where

    def swap_fields(self) -> str:
        one, two = self.chance.sample(list(self.body), 2)
        self.body[one], self.body[two] = self.body[two], self.body[one]
        return f"{one} {two}"

    # Growth: rows that are well formed, as many as there may never be

    def grow(self) -> str:
        count, field = self.chance.choice(COUNTS), self.chance.choice(sorted(GROWN))
        rows = GROWN[field](self, count)
        self.body[field] = sorted([*self.body[field], *rows]) if field not in UNSORTED else [*self.body[field], *rows]
        return f"{field} by {count}"

    def _fresh(self, count: int) -> list[int]:
        return [self.chance.getrandbits(63) for _ in range(count)]

    def _change(self, i: int) -> list[Any]:
        row = self.chance.choice(self.body["chains"])
        return [f"grown/{i:06}", row[0], row[1][-1][1], 0, 1, bytes(32), 0]

    # Claims of histories

    def _stamp(self) -> int:
        return self.chance.choice([*(self._tip(row)[1] + 1 for row in self.good["chains"]), SOON, SOON + 1, LATE])

    @staticmethod
    def _tip(row: list[Any]) -> list[int]:
        point: list[int] = row[1][-1]
        return point

    def _chain(self) -> tuple[int, list[list[int]]]:
        """Return an origin, mostly the good replica's own, and the forged replica's chain of it."""
        origin = self.chance.choice([self.good["replica"], self.good["replica"], *self.ids])
        for row in self.body["chains"]:
            if row[0] == origin:
                return origin, row[1]
        self.body["chains"] = sorted([*self.body["chains"], [origin, []]])
        return origin, next(row[1] for row in self.body["chains"] if row[0] == origin)

    def claim_further(self) -> str:
        """Claim to know more of somebody's history than there is."""
        origin, chain = self._chain()
        number = chain[-1][0] + 1 if chain else 1
        chain.append([self.chance.choice([number, number + 1, 2**62]), self._stamp(), self.chance.getrandbits(64)])
        self.body["clock"] = max(self.body["clock"], chain[-1][1])
        return f"{origin} to {chain[-1][1]}"

    def claim_all(self) -> str:
        """Claim to know just what the good replica knows: with or without its marks."""
        self.body["chains"] = [[origin, [list(point) for point in chain]] for origin, chain in self.good["chains"]]
        self.body["clock"] = max(self.body["clock"], self.good["clock"])
        if self.chance.random() < 0.7:
            for _, chain in self.body["chains"]:
                chain[-1][2] ^= self.chance.choice([0, 1, 2**63])
        return "chains"

    def claim_inside(self) -> str:
        """Claim other points between those of a chain."""
        origin, chain = self._chain()
        at = self.chance.randrange(len(chain))
        before = chain[at - 1] if at else [0, 0, 0]
        point = [self.chance.randint(before[0], chain[at][0]), self.chance.randint(before[1], chain[at][1]), 7]
        chain[at : at + self.chance.choice([0, 1])] = [point]
        return f"{origin} at {at}"

    def claim_ahead(self) -> str:
        """Claim to know changes ahead of a history."""
        origin, chain = self._chain()
        first = chain[-1][1] + 1 if chain else 1
        last = self.chance.choice([first, self._stamp()])
        point = [5, max(last, self._stamp()), self.chance.getrandbits(64)]
        self.body["exceptions"] = sorted([*self.body["exceptions"], [origin, first, last, *point]])
        self.body["clock"] = max(self.body["clock"], last)
        return f"{origin} {first} to {last}"

    def say_gone(self) -> str:
        """Say that ids are gone, the good replica's among them."""
        self.body["gone"] = sorted([*self.body["gone"], [self.chance.choice(self.ids), self.chance.choice([1, 2])]])
        return "an id"

    def take_a_place(self) -> str:
        """Claim to be in the place of the good replica, or of another one."""
        self.body["place"] = self.chance.choice([self.good["place"], *(row[5] for row in self.body["peers"])])
        return str(self.body["place"])

    def say_collected(self) -> str:
        """Say that all deletes up to some time were collected."""
        tips = {row[0]: self._tip(row)[1] for row in self.body["chains"]}
        stamps = {origin: self.chance.choice([tip, tip, self._stamp()]) for origin, tip in tips.items()}
        self.body["collected"] = sorted(map(list, stamps.items()))
        return "all"

    def speak_for_peers(self) -> str:
        """Say what other replicas know, the good one among them."""
        places = [len(chain) for _, chain in self.body["chains"]]
        row = [
            self.chance.choice(self.ids),
            "forged",
            self._stamp(),
            places,
            [],
            self.chance.choice((0, self.good["place"])),
        ]
        self.body["peers"] = sorted([each for each in self.body["peers"] if each[0] != row[0]] + [row])
        return f"for {row[0]}"

    def say_missing(self) -> str:
        """Say that changes are missing, or unreconciled, that nobody made."""
        change = self._change(0)
        change[0], change[1] = self.chance.choice("abcdefgh"), self.chance.choice(self.ids)
        change[self.chance.choice([2, 4, 6])] = self.chance.choice(self.numbers)
        field = self.chance.choice(["missing", "unreconciled"])
        self.body[field] = sorted([*self.body[field], [*change, *(["why", b""] if field == "missing" else [])]])
        return f"{field} {change}"

    def list_garbage(self) -> str:
        """List objects to be removed that are none of a log's."""
        names = [f"../x{i}" for i in range(20)] if self.chance.random() < 0.5 else ["manifest", "lease"] * 10
        self.body["garbage"] = [*self.body["garbage"], *names]
        return names[0]

    # Segments

    def rewrite_segment(self) -> str:
        """Rewrite changes of a segment, and list it as it is then, or as it was."""
        row = self.chance.choice(self.body["segments"])
        stored = row[7] if row[7] is not None else self.world.forged[f".kvsync/{row[0]}"]
        segment = Segment.decode(stored, row[0])
        changes = {change.key: change for change in map(Change._make, segment.rows(0, len(segment)))}
        what = [self._rewrite(changes) for _ in range(self.chance.choice([1, 1, 3]))]
        forged = Segment.from_rows([changes[key] for key in sorted(changes)])
        data = forged.encode(row[0], False, self.chance.choice([b"", b"", b"note"]))
        if self.chance.random() < 0.8:
            row[1], row[2] = [list(pair) for pair in sorted(forged.maxima.items())], len(forged)
            row[3], row[4] = (
                [list(pair) for pair in sorted(forged.passing.items())],
                forged.tombstones + forged.expiring,
            )
            self.body["clock"] = max([self.body["clock"], *(stamp for _, stamp in row[1] if stamp < LATE)])
        row[5], row[6] = len(data), checksum(data)
        if row[7] is not None:
            row[7] = data
        else:
            self.world.forged[f".kvsync/{row[0]}"] = data
        return f"{row[0]}: {what}"

    def _rewrite(self, changes: dict[str, Change]) -> str:
        key = self.chance.choice([*changes, *changes, "new", ".kvsync/x", "a/.KVSYNC/b", "k" * 5000, "\0", "../x"])
        change = changes.get(key) or self.chance.choice([*changes.values()])._replace(key=key)
        name = self.chance.choice(["origin", "stamp", "stamp", "size", "digest", "expires", "flags", "key"])
        values: dict[str, Callable[[], Any]] = {
            "origin": lambda: self.chance.choice(self.ids),
            "stamp": lambda: self.chance.choice([change.stamp + 1, self._stamp(), LAST]),
            "size": lambda: self.chance.choice(self.numbers),
            "digest": lambda: self.chance.randbytes(32),
            "expires": lambda: self.chance.choice(self.numbers),
            "flags": lambda: self.chance.randrange(8),
            "key": lambda: key,
        }
        value = values[name]()
        change = change._replace(**{name: value})
        if change.deletes:
            change = change._replace(size=0, digest=bytes(32), expires=0)
        changes[key] = change
        return f"{key:.20}.{name} = {value!r:.30}"

    def rewrite_lease(self) -> str:
        """Leave a lease, held or not, with any value in one of its fields."""
        fields: Body = {
            "name": "lease",
            "state": self.chance.choice(["held", "released", "interrupted"]),
            "token": bytes(16),
            "owner": "somebody",
            "renewals": 1,
            "acquired": int(START_SECONDS * 1000),
            "expires": int(START_SECONDS * 1000) + self.chance.choice([0, 90_000]),
            "machine": "",
            "pid": 0,
            "started": 0,
        }
        field = self.chance.choice(list(fields))
        fields[field] = self.chance.choice([*self.numbers, *STRINGS, *TYPES])
        self.world.forged[".kvsync/lease"] = seal(KIND_LEASE, msgpack.packb(fields, use_bin_type=True))
        return f"{field} = {fields[field]!r:.40}"

    def swap_values(self) -> str:
        """Change a value behind the log."""
        key = self.chance.choice([each for each in self.world.forged if not each.startswith(".kvsync/")])
        self.world.forged[key] = b"forged"
        return key


def _numbers_in(value: Any) -> list[int]:
    if type(value) is list:
        return [number for each in value for number in _numbers_in(each)]
    return [value] if type(value) is int else []


def _lists_in(value: Any, where: str = "") -> Any:
    if type(value) is dict:
        for key, each in value.items():
            yield from _lists_in(each, key)
    elif type(value) is list:
        yield value, where
        for i, each in enumerate(value):
            yield from _lists_in(each, f"{where}[{i}]")


POINT = [[1, 1, 1]]
UNSORTED = {"segments", "intents", "garbage"}
GROWN: dict[str, Any] = {
    "chains": lambda self, count: [[origin, [[1, self.body["clock"] - 1, 1]]] for origin in self._fresh(count)],
    "exceptions": lambda self, count: [
        [self.ids[0], SOON + 2 * i, SOON + 2 * i, 9 + i, SOON + 2 * i, 1] for i in range(count)
    ],
    "missing": lambda self, count: [[*self._change(i), "why", b""] for i in range(count)],
    "unreconciled": lambda self, count: [self._change(i) for i in range(count)],
    "peers": lambda self, count: [[replica, "x", 1, [], [], 0] for replica in self._fresh(count)],
    "gone": lambda self, count: [[replica, 1] for replica in self._fresh(count)],
    "collected": lambda self, count: [[origin, 5] for origin in self._fresh(count)],
    "segments": lambda self, count: [self.body["segments"][0]] * count,
    "intents": lambda self, count: [[f"segment/{i + 10:016x}-0", SOON >> 16] for i in range(count)],
    "garbage": lambda self, count: [f"segment/{i + 10:016x}-0" for i in range(count)],
}

EDITS = (
    *[Forger.extreme] * 8,
    *[Forger.another_type] * 2,
    Forger.swap,
    Forger.duplicate,
    Forger.drop,
    Forger.swap_fields,
    Forger.grow,
    *[Forger.claim_further] * 3,
    *[Forger.claim_all] * 2,
    Forger.claim_inside,
    *[Forger.claim_ahead] * 2,
    Forger.say_gone,
    Forger.take_a_place,
    *[Forger.say_collected] * 2,
    *[Forger.speak_for_peers] * 2,
    *[Forger.say_missing] * 2,
    Forger.list_garbage,
    *[Forger.rewrite_segment] * 6,
    *[Forger.rewrite_lease] * 2,
    Forger.swap_values,
)
