"""docs/how-to/keep-running.md: its commands are run as they are written, but for the paths."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Launch = Callable[..., subprocess.Popen[str]]

TEXT = (Path(__file__).parents[2] / "docs" / "how-to" / "keep-running.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```(ini|dockerfile|crontab)\n(.*?)```", TEXT, re.DOTALL))
ALERT = next(block for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) if "mmin" in block)


@pytest.fixture
def placed(tmp_path: Path) -> Callable[[str], str]:
    """Give what puts the paths of the page into a directory of the test."""
    for name in ("srv/notes", "run/kvsync-notes", "tmp", "bin", "data"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "srv/notes/a").write_bytes(b"1")
    script = tmp_path / "bin" / "kvsync"
    root = Path(__file__).parents[2] / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={root} exec {sys.executable} -m kvsync "$@"\n')
    script.chmod(0o755)

    def place(text: str) -> str:
        text = text.replace("sqlite:////", "sqlite:///ROOT/")
        text = re.sub(r"(?<![\w/.])/((?:srv|run|tmp)/)", rf"{tmp_path}/\1", text)
        return text.replace("ROOT/", f"{tmp_path}/").replace("/usr/local/bin/kvsync", str(script))

    return place


def unit_of(text: str) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(text)
    return unit


def wait_for(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_service_runs_until_systemd_ends_it(tmp_path: Path, placed: Callable[[str], str]) -> None:
    service = unit_of(placed(BLOCKS["ini"]))["Service"]
    beat = tmp_path / "run/kvsync-notes/beat"
    child = subprocess.Popen(shlex.split(service["ExecStart"]), stdout=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: beat.exists() and (tmp_path / "srv/notes.db").exists())
        assert subprocess.run(["sh", "-c", placed(ALERT)], capture_output=True, text=True, check=True).stdout == ""
        os.utime(beat, (0, 0))
        alert = subprocess.run(["sh", "-c", placed(ALERT)], capture_output=True, text=True, check=True).stdout
        assert alert == "kvsync-notes: no run has succeeded for two minutes\n"
        time.sleep(0.5)
    finally:
        child.terminate()
        child.communicate(timeout=30)
    assert child.returncode == 0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path, placed: Callable[[str], str]) -> None:
    unit = tmp_path / "kvsync-notes.service"
    unit.write_text(placed(BLOCKS["ini"]).replace("User=notes", "User=root"))
    ended = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert "kvsync-notes" not in ended.stderr


@pytest.mark.skipif(shutil.which("flock") is None, reason="flock is not installed")
def test_the_line_of_cron_runs_and_says_nothing(tmp_path: Path, placed: Callable[[str], str]) -> None:
    times, command = BLOCKS["crontab"].strip().split(" * * * * ")
    assert times == "*/5"
    variables = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    ended = subprocess.run(["sh", "-c", placed(command)], capture_output=True, text=True, env=variables, check=True)
    assert (ended.stdout, ended.stderr) == ("", "")
    assert (tmp_path / "srv/notes.db").exists()


def test_the_container_starts_and_is_healthy(tmp_path: Path, placed: Callable[[str], str], launch: Launch) -> None:
    """Its command with a folder instead of the server; the image itself is not built here."""
    lines = dict(line.split(" ", 1) for line in BLOCKS["dockerfile"].strip().split("\n"))
    entry = [placed(word) for word in json.loads(lines["ENTRYPOINT"])]
    assert entry[0] == "kvsync"
    source, target = json.loads(lines["CMD"])
    assert target.startswith("redis://")
    child = launch(*entry[1:], f"{tmp_path}{source}", f"sqlite:///{tmp_path}/target.db")
    check = placed(lines["HEALTHCHECK"].split("CMD ", 1)[1])
    wait_for(lambda: subprocess.run(["sh", "-c", check], check=False).returncode == 0)
    child.terminate()
    child.communicate(timeout=30)
    assert child.returncode == 0
