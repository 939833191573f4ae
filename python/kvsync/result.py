"""What a run did, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from kvsync.environment import utc
from kvsync.storages.contract import Tier

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from kvsync.types import Conflict, Direction

__all__ = ["Life", "MaybeDeleted", "MissingKey", "Progress", "SyncResult", "UnreadableKey"]


ARROWS: Final[dict[Direction, str]] = {"both": "⇄", "push": "→", "pull": "←", "mirror": "⇒"}


class MissingKey(NamedTuple):
    """A key whose newest value one side does not hold; every run tries again to move it."""

    key: str
    side: str
    reason: str


class UnreadableKey(NamedTuple):
    """A key of one side where a scan found no value that it could read, or a name that cannot be a key; and why.

    A run takes nothing from there and writes nothing there; the next one looks again.
    """

    key: str
    side: str
    reason: str


class Life(NamedTuple):
    """A storage that was restored from a backup, copied and used on, or forgotten, as this run found out.

    Attributes:
        storage: its name.
        side: which of the two it is.
        compared: how many keys were compared again, since nobody can say which changes of them are known.
        conflicts: how many of them both lives had changed.
        forgotten: somebody had said that it does not come back (`kvsync.forget`).
    """

    storage: str
    side: str
    compared: int
    conflicts: int
    forgotten: bool = False

    def __str__(self) -> str:
        """Return a sentence for people."""
        keys = f"{self.compared} key{' was' if self.compared == 1 else 's were'} compared again"
        conflicts = f"{self.conflicts} conflict{'' if self.conflicts == 1 else 's'} kept"
        if self.forgotten:
            return f"{self.storage} had been forgotten, and goes on as a new storage; {keys}, {conflicts}"
        return f"{self.storage} was restored from a backup or copied; {keys}, {conflicts}"


class MaybeDeleted(NamedTuple):
    """Values of one side that the other does not have, and may have deleted: it no longer remembers so old deletes.

    The values stay, and are copied; delete them again if they were deleted.

    Attributes:
        storage: the name of the storage that held them.
        peer: the name of the other one.
        side: which of the two held them.
        before: up to when the other one has forgotten its deletes; wall-clock seconds.
        keys: ascending.
    """

    storage: str
    peer: str
    side: str
    before: float
    keys: list[str]

    def __str__(self) -> str:
        """Return a sentence for people."""
        count = len(self.keys)
        values = "1 value" if count == 1 else f"{count} values"
        return (
            f"{values} of {self.storage} {'was' if count == 1 else 'were'} not in {self.peer}, which no longer "
            f"remembers its deletes up to {utc(self.before)}; delete what was deleted there once more"
        )


class Progress(NamedTuple):
    """How far a run is: `done` of `total` changes are applied, in one `direction` ("push" or "pull")."""

    done: int
    total: int
    direction: str


if TYPE_CHECKING:
    OnProgress = Callable[[Progress], None]


@dataclass(slots=True)
class SyncResult:
    """What a run did.

    Attributes:
        direction: "both", "push", "pull" or "mirror".
        pushed: changes applied to the target.
        pulled: changes applied to the source.
        committed: local changes logged by this run, in the source and in the target.
        conflicts: every key that both sides had changed, with the decision.
        missing: keys whose newest value one side does not hold, and why.
        withheld: keys of what one side has and the other one misses and did not get, since the run was one-way.
        maybe_deleted: values of one side that the other may have deleted before it forgot so.
        lives: storages that turned out to have been restored or copied.
        unreadable: keys where a scan found something that it could not read, and why.
        operations: how often each storage operation was called, by side and name.
        guarantee: the tier of the weaker storage, "T1" to "T4".
        expiry_ignored: how many values stay after they expire, in a storage without support for expiry.
        created: {side: what the run created there, such as a folder or a table, in words}.
        notes: what is special about the two storages, one sentence each.
        hint: why nothing was done although something may have been meant; empty as a rule.
        lag_seconds: how old the oldest change was that one side had and the other one lacked when the run found it;
            None where there was none whose time is known exactly.
    """

    source: str
    target: str
    direction: Direction = "both"
    pushed: int = 0
    pulled: int = 0
    committed: tuple[int, int] = (0, 0)
    conflicts: list[Conflict] = field(default_factory=list)
    missing: list[MissingKey] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    withheld: list[str] = field(default_factory=list)
    maybe_deleted: list[MaybeDeleted] = field(default_factory=list)
    unreadable: list[UnreadableKey] = field(default_factory=list)
    operations: dict[str, Counter[str]] = field(default_factory=dict)
    guarantee: Tier = Tier.ADVISORY
    expiry_ignored: int = 0
    created: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    hint: str = ""
    lag_seconds: float | None = None

    def __str__(self) -> str:
        """Return one line for people."""
        words = [f"{self.pushed} pushed", f"{self.pulled} pulled"]
        if self.conflicts:
            words.append(f"{len(self.conflicts)} conflict{'s' if len(self.conflicts) > 1 else ''}")
        if self.withheld:
            words.append(f"{len(self.withheld)} withheld")
        if self.missing:
            words.append(f"{len(self.missing)} missing")
        if self.unreadable:
            words.append(f"{len(self.unreadable)} unreadable")
        words += [f"created {what}" for what in self.created.values()]
        words += [f"{life.storage} was restored or copied" for life in self.lives]
        words += [f"{len(each.keys)} of {each.storage} maybe deleted before" for each in self.maybe_deleted]
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.source} {ARROWS[self.direction]} {self.target}: {', '.join(words)}{hint}"

    @property
    def index_operations(self) -> int:
        """How many operations read or wrote the index of either side, without values."""
        names = ("load", "store", "remove", "objects")
        return sum(counter[name] for counter in self.operations.values() for name in names)
