"""The public functions that look at storages: what their indexes say, and whether all is well."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from kvsync import inspection
from kvsync.audit import verify as audit
from kvsync.diagnosis import diagnose
from kvsync.environment import Environment
from kvsync.errors import UsageError
from kvsync.opening import opened, opened_pair
from kvsync.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.audit.values import Verification
    from kvsync.diagnosis import Diagnosis
    from kvsync.inspection import Status
    from kvsync.storages import Target
    from kvsync.types import Change

__all__ = ["doctor", "log", "status", "verify"]


def status(
    storage: Target,
    peer: Target | None = None,
    *,
    tombstone_grace: str | float = "30d",
    clock: Callable[[], float] = time.time,
) -> Status:
    """Return what kvsync knows about a storage, without writing anything; with a `peer`, what each lacks of the other.

    Raises:
        SameStorageError: storage and peer are the same storage, or exact copies.

    >>> import kvsync
    >>> a, b = {}, {}
    >>> _ = kvsync.commit(a, [kvsync.Put("x", b"1")])
    >>> found = kvsync.status(a, b)
    >>> found.changes, found.lag.to_peer
    (1, 1)
    """
    options, environment = Options(tombstone_grace=tombstone_grace), Environment(clock=clock)
    if peer is None:
        with opened(storage) as one:
            return inspection.status(one, options.grace_ms, environment)
    with opened_pair(storage, peer, "none", given=False) as pair:
        found = inspection.status(pair.source, options.grace_ms, environment)
        return replace(found, lag=inspection.lag(pair.source, pair.target, options, environment))


def doctor(storage: Target, *, environment: Environment | None = None) -> Diagnosis:
    """Test what a storage supports, and find what is wrong with it.

    Lists it, reads its index, writes one small index object, and removes it with everything created for it. What would
    have to be created and would stay, such as a bucket, is reported instead. A test that fails raises no error: the
    result lists the problems.

    >>> import kvsync
    >>> found = kvsync.doctor({})
    >>> print(found.guarantee, found.wrong)
    T1 []

    Raises:
        UsageError: `storage` does not name a storage.
    """
    with opened(storage, new=True) as one:
        return diagnose(one, environment or Environment())


def log(storage: Target, key: str | None = None) -> list[Change]:
    """Return the newest logged change of each key (or of one key), oldest first.

    >>> import kvsync
    >>> a = {}
    >>> _ = kvsync.commit(a, [kvsync.Put("x", b"1"), kvsync.Delete("y")])
    >>> [change.key for change in kvsync.log(a)]
    ['x', 'y']
    """
    with opened(storage) as one:
        return inspection.log(one, key)


def verify(  # noqa: PLR0913 - options are keyword-only
    source: Target,
    target: Target | None = None,
    *,
    repair: bool = False,
    refill: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    max_delete: str | int | None = None,
    wait_seconds: float = 10.0,
    clock: Callable[[], float] = time.time,
    environment: Environment | None = None,
) -> Verification:
    """Check every byte of the index of one or two storages, and compare all values with the log and with each other.

    Without `repair` and `refill` it reads everything and writes nothing. A value that has expired is no difference if
    only one side still stores it.

    Args:
        source: one storage.
        target: another one to compare it with, or None.
        repair: mend each index: set aside what is damaged, and where the log is not whole, make a new one of what is
            left of it and fits the values. No value is touched.
        refill: take values of the source that are gone, or are not what its log says, for lost. Bring them back from
            the target, and sync the two. What is overwritten is kept, see `lost`.
        include: patterns: all other keys are left out, as in `sync`.
        exclude: patterns of keys to leave out; a file `.kvsyncignore` in a folder counts, too.
        max_delete: how many values `refill` may overwrite, and its sync may find deleted or overwritten.
        wait_seconds: how long to wait for a lease that somebody else holds.
        clock: returns wall-clock seconds.
        environment: replaces time, sleep and randomness; overrides `clock`.

    Raises:
        UsageError: `refill` has no target.
        FormatError: `repair` meets an object that a newer kvsync wrote.
        BudgetError: `refill` would overwrite more values than allowed.
        LockError: a lease cannot be had.
        StorageError: a storage failed.

    >>> import kvsync
    >>> kvsync.verify({"x": b"1"}, {"x": b"1"}).equal
    True
    """
    options = Options(include=include, exclude=exclude, max_delete=max_delete, wait_seconds=wait_seconds)
    environment = environment or Environment(clock=clock)
    if target is None:
        if refill:
            message = "refill needs a target to bring values back from"
            raise UsageError(message)
        with opened(source) as one:
            return audit.verify(one, None, options, environment, repairs=repair)
    with opened_pair(source, target, "none", given=False) as pair:
        return audit.verify(pair.source, pair.target, options, environment, repairs=repair, refills=refill)
