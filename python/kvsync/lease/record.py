"""What a lease says: its record, and how the object that holds it is written and read."""

from __future__ import annotations

import enum
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvsync.errors import FormatError, IndexDamagedError
from kvsync.index.objects import LEASE, field_error, is_uint, pack, unpack
from kvsync.lease.left import ended_by
from kvsync.native import KIND_LEASE

if TYPE_CHECKING:
    from kvsync.storages.contract import Storage
    from kvsync.types import Stored

__all__ = ["LIFE_SECONDS_MAX", "SKEW_SECONDS", "LeaseRecord", "LeaseState", "is_free", "read_record"]

SKEW_SECONDS = 5.0
"""How far two machines' clocks may be apart before an expiry is believed."""

LIFE_SECONDS_MAX = 3600.0
"""No lease lives longer, whatever its record claims."""

FIELDS = (LEASE, "state", "token", "owner", "renewals", "acquired", "expires", "manifest")


class LeaseState(enum.StrEnum):
    """What a lease object says of itself."""

    HELD = "held"
    RELEASED = "released"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What the lease object holds (docs/index-format.md, kind 3); times in wall-clock milliseconds.

    `manifest` is the nonce of the manifest as a holder left it that released the lease; empty where that is not known.
    """

    state: LeaseState
    token: bytes
    owner: str
    renewals: int
    acquired: int
    expires: int
    manifest: bytes = b""

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
                "manifest": self.manifest,
            },
        )

    @classmethod
    def decode(cls, data: bytes, storage: str) -> LeaseRecord:
        """Read a sealed lease.

        Raises:
            IndexDamagedError: it fails its checks.
        """
        fields = unpack(KIND_LEASE, data, FIELDS, storage)
        state, token, owner, manifest = (fields[name] for name in ("state", "token", "owner", "manifest"))
        numbers = [fields[name] for name in ("renewals", "acquired", "expires")]
        if type(state) is not str or type(token) is not bytes or type(owner) is not str:
            raise field_error(storage, LEASE, "fields")
        if state not in set(LeaseState) or type(manifest) is not bytes or len(manifest) not in {0, 16}:
            raise field_error(storage, LEASE, "fields")
        if not all(is_uint(number) for number in numbers):
            raise field_error(storage, LEASE, "times")
        renewals, acquired, expires = (int(str(number)) for number in numbers)
        return cls(LeaseState(state), token, owner, renewals, acquired, expires, manifest)

    @property
    def life_seconds(self) -> float:
        """How long it may stay unchanged before it is dead, in seconds."""
        return min(max((self.expires - self.acquired) / 1000, 0.0), LIFE_SECONDS_MAX)

    def expired(self, now_ms: int) -> bool:
        """Whether it ended on the wall clock, skew allowed for."""
        end_ms = min(self.expires, self.acquired + int(LIFE_SECONDS_MAX * 1000))
        return now_ms > end_ms + SKEW_SECONDS * 1000


def read_record(storage: Storage) -> LeaseRecord | None:
    """Return what a storage's lease says, or None when it is free and was left clean.

    Raises:
        IndexDamagedError: the lease cannot be read.
    """
    there = storage.load(LEASE)
    record = LeaseRecord.decode(there.data, storage.name) if there else None
    return None if there is None or record is None or is_free(storage, there, record) else record


def is_free(storage: Storage, there: Stored, record: LeaseRecord) -> bool:
    """Whether a lease object that is there was left clean; where its manifest cannot be read, it may have been."""
    if record.state is not LeaseState.HELD:
        return record.state is LeaseState.RELEASED
    with suppress(IndexDamagedError, FormatError):
        return ended_by(storage, there) is not None
    return False
