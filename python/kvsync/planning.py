"""A plan: what a run would do; print it, inspect it, or apply it while nothing has changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvsync.replica.segments import changes_of
from kvsync.storages.wording import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kvsync.native import Segment
    from kvsync.result import MissingKey, SyncResult, UnreadableKey
    from kvsync.storages.contract import Tier
    from kvsync.types import Change, Conflict, Direction

__all__ = ["Plan"]

SHOWN_MAX = 20


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """What a run would do.

    >>> import kvsync
    >>> plan = kvsync.plan({}, {}, changes=[kvsync.Put("a", b"1")])
    >>> plan.to_target_count, plan.to_source_count
    (1, 0)
    """

    _preview: SyncResult
    _to_source: Segment
    _to_target: Segment
    _apply: Callable[[], SyncResult]

    @property
    def source(self) -> str:
        """The name of the source."""
        return self._preview.source

    @property
    def target(self) -> str:
        """The name of the target."""
        return self._preview.target

    @property
    def guarantee(self) -> Tier:
        """The tier of the weaker storage, "T1" to "T4"."""
        return self._preview.guarantee

    @property
    def expiry_ignored(self) -> int:
        """How many values would stay after they expire, in a storage without support for expiry."""
        return self._preview.expiry_ignored

    @property
    def creates(self) -> dict[str, str]:
        """What does not exist yet and would be created, in words, by side."""
        return self._preview.created

    @property
    def notes(self) -> list[str]:
        """What is special about the two storages, one sentence each."""
        return self._preview.notes

    @property
    def hint(self) -> str:
        """Why there is nothing to do although something may have been meant; empty as a rule."""
        return self._preview.hint

    @property
    def direction(self) -> Direction:
        """Which way changes would move."""
        return self._preview.direction

    @property
    def withheld(self) -> list[str]:
        """Keys of what one side has and the other one would not get, since the run is one-way."""
        return self._preview.withheld

    @property
    def left_out(self) -> list[str]:
        """Keys whose newest change one side would know and not hold, since a filter leaves them out."""
        return self._preview.left_out

    @property
    def missing(self) -> list[MissingKey]:
        """Keys whose newest value one side does not hold, as earlier runs found; a run would try them again."""
        return self._preview.missing

    @property
    def unreadable(self) -> list[UnreadableKey]:
        """Keys where a scan found something that it could not read."""
        return self._preview.unreadable

    @property
    def lag_seconds(self) -> float | None:
        """How old the oldest change is that one side lacks; None where there is none whose time is known exactly."""
        return self._preview.lag_seconds

    @property
    def to_target(self) -> Iterator[Change]:
        """Changes that the target would get, ascending by key, but for deletes of what is not there."""
        return changes_of(self._to_target)

    @property
    def to_source(self) -> Iterator[Change]:
        """Changes that the source would get, ascending by key, but for deletes of what is not there."""
        return changes_of(self._to_source)

    @property
    def to_target_count(self) -> int:
        """How many changes the target would get."""
        return len(self._to_target)

    @property
    def to_source_count(self) -> int:
        """How many changes the source would get."""
        return len(self._to_source)

    @property
    def conflicts(self) -> list[Conflict]:
        """Keys that both sides changed, with the decision for each."""
        return self._preview.conflicts

    @property
    def empty(self) -> bool:
        """Whether nothing would change in either storage."""
        return not (self.to_target_count or self.to_source_count or self.conflicts)

    @property
    def complete(self) -> bool:
        """Whether a run would leave the storages equal, as far as can be known: no key is missing or unreadable."""
        return not (self.missing or self.unreadable)

    def apply(self) -> SyncResult:
        """Carry out the plan.

        Without `scan` only the logs are held against the plan. As in such a `sync`, a value that an application has
        written meanwhile, beside kvsync, is not looked at.

        Raises:
            StalePlanError: a storage has changed since the plan was made; nothing was written.
        """
        return self._apply()

    def __repr__(self) -> str:
        """Return the storages, and how much would be done."""
        counts = f"to_target_count={self.to_target_count}, to_source_count={self.to_source_count}"
        return f"Plan({self.source!r}, {self.target!r}, {counts}, conflicts={len(self.conflicts)})"

    def __str__(self) -> str:
        """Return the plan for people: up to 20 lines of each kind."""
        lines = [f"source {self.source}", f"target {self.target}", f"guarantee {self.guarantee}"]
        lines += [f"creates {what}" for what in self.creates.values()]
        lines += [f"note: {note}" for note in self.notes]
        if self.empty and self.complete and not self.withheld:
            return "\n".join([*lines, f"nothing to do{self.hint and f': {self.hint}'}"])
        lines += _listed("to target", self.to_target, self.to_target_count)
        lines += _listed("to source", self.to_source, self.to_source_count)
        lines += _first_of((f"  conflict {c.key!r}: {c.winner} wins" for c in self.conflicts), len(self.conflicts))
        lines += _first_of((f"  withheld {shown(key)}" for key in self.withheld), len(self.withheld))
        for title, entries in (("missing", self.missing), ("unreadable", self.unreadable)):
            named = (f"  {title} {shown(entry.key)} in the {entry.side}: {entry.reason}" for entry in entries)
            lines += _first_of(named, len(entries))
        if self.expiry_ignored:
            values = "1 value" if self.expiry_ignored == 1 else f"{self.expiry_ignored} values"
            lines.append(f"expiry: {values} will stay after expiring: the storage does not support expiry")
        return "\n".join(lines)


def _listed(title: str, changes: Iterator[Change], count: int) -> Iterator[str]:
    if count:
        yield f"{title}: {_counted(count, 'change')}"
        shown = (
            f"  delete {change.key!r}" if change.deletes else f"  put {change.key!r} ({_counted(change.size, 'byte')})"
            for change in changes
        )
        yield from _first_of(shown, count)


def _first_of(lines: Iterable[str], count: int) -> Iterator[str]:
    for _, line in zip(range(SHOWN_MAX), lines, strict=False):
        yield line
    if count > SHOWN_MAX:
        yield f"  … and {count - SHOWN_MAX} more"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
