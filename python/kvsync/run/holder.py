"""Who holds a storage's lease, as status, doctor and unlock need to know."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from kvsync.environment import utc
from kvsync.errors import FormatError, IndexDamagedError, LockHeldError
from kvsync.index.objects import LEASE
from kvsync.lease import Acquirer, LeaseRecord, LeaseState
from kvsync.process import Presence
from kvsync.replica.log import Log
from kvsync.replica.recovery import recover, require_no_remains
from kvsync.run.lock import is_released_by_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvsync.environment import Environment
    from kvsync.storages.contract import Storage
    from kvsync.types import Stored

__all__ = ["is_at_work", "read_lease", "require_nobody_at_work", "try_lease", "unlock"]

UNLOCK_SECONDS = 60.0
"""Life of the lease while it is unlocked: no longer, in case this process is killed meanwhile."""


def read_lease(storage: Storage) -> LeaseRecord | None:
    """Return what a storage's lease says; None where it is free, and its last holder had finished.

    Raises:
        IndexDamagedError: the lease cannot be read.
    """
    there = storage.load(LEASE)
    if there is None:
        return None
    record = LeaseRecord.decode(there.data, storage.name)
    return None if _is_free(storage, there, record) else record


def is_at_work(record: LeaseRecord, environment: Environment) -> bool:
    """Whether a lease is held by a process that runs on this machine, and has not expired."""
    held = record.state is LeaseState.HELD and not record.expired(environment.now_ms())
    return held and environment.presence(record.process) is Presence.RUNNING


def require_nobody_at_work(storages: Iterable[Storage], environment: Environment) -> None:
    """Make sure that no run holds the lease of one of the storages; a holder that is known to be dead does not count.

    Raises:
        LockHeldError: one does.
    """
    for storage in storages:
        record = read_lease(storage)
        if record is None or record.state is not LeaseState.HELD or record.expired(environment.now_ms()):
            continue
        if not environment.is_gone(record.process):
            raise _held(storage, record, "and what it deletes looks like a loss until it is done; look again then")


def try_lease(storage: Storage, environment: Environment) -> None:
    """Acquire the lease if it is free, and release it: some servers refuse to replace the very object that is there.

    Raises:
        StorageError: this one does, or cannot be written.
    """
    there = storage.load(LEASE)
    record = None if there is None else _readable(storage, there)
    if there is not None and record is not None and _is_free(storage, there, record):
        lease = Acquirer(storage, environment, UNLOCK_SECONDS).take(there.version)
        if lease is not None:
            lease.release(interrupted=False)


def unlock(storage: Storage, environment: Environment, *, force: bool = False) -> bool:
    """Take the lease from whoever holds it, and fence that holder; return whether anybody did.

    Raises:
        LockHeldError: its holder runs on this machine, and this is not to be done by `force`; or it changed hands just
            now.
        IndexDamagedError: the index is damaged; the lease stays to be taken over.
    """
    there = storage.load(LEASE)
    record = None if there is None else _readable(storage, there)
    if there is None or (record is not None and _is_free(storage, there, record)):
        return False
    if record is not None and not force and is_at_work(record, environment):
        why = "and that process is running on this machine; stop it, or unlock with force=True: then its run fails"
        raise _held(storage, record, why)
    lease = Acquirer(storage, environment, UNLOCK_SECONDS).seize(there)
    try:
        log = Log.read(storage, environment)
        require_no_remains(log)
        recover(log, lease.previous)
        lease.mark_settled()
    finally:
        # Where the old holder could not be fenced, the lease stays to be taken over.
        lease.release(interrupted=False)
    return True


def _held(storage: Storage, record: LeaseRecord, why: str) -> LockHeldError:
    expires = record.expires / 1000
    message = f"the lease is held by {record.owner} until {utc(expires)}, {why}"
    return LockHeldError(message, storage=storage.name, owner=record.owner, expires=expires)


def _readable(storage: Storage, there: Stored) -> LeaseRecord | None:
    """Return what a lease object says; None where it is damaged."""
    try:
        return LeaseRecord.decode(there.data, storage.name)
    except (IndexDamagedError, FormatError):
        return None


def _is_free(storage: Storage, there: Stored, record: LeaseRecord) -> bool:
    """Whether a lease was released; not where the manifest that may say so cannot be read."""
    if record.state is not LeaseState.HELD:
        return record.state is LeaseState.RELEASED
    with suppress(IndexDamagedError, FormatError):
        return is_released_by_manifest(storage, there.version)
    return False
