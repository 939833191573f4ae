"""Hold the lease of a storage whose manifest or lease may be damaged."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from kvsync.errors import FormatError, IndexDamagedError, StorageError
from kvsync.index.objects import LEASE
from kvsync.lease import Acquirer, Held, Lease, Previous
from kvsync.run.lock import held_error, is_released_by_manifest
from kvsync.storages.contract import ObjectMismatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvsync.environment import Environment
    from kvsync.options import Options
    from kvsync.storages.contract import Storage

__all__ = ["leased"]

PAUSE_SECONDS_MAX = 1.0


@contextmanager
def leased(storage: Storage, options: Options, environment: Environment) -> Iterator[Lease]:
    """Hold the lease, and release it on the way out; what the previous holder left stays marked until it is settled.

    Raises:
        LockHeldError: somebody else holds it, still after `options.wait_seconds`.
    """
    lease = _acquired(storage, options, environment)
    try:
        yield lease
        lease.release(interrupted=lease.previous.how is not Previous.RELEASED)
    except BaseException:
        with suppress(StorageError, IndexDamagedError, ObjectMismatch):
            lease.release(interrupted=lease.previous.how is not Previous.RELEASED)
        raise


def _acquired(storage: Storage, options: Options, environment: Environment) -> Lease:
    acquirer = Acquirer(storage, environment, options.lease_seconds)
    deadline = environment.monotonic() + options.wait_seconds
    while isinstance(outcome := _attempt(acquirer), Held):
        left = deadline - environment.monotonic()
        if left <= 0:
            raise held_error(storage, outcome.record, environment)
        environment.sleep(min(left, environment.random.uniform(0, PAUSE_SECONDS_MAX)))
    return outcome


def _attempt(acquirer: Acquirer) -> Lease | Held:
    """Acquire the lease if it is free, its holder is dead, or nobody can read who that is."""
    storage = acquirer.storage
    try:
        outcome = acquirer.look()
    except FormatError:
        raise
    except IndexDamagedError:
        there = storage.load(LEASE)
        # A holder that is alive is fenced by that: its next renewal expects another version.
        return acquirer.look() if there is None else acquirer.seize(there)
    if isinstance(outcome, Held) and _is_released(storage, outcome):
        outcome = acquirer.take(outcome.version) or outcome
    return acquirer.take_over(outcome) if isinstance(outcome, Held) else outcome


def _is_released(storage: Storage, held: Held) -> bool:
    """Whether the manifest says so, if it can be read."""
    with suppress(IndexDamagedError):
        return is_released_by_manifest(storage, held.version)
    return False
