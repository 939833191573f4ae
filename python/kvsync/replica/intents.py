"""Intents: what a run is about to write to a storage, and what its giver could prove of these changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvsync.index.bounds import LATE_WRITE_SECONDS
from kvsync.index.histories import unpack_note
from kvsync.replica.history import History, VectorException
from kvsync.replica.points import branch_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvsync.native import Segment
    from kvsync.types import Change

__all__ = ["LATE_WRITE_SECONDS", "FoundIntent", "Intent"]


class Intent(NamedTuple):
    """What this run is about to write to a storage, stored there under the name that the next manifest would list."""

    name: str
    segment: Segment
    data: bytes


class FoundIntent(NamedTuple):
    """What another run was about to write to a storage.

    Attributes:
        segment: the changes.
        giver: what the storage that they come from could prove of them; nothing, where they were made here.
        own: the id of this replica.
    """

    segment: Segment
    giver: History
    own: int

    @classmethod
    def of(cls, segment: Segment, own: int, storage: str, name: str) -> FoundIntent:
        """Read what a stored intent says beside its changes.

        Raises:
            IndexDamagedError: it is not what the format says.
        """
        return cls(segment, unpack_note(segment.note, storage, name), own)

    @property
    def is_own(self) -> bool:
        """Whether the changes were made here; that run may have been the first one, under an id that nobody knows."""
        return not self.giver.chains and not self.giver.exceptions

    def logged(self, changes: Iterable[Change], known: History) -> tuple[list[Change], list[VectorException]]:
        """Return those of its changes that may be logged, by the names that they get, and the exceptions they become.

        What was made here becomes our own, and no exception. Of others, a change that our history reaches and cannot
        prove is of another life; one that its giver could not prove stays out.
        """
        if self.is_own:
            return [change._replace(origin=self.own) for change in changes], []
        logged: list[Change] = []
        exceptions: list[VectorException] = []
        for change in changes:
            point = self.giver.point_at(*change.dot)
            if point is None:
                continue
            is_other = known.reaches(change.origin) >= change.stamp and point not in known.chains[change.origin]
            origin = branch_name(change.origin, point) if is_other else change.origin
            logged.append(change._replace(origin=origin))
            exceptions.append(VectorException(origin, change.stamp, change.stamp, point))
        return logged, exceptions
