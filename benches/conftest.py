"""Options, refusal of a debug build, and the summary of the benches."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parent.parent / "tests"))

from servers.running import stop_all

from kvsync import _core
from measure import FULL, Report

REPORT = Report()
NOTES: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the benches."""
    group = parser.getgroup("kvsync benches")
    group.addoption("--kvsync-json", type=Path, metavar="PATH", help="write every figure to a JSON file")
    group.addoption("--kvsync-strict", action="store_true", help="fail when a bar is missed")


def pytest_configure(config: pytest.Config) -> None:
    """Collect bench_*.py, and stop where figures would mean nothing."""
    config.addinivalue_line("python_files", "bench_*.py")
    if _core.DEBUG_BUILD:
        pytest.exit("kvsync._core is a debug build: build it with --release before timing it", returncode=2)


@pytest.fixture
def report() -> Report:
    """Return where a bench puts its figures."""
    return REPORT


def machine() -> dict[str, object]:
    """Return what the figures depend on."""
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
    }


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember why a bench was skipped, to say so where nobody overlooks it."""
    if report.skipped and isinstance(report.longrepr, tuple):
        NOTES.append(f"{report.nodeid}: {report.longrepr[2]}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print every figure against its bar, and write the JSON file."""
    path = config.getoption("--kvsync-json")
    if path:
        REPORT.write(path, machine())
    if not REPORT.lines and not NOTES:
        return
    size = "full size" if FULL else "smoke size: bars are meant for KVSYNC_BENCH=full"
    terminalreporter.section(f"kvsync benches, {size}")
    bench = ""
    for line in REPORT.lines:
        if line.bench != bench:
            bench = line.bench
            terminalreporter.write_line(f"\n{bench}", bold=True)
        terminalreporter.write_line(f"  {line}", red=line.met is False)
    for note in NOTES:
        terminalreporter.write_line(f"  skipped  {note}", yellow=True)
    missed = len(REPORT.missed())
    judged = sum(line.bar is not None for line in REPORT.lines)
    terminalreporter.write_line(f"\n{judged - missed} of {judged} bars reached", red=missed > 0)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the servers, and fail a strict run that missed a bar."""
    stop_all()
    if session.config.getoption("--kvsync-strict") and REPORT.missed() and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
