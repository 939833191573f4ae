"""The adapters of docs/adapters.md pass the suite, by the test files that stand beside them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

DOCUMENT = Path(__file__).parents[2] / "docs" / "adapters.md"
BLOCKS = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
FILES = {match[1]: block for block in BLOCKS if (match := re.match(r"# (\w+)\.py\n", block))}
TESTS = [name for name in FILES if name.startswith("test_")]


@pytest.mark.parametrize("name", TESTS)
def test_an_adapter_of_the_document_passes(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(**FILES)
    outcomes = pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider", f"{name}.py").parseoutcomes()
    assert outcomes.keys() == {"passed"}
    assert outcomes["passed"] >= (1 if name == "test_rocks_crashes" else 50)


def test_all_other_blocks_run() -> None:
    for block in BLOCKS:
        if block not in FILES.values():
            exec(compile(block, str(DOCUMENT), "exec"), {})  # noqa: S102 - our own document


def test_the_document_has_what_it_promises() -> None:
    assert {"rocks_storage", "rocks_transactions"} < FILES.keys()
    assert len(TESTS) == 3
    lines = [line for line in FILES["rocks_storage"].splitlines() if line.strip()]
    assert len(lines) < 86
