"""Ghost state: what every write of an application was made from, which no rule ever reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from model.changes import Change
    from model.replica import Replica


class Ghost:
    """Knows all writes.

    Attributes:
        parents: for each write those that it was made on top of.
        due: writes that have to be there at the end, or something made from them, unless they were told.
        told: writes that lost a conflict, or were in doubt, and were told to the user.
        beaten: for each write those that it was told to have beaten.
        deletes: which writes are deletes.
        void: which are never due: what an application took back, or kvsync did.
    """

    def __init__(self) -> None:
        self.parents: dict[int, list[int]] = {}
        self.due: set[int] = set()
        self.told: set[int] = set()
        self.beaten: dict[int, set[int]] = {}
        self.deletes: set[int] = set()
        self.void: set[int] = set()

    def write(self, parents: Iterable[int], *, deletes: bool, due: bool = True) -> int:
        """Return a new write."""
        write = len(self.parents) + 1
        self.parents[write] = list(parents)
        if deletes:
            self.deletes.add(write)
        (self.due if due else self.void).add(write)
        return write

    def link(self, child: int, parent: int) -> None:
        """Note that a write stands for another one, too: both had one outcome, so what was told of one was of both."""
        if {child, parent} & self.told and child not in self.deletes:
            self.told |= {child, parent}
        if parent != child and parent not in self.parents[child]:
            self.parents[child].append(parent)

    def ancestors(self, writes: Iterable[int]) -> set[int]:
        """Return the writes and all that they were made from."""
        seen: set[int] = set()
        todo = list(writes)
        while todo:
            write = todo.pop()
            if write not in seen:
                seen.add(write)
                todo += self.parents[write]
        return seen

    def related(self, one: int, other: int) -> bool:
        """Whether one write was made from the other."""
        return one in self.ancestors([other]) or other in self.ancestors([one])

    def lost(self, replicas: Iterable[Replica]) -> set[int]:
        """Return the writes that are due and of which nothing is left, and nobody was told."""
        return self.due - self.ancestors(present(replicas) | self.told)

    def forget_what_is_gone(self, replicas: Iterable[Replica]) -> None:
        """Give up what an application took back, or a restore has just destroyed."""
        self.due &= self.ancestors(present(replicas) | self.told)

    def expect_all(self, replicas: Iterable[Replica]) -> None:
        """Make due what is there: a backup has brought some of it back."""
        self.due |= present(replicas) - self.void

    def revived(self, replicas: list[Replica]) -> bool:
        """Whether a value is there though its delete was known, and neither was told."""
        graves = set[tuple[str, int]]().union(*(replica.graves for replica in replicas))
        return any(
            change.value and change.write not in self.told and self._is_revived(key, change.write, graves)
            for key, change in replicas[0].log.items()
        )

    def _is_revived(self, key: str, write: int, graves: set[tuple[str, int]]) -> bool:
        deletes = {delete for grave, delete in graves if grave == key}
        deletes -= self.told | self._beaten_by(write) | self.ancestors([write])
        return write in self.ancestors(deletes)

    def _beaten_by(self, write: int) -> set[int]:
        """Return what a write was told to have beaten, what that was made from, and what that had beaten."""
        seen: set[int] = set()
        todo = list(self.beaten.get(write, ()))
        while todo:
            other = todo.pop()
            if other not in seen:
                seen.add(other)
                todo += [*self.parents[other], *self.beaten.get(other, ())]
        return seen


def present(replicas: Iterable[Replica]) -> set[int]:
    """Return the writes whose outcome is somewhere: in a storage, or as a delete in a log or collected from one."""
    there: set[int] = set()
    for replica in replicas:
        there.update(cell.write for cell in replica.store.values())
        there.update(change.write for key, change in replica.log.items() if replica.holds(key, change))
        there.update(change.write for key, change in replica.log.items() if _is_deleted(replica, key, change))
        there.update(write for _, write in replica.graves)
    return there


def _is_deleted(replica: Replica, key: str, change: Change) -> bool:
    return not change.value and key not in replica.missing
