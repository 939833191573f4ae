"""Options of a run, checked once when they are given."""

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

__all__ = ["Options", "duration_seconds"]

LEASE_SECONDS_MIN = 0.1
"""A shorter lease would expire before a batch is written."""

DRIFT_SECONDS_MAX = 2**40
"""More makes no difference: no time that an index can hold is later."""

UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a run.

    Attributes:
        conflict: the policy, by name or as a callable (`kvsync.policy.Merge`).
        scan: find changes by comparing both storages with their inventories.
        guard: "none": trust that nobody else wrote; "check": look at values, and overwrite what was seen.
        trust: "none": read what is new to a scan; "etag": take a value for that of the other side if its server tells
            the same MD5 and size, and do not read it.
        max_delete: how many keys a scan may find deleted or overwritten: a number or "P%"; None means 50%, but at
            least 3.
        keep_lost: keep values that lose a conflict, below `.kvsync/lost/`.
        lease_seconds: how long a lease lasts without renewal.
        wait_seconds: how long to wait for a lease that somebody else holds.
        max_drift_seconds: how far in the future any time in a manifest may lie: stamps of changes, of what is known of
            histories and peers, and of what was collected.
        tombstone_grace: how long deletes stay logged although all known replicas have them: seconds, or a number with
            a unit, such as "30d". It should exceed the age of the backups that are restored.
        on_progress: called after each batch.
    """

    conflict: Policy = "latest"
    scan: bool = False
    guard: Literal["none", "check"] = "none"
    trust: Literal["none", "etag"] = "none"
    max_delete: str | int | None = None
    keep_lost: bool = True
    lease_seconds: float = 60.0
    wait_seconds: float = 10.0
    max_drift_seconds: float = 86_400.0
    tombstone_grace: str | float = "30d"
    on_progress: OnProgress | None = None
    budget: Budget = field(init=False)
    grace_ms: int = field(init=False)

    def __post_init__(self) -> None:
        """Check all options.

        Raises:
            UsageError: an option is not valid.
        """
        resolve_policy(self.conflict)
        if self.guard not in ("none", "check"):
            message = f"unknown guard {self.guard!r}; choose 'none' or 'check'"
            raise UsageError(message)
        if self.trust not in ("none", "etag"):
            message = f"unknown trust {self.trust!r}; choose 'none' or 'etag'"
            raise UsageError(message)
        for name in ("lease_seconds", "wait_seconds", "max_drift_seconds"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool):
                message = f"{name} must be a number of seconds, not {value!r}"
                raise UsageError(message)
        if not LEASE_SECONDS_MIN <= self.lease_seconds < inf:
            message = f"lease_seconds must be finite and at least {LEASE_SECONDS_MIN:g}, not {self.lease_seconds!r}"
            raise UsageError(message)
        for name in ("wait_seconds", "max_drift_seconds"):
            if not getattr(self, name) >= 0:
                message = f"{name} must be at least 0, not {getattr(self, name)!r}"
                raise UsageError(message)
        try:
            budget = Budget.parse(self.max_delete)
        except ValueError:
            message = f"max_delete must be a number of keys or a percentage such as '60%', not {self.max_delete!r}"
            raise UsageError(message) from None
        object.__setattr__(self, "budget", budget)
        object.__setattr__(self, "grace_ms", int(duration_seconds(self.tombstone_grace, "tombstone_grace") * 1000))

    def latest_ms(self, now_ms: int) -> int:
        """Return the latest time that an index may name, in wall-clock milliseconds."""
        return now_ms + int(min(self.max_drift_seconds, DRIFT_SECONDS_MAX) * 1000)


def duration_seconds(duration: str | float, name: str, *, least: float = 0) -> float:
    """Return a time that is given in seconds, or as a number with a unit.

    >>> duration_seconds("90s", "every"), duration_seconds("1h", "every"), duration_seconds(0.5, "every")
    (90.0, 3600.0, 0.5)

    Raises:
        UsageError: it is neither, or less than `least`; `name` is that of the option.
    """
    has_unit = isinstance(duration, str) and duration[-1:] in UNIT_SECONDS
    number, unit = (duration[:-1], duration[-1:]) if has_unit else (duration, "s")  # type: ignore[index]
    try:
        seconds = float(number) * UNIT_SECONDS[unit]
    except (TypeError, ValueError):
        seconds = -1.0
    if not least <= seconds < inf or isinstance(duration, bool):
        more = f" of at least {least:g} seconds" if least else ""
        message = f"{name} must be a number of seconds, or one with a unit such as '30d'{more}, not {duration!r}"
        raise UsageError(message)
    return seconds
