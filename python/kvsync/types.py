"""Values that the caller, the engine and storages exchange."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal, NamedTuple, TypeAlias

from kvsync.native import DECISION, INEXACT, TOMBSTONE

__all__ = [
    "ABSENT",
    "ANY",
    "Absent",
    "AnyVersion",
    "Change",
    "Conflict",
    "Delete",
    "Expectation",
    "Label",
    "Metadata",
    "Origin",
    "Put",
    "Refusal",
    "Skipped",
    "Stored",
    "Unreadable",
    "Version",
    "Written",
]


Label: TypeAlias = Literal["source", "target"]
"""One of the two storages of a run."""


@dataclass(frozen=True, slots=True)
class Put:
    """Give a key a value.

    With a `value`, the run writes it to the source. Without one, the value must already be stored there. `expires` is
    when the value expires, in wall-clock seconds as in `time.time()`; None means never. If the value is already stored
    in a storage that supports expiry, the time that the storage reports counts instead.

    >>> Put("user/1", b"Ada")
    Put(key='user/1', value=b'Ada', expires=None)
    """

    key: str
    value: bytes | None = None
    expires: float | None = None
    deletes: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a key from the source.

    >>> Delete("user/2")
    Delete(key='user/2')
    """

    key: str
    value: ClassVar[None] = None
    expires: ClassVar[None] = None
    deletes: ClassVar[bool] = True


class Change(NamedTuple):
    """One logged change; (origin, stamp) identifies it, `order` ranks it among the changes of its key.

    `origin` is the 64-bit id of the replica that made it. `stamp` is a hybrid logical clock: 48 bits of milliseconds,
    16 of counter. `flags` has the bits `kvsync.native.TOMBSTONE`, `DECISION` and `INEXACT`. `size` is in bytes.
    `digest` is the BLAKE3 of the value: 32 bytes, zeros for a delete. `expires` is when the value expires, in
    wall-clock milliseconds since 1970; 0 for never, and for a delete.
    """

    key: str
    origin: int
    stamp: int
    flags: int
    size: int
    digest: bytes
    expires: int = 0

    @property
    def deletes(self) -> bool:
        """Whether this change is a tombstone."""
        return self.flags & TOMBSTONE != 0

    @property
    def decided(self) -> bool:
        """Whether a conflict policy made this change."""
        return self.flags & DECISION != 0

    @property
    def inexact(self) -> bool:
        """Whether the time in the stamp is not exactly when the change was made.

        A scan found it, and the storage does not say when it was made: after the scan before, and before this one.
        """
        return self.flags & INEXACT != 0

    @property
    def dot(self) -> tuple[int, int]:
        """What identifies this change: its origin and its stamp."""
        return (self.origin, self.stamp)

    @property
    def outcome(self) -> tuple[bool, bytes]:
        """The state that this change gives its key: whether it is deleted, and the digest of its value."""
        return (self.deletes, self.digest)

    @property
    def order(self) -> tuple[int, bool, bytes, int, int, int, int]:
        """The total order of the changes of one key: stamp, put before delete, digest, origin; the greatest wins.

        Of two changes with one stamp, the content decides: origins are random. Flags, size and expiry come last. They
        differ only between two changes with one identity, which only a faulty replica makes; replicas agree even on
        these.
        """
        return (self.stamp, self.deletes, self.digest, self.origin, self.flags, self.size, self.expires)

    @property
    def seconds(self) -> float:
        """The time in the stamp, in wall-clock seconds."""
        return (self.stamp >> 16) / 1000

    def expired(self, now_ms: int) -> bool:
        """Whether the value has expired by `now_ms`, in wall-clock milliseconds."""
        return 0 < self.expires <= now_ms


Direction: TypeAlias = Literal["both", "push", "pull", "mirror"]
"""Which way a run moves changes: "push" to the target alone, "pull" to the source alone."""


class Conflict(NamedTuple):
    """A key that both sides changed concurrently.

    Attributes:
        source: the newest change that the source knows.
        target: the newest change that the target knows.
        winner: "source", "target", or "value" if a callable returned a new value; None if nothing was decided.
        kept_as: the key under which `keep-both` keeps the losing value, or None.
        lost_as: the index objects that keep losing values, by name below `.kvsync/`; `kvsync.lost` reads them.
    """

    key: str
    source: Change
    target: Change
    winner: Literal["source", "target", "value"] | None = None
    kept_as: str | None = None
    lost_as: tuple[str, ...] = ()

    @property
    def certain(self) -> bool:
        """Whether the times of both changes are known exactly, and differ: the later one has the greater stamp."""
        is_exact = not (self.source.inexact or self.target.inexact)
        return is_exact and self.source.seconds != self.target.seconds


Version = bytes
"""Opaque version of an index object, as its storage reports it."""


class Absent:
    """Type of `ABSENT`: the object must not exist."""

    def __repr__(self) -> str:
        """Return the constant's name."""
        return "ABSENT"


class AnyVersion:
    """Type of `ANY`: the object may exist or not, in any version."""

    def __repr__(self) -> str:
        """Return the constant's name."""
        return "ANY"


ABSENT: Final = Absent()
ANY: Final = AnyVersion()
Expectation: TypeAlias = Version | Absent | AnyVersion


class Stored(NamedTuple):
    """An index object as read: its bytes and its version."""

    data: bytes
    version: Version


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for what is at a key and is no value that can be read now.

    Either a value is there that cannot be read, or something else is: a link, a directory, an entry of another type.
    Nothing of it may be taken for a delete, and nothing may be written over it.
    """

    reason: str


class Metadata(NamedTuple):
    """What a storage keeps beside a value, and gives to a storage that keeps it, too; None for what it does not.

    `executable` has the bits of a file's mode that make it executable (`0o111` for everybody), and `modified_ns` is
    when it was last modified, in wall-clock nanoseconds.
    """

    executable: int | None = None
    modified_ns: int | None = None


class Skipped(NamedTuple):
    """An entry that a scan skipped.

    `harmless` is true for what is no value by its nature, such as a link. It is false for what looks like a value but
    cannot be a key: a run that leaves it behind has not made the storages equal. `name` is made for people.
    """

    name: str
    reason: str
    harmless: bool = True


class Origin(NamedTuple):
    """Where a value is stored, so that another storage can have its server copy it.

    One server can copy between storages with the same `location`. `path` is the name of the value there.
    """

    location: str
    path: str


class Refusal(NamedTuple):
    """A key that a storage did not write or delete, and why.

    `changed` is true if the stored value is not the expected one, and false if the storage cannot do what was asked.
    """

    key: str
    reason: str
    changed: bool


class Written(NamedTuple):
    """The result of writing a batch.

    `tokens` has the version token of each key of the call, or None for a refused one; it is None as a whole if the
    storage has no cheap tokens.
    """

    refused: tuple[Refusal, ...] = ()
    tokens: tuple[bytes | None, ...] | None = None
