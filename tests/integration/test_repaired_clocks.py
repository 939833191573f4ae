"""A log that was written while a clock was wrong by years, and its repair."""

from __future__ import annotations

import pytest
from places import Clock, plain

import kvsync
from kvsync import Put

DAY = 86_400


def test_a_storage_whose_clock_ran_away_is_repaired() -> None:
    """Every command refused a storage after one change by a clock that was three years ahead: for three years. The one
    option that let it through was that of `sync`, and infected the other side."""
    clock = Clock()
    ahead = Clock(clock.now + 3 * 365 * DAY)
    camera, laptop, phone = {"a": b"1", "b": b"1"}, dict[str, bytes](), dict[str, bytes]()
    kvsync.sync(camera, laptop, scan=True, environment=clock.environment)
    kvsync.sync(laptop, phone, environment=clock.environment)
    kvsync.commit(camera, [Put("a", b"2"), Put("c", b"1")], environment=ahead.environment)
    kvsync.sync(camera, laptop, max_drift_seconds=1e9, environment=clock.environment)
    kvsync.commit(phone, [Put("b", b"2"), Put("d", b"1")], environment=clock.environment)
    for storage in (camera, laptop):
        with pytest.raises(kvsync.ClockError, match="--repair"):
            kvsync.commit(storage, [Put("e", b"1")], environment=clock.environment)
        (finding,) = kvsync.verify(storage, environment=clock.environment).findings
        assert "is yet to come, 2026" in finding.wrong
        found = kvsync.verify(storage, repair=True, environment=clock.environment)
        assert (found.intact, [each.name for each in found.mended]) == (True, ["manifest"])
        assert kvsync.verify(storage, environment=clock.environment).findings == []
    pairs = ((camera, laptop), (laptop, phone), (camera, laptop))
    results = [kvsync.sync(*pair, environment=clock.environment) for pair in pairs]
    assert [conflict.key for result in results for conflict in result.conflicts if conflict.key != "a"] == ["b"]
    expected = {"a": b"2", "b": b"2", "c": b"1", "d": b"1"}
    for storage in (camera, laptop, phone):
        assert plain(storage) == expected
    clock.sleep(60)
    kvsync.sync(phone, camera, [Put("a", b"3")], environment=clock.environment)
    assert camera["a"] == b"3"
