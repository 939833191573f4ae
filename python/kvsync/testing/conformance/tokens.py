"""Version tokens: what tells a scan that a value changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.native import digest_values
from kvsync.storages.contract import has_tokens
from kvsync.testing.conformance.hard import HARD_VALUES
from kvsync.testing.conformance.tools import found_by_listing, listing, write

if TYPE_CHECKING:
    from kvsync.storages.contract import Storage

__all__ = ["DigestTokenTests", "KeyTokenTests", "TokenTests"]


class TokenTests:
    """Every value has a token; another value has another token."""

    def test_tokens_tell_values_apart(self, storage: Storage) -> None:
        write(storage, {"a": b"1", "b": b"1"})
        before = listing(storage)
        assert listing(storage) == before
        written = storage.write(["a"], [b"2"])
        after = listing(storage)
        assert after["b"] == before["b"]
        assert after["a"] != before["a"]
        assert all(after.values())
        if written.tokens is not None:
            assert written.tokens == (after["a"],)

    def test_what_a_listing_reads_is_what_is_there(self, storage: Storage) -> None:
        values = {f"value {number}": value for number, value in enumerate(HARD_VALUES.values())}
        write(storage, values)
        tokens, found = listing(storage), found_by_listing(storage)
        # Of a storage with tokens of its own no value is read.
        assert len(found) == 0 or storage.capabilities.tokens == "blake3"
        read = dict(zip(values, found.find(list(values)), strict=True))
        assert all(
            (digest, size, token) == (digest_values([values[key]])[0], len(values[key]), tokens[key])
            for key, (digest, size, _, token) in ((key, row) for key, row in read.items() if row is not None)
        )

    def test_handles_list_the_same_tokens(self, storage: Storage, another: Storage) -> None:
        write(storage, {"a": b"1", "b": b"", "c/d": b"3"})
        assert listing(another) == listing(storage)
        write(another, {"a": b"2"})
        assert listing(another) == listing(storage)


class DigestTokenTests:
    """`tokens="blake3"`: the token of a value is its BLAKE3, so kvsync need not ask for it."""

    def test_tokens_are_the_blake3_of_their_values(self, storage: Storage) -> None:
        values = {f"value {number}": value for number, value in enumerate(HARD_VALUES.values())}
        digests = digest_values(list(values.values()))
        written = storage.write(list(values), list(values.values()))
        assert listing(storage) == dict(zip(values, digests, strict=True))
        assert written.tokens in {None, tuple(digests)}

    def test_the_blake3_of_a_value_is_a_condition(self, storage: Storage) -> None:
        write(storage, {"a": b"1", "b": b"2"})
        one, two = digest_values([b"1", b"2"])
        assert [refusal.key for refusal in storage.write(["a", "b"], [b"3", b"3"], [one, one]).refused] == ["b"]
        assert storage.delete(["b"], [two]).refused == ()
        assert storage.read(["a", "b"]) == [b"3", None]


class KeyTokenTests:
    """`SupportsTokens`: the tokens of single keys, as a scan lists them."""

    def test_the_token_of_a_key_is_the_listed_one(self, storage: Storage, another: Storage) -> None:
        assert has_tokens(storage)
        assert storage.tokens([]) == []
        assert storage.tokens(["a", "b/c"]) == [None, None]
        write(storage, {"a": b"1", "b/c": b"", "d": b"3"})
        for change in ({"d": b"4"}, {"a": b"2", "d": b"5"}):
            write(another, change)
            listed = listing(another)
            assert storage.tokens(["d", "none", "a", "b/c"]) == [listed["d"], None, listed["a"], listed["b/c"]]

    def test_the_token_of_a_key_is_a_condition(self, storage: Storage, another: Storage) -> None:
        assert has_tokens(storage)
        write(storage, {"a": b"1", "b": b"1"})
        before = storage.tokens(["a", "b", "c"])
        write(another, {"b": b"2"})
        refused = storage.write(["a", "b", "c"], [b"3"] * 3, before).refused
        assert [(refusal.key, refusal.changed) for refusal in refused] == [("b", True)]
        assert storage.read(["a", "b", "c"]) == [b"3", b"2", b"3"]
        assert storage.delete(["b"], storage.tokens(["b"])).refused == ()
        assert storage.tokens(["b"]) == [None]
