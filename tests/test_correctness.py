"""The page of hazards names tests that exist, and leaves no hazard without a test or a limit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kvsync.testing.simulation import HAZARDS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "correctness.md").read_text(encoding="utf-8")
SOURCES = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "python" / "kvsync" / "testing").rglob("*.py")]
HAZARD = re.compile(r"\| ([A-Z]\d+) \| (.*) \|\Z")
NAMED = re.compile(r"`([a-z0-9_]+\.py)::(test_[a-z0-9_]+)`")
SECTIONS = {"D": 7, "H": 7, "K": 13, "L": 16, "P": 13, "R": 6, "V": 14, "W": 8, "X": 16}
"""How many hazards of each kind there are: one that goes away goes from here, too."""


def hazards() -> dict[str, str]:
    """Return the last cell of each row, by its number: the tests, or the limit."""
    rows = [found for line in PAGE.splitlines() if (found := HAZARD.match(line))]
    assert len(rows) == len({row[1] for row in rows}), "a number is there twice"
    return {row[1]: row[2].rpartition(" | ")[2] for row in rows}


def names_in(source: Path) -> set[tuple[str, str]]:
    names = re.findall(r"^ *def (test_[a-z0-9_]+)\(", source.read_text(encoding="utf-8"), re.MULTILINE)
    return {(source.name, name) for name in names}


EXISTING = set().union(*map(names_in, SOURCES))


def test_all_hazards_are_there() -> None:
    kinds = [number[0] for number in hazards()]
    assert {kind: kinds.count(kind) for kind in sorted(set(kinds))} == SECTIONS


@pytest.mark.parametrize("number", hazards())
def test_a_hazard_has_a_test_or_a_limit(number: str) -> None:
    shown = hazards()[number]
    assert NAMED.search(shown) or shown.startswith("Limit: "), f"{number} has neither a test nor a limit: {shown!r}"


def test_every_test_that_is_named_exists() -> None:
    named = set(NAMED.findall(PAGE))
    assert len(named) > 60
    assert not named - EXISTING


def test_a_test_that_does_not_exist_is_noticed() -> None:
    assert ("test_correctness.py", "test_all_hazards_are_there") in EXISTING
    assert ("test_correctness.py", "test_all_hazards_are_gone") not in EXISTING


def test_the_hazards_of_the_simulator_are_explained() -> None:
    assert re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE) == list(HAZARDS)


def test_the_command_that_is_shown_can_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    from kvsync.testing.simulation.__main__ import main

    (line,) = re.findall(r"^python -m kvsync\.testing\.simulation (.*)$", PAGE, re.MULTILINE)
    assert main([*line.replace("--histories 1000", "--histories 0").split()]) == 0
    assert capsys.readouterr().out.startswith("0 histories")


def test_the_example_of_python_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(block.replace("100", "1"), "correctness.md", "exec"), {})  # noqa: S102 - our own document
