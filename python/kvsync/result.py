"""What a run did, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from kvsync.environment import utc
from kvsync.moved import Moved
from kvsync.storages.contract import Tier
from kvsync.storages.url import redact

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from kvsync.types import Conflict, Direction, Label

__all__ = [
    "Life",
    "MaybeDeleted",
    "MissingKey",
    "Progress",
    "Step",
    "SyncResult",
    "UnreadableKey",
]

Step: TypeAlias = Literal["wait", "recover", "push", "pull"]


ARROWS: Final[dict[Direction, str]] = {"both": "⇄", "push": "→", "pull": "←", "mirror": "⇒"}


class MissingKey(NamedTuple):
    """A key whose newest value one side does not hold; every run tries again to move it."""

    key: str
    side: Label
    reason: str


class UnreadableKey(NamedTuple):
    """A key of one side where a scan found no value that it could read, or a name that cannot be a key; and why.

    A run takes nothing from there and writes nothing there; the next one looks again.
    """

    key: str
    side: Label
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
    side: Label
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
    side: Label
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
    """How far a run is.

    Attributes:
        step: what it does: "wait" for the lease of a storage, "recover" what an interrupted run left there, "push"
            changes to the target, or "pull" changes to the source.
        done, total: how many of the changes are done; zeros while it waits.
        bytes_done, bytes_total: how many bytes of their values, also within one large value; zeros in a recovery.
        storage: the name of the storage that is waited for, recovered, or written to.
    """

    step: Step
    done: int = 0
    total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    storage: str = ""


if TYPE_CHECKING:
    OnProgress = Callable[[Progress], None]


@dataclass(slots=True)
class SyncResult:
    """What a run did.

    Attributes:
        direction: "both", "push", "pull" or "mirror".
        pushed: changes applied to the target.
        pulled: changes applied to the source.
        to_target, to_source: these changes, ascending by key; read from the columns of the run when they are asked for.
        committed: local changes logged by this run, in the source and in the target.
        conflicts: every key that both sides had changed, with the decision.
        missing: keys whose newest value one side does not hold, and why.
        withheld: keys of what one side has and the other one misses and did not get, since the run was one-way.
        left_out: keys whose newest change one side knows and does not hold, since a filter leaves them out.
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
        seconds: how long it took.
        dry_run: nothing was written; all of this says what a run would do.
    """

    source: str
    target: str
    direction: Direction = "both"
    pushed: int = 0
    pulled: int = 0
    to_target: Moved = field(default_factory=Moved, repr=False, compare=False)
    to_source: Moved = field(default_factory=Moved, repr=False, compare=False)
    committed: tuple[int, int] = (0, 0)
    conflicts: list[Conflict] = field(default_factory=list)
    missing: list[MissingKey] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    withheld: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    maybe_deleted: list[MaybeDeleted] = field(default_factory=list)
    unreadable: list[UnreadableKey] = field(default_factory=list)
    operations: dict[str, Counter[str]] = field(default_factory=dict)
    guarantee: Tier = Tier.ADVISORY
    expiry_ignored: int = 0
    created: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    hint: str = ""
    lag_seconds: float | None = None
    seconds: float = 0.0
    dry_run: bool = False

    @property
    def pushed_keys(self) -> list[str]:
        """The keys of the changes applied to the target, ascending; made anew each time."""
        return [change.key for change in self.to_target]

    @property
    def pulled_keys(self) -> list[str]:
        """The keys of the changes applied to the source, ascending; made anew each time."""
        return [change.key for change in self.to_source]

    @property
    def bytes(self) -> int:
        """The size of the values that were moved, both ways."""
        return self.to_target.value_bytes + self.to_source.value_bytes

    @property
    def deleted(self) -> int:
        """How many of the changes that were applied, on both sides, are deletes."""
        return self.to_target.deletes + self.to_source.deletes

    @property
    def complete(self) -> bool:
        """Whether the run left no key behind: none is missing or unreadable."""
        return not (self.missing or self.unreadable)

    def to_dict(self) -> dict[str, object]:
        """Return the result as plain values, for JSON, without secrets; `kvsync sync --json` prints just these fields.

        Unlike the result itself, that takes an object for each change that was moved.
        """
        from kvsync.fields import conflict_fields, key_fields, moved_fields  # noqa: PLC0415 - few ask for it

        return {
            "source": redact(self.source),
            "target": redact(self.target),
            "direction": self.direction,
            "dry_run": self.dry_run,
            "pushed": self.pushed,
            "pulled": self.pulled,
            "bytes": self.bytes,
            "to_target": [moved_fields(change) for change in self.to_target],
            "to_source": [moved_fields(change) for change in self.to_source],
            "committed": dict(zip(("source", "target"), self.committed, strict=True)),
            "conflicts": [conflict_fields(conflict) for conflict in self.conflicts],
            "withheld": self.withheld,
            "left_out": self.left_out,
            "missing": [key_fields(missing) for missing in self.missing],
            "restored": [
                {"storage": redact(life.storage), "compared": life.compared, "forgotten": life.forgotten}
                for life in self.lives
            ],
            "maybe_deleted": [
                {"storage": redact(each.storage), "peer": redact(each.peer), "before": each.before, "keys": each.keys}
                for each in self.maybe_deleted
            ],
            "unreadable": [key_fields(unreadable) for unreadable in self.unreadable],
            "operations": {side: dict(counter) for side, counter in self.operations.items()},
            "guarantee": self.guarantee,
            "expiry_ignored": self.expiry_ignored,
            "created": {side: redact(what) for side, what in self.created.items()},
            "notes": [redact(note) for note in self.notes],
            "hint": self.hint or None,
            "lag_seconds": self.lag_seconds,
            "seconds": round(self.seconds, 6),
        }

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
