"""Watches in simulated time: threads of which one runs at a time, the one whose turn comes first.

Each storage operation takes some time, so the runs of two watches interleave. A process is killed at any such moment:
whatever it still tries to do reaches no storage.
"""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from kvsync.environment import Environment
from kvsync.errors import StorageError
from kvsync.options import Options
from kvsync.process import Process
from kvsync.storages.contract import RESERVED, Support
from kvsync.storages.mapping import MappingStorage
from kvsync.storages.wrapper import WrappedStorage
from kvsync.watching.bell import Bell
from kvsync.watching.heartbeat import Heartbeat
from kvsync.watching.pair import WatchedPair
from kvsync.watching.schedule import Intervals
from kvsync.watching.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.storages.hints import Hints, Wake
    from kvsync.types import Written
    from kvsync.watching.events import Outage, WatchRun

P = ParamSpec("P")
T = TypeVar("T")

OPERATION_SECONDS = 0.001
TURNS_MAX = 200_000


class KilledError(BaseException):
    """The process was killed."""


class Actor(threading.Thread):
    """Does something in simulated time: only while the world gives it the turn."""

    def __init__(self, world: World, work: Callable[[Actor], None]) -> None:
        super().__init__(daemon=True)
        self.world = world
        self.until = world.now
        self.bell: Bell | None = None
        self.killed = False
        self.ended = False
        self.error: BaseException | None = None
        self._work = work
        self._turn = threading.Semaphore(0)

    def run(self) -> None:
        self._turn.acquire()
        try:
            self._work(self)
        except KilledError:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.ended = True
            self.world.turn_over.release()

    @property
    def due(self) -> float:
        """When it is to have its turn."""
        return self.world.now if self.killed or (self.bell is not None and self.bell.rung) else self.until

    def take_turn(self) -> None:
        """Let it go on until it waits again."""
        self._turn.release()
        self.world.turn_over.acquire()

    def wait(self, seconds: float, bell: Bell | None = None) -> None:
        """Wait, in this actor's own thread."""
        assert threading.current_thread() is self
        if self.killed:
            raise KilledError
        self.until, self.bell = self.world.now + max(seconds, 0.0), bell
        self.world.turn_over.release()
        self._turn.acquire()
        self.bell = None
        if self.killed:
            raise KilledError


class World:
    """Simulated time, and who acts in it."""

    def __init__(self, seed: int = 0) -> None:
        self.now = 1_700_000_000.0
        self.random = random.Random(seed)
        self.actors: list[Actor] = []
        self.turn_over = threading.Semaphore(0)

    def act(self, work: Callable[[Actor], None]) -> Actor:
        """Let somebody begin to act now."""
        actor = Actor(self, work)
        self.actors.append(actor)
        actor.start()
        return actor

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and everybody act whose turn comes."""
        end, turns = self.now + seconds, 0
        while self.actors:
            turns += 1
            assert turns < TURNS_MAX, "somebody waits without letting time pass"
            actor = min(self.actors, key=lambda each: each.due)
            if actor.due > end:
                break
            self.now = max(self.now, actor.due)
            actor.take_turn()
            if actor.ended:
                actor.join()
                self.actors.remove(actor)
                if actor.error is not None:
                    raise actor.error
        self.now = end

    def close(self) -> None:
        """End everybody."""
        for actor in self.actors:
            actor.killed = True
        self.pass_time(0)


class Place:
    """A store, which applications write to and which may be away."""

    def __init__(self, world: World, name: str, *, has_hints: bool = True) -> None:
        self.world = world
        self.name = name
        self.data: dict[str, bytes] = {}
        self.away = False
        self.has_hints = has_hints
        self.listeners: list[PlaceHints] = []
        self.hinted = 0
        self.drops: Callable[[int], bool] = lambda _number: False

    @property
    def values(self) -> dict[str, bytes]:
        """What it holds, without the index."""
        return {key: value for key, value in self.data.items() if not key.startswith(RESERVED)}

    def put(self, key: str, value: bytes | None) -> None:
        """Write as an application does."""
        if value is None:
            self.data.pop(key, None)
        else:
            self.data[key] = value
        self.changed([key])

    def changed(self, keys: Sequence[str]) -> None:
        """Hint at changes, but for what is dropped."""
        for key in keys:
            number, self.hinted = self.hinted, self.hinted + 1
            if not self.drops(number):
                for listener in self.listeners:
                    listener.wake(key)


class PlaceHints:
    """The hints of a place."""

    poll_seconds = 30.0
    complete = True
    reason = ""

    def __init__(self, place: Place, wake: Wake) -> None:
        self.place = place
        self.wake = wake
        place.listeners.append(self)

    def poll(self) -> bool:
        if self.place.away:
            raise StorageError("it is away", storage=self.place.name)
        return False

    def close(self) -> None:
        if self in self.place.listeners:
            self.place.listeners.remove(self)


class PlaceStorage(WrappedStorage):
    """A handle of a place, in one process."""

    def __init__(self, place: Place, actor: Actor) -> None:
        super().__init__(MappingStorage(place.data, name=place.name))
        self._place = place
        self._actor = actor
        if place.has_hints:
            self.capabilities = replace(self.capabilities, supports=self.capabilities.supports | {Support.HINTS})

    def around(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        self._actor.wait(OPERATION_SECONDS)
        if self._place.away:
            raise StorageError("it is away", storage=self.name)
        return super().around(method, call, *args, **kwargs)

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        written = super().write(keys, values, expect)
        self._place.changed(keys)
        return written

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        written = super().delete(keys, expect)
        self._place.changed(keys)
        return written

    def hints(self, wake: Wake) -> Hints:
        return PlaceHints(self._place, wake)


class SimulatedBell(Bell):
    """A bell that is waited for in simulated time."""

    def __init__(self, actor: Actor) -> None:
        super().__init__()
        self._actor = actor

    def wait(self, seconds: float) -> None:
        if not self.rung:
            self._actor.wait(seconds, self)


class Watcher:
    """A process that watches two places."""

    def __init__(
        self,
        world: World,
        source: Place,
        target: Place,
        *,
        every: float = 60.0,
        full_every: float = 3600.0,
        beat: Callable[[], None] | None = None,
        options: Options | None = None,
    ) -> None:
        self.events: list[WatchRun | Outage] = []
        self.number = len(world.actors) + 1
        self.watch: Watch

        def work(actor: Actor) -> None:
            environment = Environment(
                clock=lambda: world.now,
                monotonic=lambda: world.now,
                sleep=actor.wait,
                random=random.Random(world.random.random()),
                process=lambda: Process("", 0, 0),
            )
            pair = WatchedPair(PlaceStorage(source, actor), PlaceStorage(target, actor), "auto")
            self.watch = Watch(
                pair,
                options or Options(scan=True),
                Intervals(every, full_every),
                environment,
                Heartbeat(beat),
                SimulatedBell(actor),
            )
            self.events.extend(self.watch)

        self.actor = world.act(work)

    def kill(self) -> None:
        """Kill the process: it does nothing more, and releases no lease."""
        self.actor.killed = True
