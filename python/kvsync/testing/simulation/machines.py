"""Machines of simulated runs: virtual time, and processes that run, have ended, or are elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.environment import Environment
from kvsync.process import Presence, Process

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

__all__ = ["LATE_SECONDS", "START", "WAIT_SECONDS", "environment_on"]

START = 1_700_000_000.0
"""When every history begins, in wall-clock seconds."""
WAIT_SECONDS = 200.0
"""Longer than a lease's life, so that a dead holder with a fast clock is seen to be dead."""
LATE_SECONDS = 600.0
"""A write that was cut off does not land after that."""


def environment_on(
    process: Process,
    *,
    clock: Callable[[], float],
    monotonic: Callable[[], float],
    sleep: Callable[[float], None],
    chance: random.Random,
    has_ended: Callable[[Process], bool],
) -> Environment:
    """Return where a run in a process of a machine gets time and randomness from, and what it sees of others.

    It sees those of its own machine, and of them whether each `has_ended`.
    """

    def presence(other: Process) -> Presence:
        if other.machine != process.machine:
            return Presence.ELSEWHERE
        return Presence.GONE if has_ended(other) else Presence.RUNNING

    return Environment(clock, monotonic, sleep, chance, lambda: process, presence)
