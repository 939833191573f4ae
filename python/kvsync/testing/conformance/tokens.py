"""Version tokens: what tells a scan that a value changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.native import digest_values
from kvsync.testing.conformance.hard import HARD_VALUES
from kvsync.testing.conformance.tools import listing, write

if TYPE_CHECKING:
    from kvsync.storages.contract import Storage

__all__ = ["DigestTokenTests", "TokenTests"]


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
