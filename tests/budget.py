"""Tells at the end of a run which tests took most, and which took more than a test may.

What counts is CPU time, of the test process and of the processes that a test started and that have ended. So it says
the same on a busy machine. It says nothing of servers, and nothing of waiting.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["pytest_runtest_makereport", "pytest_runtest_setup", "pytest_terminal_summary"]

BUDGET_SECONDS = 5.0
SHOWN_COUNT = 15
TAKEN = "cpu_seconds"

_began: dict[str, float] = {}


def cpu_seconds() -> float:
    """Return what this process and its ended children have used."""
    return sum(os.times()[:4])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note when a test begins."""
    _began[item.nodeid] = cpu_seconds()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, Any]:
    """Give the last report of a test what the test took."""
    report = yield
    if call.when == "teardown":
        report.user_properties.append((TAKEN, cpu_seconds() - _began.pop(item.nodeid, cpu_seconds())))
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show the tests that took most."""
    reports = (report for some in terminalreporter.stats.values() for report in some)
    taken = {
        report.nodeid: value
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == TAKEN
    }
    if len(taken) > SHOWN_COUNT:
        show(terminalreporter, taken)


def show(terminal: Any, taken: dict[str, float]) -> None:
    """Write which tests took most, and warn of those over the budget."""
    terminal.section(f"{len(taken)} tests took {sum(taken.values()):.0f} CPU seconds")
    for nodeid, seconds in sorted(taken.items(), key=lambda each: -each[1])[:SHOWN_COUNT]:
        over = f"  over {BUDGET_SECONDS:.0f} seconds: make it cheaper, or leave its size to the long variant"
        terminal.line(f"{seconds:6.1f}  {nodeid}{over if seconds > BUDGET_SECONDS else ''}")
