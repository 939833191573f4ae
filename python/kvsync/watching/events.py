"""What a watch tells: the result of a run, or that the pair cannot be synced now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from kvsync.errors import KvsyncError
    from kvsync.result import SyncResult
    from kvsync.watching.schedule import Reason

__all__ = ["Outage", "WatchRun"]


@dataclass(frozen=True, slots=True)
class WatchRun:
    """A run of a watch.

    Attributes:
        result: what it did.
        reason: why it was made. "start": the watch began. "hint": something may have changed. "interval": a storage
            does not notice all changes. "full": regularly, whatever the hints say. "retry": the last run failed, or
            left keys behind.
        seconds: how long it took.
        outage: what it ended, if the runs before it failed.
    """

    result: SyncResult
    reason: Reason
    seconds: float
    outage: Outage | None = None

    @property
    def did_something(self) -> bool:
        """Whether it moved, found or left behind anything, or has news of the two storages."""
        result = self.result
        news = (result.pushed, result.pulled, *result.committed, result.conflicts, result.missing, result.unreadable)
        return any((*news, result.lives, result.maybe_deleted, result.created, result.notes))

    def __str__(self) -> str:
        """Return one line for people."""
        return str(self.result)


@dataclass(frozen=True, slots=True)
class Outage:
    """A run that failed, and will be made again.

    Attributes:
        error: why.
        side: which storage failed; None where that cannot be told, or it takes both.
        since: when the first run of this outage failed, in wall-clock seconds.
        failures: how many runs have failed since.
        retry_seconds: in how many seconds the next one is made.
        lasting: it takes a person to mend that: a scan found too much deleted, conflicts under the policy "fail", a
            damaged index, a wrong clock.
    """

    error: KvsyncError
    side: Literal["source", "target"] | None
    since: float
    failures: int
    retry_seconds: float
    lasting: bool

    def __str__(self) -> str:
        """Return one line for people."""
        return f"{self.error} (next try in {self.retry_seconds:.0f} s)"
