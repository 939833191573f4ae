"""The record in a lease object, and how it is encoded."""

from __future__ import annotations

import enum
from typing import NamedTuple

from kvsync.index.bounds import TEXT_MAX
from kvsync.index.objects import LEASE, field_error, is_uint, pack, unpack
from kvsync.native import KIND_LEASE
from kvsync.process import UNKNOWN, Process

__all__ = ["LIFE_SECONDS_MAX", "SKEW_SECONDS", "LeaseRecord", "LeaseState"]

SKEW_SECONDS = 5.0
"""How far the clocks of two machines may be apart: an expiry is believed only after this long."""

LIFE_SECONDS_MAX = 3600.0
"""No lease lives longer, whatever its record claims."""

FIELDS = (LEASE, "state", "token", "owner", "renewals", "acquired", "expires", "machine", "pid", "started")


class LeaseState(enum.StrEnum):
    """What a lease object says of itself."""

    HELD = "held"
    RELEASED = "released"
    INTERRUPTED = "interrupted"


class LeaseRecord(NamedTuple):
    """What the lease object holds (docs/index-format.md, kind 3).

    Attributes:
        state: what the holder says of it.
        token: 16 random bytes that name the holder.
        owner: the holder, for people.
        renewals: how often it was renewed.
        acquired: when it was acquired or last renewed, wall-clock milliseconds.
        expires: when it expires, wall-clock milliseconds.
        process: the holder, for whoever can look whether it still runs.
    """

    state: LeaseState
    token: bytes
    owner: str
    renewals: int
    acquired: int
    expires: int
    process: Process = UNKNOWN

    def encode(self) -> bytes:
        """Return the sealed object."""
        return pack(
            KIND_LEASE,
            {
                "name": LEASE,
                "state": str(self.state),
                "token": self.token,
                "owner": self.owner,
                "renewals": self.renewals,
                "acquired": self.acquired,
                "expires": self.expires,
                "machine": self.process.machine,
                "pid": self.process.pid,
                "started": self.process.started,
            },
        )

    @classmethod
    def decode(cls, data: bytes, storage: str) -> LeaseRecord:
        """Read a sealed lease.

        Raises:
            IndexDamagedError: it fails its checks.
        """
        fields = unpack(KIND_LEASE, data, FIELDS, storage)
        state, token, owner, machine = (fields[name] for name in ("state", "token", "owner", "machine"))
        numbers = [fields[name] for name in ("renewals", "acquired", "expires", "pid", "started")]
        if type(token) is not bytes or not (type(state) is type(owner) is type(machine) is str):
            raise field_error(storage, LEASE, "fields")
        if len(owner) > TEXT_MAX or len(machine) > TEXT_MAX:
            raise field_error(storage, LEASE, "owner or machine")
        if state not in set(LeaseState):
            raise field_error(storage, LEASE, "state")
        if not all(is_uint(number) for number in numbers):
            raise field_error(storage, LEASE, "numbers")
        renewals, acquired, expires, pid, started = (int(str(number)) for number in numbers)
        process = Process(machine, pid, started)
        return cls(LeaseState(state), token, owner, renewals, acquired, expires, process)

    @property
    def life_seconds(self) -> float:
        """How long it may stay unchanged before its holder counts as dead, in seconds."""
        return min(max((self.expires - self.acquired) / 1000, 0.0), LIFE_SECONDS_MAX)

    def expired(self, now_ms: int) -> bool:
        """Whether it has expired by the wall clock, with allowance for skew."""
        end_ms = min(self.expires, self.acquired + int(LIFE_SECONDS_MAX * 1000))
        return now_ms > end_ms + SKEW_SECONDS * 1000
