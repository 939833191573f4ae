"""The policy `latest`: the later action wins wherever its time is known, and no edit loses to an older delete.

Each test makes 24 tries of one kind as 24 keys of one run. In every other try the first action is on the second
storage. An edit writes a value, so that which of two equal stamps wins is up to chance.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import pytest
from places import DictPlace, Place, SqlitePlace, make
from server_places import PostgresPlace
from variants import covering, spread

import kvsync
from kvsync import Delete, Put
from kvsync.storages.mapping import MappingStorage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TRIES = 24
PAUSE_SECONDS = 0.015
"""Between two actions: longer than the tick by which file systems take the time, 10 ms at most."""

KINDS = ("folder", "dict", "dated dict", "sqlite", "dated sqlite", "redis", "postgres", "dated postgres", "lmdb")
EXACT = {"folder", "dated dict", "dated sqlite", "dated postgres"}
"""Kinds whose storage tells when a value was written."""
PAIRS = [
    *((kind, kind) for kind in KINDS),
    ("folder", "sqlite"),
    ("dict", "folder"),
    *(("folder", kind) for kind in sorted(EXACT - {"folder"})),
]

Action: TypeAlias = Literal["edit", "delete"]
Try: TypeAlias = tuple[Action, Action]
CASES: dict[str, Try] = {
    "edit, then edit": ("edit", "edit"),
    "delete, then edit": ("delete", "edit"),
    "edit, then delete": ("edit", "delete"),
}


class DatedDict(MappingStorage):
    """A mapping that tells when each value was written."""

    def __init__(self) -> None:
        super().__init__({})
        self.times: dict[str, int] = {}

    def write(self, keys: Sequence[str], values: Sequence[bytes], *rest: Any, **options: Any) -> Any:
        written = super().write(keys, values, *rest, **options)
        self.times.update(dict.fromkeys(keys, int(time.time() * 1000)))
        return written

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        return [self.times.get(key) for key in keys]


class DatedPlace(DictPlace):
    """A `DatedDict`, written by its application beside kvsync."""

    kind = "dated dict"

    def __init__(self) -> None:
        self.dated = DatedDict()
        super().__init__(self.dated.mapping)  # type: ignore[arg-type]
        self.target: Any = self.dated

    def put(self, key: str, value: bytes) -> None:
        self.dated.mapping[key] = value
        self.dated.times[key] = int(time.time() * 1000)

    def delete(self, key: str) -> None:
        del self.dated.mapping[key]

    def values(self) -> dict[str, bytes]:
        return {key: value for key, value in self.dated.mapping.items() if not key.startswith(".kvsync/")}


class DatedSqlitePlace(SqlitePlace):
    """A table with a column that says when each row was last modified."""

    kind = "dated sqlite"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._run("ALTER TABLE kv ADD COLUMN at INTEGER")
        self.target += "?modified=at"

    def put(self, key: str, value: bytes) -> None:
        self._run("INSERT OR REPLACE INTO kv VALUES (?, ?, ?)", (key, value, int(time.time() * 1000)))


class DatedPostgresPlace(PostgresPlace):
    """A table with a column that says when each row was last modified."""

    kind = "dated postgres"

    def __init__(self) -> None:
        super().__init__()
        self.run("ALTER TABLE kv ADD COLUMN at bigint")
        self.target += "&modified=at"

    def put(self, key: str, value: bytes) -> None:
        statement = """INSERT INTO kv VALUES (%s, %s, %s)
            ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value, at = EXCLUDED.at"""
        self.run(statement, (key, value, int(time.time() * 1000)))


def place_of(kind: str, folder: Path, name: str) -> Place:
    match kind:
        case "dated dict":
            return DatedPlace()
        case "dated sqlite":
            return DatedSqlitePlace(folder / f"{name}.db")
        case "dated postgres":
            return DatedPostgresPlace()
        case _:
            return make(kind, folder, name)


def key_of(number: int) -> str:
    return f"try/{number:02}"


def value_of(number: int, turn: int) -> bytes:
    return f"try {number}, action {turn}".encode()


def base_of(one: Place, two: Place) -> None:
    """Give both places the same values."""
    for number in range(TRIES):
        one.put(key_of(number), b"base")
    kvsync.sync(one.target, two.target, scan=True)
    time.sleep(PAUSE_SECONDS)


def act(places: tuple[Place, Place], case: Try) -> None:
    """Let each try's two actions happen, one after the other, each on a place of its own."""
    for turn, action in enumerate(case):
        for number in range(TRIES):
            place, key = places[(number + turn) % 2], key_of(number)
            place.put(key, value_of(number, turn)) if action == "edit" else place.delete(key)
        time.sleep(PAUSE_SECONDS)


def say(places: tuple[Place, Place], case: Try) -> None:
    """As `act`, by changes that are given to kvsync."""
    for turn, action in enumerate(case):
        for which, place in enumerate(places):
            numbers = [number for number in range(TRIES) if (number + turn) % 2 == which]
            edits = [Put(key_of(number), value_of(number, turn)) for number in numbers]
            kvsync.commit(place.target, edits if action == "edit" else [Delete(key_of(number)) for number in numbers])
        time.sleep(PAUSE_SECONDS)


def met(places: tuple[Place, Place], *, swapped: bool, **options: Any) -> kvsync.SyncResult:
    source, target = reversed(places) if swapped else places
    return kvsync.sync(source.target, target.target, **options)


def outcome(one: Place, two: Place) -> dict[str, int | None]:
    """Return which action of each try won: 0, 1, or None for a delete; both places hold the same."""
    values = one.values()
    assert values == two.values()
    turns = {value_of(number, turn): turn for number in range(TRIES) for turn in (0, 1)}
    return {key: turns[values[key]] if key in values else None for key in map(key_of, range(TRIES))}


@pytest.mark.parametrize(("first", "second", "case"), spread(PAIRS, [*CASES]))
def test_the_later_action_wins_where_times_are_known(folder: Path, first: str, second: str, case: str) -> None:
    """Of two exact times the later wins; an edit never loses to a delete that a scan found; source and target are
    alike."""
    outcomes = []
    for swapped in (False, True):
        one, two = (place_of(kind, folder, f"{name} {swapped}") for kind, name in ((first, "one"), (second, "two")))
        base_of(one, two)
        act((one, two), CASES[case])
        result = met((one, two), swapped=swapped, scan=True, max_delete="100%")
        exact = {first, second} <= EXACT and "delete" not in CASES[case]
        assert [conflict.certain for conflict in result.conflicts] == [exact] * TRIES
        outcomes.append(outcome(one, two))
        assert not met((one, two), swapped=not swapped, scan=True, max_delete="100%").conflicts
        assert outcome(one, two) == outcomes[-1]
    assert outcomes[0] == outcomes[1]
    turns = set(outcomes[0].values())
    if "delete" in CASES[case]:
        assert turns == {CASES[case].index("edit")}
    elif {first, second} <= EXACT:
        assert turns == {1}


@pytest.mark.parametrize(("first", "second", "case", "swapped"), covering(PAIRS, [*CASES], [False, True]))
def test_the_later_of_two_given_changes_wins(folder: Path, first: str, second: str, case: str, swapped: bool) -> None:
    """Given changes are exact, deletes as well."""
    one, two = place_of(first, folder, "one"), place_of(second, folder, "two")
    base_of(one, two)
    say((one, two), CASES[case])
    result = met((one, two), swapped=swapped)
    assert [conflict.certain for conflict in result.conflicts] == [True] * TRIES
    assert set(outcome(one, two).values()) == {None if CASES[case][1] == "delete" else 1}


@pytest.mark.parametrize(("kind", "case"), spread([(kind,) for kind in KINDS], [*CASES]))
def test_keep_both_leaves_the_name_to_the_winner(folder: Path, kind: str, case: str) -> None:
    """The winner is that of `latest`; an edit that loses is kept beside it, and nothing is kept of a delete."""
    one, two = place_of(kind, folder, "one"), place_of(kind, folder, "two")
    base_of(one, two)
    act((one, two), CASES[case])
    result = met((one, two), swapped=False, scan=True, max_delete="100%", conflict="keep-both")
    winners = outcome(one, two)
    both_edited = "delete" not in CASES[case]
    values = one.values()
    assert len(values) == TRIES * (2 if both_edited else 1)
    for number, conflict in enumerate(result.conflicts):
        assert (conflict.kept_as is not None) == both_edited
        if conflict.kept_as is not None:
            assert values[conflict.kept_as] == value_of(number, 1 - (winners[conflict.key] or 0))
    if kind in EXACT or not both_edited:
        assert set(winners.values()) == {CASES[case].index("edit") if not both_edited else 1}


def test_keep_both_keeps_a_given_edit_that_loses_to_a_later_delete() -> None:
    """Both times are exact: the delete has the name, and the edit is kept beside it, extension and all."""
    a: dict[str, bytes] = {"note.md": b"base"}
    b: dict[str, bytes] = {}
    kvsync.sync(a, b, scan=True, clock=lambda: 1000.0)
    kvsync.commit(a, [Put("note.md", b"edited")], clock=lambda: 2000.0)
    kvsync.commit(b, [Delete("note.md")], clock=lambda: 3000.0)
    (conflict,) = kvsync.sync(a, b, conflict="keep-both", clock=lambda: 4000.0).conflicts
    assert conflict.kept_as is not None
    assert conflict.kept_as.startswith("note~")
    assert conflict.kept_as.endswith(".md")
    for side in (a, b):
        values = {key: value for key, value in side.items() if not key.startswith(".kvsync/")}
        assert values == {conflict.kept_as: b"edited"}


def test_a_copy_is_not_copied_when_both_sides_change_it() -> None:
    a: dict[str, bytes] = {"note.md": b"1"}
    b: dict[str, bytes] = {"note.md": b"2"}
    kvsync.sync(a, b, scan=True, conflict="keep-both")
    (copy,) = (key for key in a if key.startswith("note~"))
    a[copy], b[copy] = b"one", b"other"
    (conflict,) = kvsync.sync(a, b, scan=True, conflict="keep-both").conflicts
    assert (conflict.key, conflict.kept_as) == (copy, None)
    assert sum(key.startswith("note") for key in a) == 2


@pytest.mark.parametrize("order", ["ab bc ca", "bc ab ca", "ca ab bc", "ba ca cb", "cb ba ac"])
def test_an_edit_wins_on_a_third_storage_as_well(order: str) -> None:
    """A edits, B deletes, C edits later and exactly: whoever meets first, all end with one and the same edit."""
    dated = DatedDict()
    storages: dict[str, Any] = {"a": {"k": b"base"}, "b": {}, "c": dated}
    values: dict[str, Any] = storages | {"c": dated.mapping}
    now = 1000.0

    def meet(pair: str) -> kvsync.SyncResult:
        one, other = (storages[name] for name in pair)
        return kvsync.sync(one, other, scan=True, max_delete="100%", clock=lambda: now)

    for pair in ("ab", "bc", "ac"):
        meet(pair)
    values["a"]["k"] = b"edited in A"
    del values["b"]["k"]
    values["c"]["k"], dated.times["k"] = b"edited in C", 1_900_000
    conflicts = 0
    for pair in (*order.split(), *order.split()):
        now += 1000.0
        conflicts += len(meet(pair).conflicts)
    held = {bytes(each["k"]) for each in values.values()}
    assert len(held) == 1
    assert held <= {b"edited in A", b"edited in C"}
    assert conflicts <= 3
    for pair in ("ab", "bc", "ac"):
        result = meet(pair)
        assert (result.pushed, result.pulled, result.conflicts) == (0, 0, [])


def test_a_change_keeps_how_exact_it_is_on_its_way() -> None:
    """B learns of A's delete from a log, not from a scan: it is as uncertain there, and loses against C's edit."""
    a: dict[str, bytes] = {"k": b"base"}
    b: dict[str, bytes] = {}
    c: dict[str, bytes] = {}
    for peer in (b, c):
        kvsync.sync(a, peer, scan=True, clock=lambda: 1000.0)
    del a["k"]
    kvsync.commit(c, [Put("k", b"edited")], clock=lambda: 1500.0)
    kvsync.sync(a, b, scan=True, max_delete="100%", clock=lambda: 2000.0)
    assert "k" not in b
    (conflict,) = kvsync.sync(b, c, clock=lambda: 3000.0).conflicts
    assert (conflict.winner, conflict.certain) == ("target", False)
    kvsync.sync(b, a, clock=lambda: 4000.0)
    assert a["k"] == b["k"] == c["k"] == b"edited"
    (change,) = kvsync.log(a)
    assert (change.decided, change.inexact) == (True, False)
