"""The public functions that change storages: open them, run the engine, close what was opened."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Literal, TypeAlias

from kvsync.environment import Environment
from kvsync.errors import KvsyncWarning
from kvsync.opening import check_slip, may_make, opened, opened_pair
from kvsync.options import Options
from kvsync.planning import Plan
from kvsync.run import holder, steps
from kvsync.run.commit import checked
from kvsync.storages import open_storage

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, MutableMapping, Sequence
    from threading import Event

    from kvsync.opening import Create
    from kvsync.policy import Policy
    from kvsync.result import OnProgress, SyncResult
    from kvsync.storages.contract import Storage
    from kvsync.store import OnError, Store
    from kvsync.types import Delete, Direction, Put

    Target: TypeAlias = "str | os.PathLike[str] | MutableMapping[str, bytes] | Storage"

__all__ = ["commit", "compact", "open", "plan", "sync", "unlock"]


def sync(  # noqa: PLR0913 - options are keyword-only, and each is one that callers set
    source: Target,
    target: Target,
    changes: Sequence[Put | Delete] = (),
    *,
    direction: Direction = "both",
    read_only_source: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    conflict: Policy = "latest",
    scan: bool = False,
    full: bool = False,
    guard: Literal["none", "check"] = "none",
    trust: Literal["none", "etag"] = "none",
    dry_run: bool = False,
    max_delete: str | int | None = None,
    max_overwrite: str | int | None = None,
    max_bytes: str | int | None = None,
    max_conflicts: str | int | None = None,
    keep_lost: bool = True,
    create: Create = "auto",
    lease_seconds: float = 60.0,
    wait_seconds: float = 10.0,
    max_drift_seconds: float = 86_400.0,
    tombstone_grace: str | float = "30d",
    on_progress: OnProgress | None = None,
    cancel: Event | None = None,
    clock: Callable[[], float] = time.time,
    environment: Environment | None = None,
) -> SyncResult:
    """Make two storages equal, moving only what changed: both ways, or one way.

    `source` and `target` are each a URL, the path of a folder, a mapping of `str` to `bytes`, or a `Storage`. Without
    `scan`, only logged changes move: those in `changes`, and those logged by `commit`, by `open` or by earlier runs.

    Args:
        source: one storage.
        target: the other one.
        changes: changes to write to the source first, or that the caller has already made there.
        direction: "both"; "push": the target gets what the source has, and the source gets nothing; "pull": the other
            way round; "mirror": as "push", and what only the target has or changed is overwritten or deleted there.
        read_only_source: with "push" or "mirror": nothing is written to the source. Its log and inventory are kept in
            the target.
        include: patterns in the syntax of gitignore; keys that none of them matches are left out. Default: all keys.
        exclude: patterns of keys to leave out. So are those that a file `.kvsyncignore` in a folder names. What is left
            out is not looked at, nor moved, and nothing of it counts as deleted.
        conflict: "latest", "source", "target", "keep-both", "fail", or a callable that takes the conflict and both
            values (None: deleted) and returns bytes, "source", "target" or "delete".
        scan: find changes in both storages by comparing them with what the last scan saw; where a storage is tracked,
            at those keys that its journal names.
        full: look at everything in that scan, in a tracked storage, too. Do so now and then: it proves the journal.
        guard: "none": trust that nobody else wrote; "check": look at values, and overwrite what was seen.
        trust: "etag": a scan does not read a value if its server tells the same MD5 and size as the other side's value
            has; "none": it reads what is new. Somebody who can write there, or the server, can then pass off another
            value as equal.
        dry_run: write nothing; the result has the counts of what would be done.
        max_delete: how many keys a scan may find deleted or overwritten, a mirror may overwrite or delete of those that
            the source does not know, and a run may delete in a storage: a number or "P%"; None means 50%, but at
            least 3, and counts what a scan finds and a mirror does.
        max_overwrite: how many values a run may overwrite in a storage: a number or "P%" of the keys there.
        max_bytes: how many bytes of values a run may move: a number, or one with a unit such as "10MB".
        max_conflicts: how many conflicts a run may decide: a number or "P%" of the target's keys.
        keep_lost: keep values that lose a conflict, below `.kvsync/lost/` of the storage that held them.
        create: which storage need not exist yet: "auto": the target, and the source if `changes` are given; "target";
            "both"; "none". A misspelt name is an error otherwise. (A prefix of Redis or of a bucket always exists.)
        lease_seconds: how long a lease lasts without renewal.
        wait_seconds: how long to wait for a lease that somebody else holds.
        max_drift_seconds: how far in the future any time in a manifest may lie: stamps of changes, of what is known of
            histories and peers, and of what was collected.
        tombstone_grace: how long deletes stay logged although all known replicas have them: seconds, or a number with
            a unit, such as "30d". It should exceed the age of the backups that are restored.
        on_progress: called with a `Progress` after each batch, and while the run waits for a lease or finishes what an
            interrupted one left.
        cancel: a `threading.Event`. Once it is set, the run stops after the batch that is being moved or compared, or
            stops waiting for a lease, and raises `CancelledError`; the next run goes on where it stopped. A run that
            has nothing more to move ends as usual.
        clock: returns wall-clock seconds; stamps and lease expiry use it.
        environment: replaces time, sleep and randomness, for simulations; overrides `clock`.

    Returns:
        What was done.

    Raises:
        UsageError: the call is wrong.
        StorageError: a storage failed, or does not exist.
        LockHeldError: somebody else holds a lease.
        LockLostError: a lease was lost during the run; run again.
        ConflictError: the policy is "fail" and there are conflicts.
        BudgetError: a scan found more keys deleted or overwritten than allowed, or the run would do more than it may.
        CancelledError: `cancel` was set.
        IndexDamagedError: an index object fails its checks.

    >>> import kvsync
    >>> a, b = {}, {}
    >>> result = kvsync.sync(a, b, changes=[kvsync.Put("user/1", b"Ada")])
    >>> result.pushed, b["user/1"]
    (1, b'Ada')
    """
    options = Options(
        direction=direction,
        read_only_source=read_only_source,
        include=include,
        exclude=exclude,
        conflict=conflict,
        scan=scan,
        full=full,
        guard=guard,
        trust=trust,
        max_delete=max_delete,
        max_overwrite=max_overwrite,
        max_bytes=max_bytes,
        max_conflicts=max_conflicts,
        keep_lost=keep_lost,
        lease_seconds=lease_seconds,
        wait_seconds=wait_seconds,
        max_drift_seconds=max_drift_seconds,
        tombstone_grace=tombstone_grace,
        on_progress=on_progress,
        cancel=cancel,
    )
    environment = environment or Environment(clock=clock)
    started = environment.monotonic()
    changes = changes if isinstance(changes, tuple) else checked(changes)
    with opened_pair(source, target, create, given=may_make(changes), read_only=read_only_source) as pair:
        if dry_run:
            result = steps.preview(pair.source, pair.target, changes, options, environment).result
        else:
            result = steps.sync(pair.source, pair.target, changes, options, environment)
        result.created = pair.unmade if dry_run else pair.made
        result.notes = [*pair.notes, *result.notes]
        result.dry_run = dry_run
    result.seconds = environment.monotonic() - started
    _warn_once(result.hint)
    return result


def plan(  # noqa: PLR0913 - options are keyword-only, and each is one that callers set
    source: Target,
    target: Target,
    changes: Sequence[Put | Delete] = (),
    *,
    direction: Direction = "both",
    read_only_source: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    conflict: Policy = "latest",
    scan: bool = False,
    full: bool = False,
    trust: Literal["none", "etag"] = "none",
    max_delete: str | int | None = None,
    max_overwrite: str | int | None = None,
    max_bytes: str | int | None = None,
    max_conflicts: str | int | None = None,
    create: Create = "auto",
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
    options = Options(
        direction=direction,
        read_only_source=read_only_source,
        include=include,
        exclude=exclude,
        conflict=conflict,
        scan=scan,
        full=full,
        trust=trust,
        max_delete=max_delete,
        max_overwrite=max_overwrite,
        max_bytes=max_bytes,
        max_conflicts=max_conflicts,
    )
    environment = environment or Environment(clock=clock)
    changes = changes if isinstance(changes, tuple) else checked(changes)
    with opened_pair(source, target, create, given=may_make(changes), read_only=read_only_source) as pair:
        preview = steps.preview(pair.source, pair.target, changes, options, environment)
        preview.result.created, preview.result.notes = pair.unmade, [*pair.notes, *preview.result.notes]

    def apply() -> SyncResult:
        started = environment.monotonic()
        with opened_pair(source, target, create, given=may_make(changes), read_only=read_only_source) as pair:
            result = steps.sync(pair.source, pair.target, changes, options, environment, preview.basis)
            result.created, result.notes = pair.made, [*pair.notes, *result.notes]
        result.seconds = environment.monotonic() - started
        return result

    _warn_once(preview.result.hint)
    return Plan(preview.result, preview.to_source, preview.to_target, apply)


def commit(  # noqa: PLR0913 - options are keyword-only, and each is one that callers set
    storage: Target,
    changes: Sequence[Put | Delete] = (),
    *,
    scan: bool = False,
    full: bool = False,
    max_delete: str | int | None = None,
    lease_seconds: float = 60.0,
    wait_seconds: float = 10.0,
    clock: Callable[[], float] = time.time,
    environment: Environment | None = None,
) -> int:
    """Write and log changes in one storage, which later runs move; return how many were logged.

    A storage that does not exist is created for the changes; a scan needs one that exists.

    Raises:
        KvsyncError: as `sync`.

    >>> import kvsync
    >>> kvsync.commit({}, [kvsync.Put("a", b"1")])
    1
    """
    options = Options(
        scan=scan, full=full, max_delete=max_delete, lease_seconds=lease_seconds, wait_seconds=wait_seconds
    )
    changes = checked(changes)
    with opened(storage, new=may_make(changes)) as one:
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
    from kvsync.store import Store  # noqa: PLC0415 - a command needs none

    check_slip(storage)
    one, owned = open_storage(storage)
    return Store(one, Environment(clock=clock), close=owned, on_error=on_error)


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
    with opened(storage) as one:
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
    with opened(storage) as one:
        return holder.unlock(one, environment or Environment(clock=clock), force=force)


_warned: set[str] = set()


def _warn_once(hint: str) -> None:
    """Warn the caller of the caller, once in a process."""
    if hint and hint not in _warned:
        _warned.add(hint)
        warnings.warn(hint, KvsyncWarning, stacklevel=3)
