"""What stamps a scan gives, and which of them it calls exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

import kvsync
from kvsync import Put
from kvsync.environment import Environment
from kvsync.native import FoundValues
from kvsync.replica.log import Log
from kvsync.replica.segments import changes_of
from kvsync.scan.stamping import Unstamped
from kvsync.scan.stamping import stamped as stamped_by_side
from kvsync.storages.mapping import MappingStorage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.types import Change

NOW_MS = 1_700_000_000_000
LOGGED = "a key that was logged before"


def log(at_ms: int | None) -> Log:
    """Return a log whose clock stands at a time, or that is empty."""
    storage = MappingStorage({})
    if at_ms is not None:
        kvsync.commit(storage, [Put(LOGGED, b"")], clock=lambda: at_ms / 1000)
    return Log.read(storage, Environment())


def side(
    puts: dict[str, int | None], deletes: tuple[str, ...] = (), *, clock_ms: int | None = 0, origin: int = 7
) -> Unstamped:
    """Return what a scan found: each put with the time that the storage tells."""
    found = FoundValues()
    for at, key in enumerate(sorted(puts)):
        found.add(key, bytes([at % 250 + 1]) * 32, 1, 0, None, None)
    found.add_times([puts[key] for key in sorted(puts)])
    return Unstamped(log(clock_ms), origin, found, deletes)


def stamped(sides: Sequence[Unstamped], now_ms: int) -> list[list[Change]]:
    """Return the changes of each side, ascending by stamp."""
    found = stamped_by_side(sides, now_ms)
    return [sorted(changes_of(side.changes), key=lambda change: change.stamp) for side in found]


def times(changes: list[Change]) -> dict[str, tuple[int, bool]]:
    """Return {key: (milliseconds of its stamp, whether that is exact)}."""
    return {change.key: (change.stamp >> 16, not change.inexact) for change in changes}


def test_a_time_that_the_storage_tells_is_exact() -> None:
    (changes,) = stamped([side({"late": NOW_MS - 5, "early": NOW_MS - 9})], NOW_MS)
    assert [change.key for change in changes] == ["early", "late"]
    assert times(changes) == {"early": (NOW_MS - 9, True), "late": (NOW_MS - 5, True)}


def test_a_delete_whose_time_the_storage_tells_is_exact() -> None:
    found = side({"put": NOW_MS - 5})._replace(deletes=("late", "early", "unknown"))
    found = found._replace(deleted_ms=(NOW_MS - 3, NOW_MS - 9, None))
    (changes,) = stamped([found], NOW_MS)
    assert [change.key for change in changes] == ["early", "put", "late", "unknown"]
    assert [change.deletes for change in changes] == [True, False, True, True]
    assert times(changes) == {
        "early": (NOW_MS - 9, True),
        "put": (NOW_MS - 5, True),
        "late": (NOW_MS - 3, True),
        "unknown": (NOW_MS, False),
    }


def test_what_it_does_not_tell_is_the_time_of_the_scan() -> None:
    (changes,) = stamped([side({"unknown": None, "known": NOW_MS - 5}, ("gone",))], NOW_MS)
    assert times(changes) == {"unknown": (NOW_MS, False), "known": (NOW_MS - 5, True), "gone": (NOW_MS, False)}
    assert [change.deletes for change in changes if change.key == "gone"] == [True]


def test_a_time_in_the_future_is_the_time_of_the_scan() -> None:
    for clock_ms in (None, 0):
        (changes,) = stamped([side({"future": NOW_MS + 1, "now": NOW_MS}, clock_ms=clock_ms)], NOW_MS)
        assert times(changes) == {"future": (NOW_MS, False), "now": (NOW_MS, True)}


def test_a_time_before_the_last_known_stamp_is_raised_to_it() -> None:
    """A file that was moved here, with the time of when it was written."""
    (changes,) = stamped([side({"moved": 5}, clock_ms=NOW_MS - 1000)], NOW_MS)
    assert times(changes) == {"moved": (NOW_MS - 1000, False)}


def test_a_time_before_1970_is_1970() -> None:
    (changes,) = stamped([side({"ancient": -5}, clock_ms=None)], NOW_MS)
    assert times(changes) == {"ancient": (0, False)}


def test_a_value_of_unknown_age_counts_as_old_in_a_storage_without_a_log() -> None:
    (changes,) = stamped([side({"unknown": None, "known": NOW_MS - 5}, clock_ms=None)], NOW_MS)
    assert times(changes) == {"unknown": (0, False), "known": (NOW_MS - 5, True)}


def test_many_changes_of_one_time_stay_in_order() -> None:
    """There are 65,536 stamps in a millisecond; what does not fit into it is not exact any more."""
    keys = [f"{i:06}" for i in range(65_540)]
    (changes,) = stamped([side(dict.fromkeys(keys, NOW_MS - 9))], NOW_MS)
    stamps = [change.stamp for change in changes]
    assert stamps == sorted(set(stamps))
    assert [change.key for change in changes if change.inexact] == keys[65_536:]


def test_a_key_that_both_sides_changed_at_an_unknown_time_has_one_stamp() -> None:
    """Neither how much else a side changed nor how far its clock has come may decide."""
    few = side({"k": None, "z": None}, ("y",), clock_ms=NOW_MS)
    many = side(dict.fromkeys("abcdk") | {"told": NOW_MS, "future": NOW_MS + 9}, ("y", "x"), clock_ms=0)
    for sides in ([few, many], [many, few]):
        one, other = ({change.key: change.stamp for change in changes} for changes in stamped(sides, NOW_MS))
        assert {key for key in one.keys() & other.keys() if one[key] == other[key]} == {"k", "y"}
        for stamps in (one, other):
            assert len(set(stamps.values())) == len(stamps)


def test_old_values_of_two_storages_without_a_log_have_one_stamp() -> None:
    both = [side(dict.fromkeys(keys), clock_ms=None) for keys in ("k", "abck")]
    one, other = ({change.key: change.stamp for change in changes} for changes in stamped(both, NOW_MS))
    assert one["k"] == other["k"]


def test_an_old_value_of_two_storages_without_a_log_is_one_change() -> None:
    """Of `b`, the target tells when it was put; `c` holds something else there; `bb` is there alone."""
    source = side({"a": None, "b": None, "c": None}, clock_ms=None, origin=1)
    target = side({"a": None, "b": 5, "bb": None, "c": None}, clock_ms=None, origin=2)
    one, other = stamped_by_side([source, target], NOW_MS)
    shared = {change.key: change for change in changes_of(other.changes) if change.origin == 1}
    assert shared == {change.key: change for change in changes_of(one.changes) if change.key == "a"}
    assert (one.shared, other.shared) == (None, (shared["a"].stamp, shared["a"].stamp))


def test_a_value_is_no_shared_change_where_a_side_has_a_log() -> None:
    for clocks in ((None, 0), (0, None), (0, 0)):
        sides = [side({"a": None}, clock_ms=clock, origin=at) for at, clock in enumerate(clocks)]
        assert [found.shared for found in stamped_by_side(sides, NOW_MS)] == [None, None]


def test_stamps_are_past_all_that_a_side_has_seen() -> None:
    ahead = NOW_MS + 60_000
    (changes,) = stamped([side({"unknown": None, "known": NOW_MS - 5}, ("gone",), clock_ms=ahead)], NOW_MS)
    clock = log(ahead).manifest.clock
    assert all(change.stamp > clock for change in changes)
    assert not any(exact for _, exact in times(changes).values())
