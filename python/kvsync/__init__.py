"""Make two key-value storages equal, both ways, moving only what changed."""

from kvsync.absence import accept, forget, peers
from kvsync.api import (
    commit,
    compact,
    doctor,
    log,
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
from kvsync.index.lost import LostValue
from kvsync.inspection import KnownPeer
from kvsync.losers import discard, lost, restore
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
    "KnownPeer",
    "KvsyncError",
    "KvsyncWarning",
    "LockError",
    "LockHeldError",
    "LockLostError",
    "LostValue",
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
    "accept",
    "commit",
    "compact",
    "discard",
    "doctor",
    "forget",
    "log",
    "lost",
    "open",
    "peers",
    "plan",
    "restore",
    "status",
    "sync",
    "unlock",
    "verify",
]
