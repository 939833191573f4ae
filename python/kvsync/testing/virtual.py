"""Virtual time: waiting for a lease takes no time, and every run is the same."""

from __future__ import annotations

import random

from kvsync.environment import Environment

__all__ = ["virtual_environment"]


def virtual_environment(now: float = 1_700_000_000.0, *, seed: int = 0) -> Environment:
    """Return an environment that sleeps by moving its clock on, with random numbers from `seed`.

    >>> environment = virtual_environment(now=1000.0)
    >>> environment.sleep(60)
    >>> environment.clock()
    1060.0
    """
    time = [now]

    def sleep(seconds: float) -> None:
        time[0] += seconds

    return Environment(clock=lambda: time[0], monotonic=lambda: time[0], sleep=sleep, random=random.Random(seed))  # noqa: S311 - repeatable on purpose
