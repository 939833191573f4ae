"""The public functions: open the storages, run the engine, close what was opened."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeAlias

from kvsync import inspection
from kvsync.doctor import diagnose
from kvsync.environment import Environment
from kvsync.errors import SameStorageError
from kvsync.options import Options
from kvsync.plan import Plan
from kvsync.run import holder, steps
from kvsync.storages import open_storage
from kvsync.storages.contract import has_identity
from kvsync.store import Store

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, MutableMapping, Sequence

    from kvsync.doctor import Diagnosis
    from kvsync.index.lost import LostValue
    from kvsync.inspection import Status, Verification
    from kvsync.policy import Policy
    from kvsync.result import OnProgress, SyncResult
    from kvsync.storages.contract import Storage
    from kvsync.store import OnError
    from kvsync.types import Change, Delete, Put

    Target: TypeAlias = "str | os.PathLike[str] | MutableMapping[str, bytes] | Storage"

__all__ = ["commit", "compact", "log", "lost", "open", "plan", "status", "sync", "unlock", "verify"]


def sync(  # noqa: PLR0913 - options are keyword-only, and each is one that callers set
    source: Target,
    target: Target,
    changes: Sequence[Put | Delete] = (),
    *,
    conflict: Policy = "latest",
    scan: bool = False,
    guard: Literal["none", "check"] = "none",
    dry_run: bool = False,
    max_delete: str | int | None = None,
    keep_lost: bool = True,
    lease_seconds: float = 60.0,
    wait_seconds: float = 10.0,
    max_drift_seconds: float = 86_400.0,
    on_progress: OnProgress | None = None,
    clock: Callable[[], float] = time.time,
    environment: Environment | None = None,
) -> SyncResult:
    """Make two storages equal, both ways, moving only what changed.

    `source` and `target` are each a URL, the path of a folder, a mapping of `str` to `bytes`, or a `Storage`. Without
    `scan`, only logged changes move: those in `changes`, and those logged by `commit`, by `open` or by earlier runs.

    Args:
        source: one storage.
        target: the other one.
        changes: changes to write to the source first, or that the caller has already made there.
        conflict: "latest", "source", "target", "keep-both", "fail", or a callable that takes the conflict and both
            values (None: deleted) and returns bytes, "source", "target" or "delete".
        scan: find changes in both storages by comparing them with what the last scan saw.
        guard: "none": trust that nobody else wrote; "check": compare values before overwriting them.
        dry_run: write nothing; the result has the counts of what would be done.
        max_delete: how many keys a scan may find deleted or overwritten: a number or "P%"; None means 50%, but at
            least 3.
        keep_lost: keep values that lose a conflict, below `.kvsync/lost/` of the storage that held them.
        lease_seconds: how long a lease lasts without renewal.
        wait_seconds: how long to wait for a lease that somebody else holds.
        max_drift_seconds: how far in the future a stamp may lie.
        on_progress: called with a `Progress` after each batch.
        clock: returns wall-clock seconds; stamps and lease expiry use it.
        environment: replaces time, sleep and randomness, for simulations; overrides `clock`.

    Returns:
        What was done.

    Raises:
        UsageError: the call is wrong.
        LockHeldError: somebody else holds a lease.
        LockLostError: a lease was lost during the run; run again.
        ConflictError: the policy is "fail" and there are conflicts.
        BudgetError: a scan found more keys deleted or overwritten than allowed.
        IndexDamagedError: an index object fails its checks.
        StorageError: a storage failed.

    >>> import kvsync
    >>> a, b = {}, {}
    >>> result = kvsync.sync(a, b, changes=[kvsync.Put("user/1", b"Ada")])
    >>> result.pushed, b["user/1"]
    (1, b'Ada')
    """
    options = Options(
        conflict=conflict,
        scan=scan,
        guard=guard,
        max_delete=max_delete,
        keep_lost=keep_lost,
        lease_seconds=lease_seconds,
        wait_seconds=wait_seconds,
        max_drift_seconds=max_drift_seconds,
        on_progress=on_progress,
    )
    environment = environment or Environment(clock=clock)
    with _opened(source, target) as (one, other):
        if dry_run:
            return steps.preview(one, other, changes, options, environment).result
        return steps.sync(one, other, changes, options, environment)


def plan(
    source: Target,
    target: Target,
    changes: Sequence[Put | Delete] = (),
    *,
    conflict: Policy = "latest",
    scan: bool = False,
    max_delete: str | int | None = None,
    clock: Callable[[], float] = time.time,
    environment: Environment | None = None,
) -> Plan:
    """Return what `sync` would do, without writing anything; `Plan.apply` carries it out.

    Raises:
        KvsyncError: as `sync`, except for `LockError`, since no lease is taken.

    >>> import kvsync
    >>> print(kvsync.plan("memory:one", "memory:two"))
    source memory:one
    target memory:two
    guarantee T1
    nothing to do
    """
    options = Options(conflict=conflict, scan=scan, max_delete=max_delete)
    environment = environment or Environment(clock=clock)
    with _opened(source, target) as (one, other):
        preview = steps.preview(one, other, changes, options, environment)

    def apply() -> SyncResult:
        with _opened(source, target) as (one, other):
            return steps.sync(one, other, changes, options, environment, preview.basis)

    result = preview.result
    return Plan(result.source, result.target, preview.exchange, result.guarantee, result.expiry_ignored, apply)


def commit(
    storage: Target,
    changes: Sequence[Put | Delete] = (),
    *,
    scan: bool = False,
    max_delete: str | int | None = None,
    lease_seconds: float = 60.0,
    wait_seconds: float = 10.0,
    clock: Callable[[], float] = time.time,
    environment: Environment | None = None,
) -> int:
    """Write and log changes in one storage, which later runs move; return how many were logged.

    Raises:
        KvsyncError: as `sync`.

    >>> import kvsync
    >>> kvsync.commit({}, [kvsync.Put("a", b"1")])
    1
    """
    options = Options(scan=scan, max_delete=max_delete, lease_seconds=lease_seconds, wait_seconds=wait_seconds)
    with _opened(storage) as (one,):
        return steps.commit(one, changes, options, environment or Environment(clock=clock))


def open(  # noqa: A001 - kvsync.open
    storage: Target, *, on_error: OnError = "discard", clock: Callable[[], float] = time.time
) -> Store:
    """Open a storage as a mapping that logs what is written through it.

    Writes are collected and committed together, see `Store`. `on_error` decides about those that are not committed yet
    when an exception leaves the `with` block: "discard" drops them, "flush" commits them.

    Raises:
        UsageError: `storage` does not name a storage.

    >>> import kvsync
    >>> a, b = {}, {}
    >>> with kvsync.open(a) as store:
    ...     store["x"] = b"1"
    >>> kvsync.sync(a, b).pushed
    1
    """
    one, owned = open_storage(storage)
    return Store(one, Environment(clock=clock), close=owned, on_error=on_error)


def status(storage: Target) -> Status:
    """Return what kvsync knows about a storage, without writing anything.

    >>> import kvsync
    >>> kvsync.status({}).changes
    0
    """
    with _opened(storage) as (one,):
        return inspection.status(one)


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
    with _opened(storage) as (one,):
        return diagnose(one, environment or Environment())


def log(storage: Target, key: str | None = None) -> list[Change]:
    """Return the newest logged change of each key (or of one key), oldest first.

    >>> import kvsync
    >>> a = {}
    >>> _ = kvsync.commit(a, [kvsync.Put("x", b"1"), kvsync.Delete("y")])
    >>> [change.key for change in kvsync.log(a)]
    ['x', 'y']
    """
    with _opened(storage) as (one,):
        return inspection.log(one, key)


def lost(storage: Target) -> list[LostValue]:
    """Return the values that lost a conflict and are kept in `storage`, oldest first.

    >>> import kvsync
    >>> a, b = {}, {}
    >>> _ = kvsync.commit(a, [kvsync.Put("x", b"older")]), kvsync.commit(b, [kvsync.Put("x", b"newer")])
    >>> _ = kvsync.sync(a, b, conflict="target")
    >>> [(value.key, value.value) for value in kvsync.lost(a)]
    [('x', b'older')]
    """
    with _opened(storage) as (one,):
        return list(inspection.lost(one))


def verify(source: Target, target: Target, *, clock: Callable[[], float] = time.time) -> Verification:
    """Compare all values of two storages, and each storage with its own log; read everything, write nothing.

    A value that has expired, by `clock` (wall-clock seconds), is no difference if only one side still stores it.

    >>> import kvsync
    >>> kvsync.verify({"x": b"1"}, {"x": b"1"}).equal
    True
    """
    with _opened(source, target) as (one, other):
        return inspection.verify(one, other, Environment(clock=clock))


def compact(
    storage: Target,
    *,
    wait_seconds: float = 10.0,
    clock: Callable[[], float] = time.time,
    environment: Environment | None = None,
) -> tuple[int, int]:
    """Merge the segments of a log into one, and remove unlisted objects; return (segments merged, objects removed).

    >>> import kvsync
    >>> kvsync.compact({})
    (0, 0)
    """
    options = Options(wait_seconds=wait_seconds)
    with _opened(storage) as (one,):
        return steps.compact(one, options, environment or Environment(clock=clock))


def unlock(
    storage: Target,
    *,
    force: bool = False,
    clock: Callable[[], float] = time.time,
    environment: Environment | None = None,
) -> bool:
    """Take the lease away from a dead holder, and fence it; return whether there was one.

    Use it only if the holder is known to be dead: the run of a live one fails, though it loses no data. A holder on
    this machine that has ended needs no unlocking, since the next run takes its lease over; one that runs keeps its
    lease, unless this is done by `force`.

    Raises:
        LockHeldError: the holder runs on this machine.

    >>> import kvsync
    >>> kvsync.unlock({})
    False
    """
    with _opened(storage) as (one,):
        return holder.unlock(one, environment or Environment(clock=clock), force=force)


@contextmanager
def _opened(*targets: Target) -> Iterator[tuple[Storage, ...]]:
    with ExitStack() as closing:
        storages = []
        for target in targets:
            storage, owned = open_storage(target)
            if owned:
                closing.callback(storage.close)
            storages.append(storage)
        _check_distinct(storages)
        yield tuple(storages)


def _check_distinct(storages: Sequence[Storage]) -> None:
    """Refuse two handles of one storage, if their identities show it; otherwise the leases will.

    Raises:
        SameStorageError: both are the same storage, or one is within the other.
    """
    known = [storage.identity for storage in storages if has_identity(storage)]
    if len(set(known)) < len(known):
        message = "source and target are the same storage; name two different ones"
        raise SameStorageError(message, storage=storages[-1].name)
    areas = sorted(area for area in map(_area, known) if area is not None)
    for outer, inner in pairwise(areas):
        if inner.startswith(outer):
            message = "one storage is inside the other and would sync itself; name two separate ones"
            raise SameStorageError(message, storage=storages[-1].name)


def _area(identity: str) -> str | None:
    """Return the prefix of the identities of all storages within this one, or None if there can be none."""
    kind = identity.partition(":")[0]
    if kind in {"file", "s3", "gs", "az"}:
        return f"{identity.rstrip('/')}/"
    return identity if kind == "redis" and "?prefix=" in identity else None
