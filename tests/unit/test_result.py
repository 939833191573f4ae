"""What a result tells: keys, bytes, seconds, and all of it as plain values."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

import kvsync
from kvsync import Delete, Put
from kvsync.environment import Environment


class Refusing(dict[str, bytes]):
    """Takes no value of more than three bytes, unless it belongs to the index."""

    def __setitem__(self, key: str, value: bytes) -> None:
        if not key.startswith(".kvsync/") and len(value) > 3:
            message = "too large"
            raise ValueError(message)
        super().__setitem__(key, value)


def test_the_keys_that_moved_are_told_with_their_bytes() -> None:
    a, b = {"a": b"1", "b": b"22"}, {"c": b"333"}
    result = kvsync.sync(a, b, scan=True)
    assert (result.pushed_keys, result.pulled_keys) == (["a", "b"], ["c"])
    assert (result.pushed, result.pulled, result.bytes, result.deleted) == (2, 1, 6, 0)
    result = kvsync.sync(a, b, [Delete("a"), Put("b", b"4444")])
    assert [(change.key, change.deletes) for change in result.to_target] == [("a", True), ("b", False)]
    assert (result.bytes, result.deleted, result.complete) == (4, 1, True)


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_dry_run_tells_the_same_keys_and_bytes(*, dry_run: bool) -> None:
    result = kvsync.sync({"a": b"1", "b": b"22"}, {"c": b"333"}, scan=True, dry_run=dry_run)
    assert (result.pushed_keys, result.pulled_keys, result.bytes) == (["a", "b"], ["c"], 6)
    assert result.dry_run is dry_run


def test_what_could_not_be_moved_is_not_among_the_keys() -> None:
    target = Refusing()
    result = kvsync.sync({"large": b"55555", "small": b"1"}, target, scan=True)
    assert (result.pushed, result.pushed_keys, result.bytes) == (1, ["small"], 1)
    assert [missing.key for missing in result.missing] == ["large"]
    assert not result.complete


def test_a_result_that_takes_seconds_says_so() -> None:
    ticks = iter(range(1000))
    environment = Environment(monotonic=lambda: float(next(ticks)))
    result = kvsync.sync({"a": b"1"}, {}, scan=True, environment=environment)
    assert 1 <= result.seconds < 100
    assert kvsync.plan({"a": b"1"}, {}, scan=True, environment=environment).apply().seconds >= 1


def test_a_result_as_plain_values_is_what_the_command_prints() -> None:
    a, b = {"a": b"1"}, {"a": b"2"}
    result = kvsync.sync(a, b, [Put("new", b"12")], scan=True, conflict="source")
    fields = json.loads(json.dumps(result.to_dict()))
    assert fields["to_target"][1] == {"key": "new", "op": "put", "size": 2}
    assert (fields["pushed"], fields["bytes"], fields["dry_run"]) == (2, 3, False)
    (conflict,) = fields["conflicts"]
    assert (conflict["key"], conflict["winner"]) == ("a", "source")


def test_a_result_can_be_copied_and_pickled() -> None:
    result = kvsync.sync({"a": b"1"}, {}, scan=True)
    for other in (copy.deepcopy(result), pickle.loads(pickle.dumps(result))):  # noqa: S301 - our own
        assert other.to_dict() == result.to_dict()


def test_a_result_makes_no_object_for_a_change_that_nobody_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused:
        @staticmethod
        def _make(_row: object) -> None:
            raise AssertionError

    result = kvsync.sync({str(number): b"" for number in range(1000)}, {}, scan=True)
    monkeypatch.setattr("kvsync.moved.Change", Refused)
    assert (result.pushed, len(result.to_target), result.bytes, result.deleted) == (1000, 1000, 0, 0)
    with pytest.raises(AssertionError):
        result.pushed_keys  # noqa: B018
