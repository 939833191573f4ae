"""The values that pass between caller, engine and storages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple, TypeAlias

from kvsync.native import DECISION, TOMBSTONE

__all__ = [
    "ABSENT",
    "ANY",
    "Absent",
    "AnyVersion",
    "Change",
    "Conflict",
    "Delete",
    "Expectation",
    "Origin",
    "Put",
    "Refusal",
    "Stored",
    "Unreadable",
    "Version",
    "Written",
]


@dataclass(frozen=True, slots=True)
class Put:
    """A key that was, or is to be, given a value.

    With a value, the run writes it to the source. Without one, the value is already stored there. `expires` is when
    the value goes by itself, in wall-clock seconds as `time.time()` counts them; None: never. Of a value that is stored
    already, a storage that keeps expiry knows better, and is believed.

    >>> Put("user/1", b"Ada")
    Put(key='user/1', value=b'Ada', expires=None)
    """

    key: str
    value: bytes | None = None
    expires: float | None = None
    deletes: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Delete:
    """A key that is to be deleted from the source.

    >>> Delete("user/2")
    Delete(key='user/2')
    """

    key: str
    value: ClassVar[None] = None
    expires: ClassVar[None] = None
    deletes: ClassVar[bool] = True


class Change(NamedTuple):
    """One logged change: (origin, stamp) names it, (stamp, origin) orders it.

    `origin` is a replica's 64-bit id, `stamp` a hybrid logical clock (48 bits of milliseconds, 16 of
    counter), `size` is in bytes, `digest` the BLAKE3 of the value (32 bytes, zeros for a delete), `expires` the
    wall-clock milliseconds since 1970 at which the value goes by itself (0 for never, and for a delete).
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
    def dot(self) -> tuple[int, int]:
        """What names this change: its origin and its stamp."""
        return (self.origin, self.stamp)

    @property
    def outcome(self) -> tuple[bool, bytes]:
        """What the key holds by this change: whether it is deleted, and the value's digest."""
        return (self.deletes, self.digest)

    @property
    def order(self) -> tuple[int, int, bool, bytes, int, int, int]:
        """The total order of changes to one key; the greatest wins.

        Flags, size and expiry come last, so that replicas agree even on two changes of one name, which only a faulty
        one makes.
        """
        return (self.stamp, self.origin, self.deletes, self.digest, self.flags, self.size, self.expires)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of the stamp."""
        return (self.stamp >> 16) / 1000

    def expired(self, now_ms: int) -> bool:
        """Whether its value has gone by itself by now, in wall-clock milliseconds."""
        return 0 < self.expires <= now_ms


@dataclass(frozen=True, slots=True)
class Conflict:
    """A key that both sides changed without knowing of each other.

    Attributes:
        source: the change that the source knows.
        target: the change that the target knows.
        winner: "source", "target", or "value" (a callable gave a value of its own); None where nothing was decided.
        kept_as: the key under which `keep-both` keeps the other value, or None.
        lost_as: where losing values were kept: names below `.kvsync/`, for `kvsync.lost`.
    """

    key: str
    source: Change
    target: Change
    winner: str | None = None
    kept_as: str | None = None
    lost_as: tuple[str, ...] = ()


Version = bytes
"""Opaque version of an index object, as its storage reports it."""


class Absent:
    """Type of `ABSENT`: the object must not exist."""

    def __repr__(self) -> str:
        """Return the constant's name."""
        return "ABSENT"


class AnyVersion:
    """Type of `ANY`: whatever exists."""

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
    """Stands for a value that exists and cannot be read now."""

    reason: str


class Origin(NamedTuple):
    """Where a value is, for a storage whose server is to copy it.

    `location` is equal for storages between which one server copies; `path` is the name of the value there.
    """

    location: str
    path: str


class Refusal(NamedTuple):
    """A key that a storage did not write or delete, and why.

    `changed`: its value is not the expected one; otherwise the storage cannot write or delete it.
    """

    key: str
    reason: str
    changed: bool


class Written(NamedTuple):
    """The outcome of a batch.

    `tokens`: the version tokens of the written keys, parallel to the call's keys (None for a refused one), if the
    storage has cheap ones; else None.
    """

    refused: tuple[Refusal, ...] = ()
    tokens: tuple[bytes | None, ...] | None = None
