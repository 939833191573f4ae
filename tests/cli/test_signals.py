"""Ctrl-C and other signals: the run ends and releases its leases."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

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


def is_held(target: str) -> bool:
    storage, _ = open_storage(target)
    record = read_lease(storage)
    storage.close()
    return record is not None and record.state is LeaseState.HELD


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_a_run_releases_the_leases(
    run: Run, launch: Launch, pair: Pair, number: signal.Signals, code: int
) -> None:
    child = launch("sync", *pair, script=SLOW)
    assert child.stdout is not None
    assert child.stdout.readline() == "writing\n"
    assert is_held(pair[0])
    child.send_signal(number)
    out, err = child.communicate(timeout=30)
    assert child.returncode == code
    assert out == ""
    assert "Traceback" not in err
    assert not is_held(pair[0])
    assert not is_held(pair[1])
    assert run("sync", *pair, "--wait-seconds", "0").code == 0
    assert run("verify", *pair).code == 0


def test_ctrl_c_while_waiting_for_a_lease(run: Run, launch: Launch, pair: Pair) -> None:
    run("sync", *pair)
    storage, _ = open_storage(pair[1])
    with lock((storage,), Options(wait_seconds=0), Environment()):
        child = launch("sync", *pair, "--wait-seconds", "60", "--json")
        time.sleep(5)  # a busy machine takes seconds to start it
        assert child.poll() is None
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
        assert child.returncode == 130
        assert '"kind": "interrupted"' in out
        assert err.startswith("kvsync: error: interrupted")
        assert not is_held(pair[0])
    storage.close()
    assert run("sync", *pair, "--wait-seconds", "0").code == 0
    assert Path(pair[0]).exists()
