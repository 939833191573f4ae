"""Which process we are, and whether another one still runs; asked of real processes where the system tells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from kvsync import process
from kvsync.process import UNKNOWN, Presence, Process, presence, this_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells processes apart")

PRINT = "from kvsync.process import this_process; print(*this_process(), sep='|', flush=True)"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    process._process.cache_clear()
    yield
    process._process.cache_clear()


def started(*before: str) -> tuple[subprocess.Popen[str], Process]:
    """Start a process that says who it is, and then waits."""
    script = f"{PRINT}; import time; time.sleep(600)"
    child = subprocess.Popen([*before, sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    machine, pid, ticks = child.stdout.readline().split("|")
    return child, Process(machine, int(pid), int(ticks))


def ended(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.communicate()


def test_we_are_running() -> None:
    assert this_process().pid == os.getpid()
    assert this_process() == this_process()
    assert presence(this_process()) is Presence.RUNNING


def test_a_process_runs_until_it_is_killed() -> None:
    child, other = started()
    assert other.machine == this_process().machine
    assert presence(other) is Presence.RUNNING
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert presence(other) is Presence.GONE, "its parent has not asked for it yet"
    ended(child)
    assert presence(other) is Presence.GONE


def test_a_number_that_is_used_again_is_another_process() -> None:
    here = this_process()
    assert presence(here._replace(started=here.started - 1)) is Presence.GONE


def test_a_child_is_another_process_than_its_parent() -> None:
    this_process()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, repr(tuple(this_process())).encode())
        os._exit(0)
    os.waitpid(child, 0)
    machine, pid, ticks = eval(os.read(reading, 1000))  # noqa: S307 - our own words
    os.close(reading)
    os.close(writing)
    assert (machine, pid) == (this_process().machine, child)
    assert ticks >= this_process().started


def test_a_process_of_another_namespace_is_elsewhere() -> None:
    """As in two containers on one machine: the same boot id, and numbers that mean other processes."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "--pid", "--fork", "true"], check=False).returncode:
        pytest.skip("a namespace needs rights")
    child, other = started(unshare, "--pid", "--fork", "--mount-proc", "--kill-child")
    try:
        assert other.machine
        assert other.machine != this_process().machine
        assert presence(other) is Presence.ELSEWHERE
    finally:
        ended(child)
    assert presence(other) is Presence.ELSEWHERE


def test_proc_of_another_namespace_is_not_believed() -> None:
    """Within a namespace of its own, but with the machine's /proc: the numbers there are not its own."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "--pid", "--fork", "true"], check=False).returncode:
        pytest.skip("a namespace needs rights")
    child, other = started(unshare, "--pid", "--fork", "--kill-child")
    ended(child)
    assert other == UNKNOWN


@pytest.mark.parametrize("pid", [0, -1, 2**31, 2**64 - 1])
def test_a_number_that_no_process_has_is_no_process(pid: int) -> None:
    """Neither a whole group of processes is asked, nor is the number cut."""
    assert presence(this_process()._replace(pid=pid)) is Presence.ELSEWHERE


def test_a_machine_without_a_name_says_nothing() -> None:
    assert presence(UNKNOWN) is Presence.ELSEWHERE
    assert presence(Process("", os.getpid(), this_process().started)) is Presence.ELSEWHERE
    assert presence(Process("another", os.getpid(), 1)) is Presence.ELSEWHERE


def no_proc(_path: str) -> str:
    raise FileNotFoundError


def test_where_there_is_no_proc_every_process_is_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS and Windows: a dead holder is waited for."""
    here = this_process()
    process._process.cache_clear()
    monkeypatch.setattr(os, "readlink", no_proc)
    assert this_process() == UNKNOWN
    assert presence(here) is Presence.ELSEWHERE
    assert presence(this_process()) is Presence.ELSEWHERE


def refuse(_pid: int, _signal: int) -> None:
    raise PermissionError


def test_a_process_of_somebody_else_whose_status_is_hidden_counts_as_running(monkeypatch: pytest.MonkeyPatch) -> None:
    here = this_process()
    monkeypatch.setattr(os, "kill", refuse)
    monkeypatch.setattr(process, "_status", lambda _pid: None)
    assert presence(here) is Presence.RUNNING


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"7 (a) R) b) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 55 0", (55, False)),
        (b"7 (zombie) Z 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 55 0", (55, True)),
        (b"7 (its threads go on) Z 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 3 0 55 0", (55, False)),
        (b"7 (short) S 1", None),
        (b"", None),
    ],
)
def test_what_the_machine_says_of_a_process(
    monkeypatch: pytest.MonkeyPatch, text: bytes, expected: tuple[int, bool] | None
) -> None:
    """The name of a program may hold brackets."""
    read: Callable[[object], bytes] = lambda _path: text
    monkeypatch.setattr(process, "_contents", read)
    assert process._status(7) == expected


def test_looking_is_quick() -> None:
    """Every run looks at itself, and every run that finds a lease held looks at its holder."""
    this_process()
    begun = time.perf_counter()
    for _ in range(100):
        presence(this_process())
    assert time.perf_counter() - begun < 1
