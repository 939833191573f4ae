"""A bell that one thread waits for, and that any thread or signal handler rings."""

from __future__ import annotations

import queue
from contextlib import suppress

__all__ = ["Bell"]

WAIT_SECONDS_MAX = 3600.0
"""Operating systems limit how long a thread may wait at once."""


class Bell:
    """Wakes the thread that waits for it.

    Not a `threading.Event`: a signal handler that sets one while its own thread is about to wait for it blocks for
    ever. `SimpleQueue.put` is made for that.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._rung = False

    @property
    def rung(self) -> bool:
        """Whether it was rung since it was last silenced."""
        return self._rung

    def ring(self) -> None:
        """Wake whoever waits."""
        if not self._rung:
            self._rung = True
            self._queue.put(None)

    def silence(self) -> None:
        """Forget what was rung so far."""
        self._rung = False
        with suppress(queue.Empty):
            while True:
                self._queue.get_nowait()

    def wait(self, seconds: float) -> None:
        """Wait until it is rung, at most that long; return at once if it was rung before."""
        if not self._rung and seconds > 0:
            with suppress(queue.Empty):
                self._queue.get(timeout=min(seconds, WAIT_SECONDS_MAX))
