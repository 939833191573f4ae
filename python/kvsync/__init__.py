"""Make two key-value storages equal, both ways, moving only what changed."""

from importlib import import_module
from typing import TYPE_CHECKING

from kvsync.errors import (
    BudgetError,
    CancelledError,
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

if TYPE_CHECKING:
    from kvsync.absence import accept, forget, peers
    from kvsync.api import (
        commit,
        compact,
        open,  # noqa: A004 - kvsync.open
        plan,
        sync,
        unlock,
    )
    from kvsync.audit.values import Verification
    from kvsync.checks import doctor, log, status, verify
    from kvsync.diagnosis import Diagnosis
    from kvsync.index.lost import LostValue
    from kvsync.inspection import KnownPeer, Status
    from kvsync.losers import discard, lost, restore
    from kvsync.many import Failure, SyncAllResult, sync_all
    from kvsync.planning import Plan
    from kvsync.policy import Policy
    from kvsync.result import MissingKey, Progress, SyncResult, UnreadableKey
    from kvsync.storages.contract import Storage
    from kvsync.store import Store
    from kvsync.tracking import track, untrack
    from kvsync.types import Change, Conflict, Delete, Put
    from kvsync.watching.api import watch
    from kvsync.watching.events import Outage, WatchRun
    from kvsync.watching.watch import Watch

__all__ = [
    "BudgetError",
    "CancelledError",
    "Change",
    "ClockError",
    "Conflict",
    "ConflictError",
    "Delete",
    "Diagnosis",
    "Failure",
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
    "Outage",
    "Plan",
    "Policy",
    "Progress",
    "Put",
    "RefusedError",
    "SameStorageError",
    "StalePlanError",
    "Status",
    "Storage",
    "StorageError",
    "Store",
    "SyncAllResult",
    "SyncResult",
    "UnreadableKey",
    "UsageError",
    "Verification",
    "Watch",
    "WatchRun",
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
    "sync_all",
    "track",
    "unlock",
    "untrack",
    "verify",
    "watch",
]

_MODULES = {
    "Change": "types",
    "Conflict": "types",
    "Delete": "types",
    "Diagnosis": "diagnosis",
    "Failure": "many",
    "KnownPeer": "inspection",
    "LostValue": "index.lost",
    "MissingKey": "result",
    "Outage": "watching.events",
    "Plan": "planning",
    "Policy": "policy",
    "Progress": "result",
    "Put": "types",
    "Status": "inspection",
    "Storage": "storages.contract",
    "Store": "store",
    "SyncAllResult": "many",
    "SyncResult": "result",
    "UnreadableKey": "result",
    "Verification": "audit.values",
    "Watch": "watching.watch",
    "WatchRun": "watching.events",
    "accept": "absence",
    "commit": "api",
    "compact": "api",
    "discard": "losers",
    "doctor": "checks",
    "forget": "absence",
    "log": "checks",
    "lost": "losers",
    "open": "api",
    "peers": "absence",
    "plan": "api",
    "restore": "losers",
    "status": "checks",
    "sync": "api",
    "sync_all": "many",
    "track": "tracking",
    "unlock": "api",
    "untrack": "tracking",
    "verify": "checks",
    "watch": "watching.api",
}
"""{name: the module that it is imported from when it is first used}, so that a run loads only what it needs."""

if not TYPE_CHECKING:  # which would take any name for one of ours

    def __getattr__(name: str) -> object:
        """Import what is exported and was not used before."""
        if name not in _MODULES:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        value = globals()[name] = getattr(import_module(f"kvsync.{_MODULES[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
