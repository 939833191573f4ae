"""Time, sleep, randomness and processes, passed in so that tests can simulate them."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kvsync.process import Presence, Process, presence, this_process

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Environment", "time_text", "utc"]


def utc(seconds: float) -> str:
    """Return wall-clock seconds since 1970 as a date and time for people.

    >>> utc(1_700_000_000)
    '2023-11-14 22:13:20 UTC'
    """
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def time_text(seconds: float) -> str | None:
    """Return wall-clock seconds as an ISO time in UTC, or None if the calendar ends before it.

    >>> time_text(1_700_000_000.25)
    '2023-11-14T22:13:20.250Z'
    """
    from datetime import UTC, datetime  # noqa: PLC0415 - few runs tell a time

    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a run gets time and randomness from, and what it knows of processes.

    Attributes:
        clock: wall-clock seconds since 1970; stamps and lease expiry use it.
        monotonic: seconds of a clock that never goes back.
        sleep: waits for a number of seconds.
        random: source of ids, nonces and jitter.
        process: returns the process that makes the run.
        presence: returns whether another process is known to run, or to have ended.
    """

    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    random: random.Random = field(default_factory=random.SystemRandom)
    process: Callable[[], Process] = this_process
    presence: Callable[[Process], Presence] = presence

    def now_ms(self) -> int:
        """Return the wall clock in whole milliseconds."""
        return int(self.clock() * 1000)

    def nonce(self) -> bytes:
        """Return 16 fresh random bytes."""
        return self.random.randbytes(16)

    def replica_id(self) -> int:
        """Return a fresh random replica id, from 1 to 2^63 - 1: greater numbers are names of branches."""
        return self.random.getrandbits(63) or 1

    def place(self) -> int:
        """Return a fresh random place, not 0: it stays with a storage through all ids that it takes."""
        return self.random.getrandbits(64) or 1

    def mark(self) -> int:
        """Return 64 fresh random bits that no other life of a replica draws."""
        return self.random.getrandbits(64)

    def is_gone(self, process: Process) -> bool:
        """Whether a process is known to have ended: then it writes nothing more."""
        return self.presence(process) is Presence.GONE
