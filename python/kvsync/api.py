"""The public functions: open what is named, run the engine, close what was opened."""

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

    `source` and `target` are a URL, a path of a folder, a mapping of `str` to `bytes`, or a `Storage`. `changes` are
    written to the source first. Without `scan` only logged changes move: those given here, by `commit`, or by `open`.

    Args:
        source: one storage.
        target: the other one.
        changes: what the caller changes, or has changed, in the source.
        conflict: "latest", "source", "target", "keep-both", "fail", or a callable that sees the conflict and both
            values (None: deleted) and returns bytes, "source", "target" or "delete".
        scan: find changes in both storages by comparing them with what the last scan saw.
        guard: "none", the caller vouches that nobody else wrote; "check", look before overwriting.
        dry_run: find out what would be done, and write nothing; the result has the counts.
        max_delete: how many keys a scan may find deleted or overwritten: a number, or "P%" ("50%").
        keep_lost: keep values that lose a conflict, below `.kvsync/lost/` of the storage that held them.
        lease_seconds: life of a lease between renewals.
        wait_seconds: how long to wait for a lease that somebody else holds.
        max_drift_seconds: how far in the future a stamp may lie.
        on_progress: called with a `Progress` after each batch.
        clock: returns wall-clock seconds; stamps and lease expiry use it.
        environment: all of time and randomness, for simulations; overrides `clock`.

    Returns:
        What was done.

    Raises:
        UsageError: the call is wrong.
        LockHeldError: somebody else holds a lease.
        LockLostError: a lease was lost on the way; run again.
        ConflictError: the policy is "fail" and there are conflicts.
        BudgetError: a scan found more deleted or overwritten than allowed.
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
    """Find what `sync` would do, without writing anything; `Plan.apply` does it.

    Raises:
        KvsyncError: as `sync`, locks apart.

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
    """Write and log changes in one storage, for later runs to move; return how many were logged.

    Raises:
        KvsyncError: as `sync`.

    >>> import kvsync
    >>> kvsync.commit({}, [kvsync.Put("a", b"1")])
    1
    """
    options = Options(scan=scan, max_delete=max_delete, lease_seconds=lease_seconds, wait_seconds=wait_seconds)
    with _opened(storage) as (one,):
        return steps.commit(one, changes, options, environment or Environment(clock=clock))


def open(storage: Target, *, clock: Callable[[], float] = time.time) -> Store:  # noqa: A001 - kvsync.open
    """Open a storage as a mapping that logs what is written through it.

    >>> import kvsync
    >>> a, b = {}, {}
    >>> with kvsync.open(a) as store:
    ...     store["x"] = b"1"
    >>> kvsync.sync(a, b).pushed
    1
    """
    one, owned = open_storage(storage)
    return Store(one, Environment(clock=clock), close=owned)


def status(storage: Target) -> Status:
    """Return what kvsync knows of a storage, without writing anything.

    >>> import kvsync
    >>> kvsync.status({}).changes
    0
    """
    with _opened(storage) as (one,):
        return inspection.status(one)


def doctor(storage: Target, *, environment: Environment | None = None) -> Diagnosis:
    """Find out by trying what a storage can do, and what is wrong with it.

    Lists it, reads its index, and writes one small index object and removes it again, with all that was made for it.
    What would have to be made and would stay, such as a bucket, is told instead. What fails is told in the result;
    nothing is raised for it.

    >>> import kvsync
    >>> found = kvsync.doctor({})
    >>> print(found.guarantee, found.wrong)
    T1 []

    Raises:
        UsageError: `storage` names none.
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
    """Compare all values of two storages, and each with its own log; reads everything, writes nothing.

    A value that has expired, by `clock` (wall-clock seconds), makes no difference where one side still holds it.

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
    """Merge a storage's segments into one and remove what is unlisted; return (segments merged, objects removed).

    >>> import kvsync
    >>> kvsync.compact({})
    (0, 0)
    """
    options = Options(wait_seconds=wait_seconds)
    with _opened(storage) as (one,):
        return steps.compact(one, options, environment or Environment(clock=clock))


def unlock(storage: Target, *, clock: Callable[[], float] = time.time) -> bool:
    """Take a lease away from a dead holder, fencing it; return whether there was one.

    Use it only when the holder is known to be dead: a live one loses its run (never its data).

    >>> import kvsync
    >>> kvsync.unlock({})
    False
    """
    with _opened(storage) as (one,):
        return holder.unlock(one, Environment(clock=clock))


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
    """Refuse two handles of one storage, as far as storages can tell; leases tell the rest.

    Raises:
        SameStorageError: they are one.
    """
    known = [storage.identity for storage in storages if has_identity(storage)]
    if len(set(known)) < len(known):
        message = "source and target are one storage; name two different ones"
        raise SameStorageError(message, storage=storages[-1].name)
    areas = sorted(area for area in map(_area, known) if area is not None)
    for outer, inner in pairwise(areas):
        if inner.startswith(outer):
            message = "one storage lies within the other, so it would take in itself; name two that lie apart"
            raise SameStorageError(message, storage=storages[-1].name)


def _area(identity: str) -> str | None:
    """Return what begins the identity of every storage that lies within this one; None where none can."""
    kind = identity.partition(":")[0]
    if kind in {"file", "s3", "gs", "az"}:
        return f"{identity.rstrip('/')}/"
    return identity if kind == "redis" and "?prefix=" in identity else None
