"""`kvsync sync`: make two storages equal."""

from typing import Annotated, Any
from warnings import catch_warnings, simplefilter

from kvsync import api
from kvsync.cli.options import LeaseOptions, Option, RunOptions, Source, Target, TombstoneGrace, flag
from kvsync.cli.output import Output
from kvsync.cli.progress import shown_progress
from kvsync.cli.summary import result_fields, tell
from kvsync.cli.targets import opened_pair
from kvsync.errors import KvsyncWarning, UsageError
from kvsync.opening import may_make
from kvsync.types import Delete, Put

__all__ = ["sync"]

NO_RUN = RunOptions()
NO_LEASE = LeaseOptions()
PLAIN = Output()

WATCH = "Go on, and run again as soon as something changes, until stopped by Ctrl-C or SIGTERM."
EVERY = "With --watch: how often to scan storages that do not tell of changes. Default: 60s."
FULL_EVERY = "With --watch: how often to scan, whatever they tell. Default: 1h."
HEARTBEAT = "With --watch: a file to touch after each run that succeeds, and every 10 s while nothing changes."


def sync(  # noqa: PLR0913 - each is an option, or a group of them
    source: Source,
    target: Target,
    others: Annotated[tuple[str, ...], flag(help="More storages: the source is synced with each.")] = (),
    /,
    *,
    run: RunOptions = NO_RUN,
    dry_run: Annotated[bool, flag(help="Count what would be done, and write nothing.", short="-n")] = False,
    lease: LeaseOptions = NO_LEASE,
    max_drift_seconds: Annotated[float, Option(help="How far in the future times in an index may lie.")] = 86_400.0,
    tombstone_grace: TombstoneGrace = "30d",
    watch: Annotated[bool, flag(help=WATCH)] = False,
    every: Annotated[str | None, flag(help=EVERY)] = None,
    full_every: Annotated[str | None, flag(help=FULL_EVERY)] = None,
    heartbeat: Annotated[str | None, flag(help=HEARTBEAT)] = None,
    output: Output = PLAIN,
) -> int:
    """Make two or more storages equal, both ways or one way, moving only what changed.

    Scans all for changes since the last run. With --changes it does not scan,
    but moves the changes in that file, and those logged before.
    The source must exist; a target that does not exist is created.
    """
    if watch:
        if others:
            message = "--watch takes two storages; start one watch for each pair"
            raise UsageError(message)
        from kvsync.cli.watch import watch_pair  # noqa: PLC0415 - most runs are single ones

        _refuse_beside_watch(run, lease, dry_run=dry_run)
        return watch_pair(
            source,
            target,
            run=run,
            lease=lease,
            every=every or "60s",
            full_every=full_every or "1h",
            heartbeat=heartbeat,
            max_drift_seconds=max_drift_seconds,
            tombstone_grace=tombstone_grace,
            output=output,
        )
    if not (every is full_every is heartbeat is None):
        message = "--every, --full-every and --heartbeat are options of a watch: add --watch"
        raise UsageError(message)
    changes = _given(run)
    options: dict[str, Any] = {
        "direction": run.direction,
        "read_only_source": run.read_only_source,
        "include": run.include or (),
        "exclude": run.exclude or (),
        "conflict": run.conflict,
        "scan": run.scans,
        "full": run.full,
        "guard": run.guard,
        "trust": run.trust,
        "dry_run": dry_run,
        "max_delete": run.max_delete,
        "max_overwrite": run.max_overwrite,
        "max_bytes": run.max_bytes,
        "max_conflicts": run.max_conflicts,
        "lease_seconds": lease.lease_seconds,
        "wait_seconds": lease.wait_seconds,
        "max_drift_seconds": max_drift_seconds,
        "tombstone_grace": tombstone_grace,
    }
    if others:
        from kvsync.cli.many import sync_many  # noqa: PLC0415 - most runs are of two

        return sync_many((source, target, *others), changes, options, output)
    with (
        opened_pair(source, target, new=True, given=may_make(changes), asks=not dry_run) as (one, other),
        shown_progress(output) as on_progress,
        catch_warnings(),
    ):
        simplefilter("ignore", KvsyncWarning)  # the hint is part of the summary
        result = api.sync(one, other, changes, on_progress=on_progress, **options)
    output.result(result_fields(result) if output.json else {})
    return tell(output, result, run.conflict)


def _refuse_beside_watch(run: RunOptions, lease: LeaseOptions, *, dry_run: bool) -> None:
    """Refuse options that say nothing to a watch.

    Raises:
        UsageError: there are some.
    """
    others = {
        "--changes": run.changes is not None,
        "--no-scan": run.scan is False,
        "--full": run.full,
        "--guard": run.guard != "none",
        "--dry-run": dry_run,
        "--wait-seconds": lease.wait_seconds != NO_LEASE.wait_seconds,
    }
    if found := [name for name, is_given in others.items() if is_given]:
        message = f"{' and '.join(found)} cannot be combined with --watch, which scans both storages again and again"
        raise UsageError(message)


def _given(run: RunOptions) -> list[Put | Delete]:
    if run.changes is None:
        return []
    from kvsync.cli.changes import read_changes  # noqa: PLC0415 - most runs are given none

    return read_changes(run.changes)
