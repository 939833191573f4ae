"""What a run knows of its two storages: plain records that each step reads, and returns anew with what it found."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from kvsync.types import Label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kvsync.filters import KeyFilter
    from kvsync.lease import Lease
    from kvsync.native import Given
    from kvsync.replica.log import Log
    from kvsync.scan import Scan
    from kvsync.storages.contract import Storage

__all__ = ["Doubts", "Label", "Pair", "Side"]


class Doubts(NamedTuple):
    """Keys of one side's values of which nobody can know whether they were deleted, and a delete was collected.

    Attributes:
        label: the side that held them before this run.
        before_ms: up to when the other side has collected deletes, in wall-clock milliseconds.
        keys: ascending.
    """

    label: Label
    before_ms: int
    keys: list[str]


# A run makes ten of these two records: named tuples take a quarter of a frozen dataclass's time.


class Side(NamedTuple):
    """One storage of a run.

    Attributes:
        label: which of the two.
        storage: the storage.
        log: its log.
        lease: held for the run; None in a preview, which writes nothing.
        other_leases: of the other storages of the run, to be kept alive meanwhile.
        scan: what a scan found here, where one was made.
        given: what the caller gave, once it is committed: pushed from memory, not read back.
        read_versions: {key: (digest, version token)} of stored values that were read in parts to commit them.
        pending: {key: value, or None for a delete} that a preview would have written.
        committed: how many local changes this run logged.
        takes: this run writes values here, and what the other side knows is known here afterwards.
        keys_filter: which keys the run leaves out.
        unexpiring: how many given values stay here past their time, since this storage cannot keep it.
    """

    label: Label
    storage: Storage
    log: Log
    lease: Lease | None = None
    other_leases: tuple[Lease, ...] = ()
    scan: Scan | None = None
    given: Given | None = None
    read_versions: Mapping[str, tuple[bytes, bytes]] = MappingProxyType({})
    pending: Mapping[str, bytes | None] = MappingProxyType({})
    committed: int = 0
    takes: bool = True
    keys_filter: KeyFilter | None = None
    unexpiring: int = 0

    @property
    def origin(self) -> int:
        """The id under which this side stamps its changes."""
        return self.log.manifest.replica


class Pair(NamedTuple):
    """Both sides of a run.

    Attributes:
        source, target: the two sides.
        in_doubt: both claim to know the same and hold different values, so the two logs are compared in full.
        doubts: values of which nobody can know whether they were deleted.
        second_lives: the sides that turned out to have been restored or copied, or to have been forgotten.
        forgotten: those of them that had been forgotten.
    """

    source: Side
    target: Side
    in_doubt: bool = False
    second_lives: tuple[Label, ...] = ()
    forgotten: tuple[Label, ...] = ()
    doubts: Sequence[Doubts] = ()

    @property
    def sides(self) -> tuple[Side, Side]:
        """Source and target."""
        return self.source, self.target

    @property
    def home(self) -> Side:
        """The side that a value is written to which neither side holds yet: the source, unless it takes nothing."""
        return self.source if self.source.takes else self.target
