"""Options: checked once, at the door."""

from __future__ import annotations

from typing import Any

import pytest

import kvsync
from kvsync.options import Options
from kvsync.scan import Budget


def test_defaults() -> None:
    options = Options()
    assert (options.conflict, options.guard, options.scan, options.keep_lost) == ("latest", "none", False, True)
    assert options.budget == Budget.parse(None)


@pytest.mark.parametrize("text", ["60%", 5, "5", None])
def test_the_budget_is_parsed(text: Any) -> None:
    assert Options(max_delete=text).budget == Budget.parse(text)


@pytest.mark.parametrize(("grace", "milliseconds"), [("0", 0), ("90", 90_000), (90, 90_000), ("1.5m", 90_000)])
def test_a_grace_is_a_number_of_seconds_or_has_a_unit(grace: Any, milliseconds: int) -> None:
    """From the command line a number of seconds is a text, too."""
    assert Options(tombstone_grace=grace).grace_ms == milliseconds


@pytest.mark.parametrize(
    "fields",
    [
        {"conflict": "newest"},
        {"guard": "maybe"},
        {"lease_seconds": 0},
        {"lease_seconds": float("nan")},
        {"wait_seconds": -0.1},
        {"wait_seconds": float("nan")},
        {"max_delete": "lots"},
        {"tombstone_grace": ""},
        {"tombstone_grace": "d"},
        {"tombstone_grace": "30y"},
        {"tombstone_grace": "-1"},
        {"tombstone_grace": "inf"},
        {"tombstone_grace": True},
    ],
    ids=str,
)
def test_what_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(kvsync.UsageError):
        Options(**fields)


def test_they_are_values() -> None:
    assert Options() == Options()
    with pytest.raises(AttributeError):
        Options().scan = True  # type: ignore[misc]


def test_a_callable_is_a_policy() -> None:
    assert callable(Options(conflict=lambda *_: "source").conflict)
