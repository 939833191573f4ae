"""The loop of a watch: wait until a run is due, make it, tell what came of it."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from kvsync.environment import Environment
from kvsync.errors import (
    BudgetError,
    ClockError,
    ConflictError,
    IndexDamagedError,
    KvsyncError,
    LockHeldError,
    StorageError,
    UsageError,
)
from kvsync.lease import SKEW_SECONDS
from kvsync.opening import check_create, opened_pair
from kvsync.options import Options, duration_seconds
from kvsync.run import steps
from kvsync.watching.bell import Bell
from kvsync.watching.established import EstablishedStorage
from kvsync.watching.events import Outage, WatchRun
from kvsync.watching.heartbeat import Heartbeat, heartbeat_of
from kvsync.watching.hints import PairHints
from kvsync.watching.schedule import Intervals, Schedule

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

    from kvsync.opening import Create, Opened
    from kvsync.policy import Policy
    from kvsync.result import OnProgress, Progress
    from kvsync.storages import Target
    from kvsync.watching.schedule import Due, Reason

    Event: TypeAlias = WatchRun | Outage

__all__ = ["Watch", "watch"]

WAIT_SECONDS = 0.3
"""How long a run waits for a lease, unless this watch stands by: longer than a small run of another one takes."""

LASTING = (BudgetError, ClockError, ConflictError, IndexDamagedError)
"""Errors that only a person can mend."""


class _Stopped(BaseException):  # noqa: N818 - no error: it unwinds a run as Ctrl-C does
    """The watch was told to stop while a run was being made."""


class _Places(NamedTuple):
    """The two storages of a watch, as the caller names them."""

    source: Target
    target: Target
    create: Create


class _Open(NamedTuple):
    """The two storages, open, and what notices their changes.

    Attributes:
        pair: as they were opened.
        storages: the same, with what a watch knows of them.
        hints: of both.
        provisional: they were opened so that a run may create them, and are opened anew after it: from then on, one
            that is gone is an error.
        closing: closes all of it.
    """

    pair: Opened
    storages: tuple[EstablishedStorage, EstablishedStorage]
    hints: PairHints
    provisional: bool
    closing: ExitStack


def watch(  # noqa: PLR0913 - options are keyword-only, and each is one that callers set
    source: Target,
    target: Target,
    *,
    conflict: Policy = "latest",
    max_delete: str | int | None = None,
    keep_lost: bool = True,
    create: Create = "auto",
    every: str | float = "60s",
    full_every: str | float = "1h",
    heartbeat: str | os.PathLike[str] | Callable[[], None] | None = None,
    lease_seconds: float = 60.0,
    max_drift_seconds: float = 86_400.0,
    tombstone_grace: str | float = "30d",
    on_progress: OnProgress | None = None,
    clock: Callable[[], float] = time.time,
    environment: Environment | None = None,
) -> Watch:
    """Make two storages equal whenever something changes in one of them, until told to stop.

    Return an iterator, which makes the runs while it is asked for the next event: a `WatchRun`, or an `Outage` that is
    waited out. Each run is a `kvsync.sync` with `scan=True`. `Watch.stop` ends it, from any thread.

    Times are seconds, or a number with a unit, such as "90s" or "1h".

    Args:
        source: one storage, as in `sync`.
        target: the other one.
        conflict: as in `sync`.
        max_delete: as in `sync`, for each run.
        keep_lost: as in `sync`.
        create: which storage need not exist when the watch begins, as in `sync`.
        every: how often to make a run where a storage does not notice all changes.
        full_every: how often to make one with storages opened anew, whatever the hints say.
        heartbeat: a file that is touched, or a function that is called, after each run that succeeds, and every ten
            seconds while there is nothing to do. Not while a run fails: so its age is what a supervisor looks at.
        lease_seconds: as in `sync`.
        max_drift_seconds: as in `sync`.
        tombstone_grace: as in `sync`.
        on_progress: called with a `Progress` after each batch.
        clock: returns wall-clock seconds.
        environment: replaces time, sleep and randomness, for simulations; overrides `clock`.

    Raises:
        UsageError: an option is wrong. The iterator raises one if a storage is named wrongly.

    >>> import kvsync
    >>> a, b = {"user/1": b"Ada"}, {}
    >>> for event in kvsync.watch(a, b):
    ...     break  # a program goes on, and looks at each event
    >>> event.reason, event.result.pushed, b["user/1"]
    ('start', 1, b'Ada')
    """
    check_create(create)
    intervals = Intervals(duration_seconds(every, "every", least=0.1), duration_seconds(full_every, "full_every", least=1))
    options = Options(
        conflict=conflict,
        scan=True,
        max_delete=max_delete,
        keep_lost=keep_lost,
        lease_seconds=lease_seconds,
        max_drift_seconds=max_drift_seconds,
        tombstone_grace=tombstone_grace,
        on_progress=on_progress,
    )
    environment = environment or Environment(clock=clock)
    beat = heartbeat_of(heartbeat, (source, target))
    return Watch(_Places(source, target, create), options, intervals, environment, beat)


class Watch:
    """An iterator over what a watch does; see `watch`.

    Only one thread iterates. Leaving the loop makes no more runs; the storages are closed by `close`, by leaving a
    `with` block, or when the iterator ends or is collected.

    Args:
        places: the storages.
        options: of each run.
        intervals: how often to run without hints.
        environment: where time and randomness come from.
        beat: called while all is well.
        bell: what wakes the loop; replaced in simulations, where waiting lets time pass.
    """

    def __init__(
        self,
        places: _Places,
        options: Options,
        intervals: Intervals,
        environment: Environment,
        beat: Heartbeat | None = None,
        bell: Bell | None = None,
    ) -> None:
        self._places = places
        self._options = replace(options, on_progress=self._on_progress)
        self._report = options.on_progress
        self._environment = replace(environment, sleep=self._sleep)
        self._pause = environment.sleep
        self._beat = beat or Heartbeat(None)
        self._bell = bell or Bell()
        self._schedule = Schedule(intervals, environment.random)
        self._open: _Open | None = None
        self._met = (False, False)
        self._outage: Outage | None = None
        self._held_since: float | None = None
        self._told: set[str] = set()
        self._stopping = self._ended = False
        self.runs = 0
        """How many runs have succeeded."""
        self.waited = 0
        """How many runs were put off, since another one held a lease."""

    def __iter__(self) -> Iterator[Event]:
        """Return itself."""
        return self

    def __next__(self) -> Event:
        """Wait for the next event.

        Raises:
            UsageError: a storage is named wrongly, or cannot be used at all.
            StopIteration: `stop` was called.
        """
        try:
            while not (self._stopping or self._ended):
                event = self._step()
                if event is not None:
                    return event
        except _Stopped:
            pass
        except BaseException:
            self.close()
            raise
        self.close()
        raise StopIteration

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the storages."""
        self.close()

    def stop(self) -> None:
        """End the iterator: at once if it waits, else after the batch that is being moved.

        Any thread may call this, and a signal handler.
        """
        self._stopping = True
        self._bell.ring()

    def close(self) -> None:
        """Make no more runs, and close the storages that were opened here; the thread that iterates may call this."""
        self._ended = True
        self._shut()

    # The loop

    def _step(self) -> Event | None:
        """Wait for the next run and make it; return what there is to tell."""
        try:
            due = self._wait()
            return None if due is None else self._run(due.reason)
        except UsageError:
            raise
        except LockHeldError as error:
            return self._held(error)
        except KvsyncError as error:
            return self._failed(error, lasting=isinstance(error, LASTING))

    def _wait(self) -> Due | None:
        """Wait until a run is due; return None if told to stop.

        Raises:
            KvsyncError: a storage cannot be asked for hints.
        """
        while not self._stopping:
            now = self._environment.monotonic()
            hints = None if self._open is None else self._open.hints
            hinted = self._bell.rung
            if hinted:
                self._bell.silence()
            if hints is not None and hints.poll(now):
                hinted = True
            if hinted:
                self._schedule.hint(now)
            self._schedule.hints_complete = hints is not None and hints.complete
            due = self._schedule.due()
            if due.at <= now:
                return due
            if self._outage is None and self._held_since is None:
                self._beat.idle(now)
            until = min(due.at, self._beat.next_idle)
            self._bell.wait((until if hints is None else min(until, hints.next_poll)) - now)
        return None

    def _run(self, reason: Reason) -> WatchRun:
        """Make a run.

        Raises:
            KvsyncError: it failed.
        """
        full = reason in {"start", "full"}
        if full:
            self._shut()
        opened = self._open or self._opened()
        started = self._environment.monotonic()
        # This run sees whatever was hinted at so far.
        opened.hints.poll(started, all_of_them=True)
        self._bell.silence()
        self._schedule.begin()
        options = replace(self._options, wait_seconds=self._wait_seconds(started))
        result = steps.sync(*opened.storages, (), options, self._environment)
        ended = self._environment.monotonic()
        result.created = opened.pair.made
        result.notes = self._untold([*opened.pair.notes, *opened.hints.reasons()])
        self._met = tuple(storage.manifest is not None for storage in opened.storages)  # type: ignore[assignment]
        for storage, is_met in zip(opened.storages, self._met, strict=True):
            storage.is_met = is_met
        outage, self._outage, self._held_since = self._outage, None, None
        run = WatchRun(result, reason, ended - started, outage)
        self.runs += 1
        self._schedule.end(
            ended,
            ended - started,
            full=full,
            moved=bool(result.pushed or result.pulled or any(result.committed)),
            left_behind=bool(result.missing or result.unreadable),
        )
        self._beat.touch(ended)
        if opened.provisional:
            self._shut()
            self._opened()
            self._schedule.hint(ended)  # nobody noticed what changed in between
        return run

    def _wait_seconds(self, now: float) -> float:
        if self._held_since is not None and now - self._held_since > self._options.lease_seconds:
            # Long enough to see that a holder with another clock is dead.
            return self._options.lease_seconds + 2 * SKEW_SECONDS
        return 0.0 if self._schedule.stands_by else WAIT_SECONDS

    # What goes wrong

    def _held(self, error: LockHeldError) -> Outage | None:
        """Stand by, since somebody else makes a run; tell only of one that goes on and on."""
        now = self._environment.monotonic()
        self.waited += 1
        since = self._held_since = now if self._held_since is None else self._held_since
        self._schedule.meet(now)
        if now - since <= self._options.lease_seconds:
            return None
        return self._told_of(error, max(0.0, self._schedule.due().at - now), lasting=False)

    def _failed(self, error: KvsyncError, *, lasting: bool) -> Outage:
        """Put off the next run."""
        pause = self._schedule.fail(self._environment.monotonic(), lasting=lasting)
        if not lasting:
            self._shut()
        return self._told_of(error, pause, lasting=lasting)

    def _told_of(self, error: KvsyncError, pause: float, *, lasting: bool) -> Outage:
        before = self._outage
        since = self._environment.clock() if before is None else before.since
        failures = 1 if before is None else before.failures + 1
        self._outage = Outage(error, self._side_of(error), since, failures, pause, lasting)
        return self._outage

    def _side_of(self, error: KvsyncError) -> Literal["source", "target"] | None:
        if error.storage is None:
            return None
        names = self._names()
        return "source" if error.storage == names[0] else "target" if error.storage == names[1] else None

    # The storages

    def _opened(self) -> _Open:
        """Open both storages, and begin to notice their changes.

        Raises:
            KvsyncError: one cannot be opened.
        """
        places, create = self._places, self._places.create
        provisional = False
        with ExitStack() as closing:
            try:
                pair = closing.enter_context(opened_pair(places.source, places.target, "none", given=False))
            except StorageError:
                if create == "none" or all(self._met):
                    raise
                pair = closing.enter_context(opened_pair(places.source, places.target, create, given=False))
                provisional = True
            source, target = (
                EstablishedStorage(storage, is_met=is_met)
                for storage, is_met in zip((pair.source, pair.target), self._met, strict=True)
            )
            self._known_names = (source.name, target.name)
            hints = PairHints((source, target), lambda _key: self._bell.ring())
            closing.callback(hints.close)
            self._open = _Open(pair, (source, target), hints, provisional, closing.pop_all())
        return self._open

    _known_names: tuple[str, str] | None = None

    def _names(self) -> tuple[str, str]:
        """Return the names of both storages, as far as they are known before any of them was opened."""
        return self._known_names or (str(self._places.source), str(self._places.target))

    def _shut(self) -> None:
        """Close both storages, if they are open and were opened here."""
        opened, self._open = self._open, None
        if opened is not None:
            try:
                opened.closing.close()
            except StorageError:
                pass  # it has broken before, which is told by whoever uses it

    def _untold(self, notes: list[str]) -> list[str]:
        """Return what was not told before."""
        new = [note for note in notes if note not in self._told]
        self._told.update(new)
        return new

    # Stopping

    def _on_progress(self, progress: Progress) -> None:
        if self._report is not None:
            self._report(progress)
        self._end_if_told()

    def _sleep(self, seconds: float) -> None:
        self._end_if_told()
        self._pause(seconds)
        self._end_if_told()

    def _end_if_told(self) -> None:
        if self._stopping:
            raise _Stopped
