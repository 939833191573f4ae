"""Words and numbers in storage URLs, and what is said of those that are out of bounds."""

from __future__ import annotations

import pytest

from kvsync.errors import UsageError
from kvsync.storages import open_storage
from kvsync.storages.options import choice, seconds

STORAGE = "redis://host/0"


def test_a_choice_is_its_first_word_unless_given() -> None:
    choices = ("refuse", "allow")
    assert choice({}, "evicting", choices, storage=STORAGE) == "refuse"
    assert choice({"evicting": "allow"}, "evicting", choices, storage=STORAGE) == "allow"


@pytest.mark.parametrize("text", ["", "Allow", "true", "allow "])
def test_another_word_is_named_beside_the_choices(text: str) -> None:
    with pytest.raises(UsageError, match=f"evicting is refuse or allow, not '{text}'") as raised:
        choice({"evicting": text}, "evicting", ("refuse", "allow"), storage=STORAGE)
    assert raised.value.storage == STORAGE


@pytest.mark.parametrize(
    ("text", "least", "found"),
    [(None, None, 10.0), ("0.001", None, 0.001), ("60", None, 60.0), ("0", 0.0, 0.0), ("1e-3", 0.001, 0.001)],
)
def test_seconds_within_their_bounds(text: str | None, least: float | None, found: float) -> None:
    options = {} if text is None else {"timeout": text}
    assert seconds(options, "timeout", default=10, least=least, most=60, storage=STORAGE) == found


@pytest.mark.parametrize("text", ["", "0", "-1", "60.1", "inf", "nan", "soon", "1,5"])
def test_seconds_out_of_their_bounds(text: str) -> None:
    told = f"timeout is a number of seconds, more than 0 and at most 60, not '{text}'"
    with pytest.raises(UsageError, match=told) as raised:
        seconds({"timeout": text}, "timeout", default=10, most=60, storage=STORAGE)
    assert raised.value.storage == STORAGE


def test_both_bounds_are_told_in_plain_figures() -> None:
    with pytest.raises(UsageError, match=r"from 0\.001 to 1000000, not '0'"):
        seconds({"timeout": "0"}, "timeout", default=10, least=0.001, most=1e6, storage=STORAGE)


@pytest.mark.parametrize(
    "url",
    [
        "nats://host/b?timeout=3601",
        "redis://host?timeout=86401",
        "postgresql://127.0.0.1/db?lock_timeout=86401",
        "postgresql://127.0.0.1/db?lock_timeout=0",
        "sqlite:///a.db?busy_timeout=1000001",
        "sqlite:///a.db?busy_timeout=-1",
    ],
)
def test_each_storage_has_bounds(url: str) -> None:
    with pytest.raises(UsageError, match="is a number of seconds"):
        open_storage(url)


@pytest.mark.parametrize("url", ["nats://me:a/b?tls=hunter2@host/b", "redis://me:a/b?timeout=hunter2@host/0"])
def test_the_rest_of_a_password_is_not_shown(url: str) -> None:
    with pytest.raises(UsageError) as raised:
        open_storage(url)
    assert "hunter2" not in f"{raised.value}{raised.value.storage}"
