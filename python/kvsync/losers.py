"""Values that lost a conflict, or that a restored one replaced: list, restore and discard them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kvsync.environment import Environment
from kvsync.opening import opened
from kvsync.options import Options
from kvsync.run import keeping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kvsync.index.lost import LostValue
    from kvsync.storages import Target

__all__ = ["discard", "lost", "restore"]


def lost(storage: Target, key: str | None = None) -> list[LostValue]:
    """Return the values that lost a conflict and are kept in `storage`, of all keys or of one, oldest first.

    Raises:
        IndexDamagedError: one of them fails its checks.

    >>> import kvsync
    >>> a, b = {}, {}
    >>> _ = kvsync.commit(a, [kvsync.Put("x", b"older")]), kvsync.commit(b, [kvsync.Put("x", b"newer")])
    >>> _ = kvsync.sync(a, b, conflict="target")
    >>> [(value.key, value.value) for value in kvsync.lost(a)]
    [('x', b'older')]
    """
    with opened(storage) as one:
        return list(keeping.kept(one, key))


def restore(
    storage: Target,
    key: str,
    *,
    from_id: str | None = None,
    wait_seconds: float = 10.0,
    clock: Callable[[], float] = time.time,
    environment: Environment | None = None,
) -> LostValue:
    """Put a value that lost a conflict back at its key, as a change that later runs move; return it.

    The value that it replaces is kept, too, so restoring again undoes this. If nothing was there, delete the key for
    that. The restored value stays kept until `discard` removes it.

    Args:
        storage: where the value is kept.
        key: its key.
        from_id: its id, or the beginning of it; None means the newest value that is kept for the key.
        wait_seconds: how long to wait for a lease that somebody else holds.
        clock: returns wall-clock seconds.
        environment: replaces time, sleep and randomness; overrides `clock`.

    Raises:
        UsageError: no such value is kept.
        StorageError: what is at the key now cannot be read, or the value cannot be written.
        LockError: the lease cannot be had.

    >>> import kvsync
    >>> a, b = {}, {}
    >>> _ = kvsync.commit(a, [kvsync.Put("x", b"older")]), kvsync.commit(b, [kvsync.Put("x", b"newer")])
    >>> _ = kvsync.sync(a, b, conflict="target")
    >>> kvsync.restore(a, "x").value, kvsync.sync(a, b).pushed, b["x"]
    (b'older', 1, b'older')
    """
    options = Options(wait_seconds=wait_seconds)
    with opened(storage) as one:
        return keeping.restore(one, key, from_id, options, environment or Environment(clock=clock))


def discard(
    storage: Target,
    values: Iterable[LostValue],
    *,
    wait_seconds: float = 10.0,
    clock: Callable[[], float] = time.time,
    environment: Environment | None = None,
) -> int:
    """Remove values that lost a conflict, as `lost` returned them, for good; return how many there were.

    >>> import kvsync
    >>> kvsync.discard({}, [])
    0
    """
    options = Options(wait_seconds=wait_seconds)
    with opened(storage) as one:
        return keeping.discard(one, values, options, environment or Environment(clock=clock))
