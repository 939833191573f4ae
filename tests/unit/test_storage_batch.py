"""Refusing some keys of a call and doing the rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsync.storages.batch import NOT_EXPECTED, Batch
from kvsync.types import Refusal, Written

KEYS = ["a", "b", "c", "d"]


def full() -> Batch:
    return Batch(KEYS, [b"1", b"2", b"3", b"4"], [b"old", None, b"old", None], [0, 20, 0, 40])


def test_nothing_refused_is_the_call_as_it_is() -> None:
    values = [b"1", b"2", b"3", b"4"]
    batch = Batch(KEYS, values)
    batch.drop_refused()
    assert batch.keys is KEYS
    assert batch.values is values
    assert batch.spread([1, 2, 3, 4], 0) == [1, 2, 3, 4]
    assert batch.written() == Written()
    assert batch.written(values) == Written((), tuple(values))


def test_every_column_loses_what_is_refused() -> None:
    batch = full()
    batch.refuse("a", "too long")
    batch.refuse("c", "too long")
    batch.drop_refused()
    assert (batch.keys, batch.values) == (["b", "d"], [b"2", b"4"])
    assert (batch.expect, batch.expires) == ([None, None], [20, 40])
    batch.refuse("d", "too late")
    batch.drop_refused()
    assert (batch.keys, batch.values, batch.expect, batch.expires) == (["b"], [b"2"], [None], [20])


def test_columns_that_a_call_does_not_have_stay_away() -> None:
    batch = Batch(KEYS)
    batch.refuse("a", "reserved")
    batch.drop_refused()
    assert (batch.keys, batch.values, batch.expires, batch.expect) == (["b", "c", "d"], (), (), None)


def test_what_is_dropped_without_a_refusal_counts_as_done() -> None:
    batch = full()
    batch.drop({"a", "d"})
    assert (batch.keys, batch.values, batch.expect, batch.expires) == (
        ["b", "c"],
        [b"2", b"3"],
        [None, b"old"],
        [20, 0],
    )
    batch.refuse("c", "reserved")
    assert batch.spread([b"B", b"C"], b"-") == [b"-", b"B", b"C", b"-"]
    assert batch.written([b"B", b"C"]) == Written((Refusal("c", "reserved", changed=False),), (None, b"B", None, None))


def test_all_refused_leaves_nothing_to_do() -> None:
    batch = full()
    for key in KEYS:
        batch.refuse(key, "no room")
    batch.drop_refused()
    assert (batch.keys, batch.values, batch.expect, batch.expires) == ([], [], [], [])
    assert batch.written([]).tokens == (None, None, None, None)
    assert [refusal.key for refusal in batch.written([]).refused] == KEYS


def test_refusals_come_in_the_order_of_the_keys_with_the_first_reason() -> None:
    batch = full()
    batch.refuse("d", "too long")
    batch.refuse("b", "reserved")
    batch.refuse("d", "too late")
    batch.refuse_changed("a")
    assert batch.written().refused == (
        Refusal("a", NOT_EXPECTED, changed=True),
        Refusal("b", "reserved", changed=False),
        Refusal("d", "too long", changed=False),
    )


def test_a_key_that_is_there_twice_is_refused_once() -> None:
    batch = Batch(["a", "b", "a"], [b"1", b"2", b"3"])
    batch.refuse("a", "reserved")
    batch.drop_refused()
    assert batch.keys == ["b"]
    assert batch.written([b"token"]) == Written((Refusal("a", "reserved", changed=False),), (None, b"token", None))


def test_tokens_of_keys_that_are_refused_while_they_are_written_are_none() -> None:
    batch = full()
    batch.refuse("b", "reserved")
    batch.drop_refused()
    batch.refuse("c", "the disk is full")
    assert batch.written([b"A", b"C", b"D"]).tokens == (b"A", None, None, b"D")


def test_tokens_need_one_for_each_key_that_is_left() -> None:
    batch = full()
    batch.refuse("b", "reserved")
    batch.drop_refused()
    with pytest.raises(ValueError, match="shorter"):
        batch.written([b"A", b"C"])


@pytest.mark.parametrize(("deletes", "refused"), [(False, ["b", "c"]), (True, ["b"])])
def test_only_the_expected_value_may_be_replaced_and_an_absent_one_is_deleted(
    *, deletes: bool, refused: list[str]
) -> None:
    batch = full()
    batch.compare([b"old", b"new", None, None], deletes=deletes)
    assert list(batch.refused) == refused
    assert {refusal.changed for refusal in batch.refused.values()} == {True}


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=12))
def test_every_key_is_either_refused_or_has_its_own_token(fates: list[tuple[bool, bool]]) -> None:
    """Refused before or after the others were written, in any mixture."""
    keys = [f"key {number}" for number in range(len(fates))]
    batch = Batch(keys, [key.encode() for key in keys])
    for key, (early, _) in zip(keys, fates, strict=True):
        if early:
            batch.refuse(key, "early")
    batch.drop_refused()
    for key, (early, late) in zip(keys, fates, strict=True):
        if late and not early:
            batch.refuse(key, "late")
    written = batch.written(list(batch.values))
    assert [refusal.key for refusal in written.refused] == [
        key for key, fate in zip(keys, fates, strict=True) if any(fate)
    ]
    assert written.tokens == tuple(None if any(fate) else key.encode() for key, fate in zip(keys, fates, strict=True))
