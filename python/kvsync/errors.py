"""All errors that kvsync raises, as one tree, with what the caller should do.

```
KvsyncError
├── UsageError            the call is wrong: fix the key, value, option or URL (also a ValueError)
│   └── SameStorageError  source and target are the same storage: name two different ones
├── StorageError          a storage failed: repair it and run again (also an OSError)
│   └── RefusedError       a storage refused some keys, the others are written: change those, or leave them out
├── LockError             no lease, or no longer: run again later, no data is lost
│   ├── LockHeldError     somebody else holds the lease: wait, or `kvsync unlock` if the holder is dead
│   └── LockLostError     our lease expired or was taken over: run again
├── IndexDamagedError     an index object fails its checks: repair it with `kvsync verify --repair`
│   └── FormatError       an index object was written by a newer kvsync: upgrade
├── ClockError            a stamp lies too far in the future: correct the clock that made it
├── ConflictError         the policy "fail" found conflicts, so nothing was applied: choose another policy
├── BudgetError           a scan found too many keys deleted or overwritten: look at them with `kvsync.plan` and
│                         max_delete="100%"; if they are intended, raise `max_delete`; if they were lost, bring them
│                         back with `kvsync verify --refill`
├── CancelledError        the caller cancelled the run: run again, and it goes on where it stopped
└── StalePlanError        a storage has changed since the plan was made: plan again
```

The attributes of an error are part of the interface, its text is not.

`KvsyncWarning` is no error: a call did what it says, and hardly what was meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.types import Conflict, Refusal

__all__ = [
    "BudgetError",
    "CancelledError",
    "ClockError",
    "ConflictError",
    "FormatError",
    "IndexDamagedError",
    "KvsyncError",
    "KvsyncWarning",
    "LockError",
    "LockHeldError",
    "LockLostError",
    "RefusedError",
    "SameStorageError",
    "StalePlanError",
    "StorageError",
    "UsageError",
]


class KvsyncError(Exception):
    """Base of all errors that kvsync raises.

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
        """Return the message, after the name of the storage if one is known."""
        return f"{self.storage}: {self.message}" if self.storage else self.message


class KvsyncWarning(UserWarning):
    """A call did what it says, but hardly what was meant."""


class UsageError(KvsyncError, ValueError):
    """The call itself is wrong; nothing was done."""


class SameStorageError(UsageError):
    """Source and target are the same storage."""


class StorageError(KvsyncError, OSError):
    """A storage could not be read or written."""

    def __init__(self, message: str, *, storage: str | None = None, key: str | None = None) -> None:
        KvsyncError.__init__(self, message, storage=storage, key=key)

    __str__ = KvsyncError.__str__


class RefusedError(StorageError):
    """A storage refused some of the changes that the caller gave; the others were written and logged.

    Attributes:
        refused: every refused key, with the reason; `key` is the first of them.

    Args:
        storage: its name.
        refused: the refusals.
        others: how many changes were logged.
    """

    def __init__(self, *, storage: str, refused: Sequence[Refusal], others: int = 0) -> None:
        first = refused[0]
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        rest = "; the other changes were logged" if others else ""
        message = f"could not change {first.key!r}{more}: {first.reason}{rest}"
        super().__init__(message, storage=storage, key=first.key)
        self.refused = list(refused)


class LockError(KvsyncError):
    """A lease could not be acquired or kept."""


class LockHeldError(LockError):
    """Somebody else holds the lease of a storage.

    Attributes:
        owner: who holds it, as the holder names itself.
        expires: when the lease expires, in wall-clock seconds.
    """

    def __init__(self, message: str, *, storage: str, owner: str, expires: float) -> None:
        super().__init__(message, storage=storage)
        self.owner = owner
        self.expires = expires


class LockLostError(LockError):
    """Our lease expired or was taken over; nothing was written after that."""


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
    """A time in a manifest lies further in the future than `max_drift_seconds`."""


class ConflictError(KvsyncError):
    """The policy "fail" found conflicts; nothing was applied.

    Attributes:
        conflicts: all of them.
    """

    def __init__(self, message: str, *, conflicts: Sequence[Conflict]) -> None:
        super().__init__(message)
        self.conflicts = list(conflicts)


class BudgetError(KvsyncError):
    """A run would do more than a budget allows, or a scan found more deleted or overwritten; no value was written.

    Attributes:
        deleted: keys that were found deleted, or would be.
        overwritten: keys that were found overwritten, or would be; or that both sides changed.
        known: how many keys there were; 0 where the budget is not a part of them.
        emptied: everything is gone, or would be; only max_delete="100%" allows that.
        option: the name of the budget.
        allow: the least value of it that would allow the run.
    """

    def __init__(
        self,
        message: str,
        *,
        storage: str,
        deleted: Sequence[str] = (),
        overwritten: Sequence[str] = (),
        known: int = 0,
        emptied: bool = False,
        option: str = "max_delete",
        allow: str = "",
    ) -> None:
        super().__init__(message, storage=storage)
        self.deleted = list(deleted)
        self.overwritten = list(overwritten)
        self.known = known
        self.emptied = emptied
        self.option = option
        self.allow = allow or ("100%" if emptied else str(len(deleted) + len(overwritten)))


class CancelledError(KvsyncError):
    """The caller cancelled the run, which stopped after a batch; the next run goes on where it stopped."""


class StalePlanError(KvsyncError):
    """A storage has changed since the plan was made; nothing was written."""
