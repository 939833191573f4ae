"""Values that expire: their times come back, and from then on they are absent."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from kvsync.testing.conformance.hard import HARD_KEYS, HARD_VALUES
from kvsync.testing.conformance.tools import (
    HOUR_MS,
    SOON_MS,
    YEAR_9999_MS,
    Interrupted,
    expiring_of,
    found_by_listing,
    listing,
    now_ms,
    transactional,
    wait_until_gone,
    write,
)

if TYPE_CHECKING:
    from kvsync.storages.contract import Storage

__all__ = ["ExpiringTransactionTests", "ExpiryTests"]


class ExpiryTests:
    """`SupportsExpiry`: from the time at which it expires, a value is absent for every method."""

    def test_an_expiry_comes_back_as_it_was_given(self, storage: Storage) -> None:
        expiring = expiring_of(storage)
        later = now_ms() + HOUR_MS
        expires = [later, 0, later + 1, YEAR_9999_MS, later - 7]
        keys = ["a", "b", "c/d", "e", "f"]
        written = expiring.write_expiring(keys, [b"1"] * 5, expires)
        assert written.refused == ()
        assert expiring.expiries([*keys, "none"]) == [*expires, 0]
        assert expiring.expiries([]) == []
        assert storage.read([*keys, "none"]) == [b"1"] * 5 + [None]
        assert written.tokens is not None
        assert listing(storage) == dict(zip(keys, written.tokens, strict=True))

    def test_a_listing_that_reads_values_tells_when_they_expire(self, storage: Storage) -> None:
        later = now_ms() + HOUR_MS
        expires = [later, 0, later + 1]
        expiring_of(storage).write_expiring(["a", "b", "c/d"], [b"1", b"2", bytes(100_000)], expires)
        rows = found_by_listing(storage).find(["a", "b", "c/d"])
        assert {row and row[2] for row in rows} in ({None}, set(expires))
        assert [row[2] for row in rows if row is not None] in ([], expires)

    def test_another_handle_sees_an_expiry(self, storage: Storage, another: Storage) -> None:
        later = now_ms() + HOUR_MS
        expiring_of(storage).write_expiring(["a", "b"], [b"1", b"1"], [later, 0])
        assert expiring_of(another).expiries(["b", "a"]) == [0, later]
        assert listing(another) == listing(storage)

    def test_the_same_value_with_another_expiry_has_another_token(self, storage: Storage) -> None:
        expiring = expiring_of(storage)
        later = now_ms() + HOUR_MS
        tokens = set()
        for due in (0, later, later + 1, YEAR_9999_MS):
            written = expiring.write_expiring(["a"], [b"1"], [due])
            assert written.tokens == (listing(storage)["a"],)
            tokens.add(listing(storage)["a"])
        assert len(tokens) == 4
        expiring.write_expiring(["a", "b"], [b"1", b"1"], [later, later])
        after = listing(storage)
        assert after["a"] in tokens
        expiring.write_expiring(["a", "b"], [b"1", b"2"], [later, later])
        assert listing(storage)["a"] == after["a"]
        assert listing(storage)["b"] != after["b"]

    def test_a_plain_write_makes_a_value_never_expire(self, storage: Storage) -> None:
        expiring = expiring_of(storage)
        write(storage, {"a": b"1", "b": b"1"})
        staying = listing(storage)
        expiring.write_expiring(["a", "b"], [b"1", b"1"], [now_ms() + HOUR_MS] * 2)
        write(storage, {"a": b"1"})
        expect = listing(storage)["b"]
        assert storage.write(["b"], [b"1"], [expect]).refused == ()
        assert expiring.expiries(["a", "b"]) == [0, 0]
        assert listing(storage) == staying
        expiring.write_expiring(["a"], [b"1"], [now_ms() + HOUR_MS])
        written = expiring.write_expiring(["a"], [b"1"], [0])
        assert written.tokens == (staying["a"],)
        assert listing(storage) == staying

    def test_an_expired_value_is_absent_for_every_method(self, storage: Storage) -> None:
        expiring = expiring_of(storage)
        keys = ["read", "listed", "create", "create expiring", "write", "delete", "delete absent"]
        write(storage, {"stays": b"1"})
        written = expiring.write_expiring(keys, [b"1"] * 7, [now_ms() + SOON_MS] * 7)
        assert written.refused == ()
        assert written.tokens is not None
        old = written.tokens[0]
        wait_until_gone(storage, keys)
        assert list(listing(storage)) == ["stays"]
        assert expiring.expiries(keys) == [0] * 7
        assert storage.modified_ms(keys) == [None] * 7
        (refusal,) = storage.write(["write"], [b"2"], [old]).refused
        assert (refusal.key, refusal.changed) == ("write", True)
        assert storage.delete(["delete", "delete absent"], [old, None]).refused == ()
        later = now_ms() + HOUR_MS
        assert storage.write(["create"], [b"3"], [None]).refused == ()
        assert expiring.write_expiring(["create expiring"], [b"3"], [later], [None]).refused == ()
        assert storage.read(keys) == [None, None, b"3", b"3", None, None, None]
        assert expiring.expiries(["create", "create expiring"]) == [0, later]
        write(storage, {"read": b"4"})
        assert set(listing(storage)) == {"stays", "create", "create expiring", "read"}

    def test_a_value_replaced_before_it_expires_stays(self, storage: Storage) -> None:
        expiring = expiring_of(storage)
        soon = now_ms() + SOON_MS
        expiring.write_expiring(["a", "b", "soon"], [b"1"] * 3, [soon] * 3)
        write(storage, {"a": b"2"})
        expiring.write_expiring(["b"], [b"2"], [YEAR_9999_MS])
        wait_until_gone(storage, ["soon"])
        assert storage.read(["a", "b"]) == [b"2", b"2"]
        assert set(listing(storage)) == {"a", "b"}

    def test_a_time_in_the_past_leaves_the_key_absent(self, storage: Storage) -> None:
        expiring = expiring_of(storage)
        write(storage, {"there": b"1", "expected": b"1"})
        tokens = listing(storage)
        past = now_ms() - HOUR_MS
        assert expiring.write_expiring(["there", "new", "ancient"], [b"2"] * 3, [past, past, 1]).refused == ()
        written = expiring.write_expiring(["expected", "created"], [b"2"] * 2, [past] * 2, [tokens["expected"], None])
        assert written.refused == ()
        keys = ["there", "new", "ancient", "expected", "created"]
        assert storage.read(keys) == [None] * 5
        assert expiring.expiries(keys) == [0] * 5
        assert listing(storage) == {}

    def test_writing_expiring_values_on_condition(self, storage: Storage) -> None:
        expiring = expiring_of(storage)
        later = now_ms() + HOUR_MS
        keys = ["a", "b", "c", "d"]
        first = expiring.write_expiring(keys, [b"1"] * 4, [later, later, 0, 0]).tokens
        assert first is not None
        second = expiring.write_expiring(["b", "d"], [b"1", b"1"], [later + 1, later]).tokens
        assert second is not None
        written = expiring.write_expiring([*keys, "e"], [b"2"] * 5, [later] * 4 + [0], [*first, None])
        # All of them hold the expected value, but `b` and `d` expire at another time.
        assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("b", True), ("d", True)]
        assert storage.read([*keys, "e"]) == [b"2", b"1", b"2", b"1", b"2"]
        assert expiring.expiries([*keys, "e"]) == [later, later + 1, later, later, 0]
        there = listing(storage)
        assert written.tokens == (there["a"], None, there["c"], None, there["e"])
        assert second[0] is not None
        for expect in (first[1], None, first[2], b"no token", second[0] + b"more"):
            assert [r.changed for r in storage.write(["b"], [b"3"], [expect]).refused] == [True]
            assert [r.changed for r in expiring.write_expiring(["b"], [b"3"], [0], [expect]).refused] == [True]
        assert listing(storage) == there
        assert storage.write(["b"], [b"3"], [second[0]]).refused == ()
        assert expiring.write_expiring(["d"], [b"3"], [0], [second[1]]).refused == ()
        assert storage.read(["b", "d"]) == [b"3", b"3"]
        assert expiring.expiries(["b", "d"]) == [0, 0]

    def test_deleting_expiring_values_on_condition(self, storage: Storage) -> None:
        expiring = expiring_of(storage)
        later = now_ms() + HOUR_MS
        written = expiring.write_expiring(["a", "b", "c"], [b"1"] * 3, [later, later, 0])
        assert written.tokens is not None
        expiring.write_expiring(["b", "c"], [b"1"] * 2, [later + 1, later])
        refused = storage.delete(["a", "b", "c"], written.tokens).refused
        assert [(refusal.key, refusal.changed) for refusal in refused] == [("b", True), ("c", True)]
        assert storage.read(["a", "b", "c"]) == [None, b"1", b"1"]
        assert storage.delete(["b", "c"]).refused == ()
        assert listing(storage) == {}

    def test_hard_keys_and_values_that_expire(self, storage: Storage) -> None:
        expiring = expiring_of(storage)
        later = now_ms() + HOUR_MS
        written = expiring.write_expiring(HARD_KEYS, [key.encode() for key in HARD_KEYS], [later] * len(HARD_KEYS))
        assert not any(refusal.changed for refusal in written.refused)
        refused = {refusal.key for refusal in written.refused}
        assert written.tokens is not None
        assert [token is None for token in written.tokens] == [key in refused for key in HARD_KEYS]
        assert expiring.expiries(HARD_KEYS) == [0 if key in refused else later for key in HARD_KEYS]
        assert set(listing(storage)) == set(HARD_KEYS) - refused
        values = list(HARD_VALUES.values())
        names = [f"value {number}" for number in range(len(values))]
        again = expiring.write_expiring(names, values, [later + 1] * len(values), [None] * len(values))
        assert again.refused == ()
        assert storage.read(names) == values
        assert again.tokens is not None
        there = listing(storage)
        assert [there[name] for name in names] == list(again.tokens)

    def test_three_thousand_of_which_every_third_expires(self, storage: Storage) -> None:
        expiring = expiring_of(storage)
        later = now_ms() + HOUR_MS
        keys = [f"k/{number:04d}" for number in range(3_000)]
        values = [b"%d" % number for number in range(3_000)]
        expires = [0 if number % 3 else later + number for number in range(3_000)]
        written = expiring.write_expiring(keys, values, expires)
        assert written.refused == ()
        assert written.tokens is not None
        assert storage.read(keys) == values
        assert expiring.expiries(keys) == expires
        assert listing(storage) == dict(zip(keys, written.tokens, strict=True))
        again = expiring.write_expiring(keys, values[::-1], expires[::-1], written.tokens)
        assert again.refused == ()
        assert expiring.expiries(keys) == expires[::-1]
        assert storage.delete(keys, again.tokens).refused == ()
        assert listing(storage) == {}

    def test_an_empty_batch_writes_nothing_that_expires(self, storage: Storage) -> None:
        expiring = expiring_of(storage)
        assert expiring.write_expiring([], [], []) == ((), ())
        assert expiring.write_expiring([], [], [], []) == ((), ())
        assert listing(storage) == {}


class ExpiringTransactionTests:
    """An expiry is committed or undone with its value."""

    def test_an_expiry_is_committed_or_undone_with_its_value(self, storage: Storage) -> None:
        expiring = expiring_of(storage)
        later = now_ms() + HOUR_MS
        with transactional(storage).transaction():
            expiring.write_expiring(["a"], [b"1"], [later])
            assert expiring.expiries(["a"]) == [later]
        with contextlib.suppress(Interrupted), transactional(storage).transaction():
            expiring.write_expiring(["a", "b"], [b"1", b"1"], [later + 1, later])
            raise Interrupted
        assert expiring.expiries(["a", "b"]) == [later, 0]
        assert storage.read(["a", "b"]) == [b"1", None]
