"""The command's own cost: what `kvsync sync` takes where there is nothing to do, most of it start-up."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import kvsync
from measure import FULL, Line, Report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROUNDS = 41 if FULL else 5
FILES = 5
CPU_BAR_MS = 80.0
SCRIPT = "from kvsync.cli import command; command()"


class Cpu(NamedTuple):
    """Milliseconds of the processor's time, user and system."""

    best: float
    median: float


def cpu_of(commands: Mapping[str, Sequence[str]], home: Path) -> dict[str, Cpu]:
    """Run each command once in each round, and return what it took of the processor."""
    found: dict[str, list[float]] = {name: [] for name in commands}
    environment = os.environ | {"HOME": str(home), "UNISON": str(home)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # modules are compiled once, as for users
    for _ in range(ROUNDS + 1):
        for name, command in commands.items():
            with subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as process:
                _, status, used = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            assert process.returncode == 0, name
            found[name].append(1000 * (used.ru_utime + used.ru_stime))
    return {name: Cpu(min(each[1:]), statistics.median(each[1:])) for name, each in found.items()}


def test_the_command_with_nothing_to_do(report: Report, tmp_path: Path) -> None:
    """Compare with the interpreter alone, and with other programs that are installed."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    for number in range(FILES):
        (one / f"file {number}").write_text(str(number))
    kvsync.sync(one, other, scan=True)
    databases = [f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "other")]
    for database in databases:
        kvsync.sync(one, database, scan=True)
    kvsync.sync(databases[0], databases[1], scan=True)
    ours = [sys.executable, "-c", SCRIPT]
    commands: dict[str, list[str]] = {
        "python": [sys.executable, "-c", "pass"],
        "two folders": [*ours, "sync", str(one), str(other)],
        "two SQLite files": [*ours, "sync", *databases],
        "--version": [*ours, "--version"],
        "--help": [*ours, "--help"],
    }
    if unison := shutil.which("unison"):
        commands["unison"] = [unison, str(one), str(other), "-batch", "-silent", "-ignore", "Name .kvsync"]
    if rclone := shutil.which("rclone"):
        commands["rclone"] = [rclone, "sync", str(one), str(other), "--exclude", ".kvsync/**"]
    found = cpu_of(commands, tmp_path)
    add = partial(Line, "command", "nothing to do, processor's time")
    for name, cpu in found.items():
        report.add(add(name, cpu.best, "ms", CPU_BAR_MS if name == "two folders" else None))
        report.add(add(f"{name}, median", cpu.median, "ms"))
