"""Options of a run, checked once when they are given."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from math import inf
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

from kvsync.errors import CancelledError, UsageError
from kvsync.policy import resolve_policy
from kvsync.scan import Budget
from kvsync.types import Direction

if TYPE_CHECKING:
    from collections.abc import Sequence
    from threading import Event

    from kvsync.policy import Policy
    from kvsync.result import OnProgress, Progress

__all__ = ["DIRECTIONS", "IN_CODE", "Options", "duration_seconds", "size_bytes"]

DIRECTIONS: Final[tuple[Direction, ...]] = get_args(Direction)

LEASE_SECONDS_MIN = 0.1
"""A shorter lease would expire before a batch is written."""

DRIFT_SECONDS_MAX = 2**40
"""More makes no difference: no time that an index can hold is later."""

IN_CODE = {"in_code": True}
"""Says of an option that only a program can give it, not a file."""

UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kKMGT]?)(i?)B?\Z")
SIZE_UNITS = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4}


class Limits(NamedTuple):
    """What a run may do as a whole; None where the caller sets no budget."""

    max_delete: Budget | None
    max_overwrite: Budget | None
    max_bytes: int | None
    max_conflicts: Budget | None

    @property
    def counts_values(self) -> bool:
        """Whether it matters what would be written."""
        return any(limit is not None for limit in self[:3])

    @classmethod
    def of(cls, options: Options) -> Limits:
        """Read the budgets that the caller sets.

        Raises:
            UsageError: one is not valid.
        """
        given = {name: getattr(options, name) for name in ("max_delete", "max_overwrite", "max_conflicts")}
        read = {name: None if text is None else _budget(text, name) for name, text in given.items()}
        max_bytes = None if options.max_bytes is None else size_bytes(options.max_bytes, "max_bytes")
        return cls(max_bytes=max_bytes, **read)


def _budget(text: str | int | None, name: str) -> Budget:
    try:
        return Budget.parse(text)
    except ValueError:
        message = f"{name} must be a number of keys or a percentage such as '60%', not {text!r}"
        raise UsageError(message) from None


def size_bytes(size: str | int, name: str) -> int:
    """Return a size that is given in bytes, or as a number with a unit.

    >>> size_bytes(5, "max_bytes"), size_bytes("1.5 MB", "max_bytes"), size_bytes("2KiB", "max_bytes")
    (5, 1500000, 2048)

    Raises:
        UsageError: it is neither; `name` is that of the option.
    """
    found = None if isinstance(size, bool) else SIZE.match(str(size).strip())
    if found is None:
        message = f"{name} must be a number of bytes, or one with a unit such as '10MB', not {size!r}"
        raise UsageError(message)
    number, unit, is_binary = found.groups()
    return int(float(number) * (1024 if is_binary else 1000) ** SIZE_UNITS[unit])


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a run.

    Attributes:
        direction: "both"; "push": only the target gets what the source has; "pull": only the source gets what the
            target has; "mirror": the target becomes the image of the source.
        read_only_source: nothing is written to the source, not even an index.
        include: patterns in the gitignore syntax: a run leaves out all keys that none of them matches.
        exclude: patterns of keys to leave out.
        conflict: the policy, by name or as a callable (`kvsync.policy.Merge`).
        scan: find changes by comparing both storages with their inventories.
        full: look at everything in such a scan, even in a storage whose journal says what has changed.
        guard: "none": trust that nobody else wrote; "check": look at values, and overwrite what was seen.
        trust: "none": read what is new to a scan; "etag": take a value for that of the other side if its server tells
            the same MD5 and size, and do not read it.
        max_delete: how many keys a scan may find deleted or overwritten, a mirror may overturn, and a run may delete in
            a side: a number or "P%" of the keys there; None means 50%, but at least 3, of the first two alone.
        max_overwrite: how many values a run may overwrite in a side: a number or "P%" of the keys there.
        max_bytes: how many bytes of values a run may move: a number, or one with a unit such as "10MB".
        max_conflicts: how many conflicts a run may decide: a number or "P%" of the target's keys.
        keep_lost: keep values that lose a conflict, below `.kvsync/lost/`.
        lease_seconds: how long a lease lasts without renewal.
        wait_seconds: how long to wait for a lease that somebody else holds.
        max_drift_seconds: how far in the future any time in a manifest may lie: stamps of changes, of what is known of
            histories and peers, and of what was collected.
        tombstone_grace: how long deletes stay logged although all known replicas have them: seconds, or a number with
            a unit, such as "30d". It should exceed the age of the backups that are restored.
        on_progress: called after each batch, and while the run waits for a lease or recovers.
        cancel: once it is set, the run stops after the batch that is being moved.
    """

    direction: Direction = "both"
    read_only_source: bool = False
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    conflict: Policy = "latest"
    scan: bool = False
    full: bool = False
    guard: Literal["none", "check"] = "none"
    trust: Literal["none", "etag"] = "none"
    max_delete: str | int | None = None
    max_overwrite: str | int | None = None
    max_bytes: str | int | None = None
    max_conflicts: str | int | None = None
    keep_lost: bool = True
    lease_seconds: float = 60.0
    wait_seconds: float = 10.0
    max_drift_seconds: float = 86_400.0
    tombstone_grace: str | float = "30d"
    on_progress: OnProgress | None = field(default=None, metadata=IN_CODE)
    cancel: Event | None = field(default=None, metadata=IN_CODE)
    budget: Budget = field(init=False)
    limits: Limits = field(init=False)
    grace_ms: int = field(init=False)

    def __post_init__(self) -> None:
        """Check all options.

        Raises:
            UsageError: an option is not valid.
        """
        resolve_policy(self.conflict)
        self._check_direction()
        self._check_switches()
        for name in ("include", "exclude"):
            patterns = getattr(self, name)
            if isinstance(patterns, str | bytes) or not all(isinstance(pattern, str) for pattern in patterns):
                message = f"{name} must be a sequence of patterns, not {patterns!r}"
                raise UsageError(message)
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
        object.__setattr__(self, "budget", _budget(self.max_delete, "max_delete"))
        object.__setattr__(self, "limits", Limits.of(self))
        object.__setattr__(self, "grace_ms", int(duration_seconds(self.tombstone_grace, "tombstone_grace") * 1000))

    def _check_direction(self) -> None:
        if self.direction not in DIRECTIONS:
            message = f"unknown direction {self.direction!r}; choose one of {', '.join(DIRECTIONS)}"
            raise UsageError(message)
        if self.read_only_source and self.direction not in ("push", "mirror"):
            message = (
                "a source that is only read can get nothing: use read_only_source with direction='push' or 'mirror' "
                "(on the command line with --push or --mirror)"
            )
            raise UsageError(message)
        if self.read_only_source and not self.scan:
            message = "a source that is only read has to be scanned, as nobody logs what changes there: pass scan=True"
            raise UsageError(message)
        if self.direction == "mirror" and self.conflict not in ("latest", "source"):
            message = f"in a mirror the source always wins, so conflict={self.conflict!r} says nothing; leave it out"
            raise UsageError(message)

    def takes(self, label: Literal["source", "target"]) -> bool:
        """Whether a side gets what the other one has."""
        return self.direction != "pull" if label == "target" else self.direction in ("both", "pull")

    def _check_switches(self) -> None:
        """Refuse what is neither true nor false where it has to be, such as a text of a file.

        Raises:
            UsageError: an option is not valid.
        """
        for option in fields(self):
            if isinstance(option.default, bool) and not isinstance(getattr(self, option.name), bool):
                message = f"{option.name} must be true or false, not {getattr(self, option.name)!r}"
                raise UsageError(message)

    def report(self, progress: Progress) -> None:
        """Tell whoever wants to know how far the run is."""
        if self.on_progress is not None:
            self.on_progress(progress)

    def check_cancelled(self) -> None:
        """Stop here if the caller has cancelled the run.

        Raises:
            CancelledError: so it is.
        """
        if self.cancel is not None and self.cancel.is_set():
            message = "the run was cancelled; the next one goes on where it stopped"
            raise CancelledError(message)

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
