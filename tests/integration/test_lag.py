"""How old the oldest change is that one side has and the other one lacks."""

from __future__ import annotations

import pytest

import kvsync
from kvsync import Delete, Put
from kvsync.testing import virtual_environment


def test_a_result_says_how_long_the_oldest_change_has_waited() -> None:
    environment = virtual_environment()
    one, other = dict[str, bytes](), dict[str, bytes]()
    kvsync.commit(one, [Put("a", b"1")], environment=environment)
    environment.sleep(60)
    kvsync.commit(other, [Put("b", b"1")], environment=environment)
    environment.sleep(5)
    assert kvsync.plan(one, other, environment=environment).lag_seconds == 65
    assert kvsync.sync(one, other, environment=environment).lag_seconds == 65
    assert kvsync.sync(one, other, environment=environment).lag_seconds is None


def test_a_change_of_unknown_time_has_no_age() -> None:
    environment = virtual_environment()
    one, other = {"old": b"1"}, dict[str, bytes]()
    result = kvsync.sync(one, other, scan=True, environment=environment)
    assert (result.pushed, result.lag_seconds) == (1, None)
    environment.sleep(60)
    one["new"] = b"1"
    result = kvsync.sync(one, other, [Delete("old")], scan=True, environment=environment)
    assert (result.pushed, result.lag_seconds) == (2, 0)


def test_a_status_with_a_peer_says_what_each_lacks() -> None:
    environment = virtual_environment()
    one, other = dict[str, bytes](), dict[str, bytes]()
    kvsync.sync(one, other, [Put("a", b"1")], environment=environment)
    kvsync.commit(one, [Put("a", b"2"), Put("b", b"1")], environment=environment)
    kvsync.commit(other, [Put("c", b"1")], environment=environment)
    environment.sleep(9)
    before = {**one}
    assert kvsync.status(one, other, clock=environment.clock).lag == (2, 1, 9)
    assert kvsync.status(one).lag is None
    assert one == before
    with pytest.raises(kvsync.SameStorageError):
        kvsync.status(one, one)
