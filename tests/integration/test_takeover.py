"""A holder that dies, on this machine or elsewhere, and what becomes of the changes that are made after it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from places import KINDS, SERVER_KINDS, Clock, DictPlace, Hooked, Place, make

import kvsync
from kvsync import Put
from kvsync.environment import Environment
from kvsync.process import Presence, Process, this_process
from kvsync.run.holder import read_lease

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvsync.lease import LeaseState

LIFE, SKEW = 60, 5
SCANNING: dict[str, Any] = {"scan": True, "max_delete": "100%", "wait_seconds": 0}
OPEN_TO_PROCESSES = ("folder", "sqlite", "redis", "postgres", "s3", "lmdb", "nats")
told_apart = pytest.mark.skipif(not this_process().machine, reason="this system does not tell processes apart")


class Killed(BaseException):
    """The process is gone."""


def environment(clock: Clock, process: Process, seen_as: Presence) -> Environment:
    """Return an environment of a process that sees all others so."""
    return Environment(
        clock=clock, monotonic=clock, sleep=clock.sleep, process=lambda: process, presence=lambda _: seen_as
    )


def lease_of(place: Place) -> LeaseState | None:
    with place.storage() as storage:
        record = read_lease(storage)
    return None if record is None else record.state


# A process of this machine


@pytest.fixture
def dying(folder: Path) -> Iterator[Any]:
    """Return what kills a process for good in the middle of a run."""
    children = []

    def kill(source: Place, target: Place, at: str) -> None:
        script = Path(__file__).with_name("dying.py")
        path = os.pathsep.join([str(script.parent), str(script.parent.parent), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, str(script), source.target, target.target, at]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path})
        children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "in the middle\n"
        child.kill()
        # It stays listed, as nobody has asked what became of it.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    yield kill
    for child in children:
        child.communicate()
    assert folder.exists()


@told_apart
@pytest.mark.parametrize("at", ["before", "after"])
@pytest.mark.parametrize("kind", OPEN_TO_PROCESSES)
def test_the_next_run_does_not_wait_for_a_process_that_was_killed(folder: Path, dying: Any, kind: str, at: str) -> None:
    """It waited ten seconds, and gave up, for a minute: the process was gone, on this very machine."""
    one, two = make("folder", folder, "one"), make(kind, folder, "two")
    kvsync.sync(one.target, two.target, [Put("k", b"first"), Put("gone", b"1")])
    one.put("k", b"second")
    one.delete("gone")
    dying(one, two, at)
    started = time.monotonic()
    kvsync.sync(one.target, two.target, **SCANNING)
    assert time.monotonic() - started < LIFE / 2
    assert one.values() == two.values() == {"k": b"second"}
    assert lease_of(one) is lease_of(two) is None


@told_apart
@pytest.mark.parametrize("kind", ["folder", "redis", "s3", "nats"])
def test_what_is_deleted_after_a_run_was_killed_stays_deleted(folder: Path, dying: Any, kind: str) -> None:
    """The run was killed while it deleted a key. That was made anew, synced and deleted by hand, and came back."""
    one, two = make("folder", folder, "one"), make(kind, folder, "two")
    kvsync.sync(one.target, two.target, [Put("f1", b"first"), Put("f2", b"2")])
    one.delete("f1")
    dying(one, two, "before")
    for place in (one, two):
        kvsync.unlock(place.target)
    one.put("f1", b"anew")
    kvsync.sync(one.target, two.target, **SCANNING)
    assert two.values() == {"f1": b"anew", "f2": b"2"}
    two.delete("f1")
    for _ in range(2):
        kvsync.sync(one.target, two.target, **SCANNING)
    assert one.values() == two.values() == {"f2": b"2"}


# A process elsewhere, of which nobody knows whether it is alive


HERE, THERE = Process("here", 1, 1), Process("there", 2, 2)


@pytest.mark.parametrize("how", ["unlocked", "expired"])
@pytest.mark.parametrize("change", ["delete", "put"])
@pytest.mark.parametrize(
    "kind", ["dict", "folder", *(kind for kind in SERVER_KINDS if kind not in {"postgres", "lmdb"})]
)
def test_a_change_that_repeats_what_a_lost_run_was_about_to_do_is_not_undone(
    folder: Path, kind: str, change: str, how: str
) -> None:
    """A run elsewhere was lost. Within ten minutes the same outcome came about by hand, and was undone."""
    clock = Clock()
    one, two = DictPlace(), make(kind, folder, "two", clock)
    lost, here = environment(clock, THERE, Presence.ELSEWHERE), environment(clock, HERE, Presence.ELSEWHERE)
    kvsync.sync(one.target, two.target, [Put("f1", b"first"), Put("f2", b"2")], environment=here)
    outcome = None if change == "delete" else b"second"
    clock.sleep(1)
    write(one, outcome)

    def die(method: str, *_: object) -> None:
        if method in {"write", "delete"} or dead:
            dead.append(method)
            raise Killed

    dead: list[str] = []
    victim = Hooked(two.target, before=die)
    source = Hooked(one.target, before=lambda *_: die("") if dead else None)
    with pytest.raises(Killed):
        kvsync.sync(source, victim, environment=lost, **SCANNING)
    victim.close()
    if how == "unlocked":
        assert kvsync.unlock(one.target, environment=here)
        assert kvsync.unlock(two.target, environment=here)
    else:
        clock.sleep(LIFE + SKEW + 1)
    two.put("f1", b"anew")
    kvsync.sync(one.target, two.target, environment=here, **SCANNING)
    assert one.values() == two.values() == {"f1": b"anew", "f2": b"2"}
    clock.sleep(60)
    write(two, outcome)
    for _ in range(2):
        clock.sleep(1)
        result = kvsync.sync(one.target, two.target, environment=here, **SCANNING)
        assert not result.conflicts
    expected = {"f2": b"2"} if outcome is None else {"f1": outcome, "f2": b"2"}
    assert one.values() == two.values() == expected


def write(place: Place, value: bytes | None) -> None:
    if value is None:
        place.delete("f1")
    else:
        place.put("f1", value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_dead_process_is_fenced_though_nobody_waits_for_it(folder: Path, kind: str) -> None:
    """It is not dead after all, as in a copy of a virtual machine: it fails as soon as it writes its log."""
    clock = Clock()
    one, two = make(kind, folder, "one", clock), make(kind, folder, "two", clock)
    there, here = environment(clock, THERE, Presence.RUNNING), environment(clock, HERE, Presence.GONE)
    kvsync.sync(one.target, two.target, [Put("k", b"1")], environment=here)
    taken: list[int] = []

    def take(method: str, *arguments: Any) -> None:
        if method == "load" and arguments[0] == "manifest" and not taken and lease_of(one) is not None:
            taken.append(kvsync.sync(one.target, two.target, [Put("j", b"2")], environment=here, wait_seconds=0).pushed)

    slow = Hooked(one.target, after=take)
    with pytest.raises(kvsync.LockLostError):
        kvsync.sync(slow, two.target, [Put("i", b"3")], environment=there)
    slow.close()
    assert taken == [1]
    kvsync.sync(one.target, two.target, [Put("i", b"3")], environment=here, wait_seconds=0)
    assert one.values() == two.values() == {"k": b"1", "j": b"2", "i": b"3"}
