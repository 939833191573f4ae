"""The first run of two storages that hold values already, and no log."""

from __future__ import annotations

import pytest

import kvsync
from kvsync import ConflictError
from kvsync.environment import Environment
from kvsync.replica.log import Log
from kvsync.replica.segments import changes_of
from kvsync.storages.mapping import MappingStorage

SHARED = {f"k{number:02}": b"same" for number in range(50)}


def log(store: dict[str, bytes]) -> Log:
    """Return the log of a dict."""
    return Log.read(MappingStorage(store), Environment())


def logged(store: dict[str, bytes]) -> dict[str, tuple[int, int]]:
    """Return {key: origin and stamp} of all that a dict has logged."""
    return {change.key: change.dot for segment in log(store).all_segments() for change in changes_of(segment)}


def test_what_both_hold_is_one_change_and_the_target_logs_nothing_else_of_it() -> None:
    source, target = SHARED | {"k10": b"one"}, SHARED | {"k10": b"other", "only": b"here"}
    result = kvsync.sync(source, target, scan=True)
    assert (result.committed, len(result.conflicts)) == ((50, 51), 1)
    assert result.pushed + result.pulled == 2
    assert logged(source) == logged(target)
    own = log(source).manifest.replica
    assert {key for key, (origin, _) in logged(target).items() if origin == own} >= SHARED.keys() - {"k10"}
    for store in (source, target):
        assert log(store).manifest.history.exceptions == ()
    again = kvsync.sync(source, target, scan=True)
    assert (again.committed, again.pushed, again.pulled) == ((0, 0), 0, 0)


def test_a_run_that_stops_in_between_leaves_what_others_can_go_on_with() -> None:
    """The target knows what it shares ahead of the rest of the source's history, and passes that on."""
    source, target = SHARED | {"k10": b"one"}, SHARED | {"k10": b"other"}
    third: dict[str, bytes] = {}
    with pytest.raises(ConflictError):
        kvsync.sync(source, target, scan=True, conflict="fail")
    (span,) = log(target).manifest.history.exceptions
    assert span.point == log(source).manifest.history.entries[span.origin]
    assert kvsync.sync(target, third, scan=True).pushed == 50
    result = kvsync.sync(source, third, scan=True)
    assert (result.pushed + result.pulled, len(result.conflicts)) == (1, 1)
    result = kvsync.sync(source, target, scan=True)
    assert (result.pushed + result.pulled, len(result.conflicts)) == (int(source["k10"] == b"one"), 0)
    assert logged(source) == logged(target) == logged(third)
    values = [{key: store[key] for key in SHARED} for store in (source, target, third)]
    assert values[0] == values[1] == values[2]


def test_an_edit_after_a_run_that_stopped_is_an_edit_of_what_is_shared() -> None:
    """The target had nothing of its own to log, so it knows nothing but what it shares."""
    source, target = SHARED | {"only": b"here"}, dict(SHARED)

    def stop(_progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kvsync.sync(source, target, scan=True, on_progress=stop)
    known = log(target).manifest.history
    assert (known.chains, len(known.exceptions)) == ({}, 1)
    target["k10"] = b"edited"
    result = kvsync.sync(source, target, scan=True)
    assert (result.pulled, result.conflicts) == (1, [])
    assert source["k10"] == target["k10"] == b"edited"
    assert source["only"] == target["only"]
    assert logged(source) == logged(target)
