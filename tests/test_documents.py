"""Examples in docstrings and documents run as they are, and links between documents lead to files."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import kvsync

ROOT = Path(__file__).parent.parent
MODULES = [
    module.name
    for module in pkgutil.walk_packages(kvsync.__path__, "kvsync.")
    if not module.name.endswith(("__main__", "_core"))
]


@pytest.mark.parametrize("name", ["kvsync", *MODULES])
def test_examples_in_docstrings(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize(
    ("document", "count"), [("README.md", 7), ("docs/watch.md", 2), ("docs/folder-names.md", 1), ("docs/repair.md", 1)]
)
def test_examples_in_a_document_run_one_after_the_other(document: str, count: int) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == count
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, document, "exec"), names)  # noqa: S102 - our own document


@pytest.mark.parametrize("document", [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")], ids=lambda path: path.name)
def test_links_lead_to_files(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"
