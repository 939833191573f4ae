"""Processes: which one we are, and whether another one still runs on this machine.

A number alone names no process: it is used again, and it means another process on another machine, after a restart and
in another container. Only Linux says enough to tell them apart, below `/proc`. Elsewhere every process counts as being
somewhere else, so that nothing is concluded about it.
"""

from __future__ import annotations

import enum
import os
import threading
from functools import lru_cache
from typing import Final, NamedTuple

__all__ = ["UNKNOWN", "Presence", "Process", "host", "owner", "presence", "this_process"]

PID_MAX = 2**31 - 1
"""No system counts its processes further."""


class Process(NamedTuple):
    """A process, as its machine tells it from all others.

    Attributes:
        machine: names the machine, when it was started, and the namespace of its processes; empty where not known.
        pid: its number there.
        started: when it started, in clock ticks after the machine did.
    """

    machine: str
    pid: int
    started: int


UNKNOWN: Final = Process("", 0, 0)
"""A process whose machine does not say enough to find it again."""


class Presence(enum.Enum):
    """What is known of a process."""

    GONE = "gone"
    """It ran on this machine, and has ended: it writes nothing more."""
    RUNNING = "running"
    """It runs on this machine."""
    ELSEWHERE = "elsewhere"
    """It runs or ran on another machine or in another container, or that cannot be told."""


class _Status(NamedTuple):
    started: int
    has_ended: bool


def owner() -> str:
    """Return who we are, for people who find our lease."""
    return f"{host()} pid {os.getpid()} {threading.current_thread().name}"


def this_process() -> Process:
    """Return the process that calls."""
    return _process(os.getpid())


def presence(process: Process) -> Presence:
    """Return what is known here of a process."""
    here = this_process()
    if not process.machine or process.machine != here.machine or not 0 < process.pid <= PID_MAX:
        return Presence.ELSEWHERE
    return Presence.RUNNING if _runs(process) else Presence.GONE


@lru_cache(maxsize=1)
def _process(pid: int) -> Process:
    status = _status(pid)
    machine = _machine(pid)
    return Process(machine, pid, status.started) if machine and status is not None else UNKNOWN


# A child may have its parent's number, in a namespace of its own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.cache_clear)


def _machine(pid: int) -> str:
    """Return what only processes that see each other have in common; empty where that cannot be told."""
    try:
        if os.readlink("/proc/self") != str(pid):
            return ""  # /proc shows the processes of another namespace
        boot = _contents("/proc/sys/kernel/random/boot_id").decode("ascii").strip()
        numbers = os.readlink("/proc/self/ns/pid")
        clock = "/proc/self/ns/time"  # older kernels have none
        ticks = os.readlink(clock) if os.path.lexists(clock) else ""
    except (OSError, ValueError):
        return ""
    # Copies of a running machine have its boot id, too. Their host names differ more often.
    return f"{host()} {boot} {numbers} {ticks}".strip() if boot else ""


def host() -> str:
    """Return the name of this machine."""
    # Not by the module `socket`, which takes longer to load than many runs take.
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")


def _contents(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _runs(process: Process) -> bool:
    """Whether a process of this machine still runs."""
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # somebody else's: it exists
    status = _status(process.pid)
    # Somebody else's status may be hidden.
    return status is None or (status.started == process.started and not status.has_ended)


def _status(pid: int) -> _Status | None:
    """Return what the machine says of a process; None where it says nothing."""
    try:
        text = _contents(f"/proc/{pid}/stat")
        # The name of the program, in brackets, may hold anything.
        fields = text.rpartition(b")")[2].split()
        state, threads, started = fields[0], int(fields[17]), int(fields[19])
    except (OSError, ValueError, IndexError):
        return None
    # One that has ended stays listed until its parent asks; so does a first thread that ended before the others.
    return _Status(started, state in {b"Z", b"X"} and threads <= 1)
