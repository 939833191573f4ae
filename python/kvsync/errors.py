"""Everything kvsync raises, as one tree.

```
KvsyncError
├── UsageError            the call is wrong: a key, a value type, an option, a URL (also a ValueError)
│   └── SameStorageError  source and target are one storage: name two
├── StorageError          the storage failed: mend it and run again (also an OSError)
├── LockError             nothing was lost: run again later
│   ├── LockHeldError     somebody else holds the lease: wait, or `kvsync unlock` if they are dead
│   └── LockLostError     our lease was taken over or ran out: run again
├── IndexDamagedError     an index object fails its checks: restore it, or let it be rebuilt
├── FormatError           an index object was written by a newer kvsync: upgrade
├── ClockError            a stamp lies too far in the future: mend the clock that made it
├── ConflictError         the policy "fail" met conflicts: nothing was applied, choose a policy
├── BudgetError           the run would delete or overwrite more than allowed: look, then raise it
└── StalePlanError        what the plan was made from has changed: plan again
```

Attributes carry the facts; the text is for people and not part of the interface.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.types import Conflict

__all__ = [
    "BudgetError",
    "ClockError",
    "ConflictError",
    "FormatError",
    "IndexDamagedError",
    "KvsyncError",
    "LockError",
    "LockHeldError",
    "LockLostError",
    "SameStorageError",
    "StalePlanError",
    "StorageError",
    "UsageError",
]


class KvsyncError(Exception):
    """Base of everything kvsync raises on purpose.

    Attributes:
        storage: redacted URL of the storage concerned, or None.
        key: the key concerned, or None.
    """

    def __init__(self, message: str, *, storage: str | None = None, key: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.storage = storage
        self.key = key

    def __str__(self) -> str:
        """Return the message, with the storage in front where one is known."""
        return f"{self.storage}: {self.message}" if self.storage else self.message


class UsageError(KvsyncError, ValueError):
    """The call itself is wrong; nothing was done."""


class SameStorageError(UsageError):
    """Source and target are one and the same storage."""


class StorageError(KvsyncError, OSError):
    """A storage could not be read or written."""

    def __init__(self, message: str, *, storage: str | None = None, key: str | None = None) -> None:
        KvsyncError.__init__(self, message, storage=storage, key=key)

    __str__ = KvsyncError.__str__


class LockError(KvsyncError):
    """A lease could not be had, or not be kept."""


class LockHeldError(LockError):
    """Somebody else holds the lease of a storage.

    Attributes:
        owner: who holds it, as they named themselves.
        expires: wall-clock seconds until which they hold it.
    """

    def __init__(self, message: str, *, storage: str, owner: str, expires: float) -> None:
        super().__init__(message, storage=storage)
        self.owner = owner
        self.expires = expires


class LockLostError(LockError):
    """Our lease ran out or was taken over; nothing was written after that."""


class IndexDamagedError(KvsyncError):
    """An index object fails its checks.

    Attributes:
        name: the object's name below `.kvsync/`, or None.
        offset: where in the object, in bytes, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        storage: str | None = None,
        name: str | None = None,
        offset: int | None = None,
    ) -> None:
        super().__init__(message, storage=storage)
        self.name = name
        self.offset = offset


class FormatError(IndexDamagedError):
    """An index object was written by a newer kvsync."""


class ClockError(KvsyncError):
    """A stamp lies further in the future than `max_drift_seconds`."""


class ConflictError(KvsyncError):
    """The policy "fail" met conflicts; nothing was applied.

    Attributes:
        conflicts: all of them.
    """

    def __init__(self, message: str, *, conflicts: Sequence[Conflict]) -> None:
        super().__init__(message)
        self.conflicts = list(conflicts)


class BudgetError(KvsyncError):
    """A run would delete or overwrite more than its budget; nothing was written.

    Attributes:
        deleted: keys found deleted.
        overwritten: keys found overwritten.
        known: how many keys there were.
    """

    def __init__(
        self, message: str, *, storage: str, deleted: Sequence[str], overwritten: Sequence[str], known: int
    ) -> None:
        super().__init__(message, storage=storage)
        self.deleted = list(deleted)
        self.overwritten = list(overwritten)
        self.known = known


class StalePlanError(KvsyncError):
    """What a plan was made from has changed since; nothing was written."""
