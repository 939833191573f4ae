"""What a replica knows of changes, as one immutable value.

A change is *known* to a replica that has logged it, or a change of the same key that beats it. The history says which
changes are known, and two lists say where it says too much:

- `missing`: changes that are known and whose value is not held here. Every run tries to get those values.
- `unreconciled`: changes that are known, and were replaced here by somebody who did not know of them. No vector shows
  that conflict, so it has to be remembered until a peer that holds the change is met.

Every transition returns a new value and reads nothing but its arguments, so that it can be tested against a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvsync.replica.history import History, Rename, Renames, VectorException
from kvsync.types import Change

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from kvsync.native import Cover, Segment

__all__ = ["Knowledge", "Missing"]


class Missing(NamedTuple):
    """A change that is known here and whose value is not held.

    Attributes:
        change: the newest change of its key that this replica knows of.
        reason: why its value is not held, for people.
        held: BLAKE3 of the value that is there instead; empty where there is none.
    """

    change: Change
    reason: str
    held: bytes = b""


class Knowledge(NamedTuple):
    """What a replica knows.

    Attributes:
        history: how far every origin's history is known, and what proves it.
        missing: ascending by key, at most one a key.
        unreconciled: ascending by key and name.
    """

    history: History = History()
    missing: tuple[Missing, ...] = ()
    unreconciled: tuple[Change, ...] = ()

    @property
    def cover(self) -> Cover:
        """The version vector with its exceptions."""
        return self.history.cover

    # Questions

    def says_same(self, other: Knowledge) -> bool:
        """Whether both say the same; what proves it may differ."""
        return self[1:] == other[1:] and self.history.says_same(other.history)

    def has_reconciled(self, change: Change) -> bool:
        """Whether a change is known here, and either its value was held or its conflict was decided."""
        dot = change.dot
        return (
            self.cover.covers(*dot)
            and all(entry.change.dot != dot for entry in self.missing)
            and all(other.dot != dot for other in self.unreconciled)
        )

    def has_nothing_for(self, other: Knowledge) -> bool:
        """Whether two replicas have nothing to exchange: both know the same, and no value is missing."""
        if self.missing or other.missing or not self.history.says_same(other.history):
            return False
        if not self.unreconciled and not other.unreconciled:
            return True
        return {change.dot for change in self.unreconciled} == {change.dot for change in other.unreconciled}

    def backfill_from(self, giver: Knowledge, received: Segment, now_ms: int) -> list[Change]:
        """Return the missing changes whose value `giver` may hold, or whose value has expired by `now_ms`.

        A key that is in `received` gets a newer value anyway.
        """
        if not self.missing:
            return []
        absent_there = {entry.change.key for entry in giver.missing}
        wanted = [
            entry.change
            for entry in self.missing
            if entry.change.key not in absent_there or entry.change.expired(now_ms)
        ]
        newer = received.find([change.key for change in wanted])
        return [change for change, row in zip(wanted, newer, strict=True) if row is None]

    def unreconciled_after(
        self, received: Segment, giver: Knowledge, reconciled: AbstractSet[tuple[int, int]]
    ) -> list[Change]:
        """Return what stays or becomes unreconciled here once `received` is logged, which comes from `giver`.

        What was so before stays, but for the dots that this run has `reconciled`. A missing change becomes so where
        `received` replaces it with another outcome and `giver` did not know of it.
        """
        stay = [change for change in self.unreconciled if change.dot not in reconciled]
        changes = [entry.change for entry in self.missing]
        newer = received.find([change.key for change in changes]) if changes else []
        for change, row in zip(changes, newer, strict=True):
            replaced = row is not None and Change._make(row).outcome != change.outcome
            if replaced and not giver.has_reconciled(change):
                stay.append(change)
        return stay

    # Transitions

    def adopt(
        self, applied: Sequence[Change], exceptions: Sequence[VectorException], *, replica: int, mark: int
    ) -> Knowledge:
        """Take in what a crashed run had already applied.

        What that run was about to log as changes of this `replica` is logged so now. For others, which are known
        `ahead`, the history does not move. Whether the crashed run knew of what is missing here is not known, so that
        becomes unreconciled.
        """
        own = max((change.stamp for change in applied if change.origin == replica), default=0)
        history = self.history.with_exceptions(exceptions)
        history = history.committed(replica, own, mark) if own else history
        missing, unreconciled = self._supersede(self.missing, applied, applied)
        return Knowledge(history, _by_key(missing), unreconciled)

    def commit(
        self,
        local: Segment,
        applied: Sequence[Change] = (),
        exceptions: Sequence[VectorException] = (),
        *,
        replica: int,
        mark: int,
    ) -> Knowledge:
        """Take in changes that were made here, by `replica`; `mark` is fresh.

        `local` also holds those changes of interrupted runs that a scan found `applied`, which are known `ahead`. A
        change to a missing key was made without knowing of the missing one, so that becomes unreconciled.
        """
        history = self.history.with_exceptions(exceptions)
        own = local.maxima.get(replica, 0)
        history = history.committed(replica, own, mark) if own else history
        if not self.missing and not self.unreconciled:
            return Knowledge(history)
        rows = local.find([entry.change.key for entry in self.missing])
        replacing = [Change._make(row) for row in rows if row is not None]
        missing, unreconciled = self._supersede(self.missing, replacing, applied)
        return Knowledge(history, _by_key(missing), unreconciled)

    def restamp(self, local: Segment, *, replica: int, mark: int) -> Knowledge:
        """Take in changes that get a fresh stamp of `replica`, and leave what they left before.

        What is missing stays so, under its new name.
        """
        history = self.history.committed(replica, local.maxima[replica], mark)
        rows = local.find([entry.change.key for entry in self.missing])
        missing = tuple(
            entry if row is None else entry._replace(change=Change._make(row))
            for entry, row in zip(self.missing, rows, strict=True)
        )
        return Knowledge(history, missing, self.unreconciled)

    def accept(self, local: Segment, *, replica: int, mark: int) -> Knowledge:
        """Take in changes of `replica` that say what is there, in place of what is missing or unreconciled."""
        history = self.history.committed(replica, local.maxima[replica], mark)
        keys = {row[0] for row in local.rows(0, len(local))}
        missing = tuple(entry for entry in self.missing if entry.change.key not in keys)
        return Knowledge(history, missing, tuple(change for change in self.unreconciled if change.key not in keys))

    def renamed(self, renames: Collection[Rename]) -> Knowledge:
        """Give changes that are named here the names that they get in the log."""
        names = Renames(renames)
        missing = [entry._replace(change=names.named(entry.change)) for entry in self.missing]
        unreconciled = [names.named(change) for change in self.unreconciled]
        return Knowledge(self.history, tuple(missing), _by_name(unreconciled))

    def receive(
        self,
        history: History,
        received: Collection[Segment],
        failed: Sequence[Missing],
        unreconciled: Iterable[Change],
    ) -> Knowledge:
        """Take in what a peer gave: `received` was applied, but for what `failed`; both sides now know `history`."""
        missing: list[Missing] = list(self.missing)
        for segment in received:
            if missing:
                rows = segment.find([entry.change.key for entry in missing])
                missing = [entry for entry, row in zip(missing, rows, strict=True) if row is None]
        return Knowledge(history, _by_key([*missing, *failed]), _by_name(unreconciled))

    def _supersede(
        self, missing: Iterable[Missing], by: Sequence[Change], applied: Sequence[Change]
    ) -> tuple[list[Missing], tuple[Change, ...]]:
        """Return what stays missing, and what is unreconciled, once the changes in `by` are logged.

        What was `applied` is held now, so it is neither.
        """
        dots, keys = {change.dot for change in applied}, {change.key for change in by}
        open_ = [entry for entry in missing if entry.change.dot not in dots]
        stay = [entry for entry in open_ if entry.change.key not in keys]
        replaced = [entry.change for entry in open_ if entry.change.key in keys]
        kept = [change for change in self.unreconciled if change.dot not in dots]
        return stay, _by_name([*kept, *replaced])


def _by_key(entries: Iterable[Missing]) -> tuple[Missing, ...]:
    return tuple(sorted(entries, key=lambda entry: entry.change.key))


def _by_name(changes: Iterable[Change]) -> tuple[Change, ...]:
    return tuple(sorted(set(changes), key=lambda change: (change.key, change.dot)))
