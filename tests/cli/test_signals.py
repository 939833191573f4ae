"""Ctrl-C and other signals: the run ends and releases its leases."""

from __future__ import annotations

import errno
import io
import json
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kvsync.cli import main
from kvsync.cli.signals import EndedError
from kvsync.environment import Environment
from kvsync.lease import LeaseState
from kvsync.options import Options
from kvsync.run.holder import read_lease
from kvsync.run.lock import lock
from kvsync.storages import open_storage

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tests.cli.conftest import Ended

    Run = Callable[..., Ended]
    Pair = tuple[str, str]
    Launch = Callable[..., subprocess.Popen[str]]

SLOW = """
import sys, time
from kvsync.cli import main
from kvsync.storages.sqlite import SqliteStorage
def write(self, keys, values, expect=None):
    print("writing", flush=True)
    time.sleep(60)
SqliteStorage.write = write
sys.exit(main())
"""

SLOW_TO_RELEASE = SLOW.replace(
    "sys.exit(main())",
    """
from kvsync.run import lock
give_back = lock._give_back
def slow_give_back(leases, *, interrupted):
    print("releasing", flush=True)
    time.sleep(2)
    give_back(leases, interrupted=interrupted)
lock._give_back = slow_give_back
sys.exit(main())
""",
)


def is_held(target: str) -> bool:
    storage, _ = open_storage(target)
    record = read_lease(storage)
    storage.close()
    return record is not None and record.state is LeaseState.HELD


@pytest.mark.parametrize("options", [(), ("--json",), ("--quiet",)], ids=" ".join)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_in_a_run_releases_the_leases_and_is_told(
    run: Run, launch: Launch, pair: Pair, number: signal.Signals, code: int, options: tuple[str, ...]
) -> None:
    """SIGTERM and SIGHUP ended a run without a word, and `--json` without an object."""
    child = launch("sync", *pair, *options, script=SLOW)
    assert child.stdout is not None
    assert child.stdout.readline() == "writing\n"
    assert is_held(pair[0])
    child.send_signal(number)
    out, err = child.communicate(timeout=30)
    assert child.returncode == code
    assert err == (
        f"kvsync: error: interrupted by {number.name}; the leases were released\n"
        "  next: run again; the next run continues where this one stopped\n"
    )
    if "--json" in options:
        (line,) = out.splitlines()
        error = json.loads(line)["error"]
        assert (error["kind"], error["signal"]) == ("interrupted", number.name)
    else:
        assert out == ""
    assert not is_held(pair[0])
    assert not is_held(pair[1])
    assert run("sync", *pair, "--wait-seconds", "0").code == 0
    assert run("verify", *pair).code == 0


def test_a_second_signal_does_not_cut_off_the_release(run: Run, launch: Launch, pair: Pair) -> None:
    child = launch("sync", *pair, script=SLOW_TO_RELEASE)
    assert child.stdout is not None
    assert child.stdout.readline() == "writing\n"
    child.send_signal(signal.SIGTERM)
    assert child.stdout.readline() == "releasing\n"
    child.send_signal(signal.SIGTERM)
    child.send_signal(signal.SIGHUP)
    child.communicate(timeout=30)
    assert child.returncode == 143
    assert not is_held(pair[0])
    assert not is_held(pair[1])
    assert run("sync", *pair, "--wait-seconds", "0").code == 0


def test_a_terminal_that_was_closed_changes_no_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("kvsync.cli.prepare_streams", lambda: None)
    monkeypatch.setattr("kvsync.cli.detach_output", lambda: None)

    def hang_up(_tokens: list[str]) -> int:
        raise EndedError(signal.SIGHUP)

    monkeypatch.setattr("kvsync.cli._dispatch", hang_up)
    monkeypatch.setattr("sys.stdout", Closed())
    monkeypatch.setattr("sys.stderr", Closed())
    assert main(["status", "notes", "--json"]) == 129


def test_ctrl_c_while_waiting_for_a_lease(run: Run, launch: Launch, pair: Pair) -> None:
    run("sync", *pair)
    storage, _ = open_storage(pair[1])
    with lock((storage,), Options(wait_seconds=0), Environment()):
        child = launch("sync", *pair, "--wait-seconds", "60", "--json")
        # It acquires the first lease again and again, for a moment each: so long may a busy machine take to start it.
        deadline = time.monotonic() + 60
        while not is_held(pair[0]) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert child.poll() is None
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
        assert child.returncode == 130
        assert '"kind": "interrupted"' in out
        assert "kvsync: error: interrupted" in err
        assert not is_held(pair[0])
    storage.close()
    assert run("sync", *pair, "--wait-seconds", "0").code == 0
    assert Path(pair[0]).exists()
