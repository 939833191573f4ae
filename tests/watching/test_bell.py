"""The bell that wakes a watch."""

from __future__ import annotations

import signal
import threading
import time

from kvsync.watching.bell import Bell

LONG_SECONDS = 60.0


def test_a_ring_before_the_wait_is_not_lost() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    bell.wait(LONG_SECONDS)
    assert bell.rung
    bell.silence()
    assert not bell.rung
    bell.wait(0.01)
    assert not bell.rung


def test_another_thread_wakes_who_waits() -> None:
    bell = Bell()
    threading.Timer(0.05, bell.ring).start()
    began = time.monotonic()
    bell.wait(LONG_SECONDS)
    assert bell.rung
    assert time.monotonic() - began < LONG_SECONDS / 2


def test_a_signal_handler_wakes_its_own_thread_at_any_moment() -> None:
    """Setting a `threading.Event` there blocks for ever, if the signal comes while the thread has the event's lock."""
    bell, rings = Bell(), 0

    def ring(_number: int, _frame: object) -> None:
        nonlocal rings
        rings += 1
        bell.ring()

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
        for _ in range(300):
            bell.wait(LONG_SECONDS)
            bell.silence()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rings >= 1
