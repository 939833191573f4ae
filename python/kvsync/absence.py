"""What does not come back: list the peers that are waited for, forget one, accept what is there for a missing value."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kvsync import inspection
from kvsync.environment import Environment
from kvsync.opening import opened
from kvsync.options import Options
from kvsync.run import accepting, forgetting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.inspection import KnownPeer
    from kvsync.storages import Target
    from kvsync.types import Change

__all__ = ["accept", "forget", "peers"]


def peers(
    storage: Target, *, tombstone_grace: str | float = "30d", clock: Callable[[], float] = time.time
) -> list[KnownPeer]:
    """Return the peers that a storage knows of, the one that was seen last first, with what each of them holds back.

    Deletes stay logged until all peers are known to have them, and until they are older than `tombstone_grace`, as in
    `sync`; so do values that have expired. A peer that does not come back holds them back until `forget` is called.

    >>> import kvsync
    >>> a, b = {}, {}
    >>> _ = kvsync.sync(a, b, [kvsync.Put("x", b"1")])
    >>> [(peer.forgotten, peer.holds_back) for peer in kvsync.peers(a)]
    [(False, 0)]
    """
    options = Options(tombstone_grace=tombstone_grace)
    with opened(storage) as one:
        return inspection.peers(one, options.grace_ms, Environment(clock=clock))


def forget(
    storage: Target,
    peer: str,
    *,
    wait_seconds: float = 10.0,
    clock: Callable[[], float] = time.time,
    environment: Environment | None = None,
) -> str:
    """Wait no longer for a peer that does not come back; return its id.

    Other storages learn it from this one. If the peer comes back all the same, it goes on under a fresh id, and what
    it holds and nobody remembers any more is kept and told (`SyncResult.maybe_deleted`).

    Args:
        storage: a storage that knows the peer.
        peer: its id as in `peers`, or the beginning of it, or the name of its storage.
        wait_seconds: how long to wait for a lease that somebody else holds.
        clock: returns wall-clock seconds.
        environment: replaces time, sleep and randomness; overrides `clock`.

    Raises:
        UsageError: there is no such peer, or more than one.
        LockError: the lease cannot be had.

    >>> import kvsync
    >>> a, b = {}, {}
    >>> _ = kvsync.sync(a, b, [kvsync.Put("x", b"1")])
    >>> (peer,) = kvsync.peers(a)
    >>> kvsync.forget(a, peer.id) == peer.id, kvsync.peers(a)[0].forgotten
    (True, True)
    """
    options = Options(wait_seconds=wait_seconds)
    with opened(storage) as one:
        return forgetting.forget(one, peer, options, environment or Environment(clock=clock))


def accept(
    storage: Target,
    keys: Sequence[str] | None,
    *,
    wait_seconds: float = 10.0,
    clock: Callable[[], float] = time.time,
    environment: Environment | None = None,
) -> list[Change]:
    """Declare that what is there is the newest, at keys whose newest value is missing; return the changes it logs.

    Use it where no storage holds the newest value any more: its only holder is gone, or was restored from a backup.
    Where nothing is at a key, that is a delete. Later runs move it, and the keys are no longer `missing`. A storage
    that holds the newest value after all loses it, as it loses any older one.

    Args:
        storage: where the value is missing.
        keys: which keys; None for all that are missing there, but for those that a filter leaves out.
        wait_seconds: how long to wait for a lease that somebody else holds.
        clock: returns wall-clock seconds.
        environment: replaces time, sleep and randomness; overrides `clock`.

    Raises:
        UsageError: nothing is missing at one of the keys; nothing was done.
        StorageError: what is at one of them cannot be read; nothing was done.
        LockError: the lease cannot be had.

    >>> import kvsync
    >>> kvsync.accept({}, None)
    []
    """
    options = Options(wait_seconds=wait_seconds)
    with opened(storage) as one:
        return accepting.accept(one, keys, options, environment or Environment(clock=clock))
