"""Broken storages: values, keys, listings and tokens."""

from __future__ import annotations

import hashlib
import time
import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING

from sound import PAGE, Mutant, Sound

from kvsync.storages import OpaqueTokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.types import Unreadable


MEBIBYTE = 1 << 20


class ValuesCutAtMebibyte(Mutant):
    """Stores a mebibyte of a value."""

    caught_by = ("test_no_size_is_special", "test_a_very_large_value_comes_back_whole_or_is_refused")

    def stored_value(self, value: bytes) -> bytes:
        return value[:MEBIBYTE]


class ValuesCutAtColumn(Mutant):
    """Stores 65,535 bytes of a value, as a column of a too short type does."""

    caught_by = ("test_no_size_is_special",)

    def stored_value(self, value: bytes) -> bytes:
        return value[:65_535]


class LastByteLost(Mutant):
    """Loses the last byte of a value of exactly one mebibyte."""

    caught_by = ("test_no_size_is_special",)

    def stored_value(self, value: bytes) -> bytes:
        return value[:-1] if len(value) == MEBIBYTE else value


class EmptyValueLost(Mutant):
    """Takes an empty value for none."""

    caught_by = ("test_an_empty_value_is_not_an_absent_one",)

    def found(self, key: str) -> tuple[bytes, int] | None:
        entry = super().found(key)
        return entry if entry and entry[0] else None


class KeysNormalised(Mutant):
    """Normalises keys, as some file systems do."""

    caught_by = ("test_hard_keys_all_at_once", "test_hard_keys_one_by_one")

    def stored_key(self, key: str) -> str:
        return unicodedata.normalize("NFC", key)


class KeysFolded(Mutant):
    """Does not tell upper from lower case, as some file systems and collations do not."""

    caught_by = ("test_hard_keys_all_at_once", "test_hard_keys_one_by_one")

    def stored_key(self, key: str) -> str:
        return key.casefold()


class KeysStripped(Mutant):
    """Drops spaces at the end of a key, as padded columns do."""

    caught_by = ("test_hard_keys_all_at_once", "test_hard_keys_one_by_one")

    def stored_key(self, key: str) -> str:
        return key.rstrip(" ")


class KeysCut(Mutant):
    """Stores 255 characters of a key."""

    caught_by = ("test_hard_keys_all_at_once", "test_hard_keys_one_by_one")

    def stored_key(self, key: str) -> str:
        return key[:255]


class ValuesCached(Mutant):
    """A handle goes on seeing a value as it first saw it."""

    caught_by = ("test_a_handle_sees_what_another_one_writes",)

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        cache: dict[str, bytes | Unreadable | None] = self.__dict__.setdefault("values", {})
        return [cache.setdefault(key, value) for key, value in zip(keys, super().read(keys), strict=True)]


class SecondsForMilliseconds(Mutant):
    """Reports modification times in seconds."""

    caught_by = ("test_modified_is_about_now",)

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        return [int(time.time()) if self.found(key) else None for key in keys]


# Listings


class ListingUnsorted(Mutant):
    """Lists keys in the order in which they came."""

    caught_by = ("test_a_scan_is_complete_and_in_order",)

    def listed(self) -> list[str]:
        return list(self.state.values)


class ListingSortedForPeople(Mutant):
    """Lists keys as a dictionary would, regardless of case."""

    caught_by = ("test_a_scan_is_complete_and_in_order",)

    def listed(self) -> list[str]:
        return sorted(self.state.values, key=str.casefold)


class LastPageLost(Mutant):
    """Lists only full pages."""

    caught_by = ("test_a_scan_is_complete_and_in_order",)

    def pages(self, pairs: list[tuple[str, bytes]]) -> list[list[tuple[str, bytes]]]:
        return [page for page in super().pages(pairs) if len(page) == PAGE]


class ListingCutOff(Mutant):
    """Lists a thousand keys and says nothing of the others."""

    caught_by = ("test_ten_thousand_keys_in_a_batch",)

    def pages(self, pairs: list[tuple[str, bytes]]) -> list[list[tuple[str, bytes]]]:
        return super().pages(pairs)[:1]


class PagesOverlap(Mutant):
    """Begins each page with the last key of the one before."""

    caught_by = ("test_ten_thousand_keys_in_a_batch",)

    def pages(self, pairs: list[tuple[str, bytes]]) -> list[list[tuple[str, bytes]]]:
        return [pairs[max(start - 1, 0) : start + PAGE] for start in range(0, len(pairs), PAGE)]


# Tokens


class SplitKeyLost(Mutant):
    """Lists from after a key on, and up to before it."""

    caught_by = ("test_what_is_listed_does_not_depend_on_splits",)

    def split(self, keys: list[str], splits: Sequence[str]) -> list[str]:
        return [key for key in super().split(keys, splits) if key not in splits]


class OutsideOfSplitsLost(Mutant):
    """Lists from the first split to the last one."""

    caught_by = ("test_what_is_listed_does_not_depend_on_splits",)

    def split(self, keys: list[str], splits: Sequence[str]) -> list[str]:
        return [key for key in keys if splits[0] <= key <= splits[-1]] if splits else keys


class TokensOfAnotherHash(Mutant):
    """Declares BLAKE3 and uses SHA-256."""

    caught_by = ("test_tokens_are_the_blake3_of_their_values",)

    def token(self, value: bytes, due: int) -> bytes:
        return hashlib.sha256(value).digest() + (b"%d" % due if due else b"")


class TokensOfSizes(Mutant):
    """Its own tokens are the sizes of the values."""

    caught_by = ("test_tokens_tell_values_apart",)
    capabilities = replace(Sound.capabilities, tokens=OpaqueTokens())

    def token(self, value: bytes, due: int) -> bytes:
        return b"%d %d" % (len(value), due)
