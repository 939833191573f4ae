"""Values that go by themselves: their time travels with them, and nobody takes their going for a delete."""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest
from places import Blind, Clock, DictPlace, Place
from variants import covering

import kvsync
from kvsync import Delete, Put
from kvsync.environment import Environment
from kvsync.storages import open_storage
from kvsync.storages.contract import OpaqueTokens
from kvsync.storages.wrapper import WrappedStorage
from kvsync.testing import FAULT_MODES, ExpiringStorage, Fault, FaultyStorage, crashes
from kvsync.types import Refusal, Unreadable, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.testing import FaultMode
    from kvsync.types import Change

LIFE = 60.0
LATE = 10 * LIFE
SKEW = 5.0
"""How far a server's clock may be ahead."""

EXPIRING = ("expiring", "expiring")
PAIRS = [EXPIRING, ("expiring", "dict"), ("dict", "expiring")]
both_ways = pytest.mark.parametrize("kinds", PAIRS, ids="-".join)


class ExpiringPlace(Place):
    """A storage that keeps expiry, as its application sees it; `ahead` is what its clock is ahead of everybody's."""

    kind = "expiring"

    def __init__(self, clock: Clock) -> None:
        self.clock, self.ahead = clock, 0.0
        self.data: dict[str, tuple[bytes, int]] = {}
        self.target = ExpiringStorage(self.data, clock=lambda: clock.now + self.ahead)

    def put(self, key: str, value: bytes, due: float | None = None) -> None:
        self.data[key] = (value, int((due or 0) * 1000))

    def delete(self, key: str) -> None:
        del self.data[key]

    def values(self) -> dict[str, bytes]:
        self.target.read(list(self.data))
        return {key: value for key, (value, _) in self.data.items()}

    def due(self, key: str) -> float | None:
        return self.data[key][1] / 1000 or None

    def photograph(self) -> str:
        return repr((sorted(self.data.items()), sorted(self.target.index.items())))


def environment(clock: Clock, seed: int) -> Environment:
    """Return the time of these tests, and a chance of which origins are greater than others."""
    return Environment(clock=lambda: clock.now, random=random.Random(seed))


class Here:
    """Some storages under one clock, and the runs over them."""

    def __init__(self, *kinds: str) -> None:
        self.clock = Clock()
        self.places: list[Any] = [ExpiringPlace(self.clock) if kind == "expiring" else DictPlace() for kind in kinds]

    @property
    def now(self) -> float:
        return self.clock.now

    def later(self, seconds: float) -> float:
        """Return a time to come, in whole milliseconds."""
        return int((self.clock.now + seconds) * 1000) / 1000

    def sync(self, one: int = 0, other: int = 1, changes: Sequence[Put | Delete] = (), **options: Any) -> Any:
        return self.run(self.places[one].target, self.places[other].target, changes, **options)

    def run(self, source: Any, target: Any, changes: Sequence[Put | Delete] = (), **options: Any) -> Any:
        self.clock.now += 1
        return kvsync.sync(source, target, changes, environment=self.clock.environment, **options)

    def commit(self, number: int, *changes: Put | Delete, **options: Any) -> int:
        self.clock.now += 1
        return kvsync.commit(self.places[number].target, changes, environment=self.clock.environment, **options)

    def verify(self, one: int = 0, other: int = 1) -> Any:
        return kvsync.verify(self.places[one].target, self.places[other].target, clock=lambda: self.clock.now)

    def newest(self, number: int, key: str = "k") -> Change:
        (change,) = kvsync.log(self.places[number].target, key)
        return change

    def tombstones(self) -> list[Change]:
        return [c for place in self.places for c in kvsync.log(place.target) if c.deletes]

    def holds(self, expected: dict[str, bytes], due: float | None = None) -> None:
        """Make sure that all hold just that, and those that can, until then."""
        for place in self.places:
            assert place.values() == expected, place.kind
            if place.kind == "expiring":
                assert [place.due(key) for key in expected] == [due] * len(expected)

    def expired(self, number: int, left: dict[str, bytes]) -> None:
        """Make sure that nothing of this is there, or all of it where a storage cannot help it."""
        place = self.places[number]
        assert place.values() == ({} if place.kind == "expiring" else left), place.kind

    def settled(self, one: int = 0, other: int = 1) -> None:
        """Make sure that another run has nothing to do."""
        again = self.sync(one, other)
        assert again.operations == {"source": {"load": 1}, "target": {"load": 1}}


class Moving(WrappedStorage):
    """Calls `then` once, just before the first call of `method` that `when` says is the one."""

    def __init__(
        self, target: Any, method: str, then: Callable[[], object], when: Callable[..., bool] = lambda *_: True
    ) -> None:
        super().__init__(open_storage(target)[0])
        self.method, self.then, self.when = method, then, when
        self.done = False

    def around(self, method: str, call: Any, *args: Any, **kwargs: Any) -> Any:
        if method == self.method and not self.done and self.when(*args):
            self.done = True
            self.then()
        return super().around(method, call, *args, **kwargs)


# The time travels


@both_ways
def test_a_given_value_has_the_same_time_on_both_sides(kinds: tuple[str, str]) -> None:
    here = Here(*kinds)
    due = here.later(LIFE)
    result = here.sync(changes=[Put("k", b"v", due)])
    here.holds({"k": b"v"}, due)
    assert result.expiry_ignored == kinds.count("dict")
    assert {here.newest(i).expires for i in (0, 1)} == {int(due * 1000)}
    here.clock.now += LATE
    here.settled()
    for number in (0, 1):
        here.expired(number, {"k": b"v"})
    found = here.verify()
    assert found.equal
    assert found.expired == (["k"] if "dict" in kinds else [])
    assert not any(found.unlogged.values())
    assert not here.tombstones()


@pytest.mark.parametrize("taker", ["expiring", "dict"])
@pytest.mark.parametrize("how", ["stored", "scan"])
def test_the_time_of_a_stored_value_travels(how: str, taker: str) -> None:
    here = Here("expiring", taker)
    due = here.later(LIFE)
    here.places[0].put("k", b"v", due)
    here.places[0].put("stays", b"w")
    changes = [Put("k"), Put("stays")] if how == "stored" else []
    result = here.sync(changes=changes, scan=how == "scan")
    assert result.expiry_ignored == (taker == "dict")
    assert here.places[1].values() == {"k": b"v", "stays": b"w"}
    if taker == "expiring":
        assert (here.places[1].due("k"), here.places[1].due("stays")) == (due, None)
    assert [here.newest(i, "k").expires for i in (0, 1)] == [int(due * 1000)] * 2
    here.settled()


def test_a_scan_of_the_taker_brings_times_to_the_giver() -> None:
    here = Here(*EXPIRING)
    due = here.later(LIFE)
    here.places[1].put("k", b"v", due)
    assert here.sync(scan=True).pulled == 1
    here.holds({"k": b"v"}, due)


class Versioned(ExpiringStorage):
    """Has version tokens of its own, which say nothing of the time."""

    capabilities = replace(ExpiringStorage.capabilities, tokens=OpaqueTokens(racy_ms=0))

    def _tokens(self, keys: Sequence[str]) -> list[bytes | None]:
        return [token and b"version " + token for token in super()._tokens(keys)]


def test_a_scan_asks_for_the_time_where_version_tokens_do_not_tell() -> None:
    """The time was lost, and as every further scan found another one than the log's, each made a change of it."""
    here = Here(*EXPIRING)
    due = here.later(LIFE)
    here.places[0].put("k", b"v", due)
    source = Versioned(here.places[0].data, clock=lambda: here.clock.now)
    assert here.run(source, here.places[1].target, scan=True).committed == (1, 0)
    here.holds({"k": b"v"}, due)
    due = here.later(LATE)
    here.places[0].put("k", b"v", due)
    assert here.run(source, here.places[1].target, scan=True).committed == (1, 0)
    here.holds({"k": b"v"}, due)
    for _ in range(2):
        again = here.run(source, here.places[1].target, scan=True)
        assert (again.committed, again.pushed) == ((0, 0), 0)


@pytest.mark.parametrize("before", ["given", "scan", "scan and run"])
@pytest.mark.parametrize("how", ["given", "stored", "scan"])
@pytest.mark.parametrize("seconds", [10.0, 1000.0, None], ids=["sooner", "later", "never"])
def test_the_same_value_with_another_time_is_a_change(before: str, how: str, seconds: float | None) -> None:
    """There may be an inventory of just this log, one that a run has gone beyond, or none."""
    here = Here(*EXPIRING)
    due = here.later(LIFE)
    if before == "given":
        here.sync(changes=[Put("k", b"v", due)])
    else:
        here.places[0].put("k", b"v", due)
        here.sync(scan=True)
    if before == "scan and run":
        here.sync(changes=[Put("other", b"1", due)])
        here.sync(changes=[Delete("other")])
    changed = here.later(seconds) if seconds is not None else None
    if how != "given":
        here.places[0].put("k", b"v", changed)
    changes = {"given": [Put("k", b"v", changed)], "stored": [Put("k")], "scan": []}[how]
    result = here.sync(changes=changes, scan=how == "scan")
    assert (result.pushed, result.conflicts) == (1, [])
    here.holds({"k": b"v"}, changed)
    again = here.sync(scan=True)
    assert (again.committed, again.pushed, again.pulled) == ((0, 0), 0, 0)
    here.clock.now += LIFE + SKEW
    here.sync(scan=True)
    here.holds({} if seconds == 10.0 else {"k": b"v"}, changed)
    assert not [change for change in here.tombstones() if change.key == "k"]


def test_a_time_that_was_put_off_reaches_who_has_lost_the_value_by_then() -> None:
    here = Here(*EXPIRING)
    here.sync(changes=[Put("k", b"v", here.later(LIFE))])
    due = here.later(LATE)
    here.places[0].put("k", b"v", due)
    here.clock.now += LIFE + 30
    assert here.places[1].values() == {}
    here.sync(scan=True)
    here.holds({"k": b"v"}, due)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kinds", PAIRS[1:], ids="-".join)
def test_a_storage_without_times_takes_none_off_when_it_is_met(kinds: tuple[str, str], seed: int) -> None:
    """Both hold the same values already: to say nothing of a time is not to say that there is none."""
    here = Here(*kinds)
    keeper = kinds.index("expiring")
    due = here.later(LIFE)
    for number, place in enumerate(here.places):
        for i in range(5):
            place.put(f"k{i}", b"same", *([due] if number == keeper and i else []))
    one, other = (place.target for place in here.places)
    result = kvsync.sync(one, other, scan=True, environment=environment(here.clock, seed))
    assert (result.conflicts, here.sync(scan=True).pushed) == ([], 0)
    assert [here.places[keeper].due(f"k{i}") for i in range(5)] == [None, due, due, due, due]
    assert here.places[keeper].values() == here.places[1 - keeper].values()
    here.clock.now += LATE
    for _ in range(2):
        here.sync(scan=True)
    assert here.places[keeper].values() == {"k0": b"same"}


@pytest.mark.parametrize("source", [True, False])
def test_a_storage_without_times_may_say_so_of_a_value_of_its_own(source: bool) -> None:
    """Known to both, the value is put once more, to stay: that is a change after all, with or without times here."""
    here = Here("dict", "expiring") if source else Here("expiring", "dict")
    plain, keeper = (0, 1) if source else (1, 0)
    here.sync(keeper, plain, [Put("k", b"v", here.later(LIFE))])
    here.sync(plain, keeper, [Put("k", b"v")])
    assert here.places[keeper].due("k") is None


def test_times_changed_on_both_sides_are_no_conflict_and_the_later_change_wins() -> None:
    here = Here(*EXPIRING)
    here.sync(changes=[Put("k", b"v", here.later(LIFE))])
    due = here.later(LIFE / 2)
    here.commit(0, Put("k", b"v", here.later(LATE)))
    here.commit(1, Put("k", b"v", due))
    result = here.sync(conflict="fail")
    assert not result.conflicts
    here.holds({"k": b"v"}, due)
    here.settled()


@pytest.mark.parametrize("left", [True, False], ids=["in time", "too late"])
def test_who_is_behind_a_storage_without_times_gets_them_all_the_same(left: bool) -> None:
    here = Here("expiring", "dict", "expiring")
    due = here.later(LIFE)
    here.sync(0, 1, [Put("k", b"v", due)])
    here.clock.now += LIFE / 2 if left else LATE
    here.sync(1, 2)
    assert here.places[2].values() == ({"k": b"v"} if left else {})
    if left:
        assert here.places[2].due("k") == due
    assert here.newest(2).expires == int(due * 1000)
    here.settled(1, 2)
    here.sync(0, 2)
    assert here.places[1].values() == {"k": b"v"}
    assert not here.tombstones()


# Time passes


@both_ways
@pytest.mark.parametrize("scanned", [True, False])
def test_what_expired_before_a_scan_is_no_delete(kinds: tuple[str, str], scanned: bool) -> None:
    here = Here(*kinds)
    here.sync(changes=[Put("k", b"v", here.later(LIFE)), Put("stays", b"w")], scan=scanned)
    here.clock.now += LATE
    for _ in range(2):
        result = here.sync(scan=True)
        assert (result.committed, result.pushed, result.pulled) == ((0, 0), 0, 0)
    for number in (0, 1):
        here.expired(number, {"k": b"v", "stays": b"w"}) if kinds[number] == "dict" else None
        assert here.places[number].values()["stays"] == b"w"
    assert not here.tombstones()
    assert here.verify().equal


@pytest.mark.parametrize("taker", ["expiring", "dict"])
@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize("held", [True, False], ids=["over an older value", "new"])
def test_what_expires_between_delta_and_push_is_not_copied(taker: str, scan: bool, held: bool) -> None:
    here = Here("expiring", taker)
    if held:
        here.sync(changes=[Put("k", b"old")], scan=scan)
    here.commit(0, Put("k", b"v", here.later(LIFE)))

    def wait() -> None:
        here.clock.now += LIFE + 1

    source = Moving(here.places[0].target, "read", wait, lambda keys: keys == ["k"])
    if scan:
        # A scan reads too: wait for what is read after the intent, or the manifest, of the taker.
        armed: list[bool] = []
        source.when = lambda keys: bool(armed)
        target: Any = Moving(here.places[1].target, "store", lambda: armed.append(True), lambda name, *_: "seg" in name)
    else:
        target = here.places[1].target
    result = here.run(source, target, scan=scan)
    assert source.done
    assert (result.pushed, result.missing) == (1, [])
    for number in (0, 1):
        assert here.places[number].values() == {}
    here.settled()
    assert here.sync(scan=True).committed == (0, 0)
    assert not here.tombstones()


@pytest.mark.parametrize("taker", ["expiring", "dict"])
def test_a_server_that_takes_a_value_away_a_little_early_has_deleted_nothing(taker: str) -> None:
    here = Here("expiring", taker)
    here.commit(0, Put("early", b"v", here.later(LIFE)))
    here.places[0].ahead = SKEW - 1
    here.clock.now += LIFE - SKEW + 2
    assert here.places[0].values() == {}
    result = here.sync(scan=True)
    assert result.missing == []
    assert result.committed == (0, 0)
    assert here.places[1].values() == {}
    assert not here.tombstones()


def test_what_expired_while_a_storage_is_listed_is_no_delete() -> None:
    """A listing took longer than the clocks may differ: what went meanwhile was logged as deleted, and spread."""
    here = Here("expiring", "expiring", "dict")
    here.sync(changes=[Put("k", b"v", here.later(LIFE)), Put("stays", b"w")], scan=True)
    here.sync(0, 2)

    def wait() -> None:
        here.clock.now += 2 * LIFE

    slow = Moving(here.places[0].target, "scan", wait)
    result = here.run(slow, here.places[1].target, scan=True)
    assert slow.done
    assert result.committed == (0, 0)
    here.sync(0, 2)
    assert not here.tombstones()


@pytest.mark.parametrize("taker", ["expiring", "dict"])
def test_a_machine_whose_clock_is_ahead_takes_no_live_value_for_expired(taker: str) -> None:
    """It emptied the taker's keys; the next scan, by a right clock, found them deleted, and so they were everywhere."""
    here = Here("expiring", taker)
    due = here.later(LATE)
    here.commit(0, Put("k", b"v", due), Put("stays", b"w"))
    ahead = here.clock.now + 2 * LATE
    kvsync.sync(here.places[0].target, here.places[1].target, clock=lambda: ahead)
    assert here.places[1].values() == {"k": b"v", "stays": b"w"}
    here.sync(scan=True)
    assert here.places[0].values() == {"k": b"v", "stays": b"w"}
    assert not here.tombstones()


@pytest.mark.parametrize("relay", ["expiring", "dict"])
@pytest.mark.parametrize("scan", [True, False])
def test_who_comes_late_gets_nothing_of_what_has_expired(relay: str, scan: bool) -> None:
    here = Here("expiring", relay, "expiring")
    here.sync(0, 1, [Put("k", b"v", here.later(LIFE)), Put("stays", b"w")])
    here.clock.now += LATE
    here.sync(1, 2, scan=scan)
    assert here.places[2].values() == {"stays": b"w"}
    here.settled(1, 2)
    assert not here.tombstones()


@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize("kinds", [("expiring", "dict", "expiring"), ("dict", "expiring", "dict")], ids="-".join)
@pytest.mark.parametrize("order", list(permutations([(0, 1), (1, 2), (2, 0)])))
def test_nobody_revives_what_has_expired(
    kinds: tuple[str, ...], order: tuple[tuple[int, int], ...], scan: bool
) -> None:
    here = Here(*kinds)
    due = here.later(LIFE)
    here.sync(0, 1, [Put("k", b"v", due)])
    here.sync(1, 2)
    here.clock.now += LATE
    for one, other in (*order, *((j, i) for i, j in order)):
        result = here.sync(one, other, scan=scan)
        assert result.committed == (0, 0)
    for number in range(3):
        here.expired(number, {"k": b"v"})
        assert here.newest(number).expires == int(due * 1000)
    assert not here.tombstones()


@pytest.mark.parametrize("kinds", [EXPIRING, ("expiring", "dict")], ids="-".join)
def test_a_delete_before_its_time_is_a_delete(kinds: tuple[str, str]) -> None:
    here = Here(*kinds)
    here.sync(changes=[Put("k", b"v", here.later(LIFE)), Put("stays", b"w")], scan=True)
    here.places[0].delete("k")
    result = here.sync(scan=True)
    assert result.committed == (1, 0)
    here.holds({"stays": b"w"})
    assert len(here.tombstones()) == 2


def test_a_delete_just_before_its_time_may_pass_for_expiry_and_the_peer_follows_in_time() -> None:
    here = Here(*EXPIRING)
    here.sync(changes=[Put("k", b"v", here.later(LIFE))], scan=True)
    here.clock.now += LIFE - SKEW + 1
    here.places[0].delete("k")
    assert here.sync(scan=True).committed == (0, 0)
    here.clock.now += SKEW
    here.holds({})
    assert not here.tombstones()
    assert here.verify().equal


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("was", [None, LATE])
def test_a_time_set_in_the_storage_that_comes_before_any_run_sees_it_makes_a_delete(
    was: float | None, seen: bool
) -> None:
    """A commit that fails before it logs the time has not seen it either: only the storage ever knew."""
    here = Here(*EXPIRING)
    here.sync(changes=[Put("k", b"v", was and here.later(was)), Put("stays", b"w")], scan=True)
    here.places[0].put("k", b"v", here.later(LIFE))
    fault = Fault()
    faulty = FaultyStorage(here.places[0].target, fault)

    def fail() -> None:
        fault.at = None if seen else fault.count + 1

    with contextlib.nullcontext() if seen else pytest.raises(kvsync.StorageError):
        kvsync.commit(Moving(faulty, "read", fail), [Put("k")], environment=here.clock.environment)
    here.clock.now += LIFE + SKEW
    here.sync(scan=True)
    here.holds({"stays": b"w"})
    assert [change.key for change in here.tombstones()] == ([] if seen else ["k", "k"])


@both_ways
@pytest.mark.parametrize("change", [Put("k", b"again"), Delete("k")], ids=["put", "delete"])
def test_a_change_after_expiry_wins(kinds: tuple[str, str], change: Put | Delete) -> None:
    here = Here(*kinds)
    here.sync(changes=[Put("k", b"v", here.later(LIFE))])
    here.clock.now += LATE
    here.commit(1, change)
    result = here.sync()
    assert not result.conflicts
    here.holds({"k": b"again"} if change.value else {})


@pytest.mark.parametrize("value", [b"v", b"another"])
def test_a_value_put_again_after_expiry_is_found_by_a_scan(value: bytes) -> None:
    here = Here("expiring", "dict")
    here.sync(changes=[Put("k", b"v", here.later(LIFE))], scan=True)
    here.clock.now += LATE
    here.places[0].put("k", value)
    assert here.sync(scan=True).committed == (1, 0)
    here.holds({"k": value})
    assert here.newest(1).expires == 0


def test_an_expired_value_that_a_scan_could_not_read_is_not_new_to_the_next_one() -> None:
    """The inventory of the first scan left it out; to the second it was a value that somebody had just put."""
    here = Here("expiring", "dict")
    here.sync(changes=[Put("k", b"v", here.later(LIFE)), Put("stays", b"w")])
    here.clock.now += LATE
    here.run(here.places[0].target, Unread(here.places[1].target, "k"), scan=True)
    for _ in range(2):
        assert here.sync(scan=True).committed == (0, 0)
    assert here.places[0].values() == {"stays": b"w"}


# What is given, and what cannot be kept


@both_ways
@pytest.mark.parametrize("held", [True, False])
def test_a_value_given_too_late_empties_its_key(kinds: tuple[str, str], held: bool) -> None:
    here = Here(*kinds)
    if held:
        here.sync(changes=[Put("k", b"old")])
    result = here.sync(changes=[Put("k", b"v", here.later(-LIFE)), Put("other", b"w")])
    assert result.expiry_ignored == 0
    here.holds({"other": b"w"})
    here.settled()
    assert here.sync(scan=True).committed == (0, 0)
    assert not here.tombstones()


def test_two_storages_without_times_say_how_many_values_stay() -> None:
    here = Here("dict", "dict")
    changes = [Put("k", b"v", here.later(LIFE)), Put("late", b"v", here.later(-LIFE)), Put("stays", b"w")]
    result = here.sync(changes=changes)
    assert result.expiry_ignored == 2
    here.clock.now += LATE
    assert here.sync(scan=True).committed == (0, 0)
    here.holds({"k": b"v", "stays": b"w"})


def test_what_is_stored_and_expires_while_it_is_logged_does_not_stay_for_ever() -> None:
    """Its time was asked for after its value was read: gone by then, it was logged as a value without one."""
    here = Here(*EXPIRING)
    here.places[0].put("k", b"v", here.later(LIFE))

    def wait() -> None:
        here.clock.now += LATE

    source = Moving(here.places[0].target, "expiries", wait)
    with pytest.raises(kvsync.UsageError, match="none is stored"):
        here.run(source, here.places[1].target, [Put("k")])
    here.sync()
    assert not [change for i in (0, 1) for change in kvsync.log(here.places[i].target)]


@pytest.mark.parametrize("own", [2 * LIFE, None])
def test_of_what_is_stored_the_storage_knows_the_time_better_than_the_caller(own: float | None) -> None:
    """The caller's time was logged, and sent: the source kept the value longer, and a scan brought it back later."""
    here = Here(*EXPIRING)
    due = here.later(own) if own else None
    here.places[0].put("k", b"v", due)
    here.sync(changes=[Put("k", None, here.later(LIFE))])
    here.holds({"k": b"v"}, due)
    assert here.sync(scan=True).committed == (0, 0)


@pytest.mark.parametrize("changes", [1, 2])
def test_of_what_is_stored_where_no_time_is_kept_the_caller_says_it(changes: int) -> None:
    here = Here("dict", "expiring")
    due = here.later(LIFE)
    for number in range(changes):
        here.places[0].put(f"k{number}", b"v")
    here.sync(changes=[Put(f"k{number}", None, due if not number else None) for number in range(changes)])
    assert [here.places[1].due(f"k{number}") for number in range(changes)] == [due, None][:changes]


@both_ways
def test_a_plan_and_a_dry_run_write_nothing(kinds: tuple[str, str]) -> None:
    here = Here(*kinds)
    here.sync(changes=[Put("gone", b"v", here.later(LIFE)), Put("k", b"v", here.later(LIFE))])
    here.commit(0, Put("gone", b"newer", here.later(LIFE)))
    here.clock.now += LATE
    pictures = [place.photograph() for place in here.places]
    given = [Put("k", b"w", here.later(LIFE)), Put("past", b"w", here.later(-LIFE))]
    a, b = (place.target for place in here.places)
    options: dict[str, Any] = {"scan": True, "environment": here.clock.environment}
    plan = kvsync.plan(a, b, given, **options)
    dry = kvsync.sync(a, b, given, dry_run=True, **options)
    # Expired values were taken away by the storage itself, when it was looked at.
    here.places[0].values(), here.places[1].values()
    assert [place.photograph() for place in here.places] == pictures or "expiring" in kinds
    assert plan.expiry_ignored == dry.expiry_ignored == kinds.count("dict")
    assert plan.to_target_count == dry.pushed == 3
    result = plan.apply()
    assert (result.pushed, result.expiry_ignored) == (3, plan.expiry_ignored)
    assert "k" in here.places[0].values()
    assert here.places[1].values() == {"k": b"w"}


@pytest.mark.parametrize("kinds", PAIRS, ids="-".join)
def test_a_guard_that_looks_takes_expiry_for_no_change(kinds: tuple[str, str]) -> None:
    here = Here(*kinds)
    here.sync(changes=[Put("k", b"v", here.later(LIFE)), Put("e", b"v")])
    here.clock.now += LATE
    due = here.later(LIFE)
    result = here.sync(changes=[Put("k", b"new", due), Put("e", b"v", here.later(-1))], guard="check")
    assert not result.missing
    here.holds({"k": b"new"}, due)


def test_a_guard_that_looks_leaves_a_local_value_where_an_expired_one_would_empty_it() -> None:
    here = Here(*EXPIRING)
    here.sync(changes=[Put("k", b"v")])
    here.commit(0, Put("k", b"w", here.later(LIFE)))
    here.places[1].put("k", b"local")
    here.clock.now += LATE
    result = here.sync(guard="check")
    assert [missing.key for missing in result.missing] == ["k"]
    assert here.places[1].values() == {"k": b"local"}
    here.sync(scan=True)
    here.holds({"k": b"local"})


# Budgets


@pytest.mark.parametrize("part", [90, 100])
@pytest.mark.parametrize("run_between", [True, False])
def test_expiry_is_on_no_budget(part: int, run_between: bool) -> None:
    here = Here("expiring", "expiring")
    due = here.later(LIFE)
    for number in range(100):
        here.places[0].put(f"k{number:02}", b"v", due if number < part else None)
    here.sync(scan=True)
    if run_between:
        here.sync(changes=[Put("k00", b"w", due)])
    here.clock.now += LATE
    result = here.sync(scan=True)
    assert result.committed == (0, 0)
    assert len(here.places[1].values()) == 100 - part
    assert not here.tombstones()


def test_a_mass_of_real_deletes_is_on_the_budget_all_the_same() -> None:
    here = Here("expiring", "dict")
    for number in range(100):
        here.places[0].put(f"k{number:02}", b"v", here.later(LIFE))
    here.sync(scan=True)
    for number in range(60):
        here.places[0].delete(f"k{number:02}")
    with pytest.raises(kvsync.BudgetError):
        here.sync(scan=True)


def test_times_put_off_are_on_no_budget() -> None:
    """A cache all of which was used since the last scan: the run refused to take that for anything but an accident."""
    here = Here(*EXPIRING)
    for number in range(100):
        here.places[0].put(f"k{number:02}", b"v", here.later(LIFE) if number % 2 else here.later(2 * LIFE))
    here.sync(scan=True)
    due = here.later(LATE)
    for number in range(100):
        here.places[0].put(f"k{number:02}", b"v", due if number % 3 else None)
    assert here.sync(scan=True).pushed == 100
    assert {here.places[1].due(f"k{number:02}") for number in range(100)} == {due, None}


@pytest.mark.parametrize("was", [LIFE, None])
def test_lives_cut_short_are_on_the_budget(was: float | None) -> None:
    here = Here(*EXPIRING)
    for number in range(100):
        here.places[0].put(f"k{number:02}", b"v", here.later(was) if was else None)
    here.sync(scan=True)
    for number in range(100):
        here.places[0].put(f"k{number:02}", b"v", here.later(LIFE / 2))
    with pytest.raises(kvsync.BudgetError):
        here.sync(scan=True)


# Conflicts

SIDES = {"source": 0, "target": 1}


def merged(_conflict: Any, source: bytes | None, target: bytes | None) -> bytes:
    return b"+".join(sorted(value or b"-" for value in (source, target)))


@pytest.mark.parametrize("policy", ["latest", "source", "target", "keep-both"])
@pytest.mark.parametrize("mortal", ["source", "target"])
@pytest.mark.parametrize("first", ["source", "target"])
@pytest.mark.parametrize("rival", [Put("k", b"stays"), Delete("k")], ids=["put", "delete"])
@both_ways
def test_a_conflict_of_a_value_that_expires(
    kinds: tuple[str, str], policy: Any, mortal: str, first: str, rival: Put | Delete
) -> None:
    """Whoever wins brings its own time, or none; whoever loses is kept with its own."""
    here = Here(*kinds)
    here.sync(changes=[Put("k", b"old")])
    due = here.later(LIFE)
    says = {mortal: Put("k", b"goes", due), ("target" if mortal == "source" else "source"): rival}
    for side in (first, "target" if first == "source" else "source"):
        here.commit(SIDES[side], says[side])
    last = "target" if first == "source" else "source"
    winner = policy if policy in SIDES else last
    result = here.sync(conflict=policy)
    assert [(c.key, c.winner) for c in result.conflicts] == [("k", winner)]
    for place in here.places:
        held = place.values()
        assert held.pop("k", None) == says[winner].value
        if place.kind == "expiring" and says[winner].value:
            assert place.due("k") == (due if winner == mortal else None)
        kept = {key: place.due(key) for key in held} if place.kind == "expiring" else dict.fromkeys(held)
        loser = says["target" if winner == "source" else "source"]
        assert list(held.values()) == ([loser.value] if policy == "keep-both" and loser.value else [])
        if kept and place.kind == "expiring":
            assert list(kept.values()) == [due if loser.value == b"goes" else None]
    here.settled()
    here.clock.now += LATE
    assert here.sync(scan=True).committed == (0, 0)
    assert here.verify().equal


def test_a_conflict_of_a_value_that_expires_fails_where_that_is_asked_for() -> None:
    here = Here(*EXPIRING)
    here.commit(0, Put("k", b"goes", here.later(LIFE)))
    here.commit(1, Put("k", b"stays"))
    with pytest.raises(kvsync.ConflictError):
        here.sync(conflict="fail")
    assert [place.values()["k"] for place in here.places] == [b"goes", b"stays"]


@pytest.mark.parametrize("answer", [b"goes", "target", b"third", "delete"])
def test_a_callable_decides_over_a_value_that_expires(answer: Any) -> None:
    here = Here(*EXPIRING)
    due = here.later(LIFE)
    here.commit(1, Put("k", b"goes", due))
    here.commit(0, Put("k", b"stays"))
    here.sync(conflict=lambda *_: answer)
    if answer in {b"goes", "target"}:
        here.holds({"k": b"goes"}, due)
    else:
        here.holds({"k": b"third"} if answer == b"third" else {})
    here.settled()


@pytest.mark.parametrize("policy", ["latest", "source", "target", "keep-both", merged])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("scan", [True, False])
@both_ways
def test_a_conflict_with_what_has_expired_ends_the_same_everywhere(
    kinds: tuple[str, str], scan: bool, policy: Any, last: int
) -> None:
    here = Here(*kinds)
    says = [Put("k", b"goes", here.later(LIFE)), Put("k", b"stays")]
    for number in (1 - last, last):
        here.commit(number, says[number])
    here.clock.now += LATE
    here.sync(conflict=policy, scan=scan)
    logged = [here.newest(number) for number in (0, 1)]
    assert logged[0] == logged[1]
    if logged[0].expires:
        assert here.places[1].values() == {}
        assert [value.value for value in kvsync.lost(here.places[1].target)] == [b"stays"]
    else:
        here.holds({"k": b"stays"})
    here.settled()
    for _ in range(2):
        assert here.sync(scan=True).committed == (0, 0)
    assert here.verify().equal


@pytest.mark.parametrize("rival", ["put", "delete"])
@pytest.mark.parametrize("kinds", [EXPIRING, ("expiring", "dict")], ids="-".join)
def test_two_changes_that_leave_nothing_are_no_conflict(kinds: tuple[str, str], rival: str) -> None:
    """With the policy "fail" a run refused to go on over values that had been gone for long."""
    here = Here(*kinds)
    here.commit(0, Put("k", b"goes", here.later(LIFE)))
    here.commit(1, Put("k", b"goes too", here.later(LIFE)) if rival == "put" else Delete("k"))
    here.clock.now += LATE
    result = here.sync(conflict="fail")
    assert not result.conflicts
    assert here.newest(0) == here.newest(1)
    here.settled()
    assert here.sync(scan=True).committed == (0, 0)
    assert here.places[0].values() == {}


# Missing values


@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("taker", ["expiring", "dict"])
def test_a_missing_value_is_wanted_no_more_once_it_has_expired(taker: str, held: bool, scan: bool) -> None:
    here = Here("expiring", taker)
    if held:
        here.sync(changes=[Put("k", b"old")])
    here.commit(0, Put("k", b"v", here.later(LIFE)))
    a, b = (place.target for place in here.places)
    assert [m.key for m in here.run(Unread(a, "k"), b).missing] == ["k"]
    assert here.places[1].values() == ({"k": b"old"} if held else {})
    here.clock.now += LATE
    result = here.run(Unread(a, "k"), b, scan=scan)
    assert not result.missing
    assert not kvsync.status(b).missing
    here.holds({})
    here.settled()
    assert not here.tombstones()


@pytest.mark.parametrize("arrived", ["in time", "too late"])
def test_a_value_missing_where_an_expired_one_may_be_makes_no_delete(arrived: str) -> None:
    """The log does not say whether an expired value still lies there. Taken for held, its absence became a delete."""
    here = Here("expiring", "dict")
    here.commit(0, Put("k", b"old", here.later(LIFE)), Put("other", b"w"))
    if arrived == "in time":
        here.sync()
    here.clock.now += LATE
    here.sync()
    here.commit(0, Put("k", b"v"))
    a, b = (place.target for place in here.places)
    assert [m.key for m in here.run(Unread(a, "k"), b).missing] == ["k"]
    result = here.run(Unread(a, "k"), b, scan=True)
    assert result.committed == (0, 0)
    here.sync(scan=True)
    here.holds({"k": b"v", "other": b"w"})
    assert not here.tombstones()


def test_a_missing_value_that_nobody_holds_any_more_goes_away_at_all_in_turn() -> None:
    here = Here("expiring", "expiring", "dict")
    here.commit(0, Put("k", b"v", here.later(LIFE)))
    a, b, c = (place.target for place in here.places)
    here.run(Unread(a, "k"), b)
    here.run(b, c)
    assert kvsync.status(b).missing
    assert kvsync.status(c).missing
    here.clock.now += LATE
    here.run(b, c)
    assert not kvsync.status(b).missing
    assert not kvsync.status(c).missing
    here.settled(1, 2)
    here.settled(0, 1)


def test_what_was_held_in_place_of_a_missing_value_may_expire_too() -> None:
    here = Here(*EXPIRING)
    here.sync(changes=[Put("k", b"old", here.later(LIFE))], scan=True)
    here.commit(0, Put("k", b"v", here.later(LATE)))
    a, b = (place.target for place in here.places)
    here.run(Unread(a, "k"), b, scan=False)
    here.clock.now += LIFE + SKEW
    assert here.places[1].values() == {}
    result = here.run(a, b, scan=True)
    assert result.committed == (0, 0)
    assert [place.values() for place in here.places] == [{"k": b"v"}] * 2
    assert not here.tombstones()


class Unread(WrappedStorage):
    """Cannot read some values for now."""

    def __init__(self, target: Any, *keys: str) -> None:
        super().__init__(open_storage(target)[0])
        self.keys = keys

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        found = super().read(keys)
        return [
            Unreadable("the disk has a bad sector") if key in self.keys and value is not None else value
            for key, value in zip(keys, found, strict=True)
        ]


def test_a_value_that_cannot_be_read_has_not_expired() -> None:
    """To verify took a key that one side alone has, and cannot read, for an expired one, and the two for equal."""
    found = kvsync.verify(Blind({"k": b"v"}, "k"), {})
    assert [(entry.key, entry.side) for entry in found.unreadable] == [("k", "source")]
    assert not found.expired
    assert not found.equal


def test_a_value_that_the_taker_refuses_is_missing_until_it_expires() -> None:
    class Full(WrappedStorage):
        def write(self, keys: Any, values: Any, expect: Any = None) -> Written:
            return Written(tuple(Refusal(key, "no room", changed=False) for key in keys))

    here = Here("expiring", "dict")
    here.commit(0, Put("k", b"v", here.later(LIFE)))
    a, b = (place.target for place in here.places)
    full = Full(open_storage(b)[0])
    assert [m.reason for m in here.run(a, full).missing] == ["no room"]
    here.clock.now += LATE
    assert not here.run(a, full).missing
    here.settled()


# Interrupted runs


def before(here: Here) -> list[Put | Delete]:
    """Make what a run has to move both ways, and return what it is given: values that live, go, and went."""
    stays = here.later(100 * LATE)
    here.sync(changes=[Put(f"k{number}", b"old") for number in range(6)], scan=True)
    here.commit(0, Put("k0", b"goes", here.later(LIFE)), Put("k1", b"lives", stays), Put("k2", b"old", stays))
    here.commit(1, Put("k3", b"goes", here.later(LIFE)), Put("k4", b"lives", stays), Delete("k5"))
    return [Put("given", b"goes", here.later(LIFE)), Put("gone", b"went", here.later(-1)), Put("k9", b"lives", stays)]


AT_ONCE, AS_IT_GOES, TOO_LATE = 1.0, LIFE - SKEW, LATE
EXPECTED = {"k1": b"lives", "k2": b"old", "k4": b"lives", "k9": b"lives"}


@pytest.mark.parametrize(
    ("mode", "kinds", "pause"),
    covering([(mode,) for mode in FAULT_MODES], PAIRS, [AT_ONCE, AS_IT_GOES, TOO_LATE]),
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_a_run_that_fails_anywhere_revives_nothing_and_makes_no_delete_up(
    kinds: tuple[str, str], mode: FaultMode, pause: float
) -> None:
    """Recovery finds values that have expired since, here or by a server whose clock is ahead, or that stay."""

    def make() -> tuple[Here, list[Put | Delete]]:
        here = Here(*kinds)
        return here, before(here)

    def run(world: tuple[Here, list[Put | Delete]], fault: Fault) -> None:
        here, given = world
        source, target = (FaultyStorage(open_storage(place.target)[0], fault) for place in here.places)
        here.run(source, target, given)

    points = 0
    for fault, (here, given) in crashes(make, run, modes=[mode]):
        for place in here.places:
            if place.kind == "expiring":
                place.ahead = SKEW - 0.5
        here.clock.now += pause
        here.sync(scan=True, wait_seconds=400)
        here.clock.now += LATE
        here.sync(changes=given, scan=True, wait_seconds=400)
        for place in here.places:
            held = place.values()
            assert {key: held.pop(key, None) for key in EXPECTED} == EXPECTED, fault
            assert set(held.values()) <= ({b"goes"} if place.kind == "dict" else set()), fault
        logs = [{c.key: c for c in kvsync.log(place.target)} for place in here.places]
        assert logs[0] == logs[1], fault
        assert {c.key for c in here.tombstones()} == {"k5"}, fault
        assert logs[0]["k0"].expires, fault
        assert logs[0]["k3"].expires, fault
        here.settled()
        assert here.verify().equal, fault
        points += 1
    assert points > 20


def interrupt(here: Here) -> None:
    """Let a run end when the value of `k` is there, and not logged yet."""

    def fail() -> None:
        message = "planted"
        raise kvsync.StorageError(message)

    broken = Moving(here.places[1].target, "store", fail, lambda name, *_: name == "manifest")
    with pytest.raises(kvsync.StorageError, match="planted"):
        here.run(here.places[0].target, broken)
    assert here.places[1].values() == {"k": b"v"}


def test_the_same_value_with_another_time_is_not_what_an_interrupted_run_wrote() -> None:
    """A run that was to put a time off failed before that: who takes it over must not believe that it did."""
    here = Here(*EXPIRING)
    here.sync(changes=[Put("k", b"v", here.later(LIFE))])
    due = here.later(LATE)
    here.commit(0, Put("k", b"v", due))
    fault = Fault()
    faulty = FaultyStorage(here.places[1].target, fault)

    def fail() -> None:
        fault.at = fault.count + 1

    source = Moving(here.places[0].target, "read", fail, lambda keys: keys == ["k"])
    with pytest.raises(kvsync.StorageError):
        here.run(source, faulty)
    assert kvsync.status(here.places[1].target).lease is not None
    assert here.places[1].due("k") != due
    here.commit(1, Put("other", b"w"))
    assert here.newest(1).expires != int(due * 1000)
    here.sync()
    assert here.places[1].due("k") == due


@pytest.mark.parametrize("scan", [True, False])
def test_a_value_that_an_interrupted_run_left_where_times_are_not_kept_is_no_new_one(scan: bool) -> None:
    """It expired before anybody looked: then it was taken for a value that an application had put there for good."""
    here = Here("expiring", "dict")
    due = here.later(LIFE)
    here.commit(0, Put("k", b"v", due))
    interrupt(here)
    here.clock.now += LATE
    result = here.sync(scan=scan)
    assert result.committed == (0, 0)
    assert here.newest(1).expires == here.newest(0).expires == int(due * 1000)
    assert here.places[0].values() == {}


@pytest.mark.parametrize("options", [{}, {"guard": "check"}, {"scan": True}], ids=str)
def test_a_value_that_an_interrupted_run_left_is_known_also_with_another_time(options: dict[str, Any]) -> None:
    """Its application put it off before anybody took it in: it was taken for somebody else's value of that key."""
    here = Here(*EXPIRING)
    here.commit(0, Put("k", b"v", here.later(LIFE)))
    interrupt(here)
    here.places[1].put("k", b"v", here.later(LATE))
    here.commit(1, Put("other", b"w"))
    assert here.newest(1) == here.newest(0)
    if "scan" not in options:
        here.commit(0, Put("k", b"newer"))
    result = here.sync(**options)
    assert not result.missing
    assert not result.conflicts
    expected = b"v" if "scan" in options else b"newer"
    for place in here.places:
        assert place.values() == {"k": expected, "other": b"w"}
        assert place.due("k") == (here.places[1].due("k") if "scan" in options else None)
