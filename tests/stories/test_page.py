"""docs/stories.md has a row for each story, and tells it in the words of the test."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "stories.md"
MODULES = sorted(path for path in HERE.glob("test_*.py") if path.name != Path(__file__).name)
STORY = re.compile(r"(?P<who>[\w.-]+/[\w.-]+)#(?P<number>\d+)(, [^:]+)?: (?P<happened>.+?) Here (?P<here>.+)")
ROW = re.compile(
    r"\| (?P<happened>.+) \| \[(?P<who>[^#]+)#(?P<number>\d+)\]\((?P<link>\S+)\) \| (?P<here>.+) \| `(?P<test>\w+)` \|"
)


class Told(NamedTuple):
    """A story: the test's name, what happened to whom, and what happens here."""

    test: str
    who: str
    number: str
    happened: str
    here: str


def sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def stories(module: Path) -> Iterator[Told]:
    """Yield what the tests of a module tell."""
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
            continue
        docstring = " ".join((ast.get_docstring(node) or "").split())
        told = STORY.fullmatch(docstring)
        assert told, f"{module.name}: {node.name} does not tell whom it happened to, what, and what happens here"
        reasons = [ast.literal_eval(found) for found in re.findall(r"xfail\(.*reason=('[^']+')", ast.unparse(node))]
        here = "".join(f"*Not yet, {reason}*: " for reason in reasons) + sentence(told["here"])
        yield Told(node.name, told["who"], told["number"], sentence(told["happened"]), here)


def test_a_test_tells_one_story_each() -> None:
    names = [story.test for module in MODULES for story in stories(module)]
    assert len(names) == len(set(names)) >= 40


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_the_page_tells_the_same_as_the_tests(module: Path) -> None:
    _, _, rest = PAGE.read_text(encoding="utf-8").partition(f"(../tests/stories/{module.name})")
    assert rest, f"docs/stories.md does not link to {module.name}"
    rows = list(ROW.finditer(rest.partition("\n## ")[0]))
    assert [Told(*map(row.__getitem__, Told._fields)) for row in rows] == list(stories(module))
    for row in rows:
        links = (f"https://github.com/{row['who']}/{kind}/{row['number']}" for kind in ("issues", "pull"))
        assert row["link"] in links


def test_the_page_has_no_other_rows() -> None:
    told = {story.test for module in MODULES for story in stories(module)}
    assert {row["test"] for row in ROW.finditer(PAGE.read_text(encoding="utf-8"))} == told
