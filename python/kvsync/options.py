"""How a run behaves, checked once at the door."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Literal

from kvsync.errors import UsageError
from kvsync.policy import resolve_policy
from kvsync.scan import Budget

if TYPE_CHECKING:
    from kvsync.policy import Policy
    from kvsync.result import OnProgress

__all__ = ["Options"]

LEASE_SECONDS_MIN = 0.1
"""A shorter life would be over before a batch is."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a run behaves.

    Attributes:
        conflict: policy by name, or a callable (`kvsync.policy.Merge`).
        scan: find changes by comparing both storages with their inventories.
        guard: "none": the caller vouches that nothing else wrote; "check": look before overwriting.
        max_delete: how much a scan may find deleted or overwritten: a number of keys or "P%"; None is "50%".
        keep_lost: keep values that lose a conflict, below `.kvsync/lost/`.
        lease_seconds: life of a lease between renewals.
        wait_seconds: how long to wait for a lease that is taken.
        max_drift_seconds: how far in the future a stamp may lie.
        on_progress: called after each batch.
    """

    conflict: Policy = "latest"
    scan: bool = False
    guard: Literal["none", "check"] = "none"
    max_delete: str | int | None = None
    keep_lost: bool = True
    lease_seconds: float = 60.0
    wait_seconds: float = 10.0
    max_drift_seconds: float = 86_400.0
    on_progress: OnProgress | None = None
    budget: Budget = field(init=False)

    def __post_init__(self) -> None:
        """Check what the caller gave.

        Raises:
            UsageError: an option has no meaning.
        """
        resolve_policy(self.conflict)
        if self.guard not in ("none", "check"):
            message = f"unknown guard {self.guard!r}; choose 'none' or 'check'"
            raise UsageError(message)
        for name in ("lease_seconds", "wait_seconds", "max_drift_seconds"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool):
                message = f"{name} must be a number of seconds, not {value!r}"
                raise UsageError(message)
        if not LEASE_SECONDS_MIN <= self.lease_seconds < inf:
            message = f"lease_seconds must be a number from {LEASE_SECONDS_MIN:g} up, not {self.lease_seconds!r}"
            raise UsageError(message)
        for name in ("wait_seconds", "max_drift_seconds"):
            if not getattr(self, name) >= 0:
                message = f"{name} must be a number from 0 up, not {getattr(self, name)!r}"
                raise UsageError(message)
        try:
            budget = Budget.parse(self.max_delete)
        except ValueError:
            message = f"max_delete must be a number of keys or a percentage such as '60%', not {self.max_delete!r}"
            raise UsageError(message) from None
        object.__setattr__(self, "budget", budget)
