"""When a value goes by itself: no change that anybody made, so it is never logged and never spread as a delete.

A change carries the time with it. Once that has come, the change says of its key what a tombstone would: nothing is
there. It still is a put, and beats and is beaten as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvsync.errors import UsageError
from kvsync.storages.contract import has_expiry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.native import Segment
    from kvsync.storages.contract import Storage
    from kvsync.types import Delete, Put, Written

__all__ = ["CLOCK_SKEW_MS", "expires_ms", "may_be_gone", "unexpiring", "write_until"]

CLOCK_SKEW_MS: Final = 5_000
"""How far a server's clock may be ahead of ours: what it took away so early has expired, and was not deleted."""

EXPIRES_MS_MAX: Final = 2**63 - 1


def may_be_gone(expires: int, now_ms: int) -> bool:
    """Whether a value with this time, which is not there any more, has expired for all that is known."""
    return 0 < expires <= now_ms + CLOCK_SKEW_MS


def unexpiring(changes: Segment, storage: Storage, now_ms: int) -> int:
    """Count the values that would stay in `storage` past their time, since it cannot keep that."""
    if not changes.expiring or has_expiry(storage):
        return 0
    return changes.expiring - len(changes.expired(now_ms))


def write_until(
    storage: Storage,
    keys: Sequence[str],
    values: Sequence[bytes],
    expires: Sequence[int] | None,
    expect: Sequence[bytes | None] | None = None,
) -> Written:
    """Write values, each until its wall-clock millisecond (0: for ever) where the storage keeps that.

    Raises:
        StorageError: the storage failed.
    """
    if expires is not None and any(expires) and has_expiry(storage):
        return storage.write_expiring(keys, values, expires, expect)
    return storage.write(keys, values, expect)


def expires_ms(put: Put | Delete) -> int:
    """Return when a change's value expires, in wall-clock milliseconds; 0 for never.

    Raises:
        UsageError: its time is none.
    """
    seconds = put.expires
    if seconds is None:
        return 0
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    # Compared before it is converted: a whole number may be too large for a float, and a float for a whole number.
    if not number or not 1 <= seconds * 1000 <= EXPIRES_MS_MAX:
        message = (
            f"expires of {put.key!r} must be seconds since 1970, as time.time() counts them, or None; not {seconds!r}"
        )
        raise UsageError(message, key=put.key)
    return int(seconds * 1000)
