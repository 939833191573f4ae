"""A page of a listing: rows as a client returns them, or columns of keys and values."""

from __future__ import annotations

from typing import Any

import pytest

from kvsync.errors import UsageError
from kvsync.native import Page, Walk, digest_values
from kvsync.storages.expiry import token_of
from kvsync.types import Unreadable

NOTHING: list[Any] = [[], []]


def found_in(page: Page) -> dict[str, tuple[bytes, int, int, bytes]]:
    """Return {key: (digest, size, expiry, token)} of what a page says was read."""
    walk = Walk([])
    walk.compare(page, 0)
    found, _ = walk.take()
    keys = found.keys(0, len(found))
    return {key: row for key, row in zip(keys, found.find(keys), strict=True) if row is not None}


def test_rows_are_taken_as_they_come() -> None:
    page = Page()
    assert page.add_rows([("a", b"1"), (b"b", b"22", "and more")])
    assert page.add_rows([])
    one, two = digest_values([b"1", b"22"])
    assert list(page) == [["a", "b"], [one, two]]
    assert found_in(page) == {"a": (one, 1, 0, one), "b": (two, 2, 0, two)}
    assert (len(page), page.last, page.value_bytes) == (2, "b", 3)


@pytest.mark.parametrize(
    "row",
    [
        *[None, "kv", ("k",), ["k", b"1"], ("k", "1"), ("k", None), ("k", bytearray(b"1"))],
        *[(1, b"1"), (None, b"1"), ("\ud800", b"1"), (b"\xff", b"1"), (".kvsync/x", b"1"), ("a/.KVSYNC", b"1")],
    ],
)
def test_a_row_that_has_to_be_looked_at_leaves_the_page_as_it_was(row: Any) -> None:
    page = Page()
    assert not page.add_rows([("a", b"1"), row])
    assert not page
    assert list(page) == NOTHING


def test_what_could_not_be_read_has_an_empty_token() -> None:
    page = Page(["a", "b", "c"], [b"1", Unreadable("why"), None])
    (one,) = digest_values([b"1"])
    assert page.tokens == [one, b"", b""]
    assert found_in(page) == {"a": (one, 1, 0, one)}


def test_the_token_of_a_value_that_expires_has_its_time() -> None:
    page = Page(["a"], [b"1"])
    page.add(["b"], [b"1"], [1_700_000_000_000])
    (one,) = digest_values([b"1"])
    page.add_digests(["c", "d"], [(one, 9), None], [5, 0])
    tokens = [one, token_of(one, 1_700_000_000_000), token_of(one, 5), b""]
    assert page.tokens == tokens
    assert found_in(page) == {
        "a": (one, 1, 0, tokens[0]),
        "b": (one, 1, 1_700_000_000_000, tokens[1]),
        "c": (one, 9, 5, tokens[2]),
    }


def test_columns_have_one_length_and_are_of_one_kind() -> None:
    page = Page.of_tokens(["a"], [b"v1"])
    assert list(page) == [["a"], [b"v1"]]
    assert found_in(page) == {}
    for refused in (
        lambda: Page(["a"], []),
        lambda: Page(["a"], [b"1"], [0, 0]),
        lambda: Page.of_tokens(["a"], []),
        lambda: page.add(["b"], [b"1"]),
        lambda: Page().add_digests(["a"], [(b"short", 1)]),
        lambda: Page(["a"], [b"1"], [-1]),
    ):
        with pytest.raises(UsageError):
            refused()
