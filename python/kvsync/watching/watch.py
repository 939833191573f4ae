"""The loop of a watch: wait until a run is due, make it, tell what came of it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from kvsync.errors import (
    BudgetError,
    ClockError,
    ConflictError,
    IndexDamagedError,
    KvsyncError,
    LockHeldError,
    UsageError,
)
from kvsync.lease import SKEW_SECONDS
from kvsync.run import steps
from kvsync.watching.bell import Bell
from kvsync.watching.events import Outage, WatchRun
from kvsync.watching.heartbeat import Heartbeat
from kvsync.watching.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from kvsync.environment import Environment
    from kvsync.options import Options
    from kvsync.result import Progress
    from kvsync.watching.pair import WatchedPair
    from kvsync.watching.schedule import Due, Intervals, Reason

    Event: TypeAlias = WatchRun | Outage

__all__ = ["Watch"]

WAIT_SECONDS = 0.3
"""How long a run waits for a lease, unless this watch stands by: longer than a small run of another one takes."""

LASTING = (BudgetError, ClockError, ConflictError, IndexDamagedError)
"""Errors that only a person can mend."""


class _Stopped(BaseException):
    """The watch was told to stop while a run was being made."""


class Watch:
    """An iterator over what a watch does; see `watch`.

    Only one thread iterates. The storages are closed when the iterator ends, by `close`, or at the end of a `with`
    block.

    Args:
        pair: the storages.
        options: of each run.
        intervals: how often to run without hints.
        environment: where time and randomness come from.
        beat: called while all is well.
        bell: what wakes the loop; replaced in simulations, where waiting lets time pass.

    Attributes:
        runs: how many runs have succeeded.
        waited: how many runs waited for another one to end, or were put off until then.
        cut: `stop` ended a run after a batch; the next run moves the rest.
    """

    def __init__(
        self,
        pair: WatchedPair,
        options: Options,
        intervals: Intervals,
        environment: Environment,
        beat: Heartbeat | None = None,
        bell: Bell | None = None,
    ) -> None:
        self._pair = pair
        self._options = replace(options, on_progress=self._on_progress)
        self._report = options.on_progress
        self._environment = replace(environment, sleep=self._sleep)
        self._pause = environment.sleep
        self._beat = beat or Heartbeat(None)
        self._bell = bell or Bell()
        self._schedule = Schedule(intervals, environment.random)
        self._outage: Outage | None = None
        self._held_since: float | None = None
        self._has_waited = False
        self._told: set[str] = set()
        self._stopping = self._ended = False
        self.runs = 0
        self.waited = 0
        self.cut = False

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
            self.cut = True
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
        self._pair.close()

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
            hints = None if self._pair.open is None else self._pair.open.hints
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
            times = [due.at]
            if self._outage is None and self._held_since is None:
                self._beat.idle(now)
                times.append(self._beat.next_idle)
            if hints is not None:
                times.append(hints.next_poll)
            self._bell.wait(min(times) - now)
        return None

    def _run(self, reason: Reason) -> WatchRun:
        """Make a run.

        Raises:
            KvsyncError: it failed.
        """
        if reason in {"start", "full"}:
            self._pair.close()
        full = self._pair.open is None
        opened = self._pair.opened(self._bell.ring)
        started = self._environment.monotonic()
        # This run sees whatever was hinted at so far.
        opened.hints.poll(started, all_of_them=True)
        self._bell.silence()
        self._schedule.begin()
        self._has_waited = False
        options = replace(self._options, wait_seconds=self._wait_seconds(started), full=reason == "full")
        result = steps.sync(*opened.storages, (), options, self._environment)
        ended = self._environment.monotonic()
        result.created = opened.pair.made
        result.seconds = ended - started
        result.notes = self._untold([*opened.pair.notes, *opened.hints.reasons(), *result.notes])
        run = WatchRun(result, reason, ended - started, self._outage)
        self._succeeded(run, ended, full=full)
        return run

    def _succeeded(self, run: WatchRun, now: float, *, full: bool) -> None:
        """Take note of a run: all is well, and the next one is due when something changes."""
        result = run.result
        self.runs += 1
        self.waited += self._has_waited
        self._outage = self._held_since = None
        self._pair.met()
        moved = bool(result.pushed or result.pulled or any(result.committed))
        left_behind = bool(result.missing or result.unreadable)
        self._schedule.end(
            now, run.seconds, full=full, moved=moved, left_behind=left_behind, has_waited=self._has_waited
        )
        self._beat.touch(now)
        if self._pair.open is not None and self._pair.open.may_create:
            self._pair.close()
            self._schedule.hint(now)  # nobody notices what changes in between
            with suppress(KvsyncError):  # the run that follows tells of it
                self._pair.opened(self._bell.ring)

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
            self._pair.close()
        return self._told_of(error, pause, lasting=lasting)

    def _told_of(self, error: KvsyncError, pause: float, *, lasting: bool) -> Outage:
        before = self._outage
        since = self._environment.clock() if before is None else before.since
        failures = 1 if before is None else before.failures + 1
        self._outage = Outage(error, self._pair.side_of(error), since, failures, pause, lasting)
        return self._outage

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
        # A run waits for nothing but a lease.
        self._has_waited = True
        self._end_if_told()
        self._pause(seconds)
        self._end_if_told()

    def _end_if_told(self) -> None:
        if self._stopping:
            raise _Stopped
