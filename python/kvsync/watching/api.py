"""`kvsync.watch`: check what the caller wants, and return the iterator."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kvsync.environment import Environment
from kvsync.opening import check_create
from kvsync.options import Options, duration_seconds
from kvsync.watching.heartbeat import heartbeat_of
from kvsync.watching.pair import WatchedPair
from kvsync.watching.schedule import Intervals
from kvsync.watching.watch import Watch

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from kvsync.opening import Create
    from kvsync.policy import Policy
    from kvsync.result import OnProgress
    from kvsync.storages import Target
    from kvsync.types import Direction

__all__ = ["watch"]


def watch(  # noqa: PLR0913 - options are keyword-only, and each is one that callers set
    source: Target,
    target: Target,
    *,
    direction: Direction = "both",
    read_only_source: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    conflict: Policy = "latest",
    max_delete: str | int | None = None,
    max_overwrite: str | int | None = None,
    max_bytes: str | int | None = None,
    max_conflicts: str | int | None = None,
    keep_lost: bool = True,
    create: Create = "auto",
    every: str | float = "60s",
    full_every: str | float = "1h",
    heartbeat: str | os.PathLike[str] | Callable[[], None] | None = None,
    lease_seconds: float = 60.0,
    max_drift_seconds: float = 86_400.0,
    tombstone_grace: str | float = "30d",
    on_progress: OnProgress | None = None,
    clock: Callable[[], float] = time.time,
    environment: Environment | None = None,
) -> Watch:
    """Make two storages equal whenever something changes in one of them, until told to stop.

    Return an iterator, which makes the runs while it is asked for the next event: a `WatchRun`, or an `Outage` that is
    waited out. Each run is a `kvsync.sync` with `scan=True`. `Watch.stop` ends it, from any thread.

    Times are seconds, or a number with a unit, such as "90s" or "1h".

    Args:
        source: one storage, as in `sync`.
        target: the other one.
        direction: as in `sync`.
        read_only_source: as in `sync`.
        include: as in `sync`.
        exclude: as in `sync`.
        conflict: as in `sync`.
        max_delete: as in `sync`, for each run.
        max_overwrite: as in `sync`, for each run.
        max_bytes: as in `sync`, for each run.
        max_conflicts: as in `sync`, for each run.
        keep_lost: as in `sync`.
        create: which storage need not exist when the watch begins, as in `sync`.
        every: how often to make a run where a storage does not notice all changes.
        full_every: how often to make one with storages opened anew, whatever the hints say.
        heartbeat: a file that is touched, or a function that is called, after each run that succeeds, and every ten
            seconds while there is nothing to do. Not while a run fails: so its age is what a supervisor looks at.
        lease_seconds: as in `sync`.
        max_drift_seconds: as in `sync`.
        tombstone_grace: as in `sync`.
        on_progress: called with a `Progress` after each batch.
        clock: returns wall-clock seconds.
        environment: replaces time, sleep and randomness, for simulations; overrides `clock`.

    Raises:
        UsageError: an option is wrong. The iterator raises one if a storage is named wrongly.

    >>> import kvsync
    >>> a, b = {"user/1": b"Ada"}, {}
    >>> for event in kvsync.watch(a, b):
    ...     break  # a program goes on, and looks at each event
    >>> event.reason, event.result.pushed, b["user/1"]
    ('start', 1, b'Ada')
    """
    check_create(create)
    intervals = Intervals(
        duration_seconds(every, "every", least=0.1), duration_seconds(full_every, "full_every", least=1)
    )
    options = Options(
        direction=direction,
        read_only_source=read_only_source,
        include=include,
        exclude=exclude,
        conflict=conflict,
        scan=True,
        max_delete=max_delete,
        max_overwrite=max_overwrite,
        max_bytes=max_bytes,
        max_conflicts=max_conflicts,
        keep_lost=keep_lost,
        lease_seconds=lease_seconds,
        max_drift_seconds=max_drift_seconds,
        tombstone_grace=tombstone_grace,
        on_progress=on_progress,
    )
    environment = environment or Environment(clock=clock)
    beat = heartbeat_of(heartbeat, (source, target))
    return Watch(WatchedPair(source, target, create, read_only=read_only_source), options, intervals, environment, beat)
