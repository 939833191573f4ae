"""When the next run is due: pure arithmetic on a monotonic clock."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import random

__all__ = ["Due", "Intervals", "Reason", "Schedule"]

Reason: TypeAlias = Literal["start", "hint", "interval", "full", "retry"]
"""Why a run was made: the watch began; something may have changed; a storage without hints is scanned every so often,
and so is each storage, to catch what hints missed; the last run failed, or left keys behind."""

DEBOUNCE_SECONDS = 0.01
"""A hint waits so long for more of them, so that a burst of writes is one run."""

DEBOUNCE_SECONDS_MAX = 0.1
"""A burst that goes on waits no longer than this."""

STANDBY_SECONDS = 1.0
"""How much longer a watch waits that has met another one, so that the other one makes the runs."""

STANDBY_SECONDS_MAX = 15.0

RETRY_SECONDS_MIN = 1.0
RETRY_SECONDS_MAX = 60.0


class Due(NamedTuple):
    """When the next run is due, in monotonic seconds, and why."""

    at: float
    reason: Reason


@dataclass(frozen=True, slots=True)
class Intervals:
    """How often a watch does what no hint asks for, in seconds.

    Attributes:
        every: a run, where a storage does not notice all changes.
        full_every: a run over storages that are opened anew.
    """

    every: float
    full_every: float


@dataclass
class Schedule:
    """Decides when the next run is due.

    Args:
        intervals: how often to run without hints.
        random: for jitter, so that watches that have met do not meet again.

    Attributes:
        hints_complete: whether both storages notice all changes.
        stands_by: another watch makes the runs: this one waits for a second longer, and takes over as soon as it has
            something to do.
    """

    intervals: Intervals
    random: random.Random
    hints_complete: bool = False
    stands_by: bool = False
    _first_hint: float | None = None
    _last_hint: float = 0.0
    _delay: float = DEBOUNCE_SECONDS
    _last_full: float = -math.inf
    _last_end: float = -math.inf
    _quiet_until: float = -math.inf
    _retry_at: float = math.inf
    _blocked_until: float = -math.inf
    _failures: int = 0
    _meetings: int = 0
    _leftovers: int = 0
    _has_moved: bool = False

    def hint(self, now: float) -> None:
        """Take a hint."""
        if self._first_hint is None:
            self._first_hint = now
            self._delay = self._standby_seconds() if self.stands_by else DEBOUNCE_SECONDS
        self._last_hint = now

    def due(self) -> Due:
        """Return when the next run is due, as things stand."""
        is_first = self._last_end == -math.inf
        if self._meetings:  # whatever is due waits until the other one may have ended
            return Due(self._hint_at(), "start" if is_first else "hint")
        candidates = [Due(self._retry_at, "retry"), Due(self._hint_at(), "hint")]
        if not self._failures:
            candidates.append(Due(self._last_full + self.intervals.full_every, "start" if is_first else "full"))
            if not (self.hints_complete or is_first):
                candidates.append(Due(self._last_end + self.intervals.every, "interval"))
        return min(candidates, key=lambda due: due.at)

    def begin(self) -> None:
        """A run begins: it sees whatever was hinted at so far."""
        self._first_hint = None

    def end(
        self, now: float, seconds: float, *, full: bool, moved: bool, left_behind: bool, has_waited: bool = False
    ) -> None:
        """A run has ended after so many seconds.

        Args:
            now: when it ended.
            seconds: how long it took; a long one is followed by as long a pause.
            full: it counts as the regular one over storages that were opened anew.
            moved: it had something to do.
            left_behind: it left keys behind, and is to be made again at the interval, and ever more rarely.
            has_waited: it waited until another run was over. If there was nothing left to do, that one had done it.
        """
        self._last_end = now
        self._last_full = now if full else self._last_full
        self._quiet_until = now + seconds
        self._blocked_until = -math.inf
        self._failures = self._meetings = 0
        # The run after one that moved something looks for nothing but what that one wrote itself.
        self.stands_by = (self.stands_by or (has_waited and not self._has_moved)) and not moved
        self._has_moved = moved
        self._leftovers = self._leftovers + 1 if left_behind else 0
        pause = _doubled(self.intervals.every, self._leftovers, self.intervals.full_every)
        self._retry_at = now + pause if left_behind else math.inf

    def fail(self, now: float, *, lasting: bool) -> float:
        """A run has failed; return in how many seconds the next one is due.

        A storage that is away is left alone until then. Where it is `lasting`, so that a person has to mend it, the
        pauses are long, and a hint may shorten them: perhaps it was mended.
        """
        self._failures += 1
        self._meetings = 0
        least, most = RETRY_SECONDS_MIN, RETRY_SECONDS_MAX
        if lasting:
            least, most = self.intervals.every, self.intervals.full_every
        pause = _doubled(least, self._failures, most) * self.random.uniform(0.75, 1.0)
        self._retry_at = now + pause
        self._blocked_until = now + (min(least, pause) if lasting else pause)
        return pause

    def meet(self, now: float) -> None:
        """A run met another one, and was not made: stand by, and look again in a while."""
        self.stands_by = True
        self._meetings += 1
        self._first_hint = None
        self.hint(now)

    def _hint_at(self) -> float:
        """Return when the run is due that hints ask for; never if there are none."""
        if self._first_hint is None:
            return math.inf
        latest = self._first_hint + max(self._delay, DEBOUNCE_SECONDS_MAX)
        return max(min(self._last_hint + self._delay, latest), self._quiet_until, self._blocked_until)

    def _standby_seconds(self) -> float:
        return self.random.uniform(1, 2) * _doubled(STANDBY_SECONDS, max(self._meetings, 1), STANDBY_SECONDS_MAX)


def _doubled(least: float, times: int, most: float) -> float:
    """Return `least` for the first time, twice as much for each further one, and no more than `most`."""
    return min(least * 2.0 ** min(times - 1, 30), most)
