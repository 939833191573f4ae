"""Finding out what a storage really does with conditions: some servers accept them and write anyway."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from kvsync.errors import LockLostError, StorageError
from kvsync.index.objects import store_if
from kvsync.storages.contract import ObjectMismatch, has_host
from kvsync.types import ABSENT, ANY

if TYPE_CHECKING:
    from kvsync.environment import Environment
    from kvsync.lease import Lease
    from kvsync.storages.contract import Storage
    from kvsync.types import Expectation

__all__ = ["PROBE_PREFIX", "Probe", "probe", "require_conditions"]

PROBE_PREFIX = "probe/"


class Probe(NamedTuple):
    """What a storage did when it was asked for what it must refuse.

    Attributes:
        creates_once: a second creation of one object is refused.
        replaces_current_only: replacing an object by a stale version is refused.
        removes_current_only: removing by a stale version is refused; None where the storage does not claim it.
        seconds: the round trips, one each; none where they were not taken.
    """

    creates_once: bool
    replaces_current_only: bool
    removes_current_only: bool | None
    seconds: tuple[float, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether a lease in this storage excludes anybody."""
        return self.creates_once and self.replaces_current_only and self.removes_current_only is not False

    @property
    def ignored(self) -> list[str]:
        """What it does although it must not, in plain words."""
        faults = []
        if not self.creates_once:
            faults.append("it creates an object that exists already")
        if not self.replaces_current_only:
            faults.append("it replaces an object by a version that is not the current one")
        if self.removes_current_only is False:
            faults.append("it removes an object by a version that is not the current one")
        return faults


class _Watch:
    """Makes calls, and notes how long each took."""

    def __init__(self, storage: Storage, environment: Environment) -> None:
        self.storage = storage
        self.environment = environment
        self.seconds: list[float] = []
        self.name = PROBE_PREFIX + environment.nonce().hex()

    def write(self, expect: Expectation) -> bytes | None:
        """Write the object with fresh contents; return its version, or None where it was refused."""
        started = self.environment.monotonic()
        try:
            return store_if(self.storage, self.name, self.environment.nonce(), expect)
        except ObjectMismatch:
            return None
        finally:
            self.seconds.append(self.environment.monotonic() - started)

    def removes(self, expect: Expectation) -> bool:
        """Remove the object; return whether it was let."""
        started = self.environment.monotonic()
        try:
            self.storage.remove([self.name], expect)
        except ObjectMismatch:
            return False
        finally:
            self.seconds.append(self.environment.monotonic() - started)
        return True


def probe(storage: Storage, environment: Environment) -> Probe:
    """Create an object twice, replace and remove it by a stale version, and clean up.

    Writes one small index object below `probe/` and removes it; values, log and lease are not touched.

    Raises:
        StorageError: the storage cannot be written at all.
    """
    watch = _Watch(storage, environment)
    try:
        first = watch.write(ABSENT)
        if first is None:
            message = "a new index object was refused as one that exists already"
            raise StorageError(message, storage=storage.name)
        creates_once = watch.write(ABSENT) is None
        there = storage.load(watch.name)
        second = watch.write(there.version if there is not None else ANY)
        replaces_current_only = watch.write(first) is None
        removes = not watch.removes(first) if not storage.capabilities.lease_stays else None
        if second is None:
            message = "replacing an index object by its current version was refused"
            raise StorageError(message, storage=storage.name)
    finally:
        with suppress(StorageError):
            storage.remove([watch.name], ANY)
    return Probe(creates_once, replaces_current_only, removes, tuple(watch.seconds))


_trusted: set[str] = set()
"""Hosts that were found to keep conditions, by this process."""


def require_conditions(lease: Lease) -> None:
    """Refuse to host a lease in a storage that only claims to keep conditions; of one host it is tried once.

    What `probe` tries with an object of its own is tried with the lease itself, which has just been created: a second
    creation, and what expects the version before a renewal.

    Raises:
        StorageError: it ignores them, or refuses what it must not.
        LockLostError: the lease was taken over.
    """
    storage = lease.storage
    host = storage.host if has_host(storage) else None
    if host in _trusted:
        return
    creates_once = lease.refuses(ABSENT)
    try:
        stale = lease.renew()
    except LockLostError:
        if not lease.stands():
            raise
        message = "replacing an index object by its current version was refused"
        raise StorageError(message, storage=storage.name) from None
    replaces_current_only = lease.refuses(stale)
    removes = lease.refuses_removal(stale) if not storage.capabilities.lease_stays else None
    found = Probe(creates_once, replaces_current_only, removes)
    if not found.sound:
        message = (
            f"this server ignores conditional writes ({'; '.join(found.ignored)}), so two runs at once could lose "
            "data; use another server, or add lease=advisory to the URL if nobody else ever writes there"
        )
        raise StorageError(message, storage=storage.name)
    if host is not None:
        _trusted.add(host)
