"""`kvsync sync --watch`: lines, signals, exit codes."""

from __future__ import annotations

import json
import signal
import sqlite3
import threading
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ended

    Run = Callable[..., Ended]
    Launch = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, str]:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a").write_bytes(b"1")
    return tmp_path / "notes", f"sqlite:///{tmp_path}/notes.db"


def rows(target: str) -> dict[str, bytes]:
    connection = sqlite3.connect(target.removeprefix("sqlite:///"))
    try:
        return dict(connection.execute("SELECT key, value FROM kv"))
    finally:
        connection.close()


def line_with(child: subprocess.Popen[str], words: str) -> str:
    """Return the next line with these words; the child is killed if none comes."""
    assert child.stdout is not None
    timer = threading.Timer(60, child.kill)
    timer.start()
    lines = []
    for line in child.stdout:
        lines.append(line)
        if words in line:
            timer.cancel()
            return line
    raise AssertionError(words, lines)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_that_is_no_failure(
    launch: Launch, pair: tuple[Path, str], number: signal.Signals
) -> None:
    child = launch("sync", *pair, "--watch", "--heartbeat", pair[0].parent / "beat")
    assert child.stdout is not None
    assert child.stdout.readline() == f"watching {pair[0]} <-> {pair[1]}; Ctrl-C ends it\n"
    assert "1 to the target, 0 to the source (start, " in child.stdout.readline()
    (pair[0] / "b").write_bytes(b"2")
    line_with(child, "1 to the target, 0 to the source (hint, ")
    assert rows(pair[1]) == {"a": b"1", "b": b"2"}
    assert (pair[0].parent / "beat").exists()
    child.send_signal(number)
    out, err = child.communicate(timeout=30)
    assert (child.returncode, err) == (0, "")
    assert "0 to the target, 0 to the source" not in out  # a run that found nothing needs no line


def test_json_has_an_object_for_each_run_and_each_failure(launch: Launch, pair: tuple[Path, str]) -> None:
    child = launch("sync", *pair, "--watch", "--json")
    assert child.stdout is not None
    first = json.loads(child.stdout.readline())
    assert (first["event"], first["reason"], first["pushed"]) == ("run", "start", 1)
    assert first["source"] == str(pair[0])
    pair[0].rename(pair[0].parent / "away")
    (pair[0].parent / "away" / "b").write_bytes(b"2")
    outage = json.loads(line_with(child, "outage"))
    assert (outage["side"], outage["failures"], outage["lasting"]) == ("source", 1, False)
    assert outage["error"]["kind"] == "storage"
    (pair[0].parent / "away").rename(pair[0])
    line_with(child, '"event": "run"')  # a retry, or a hint if that comes first
    # A run that had the folder open when it was moved away may have moved it before.
    assert rows(pair[1]) == {"a": b"1", "b": b"2"}
    child.terminate()
    _, err = child.communicate(timeout=30)
    assert child.returncode == 0
    assert "kvsync: error:" in err


def test_quiet_prints_failures_and_conflicts_alone(launch: Launch, pair: tuple[Path, str]) -> None:
    child = launch("sync", *pair, "--watch", "--quiet", "--heartbeat", pair[0].parent / "beat")
    beat = pair[0].parent / "beat"
    end = time.monotonic() + 30
    while not beat.exists() or rows_or_none(pair[1]) != {"a": b"1"}:
        assert time.monotonic() < end
        time.sleep(0.02)
    child.terminate()
    assert child.communicate(timeout=30) == ("", "")
    assert child.returncode == 0


def rows_or_none(target: str) -> dict[str, bytes] | None:
    try:
        return rows(target)
    except sqlite3.Error:
        return None


def test_a_second_signal_cuts_off_what_is_being_done(launch: Launch, pair: tuple[Path, str]) -> None:
    script = """
import sys, time
from kvsync.cli import main
from kvsync.storages.sqlite import SqliteStorage
def write(self, keys, values, expect=None):
    print("writing", flush=True)
    time.sleep(60)
SqliteStorage.write = write
sys.exit(main())
"""
    child = launch("sync", *pair, "--watch", script=script)
    line_with(child, "writing")
    child.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 143
    assert "interrupted by SIGTERM; the leases were released" in err


def test_a_watch_that_is_ended_within_a_run_says_so(launch: Launch, pair: tuple[Path, str]) -> None:
    script = """
import os, signal, sys
from kvsync.cli import main
from kvsync.storages.sqlite import SqliteStorage
original = SqliteStorage.write
def write(*arguments, **named):
    os.kill(os.getpid(), signal.SIGTERM)
    return original(*arguments, **named)
SqliteStorage.write = write
sys.exit(main())
"""
    for number in range(600):
        (pair[0] / f"n{number}").write_bytes(b"1")
    child = launch("sync", *pair, "--watch", script=script)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, "")
    assert out.endswith("stopped within a run; the next one moves the rest\n")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--watch", "--changes", "x"), "--changes cannot be combined with --watch"),
        (("--watch", "--no-scan", "--guard", "check"), "--no-scan and --guard cannot be combined with --watch"),
        (("--watch", "--dry-run"), "--dry-run cannot be combined with --watch"),
        (("--watch", "--wait-seconds", "3"), "--wait-seconds cannot be combined with --watch"),
        (("--full-every", "2h"), "--every, --full-every and --heartbeat are options of a watch: add --watch"),
        (("--watch", "--every", "often"), "every must be a number of seconds, or one with a unit"),
        (("--watch", "--full-every", "0"), "--full-every must be a number of seconds"),
    ],
)
def test_options_that_say_nothing_together_are_refused(
    run: Run, pair: tuple[Path, str], options: tuple[str, ...], words: str
) -> None:
    ended = run("sync", *pair, *options)
    assert ended.code == 2
    assert words in ended.err


def test_a_wrong_name_ends_it_at_once(run: Run, pair: tuple[Path, str]) -> None:
    assert run("sync", pair[0], pair[0], "--watch").code == 2
    assert run("sync", pair[0], "127.0.0.1:6379", "--watch").code == 2
