"""What races are made of: what a racer attempts, and how threads and processes attempt it at the same time."""

from __future__ import annotations

import contextlib
import pickle
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from threading import Barrier
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import pytest

from kvsync.storages.contract import ObjectMismatch
from kvsync.testing.conformance.tools import listing, now_ms
from kvsync.types import ABSENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from kvsync.storages.contract import Storage

__all__ = [
    "COUNTER",
    "PROCESSES",
    "START_SECONDS",
    "THREADS",
    "Reopen",
    "create_in_turns",
    "create_object",
    "create_value",
    "object_of_turn",
    "pass_object_on",
    "race_in_turns",
    "race_processes",
    "race_threads",
    "racing_processes",
    "replace_object",
    "replace_value",
    "sendable",
    "suspended_often",
]

Reopen: TypeAlias = "Callable[[], Storage]"
Attempt: TypeAlias = "Callable[[Storage], bool | None]"

THREADS = 8
PROCESSES = 3
SECONDS = 0.5
"""How long a race runs at most."""

REFUSALS = 200
"""A race ends once so many attempts were refused: by then writers have met often enough for an update to be lost."""

START_SECONDS = 0.3
"""How long before a race its processes are told, so that all of them are ready."""

SUSPENDED = 0.02
"""At how many of all lines a racing thread is suspended."""

SUSPENDED_SECONDS = 1e-5
COUNTER = "counter"


# What one racer attempts: each returns whether it succeeded, or None where there was nothing to attempt.


def replace_object(storage: Storage) -> bool:
    """Count one up in an object, on condition that it is the version that was read."""
    stored = storage.load("manifest")
    assert stored is not None
    try:
        storage.store("manifest", b"%d" % (int(stored.data) + 1), stored.version)
    except ObjectMismatch:
        return False
    return True


def replace_value(storage: Storage) -> bool:
    """Count one up in a value, on condition that it is the version that was listed."""
    token = listing(storage)[COUNTER]
    (value,) = storage.read([COUNTER])
    assert isinstance(value, bytes)
    (refused,) = storage.write([COUNTER], [b"%d" % (int(value) + 1)], [token]).refused or (None,)
    assert refused is None or refused.changed
    return refused is None


def object_of_turn(turn: int) -> str:
    """Return the name of the object that is created in a turn."""
    return f"segment/{turn:016x}-0"


def create_object(storage: Storage, turn: int, racer: int) -> bool:
    """Create an object that nobody has created yet."""
    try:
        storage.store(object_of_turn(turn), b"%d" % racer, ABSENT)
    except ObjectMismatch:
        return False
    return True


def create_value(storage: Storage, turn: int, racer: int) -> bool:
    """Create a value that nobody has created yet."""
    return not storage.write([f"new {turn}"], [b"%d" % racer], [None]).refused


def pass_object_on(storage: Storage) -> bool | None:
    """Remove an object on condition; who removed it is alone until it has created it again, one higher."""
    stored = storage.load("lease")
    if stored is None:
        return None
    try:
        storage.remove(["lease"], stored.version)
    except ObjectMismatch:
        return False
    # Fails if a second racer removed it too, and so believes that it is alone.
    storage.store("lease", b"%d" % (int(stored.data) + 1), ABSENT)
    return True


class Refusals(Protocol):
    """How many attempts of a race were refused, whoever made them; a few that coincide may count as one."""

    value: int


@dataclass
class ThreadRefusals:
    """The same, between threads."""

    value: int = 0


def repeat(storage: Storage, attempt: Attempt, deadline: float, refusals: Refusals) -> int:
    """Attempt something until `deadline`, or until attempts were refused often; return how often it succeeded."""
    succeeded = 0
    while refusals.value < REFUSALS and time.time() < deadline:
        outcome = attempt(storage)
        succeeded += outcome is True
        refusals.value += outcome is False
    return succeeded


def reopen_and_repeat(reopen: Reopen, attempt: Attempt, deadline: float) -> int:
    """Attempt something with a handle of its own, in one of the processes that race."""
    with contextlib.closing(reopen()) as storage:
        return repeat(storage, attempt, deadline, _joined[0])


def create_in_turns(reopen: Reopen, racer: int, start: float, turns: int) -> list[bool]:
    """Create one object a turn, at the same moment as the other processes; return which were created here."""
    won = []
    with contextlib.closing(reopen()) as storage:
        for turn in range(turns):
            time.sleep(max(0.0, start + turn * 0.01 - time.time()))
            won.append(create_object(storage, turn, racer))
    return won


# Threads


@contextlib.contextmanager
def suspended_often(racer: int) -> Iterator[None]:
    """Suspend this thread at random lines of the code that it calls, so that others also run between any two of them.

    The interpreter switches threads too rarely to do so in the middle of a short method.
    """
    chance = random.Random(racer)  # noqa: S311 - repeatable on purpose

    def trace(_frame: FrameType, _event: str, _argument: object) -> Any:
        if chance.random() < SUSPENDED:
            time.sleep(SUSPENDED_SECONDS)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def race_threads(handles: Sequence[Storage], attempt: Attempt) -> int:
    """Let many threads attempt the same, each with one of the handles; return how often they succeeded in all."""
    deadline = time.time() + SECONDS
    refusals = ThreadRefusals()

    def racing(racer: int) -> int:
        with suspended_often(racer):
            return repeat(handles[racer], attempt, deadline, refusals)

    with ThreadPoolExecutor(len(handles)) as pool:
        return sum(pool.map(racing, range(len(handles))))


def race_in_turns(
    handles: Sequence[Storage], create: Callable[[Storage, int, int], bool]
) -> Iterator[tuple[int, list[int]]]:
    """Let many threads create the same, turn after turn; yield each turn with those who say that they created it."""
    racers = range(len(handles))
    barrier = Barrier(len(handles))

    def racing(racer: int, turn: int) -> bool:
        barrier.wait(30)
        with suspended_often(turn * len(handles) + racer):
            return create(handles[racer], turn, racer)

    with ThreadPoolExecutor(len(handles)) as pool:
        deadline = time.time() + SECONDS
        for turn in range(REFUSALS // (len(handles) - 1)):
            won = list(pool.map(racing, racers, [turn] * len(handles)))
            yield turn, [racer for racer in racers if won[racer]]
            if time.time() > deadline:
                break


# Processes

_joined: list[Refusals] = []
"""In a process that races: what it shares with the others."""


def _join(refusals: Refusals) -> None:
    _joined.append(refusals)


@cache
def _shared_refusals() -> Refusals:
    """Return the count that all racing processes share."""
    refusals: Refusals = get_context("spawn").RawValue("i", 0)
    return refusals


@cache
def racing_processes() -> list[ProcessPoolExecutor]:
    """Return processes that stay for the whole test run, each in a pool of its own so that none does two parts."""
    spawning = get_context("spawn")
    pools = [ProcessPoolExecutor(1, spawning, _join, (_shared_refusals(),)) for _ in range(PROCESSES)]
    for ready in [pool.submit(now_ms) for pool in pools]:
        ready.result(120)
    return pools


def sendable(reopen: Reopen) -> Reopen:
    """Return `reopen`, which other processes are about to call."""
    try:
        pickle.dumps(reopen)
    except Exception as error:  # noqa: BLE001 - pickle raises what it likes
        pytest.fail(
            f"`reopen` is called in other processes too, and cannot be sent there ({error}): return "
            "functools.partial(MyStorage, path) instead of a lambda, or set `processes = False` in the test class"
        )
    return reopen


def race_processes(reopen: Reopen, attempt: Attempt) -> int:
    """Let several processes attempt the same; return how often they succeeded, all together."""
    reopen, pools = sendable(reopen), racing_processes()
    _shared_refusals().value = 0
    deadline = time.time() + START_SECONDS + SECONDS
    racers = [pool.submit(reopen_and_repeat, reopen, attempt, deadline) for pool in pools]
    return sum(racer.result(120) for racer in racers)
