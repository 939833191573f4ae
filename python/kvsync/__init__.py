"""Make two key-value storages equal, both ways, moving only what changed."""

from kvsync.api import (
    commit,
    compact,
    doctor,
    log,
    lost,
    open,  # noqa: A004 - kvsync.open
    plan,
    status,
    sync,
    unlock,
    verify,
)
from kvsync.doctor import Diagnosis
from kvsync.errors import (
    BudgetError,
    ClockError,
    ConflictError,
    FormatError,
    IndexDamagedError,
    KvsyncError,
    KvsyncWarning,
    LockError,
    LockHeldError,
    LockLostError,
    RefusedError,
    SameStorageError,
    StalePlanError,
    StorageError,
    UsageError,
)
from kvsync.plan import Plan
from kvsync.result import MissingKey, Progress, SyncResult, UnreadableKey
from kvsync.store import Store
from kvsync.types import Change, Conflict, Delete, Put

__all__ = [
    "BudgetError",
    "Change",
    "ClockError",
    "Conflict",
    "ConflictError",
    "Delete",
    "Diagnosis",
    "FormatError",
    "IndexDamagedError",
    "KvsyncError",
    "KvsyncWarning",
    "LockError",
    "LockHeldError",
    "LockLostError",
    "MissingKey",
    "Plan",
    "Progress",
    "Put",
    "RefusedError",
    "SameStorageError",
    "StalePlanError",
    "StorageError",
    "Store",
    "SyncResult",
    "UnreadableKey",
    "UsageError",
    "commit",
    "compact",
    "doctor",
    "log",
    "lost",
    "open",
    "plan",
    "status",
    "sync",
    "unlock",
    "verify",
]
