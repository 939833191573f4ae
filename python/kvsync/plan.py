"""A plan: what a run would do; print it, inspect it, or apply it while nothing has changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kvsync.replica.segments import changes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvsync.result import SyncResult
    from kvsync.run.delta import Exchange
    from kvsync.storages.contract import Tier
    from kvsync.types import Change, Conflict

__all__ = ["Plan"]

SHOWN_MAX = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do.

    Attributes:
        source, target: the names of the storages.
        exchange: the deltas, and the conflicts with their decisions.
        guarantee: the tier of the weaker storage.
        expiry_ignored: how many values would stay after they expire, in a storage without support for expiry.
        creates: {side: what does not exist there yet and would be created, in words}.
        notes: what is special about the two storages, one sentence each.
        hint: why there is nothing to do although something may have been meant; empty as a rule.

    >>> import kvsync
    >>> plan = kvsync.plan({}, {}, changes=[kvsync.Put("a", b"1")])
    >>> plan.to_target_count, plan.to_source_count
    (1, 0)
    """

    source: str
    target: str
    exchange: Exchange
    guarantee: Tier
    expiry_ignored: int
    creates: dict[str, str]
    notes: list[str]
    hint: str
    _apply: Callable[[], SyncResult] = field(repr=False)

    @property
    def to_target(self) -> Iterator[Change]:
        """Changes that the target would get, ascending by key."""
        return changes_of(self.exchange.to_target.copy)

    @property
    def to_source(self) -> Iterator[Change]:
        """Changes that the source would get, ascending by key."""
        return changes_of(self.exchange.to_source.copy)

    @property
    def to_target_count(self) -> int:
        """How many changes the target would get."""
        return len(self.exchange.to_target.copy)

    @property
    def to_source_count(self) -> int:
        """How many changes the source would get."""
        return len(self.exchange.to_source.copy)

    @property
    def conflicts(self) -> list[Conflict]:
        """Keys that both sides changed, with the decision for each."""
        return self.exchange.conflicts

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.to_target_count or self.to_source_count or self.conflicts)

    def apply(self) -> SyncResult:
        """Carry out the plan.

        Raises:
            StalePlanError: a storage has changed since the plan was made; nothing was written.
        """
        return self._apply()

    def __str__(self) -> str:
        """Return the plan for people: up to 20 lines for each direction, and for conflicts."""
        lines = [f"source {self.source}", f"target {self.target}", f"guarantee {self.guarantee}"]
        lines += [f"creates {what}" for what in self.creates.values()]
        lines += [f"note: {note}" for note in self.notes]
        if self.empty:
            return "\n".join([*lines, f"nothing to do{self.hint and f': {self.hint}'}"])
        lines += _listed("to target", self.to_target, self.to_target_count)
        lines += _listed("to source", self.to_source, self.to_source_count)
        lines += [f"  conflict {c.key!r}: {c.winner} wins" for c in self.conflicts[:SHOWN_MAX]]
        if self.expiry_ignored:
            lines.append(f"expiry: {self.expiry_ignored} values stay after expiring, where expiry is not supported")
        return "\n".join(lines)


def _listed(title: str, changes: Iterator[Change], count: int) -> Iterator[str]:
    yield f"{title}: {count} changes"
    for _, change in zip(range(SHOWN_MAX), changes, strict=False):
        yield f"  delete {change.key!r}" if change.deletes else f"  put {change.key!r} ({change.size} bytes)"
    if count > SHOWN_MAX:
        yield f"  … and {count - SHOWN_MAX} more"
