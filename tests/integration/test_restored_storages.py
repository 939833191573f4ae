"""Storages put back from a backup, and copies that are used, as people make them. A third meets them first.

In the end all hold the same. Each write of either life is there, or was told as beaten and is kept. Nothing that was
deleted came back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from places import Clock, DictPlace, Place, SqlitePlace, make
from restorable import KINDS, Restorable, restorable

import kvsync
from kvsync import Put

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUIET = {f"quiet/{number}": b"untouched" for number in range(6)}
FIRST = {**QUIET, "both": b"0", "deleted": b"0", "edited/old": b"0", "edited/new": b"0"}


class Three:
    """A storage with backups, a peer that knows its old life, and a third that meets its new life first."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.clock = Clock()
        self.original: Restorable = restorable(kind, folder, self.clock)
        self.place = self.original.place
        self.peer = SqlitePlace(folder / "peer.db")
        self.third = DictPlace()
        self.conflicts: list[str] = []

    def sync(self, one: Place, other: Place, **options: Any) -> kvsync.SyncResult:
        self.clock.sleep(60)
        environment = self.clock.environment
        options = {"scan": True, "create": "both", "max_delete": "100%", "environment": environment, **options}
        result = kvsync.sync(one.target, other.target, **options)
        self.conflicts += [conflict.key for conflict in result.conflicts]
        assert (result.missing, result.unreadable) == ([], [])
        return result

    def met(self) -> None:
        """Let all three know the same."""
        for key, value in FIRST.items():
            self.place.put(key, value)
        for _ in range(2):
            self.sync(self.place, self.peer)
            self.sync(self.place, self.third)
        assert self.conflicts == []

    def settle(self, *places: Place) -> dict[str, bytes]:
        """Let all meet, the third first, until nothing moves; return what they hold."""
        pairs = [(one, other) for number, one in enumerate(places) for other in places[number + 1 :]]
        for _ in range(2):
            for one, other in pairs:
                self.sync(one, other)
        for one, other in pairs:
            result = self.sync(one, other)
            assert (result.pushed, result.pulled, result.committed) == (0, 0, (0, 0))
        held = [place.values() for place in places]
        assert all(values == held[0] for values in held)
        return held[0]

    def kept(self, *places: Place) -> set[tuple[str, bytes]]:
        return {(lost.key, lost.value) for place in places for lost in kvsync.lost(place.target)}


def local(test: Any) -> Any:
    """Leave out the kinds that need a server."""
    return pytest.mark.parametrize("three", ["sqlite", "folder", "lmdb"], indirect=True)(test)


@pytest.fixture(params=KINDS)
def three(folder: Path, request: pytest.FixtureRequest) -> Iterator[Three]:
    found = Three(request.param, folder)
    yield found
    found.original.close()


def live(place: Place, life: str) -> None:
    """Write in one of two lives: keys of its own, and one that both write."""
    place.put(f"made/{life}", life.encode())
    place.put(f"edited/{life}", life.encode())
    place.put("both", f"in the {life} life".encode())


def expected(both: bytes) -> dict[str, bytes]:
    return {
        **QUIET,
        "both": both,
        "edited/old": b"old",
        "edited/new": b"new",
        "made/old": b"old",
        "made/new": b"new",
    }


def other_of(both: bytes) -> bytes:
    return {b"in the old life": b"in the new life", b"in the new life": b"in the old life"}[both]


def test_put_back_and_not_used(three: Three) -> None:
    """The third meets the restored storage first, and learns nothing from it."""
    three.met()
    saved = three.original.save()
    live(three.place, "old")
    three.place.delete("deleted")
    three.sync(three.place, three.peer)
    three.original.put_back(saved)
    assert three.place.values() == FIRST
    three.sync(three.third, three.place)
    values = three.settle(three.third, three.place, three.peer)
    assert values == {**QUIET, "both": b"in the old life", "edited/old": b"old", "edited/new": b"0", "made/old": b"old"}
    assert three.conflicts == []
    assert three.kept(three.third, three.place, three.peer) == set()


def test_put_back_and_used_and_a_third_met_it_first(three: Three) -> None:
    """Both lives wrote one key. The third took the new life's, and then met the peer, which has the old one's."""
    three.met()
    saved = three.original.save()
    live(three.place, "old")
    three.place.delete("deleted")
    three.sync(three.place, three.peer)
    three.original.put_back(saved)
    live(three.place, "new")
    three.sync(three.third, three.place)
    three.sync(three.third, three.peer)
    values = three.settle(three.third, three.place, three.peer)
    assert values == expected(values["both"])
    assert set(three.conflicts) == {"both"}
    assert three.kept(three.third, three.place, three.peer) == {("both", other_of(values["both"]))}


@local
def test_put_back_and_used_and_met_by_both_apart(three: Three) -> None:
    """The third knows the old life from the peer; then it meets the new one, and only then the peer again."""
    three.met()
    saved = three.original.save()
    live(three.place, "old")
    three.place.delete("deleted")
    three.sync(three.place, three.peer)
    three.sync(three.third, three.peer)
    three.original.put_back(saved)
    live(three.place, "new")
    three.sync(three.place, three.third)
    values = three.settle(three.peer, three.third, three.place)
    assert values == expected(values["both"])
    assert set(three.conflicts) == {"both"}
    assert three.kept(three.third, three.place, three.peer) == {("both", other_of(values["both"]))}


def test_a_copy_and_its_original_are_used_and_a_third_met_the_copy_first(three: Three) -> None:
    """The copy was made of a backup, so neither knows of the other; the third meets the copy, then the original."""
    three.met()
    copy = three.original.copy(three.original.save())
    assert copy.values() == FIRST
    live(three.place, "old")
    three.place.delete("deleted")
    live(copy, "new")
    three.sync(three.third, copy)
    three.sync(three.place, three.peer)
    three.sync(three.third, three.place)
    values = three.settle(three.third, copy, three.place, three.peer)
    assert values == expected(values["both"])
    assert set(three.conflicts) == {"both"}
    assert three.kept(three.third, copy, three.place, three.peer) == {("both", other_of(values["both"]))}
    assert kvsync.status(copy.target).replica != kvsync.status(three.place.target).replica


@local
def test_put_back_twice(three: Three) -> None:
    """Three lives: the first was met by the peer, the second by the third, and the last by nobody yet."""
    three.met()
    saved = three.original.save()
    for life, other in (("old", three.peer), ("new", three.third)):
        live(three.place, life)
        if life == "old":
            three.place.delete("deleted")
        three.sync(three.place, other)
        three.original.put_back(saved)
    three.place.put("made/last", b"last")
    values = three.settle(three.place, three.third, three.peer)
    assert values == {**expected(values["both"]), "made/last": b"last"}
    assert set(three.conflicts) == {"both"}
    assert three.kept(three.third, three.place, three.peer) == {("both", other_of(values["both"]))}


@pytest.mark.parametrize("kind", ["sqlite", "folder"])
def test_both_lives_went_on_for_long_before_they_met(folder: Path, kind: str) -> None:
    """Forty runs in each life, with a compaction in between: what both wrote is told, and nothing else is lost."""
    three = Three(kind, folder)
    three.met()
    saved = three.original.save()
    for life, other in (("old", three.peer), ("new", three.third)):
        for number in range(40):
            three.place.put(f"often/{life}/{number % 8}", b"%d" % number)
            if number == 20:
                live(three.place, life)
                kvsync.compact(three.place.target)
            three.sync(three.place, other)
        if life == "old":
            three.original.put_back(saved)
    three.original.close()
    values = three.settle(three.third, three.peer, three.place)
    made = {f"often/{life}/{number}": b"%d" % (32 + number) for life in ("old", "new") for number in range(8)}
    assert values == {**expected(values["both"]), **made, "deleted": b"0"}
    assert set(three.conflicts) == {"both"}
    assert three.kept(three.third, three.place, three.peer) == {("both", other_of(values["both"]))}


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("kind", ["folder", "sqlite"])
def test_who_only_gave_remembers_to_whom(folder: Path, kind: str, scan: bool) -> None:
    """A storage that got nothing in a run wrote no manifest, so it did not know who had taken its changes: it let go of
    the points at which those stand, and would collect tombstones without asking them."""
    clock = Clock()
    giver = make(kind, folder, "giver")
    kvsync.commit(giver.target, [Put("k", b"1")], environment=clock.environment)
    takers = [make(kind, folder, f"taker{number}") for number in range(2)]
    for taker in takers:
        kvsync.sync(giver.target, taker.target, scan=scan, environment=clock.environment)
    known = {kvsync.status(taker.target).replica for taker in takers}
    assert set(kvsync.status(giver.target).peers) == known
