"""Filters match as git does: it is asked about random patterns and paths."""

from __future__ import annotations

import random
import subprocess
from typing import TYPE_CHECKING

import pytest
from variants import amount

from kvsync.native import Filter

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("a", "b", "ab", "abc", "a.tmp", "b.c", "A", "x1", "x-y", "#h", "!n")
PIECES = (
    "a",
    "b",
    "ab",
    "*",
    "a*",
    "*b",
    "*.tmp",
    "?",
    "a?",
    "[ab]",
    "[!a]",
    "[a-c]*",
    "**",
    "\\a",
    "x[0-9]",
    "[^b]b",
    "*b*",
)


def some_path(chance: random.Random) -> str:
    return "/".join(chance.choice(NAMES) for _ in range(chance.randrange(1, 5)))


def some_pattern(chance: random.Random) -> str:
    text = "/".join(chance.choice(PIECES) for _ in range(chance.choice((1, 1, 1, 2, 2, 3))))
    before = chance.choice(("", "", "", "/", "**/"))
    after = chance.choice(("", "", "", "/", "/**", "/*", "  "))
    return f"{'!' if chance.random() < 0.25 else ''}{before}{text}{after}"


def test_patterns_match_as_git_says(tmp_path: Path) -> None:
    chance = random.Random(7)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for _ in range(amount(60, 2000)):
        patterns = [some_pattern(chance) for _ in range(chance.choice((1, 2, 3, 5)))]
        paths = sorted({some_path(chance) for _ in range(40)})
        (tmp_path / ".gitignore").write_text("\n".join(patterns) + "\n")
        asked = subprocess.run(
            ["git", "-c", "core.excludesFile=", "check-ignore", "--no-index", "--stdin", "-z"],
            cwd=tmp_path,
            input="\0".join(paths) + "\0",
            capture_output=True,
            text=True,
            check=False,
        )
        ignored = [path for path in asked.stdout.split("\0") if path]
        assert Filter([], patterns).excluded(paths) == ignored, patterns


@pytest.mark.parametrize(
    ("include", "exclude", "keys", "left_out"),
    [
        ([], [], ["a", "b/c"], []),
        ([], ["# all of it", "", "  "], ["a", "# all of it"], []),
        (["docs/"], [], ["docs/a", "docs", "src/a", "a/docs/b"], ["docs", "src/a"]),
        (["*.md"], ["drafts/"], ["a.md", "a.txt", "drafts/b.md"], ["a.txt", "drafts/b.md"]),
        ([], ["\\#a", "\\!b", "c\\ "], ["#a", "!b", "c ", "c"], ["#a", "!b", "c "]),
        ([], ["é?.txt"], ["éé.txt", "é.txt"], ["éé.txt"]),
        ([], ["[a"], ["[a", "a"], []),
        ([], ["*a*a*a*a*a*b"], ["a" * 200], []),
    ],
)
def test_patterns(include: list[str], exclude: list[str], keys: list[str], left_out: list[str]) -> None:
    assert Filter(include, exclude).excluded(keys) == left_out
