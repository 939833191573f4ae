"""`kvsync sync`: make two storages equal."""

from collections.abc import Iterator
from typing import Annotated
from warnings import catch_warnings, simplefilter

from kvsync import api
from kvsync.cli.left_behind import left_behind
from kvsync.cli.options import LeaseOptions, Option, RunOptions, Source, Target, TombstoneGrace, flag
from kvsync.cli.output import Output, counted
from kvsync.cli.progress import shown_progress
from kvsync.cli.summary import (
    ARROWS,
    GUARANTEES,
    alarm_lines,
    expiry_line,
    place_lines,
    result_fields,
    withheld_lines,
)
from kvsync.cli.targets import opened_pair
from kvsync.errors import KvsyncWarning, UsageError
from kvsync.opening import may_make
from kvsync.result import SyncResult
from kvsync.storages import redact
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
    /,
    *,
    run: RunOptions = NO_RUN,
    dry_run: Annotated[bool, flag(help="Count what would be done, and write nothing.")] = False,
    lease: LeaseOptions = NO_LEASE,
    max_drift_seconds: Annotated[float, Option(help="How far in the future times in an index may lie.")] = 86_400.0,
    tombstone_grace: TombstoneGrace = "30d",
    watch: Annotated[bool, flag(help=WATCH)] = False,
    every: Annotated[str | None, flag(help=EVERY)] = None,
    full_every: Annotated[str | None, flag(help=FULL_EVERY)] = None,
    heartbeat: Annotated[str | None, flag(help=HEARTBEAT)] = None,
    output: Output = PLAIN,
) -> int:
    """Make two storages equal, both ways or one way, moving only what changed.

    Scans both for changes since the last run. With --changes it does not scan,
    but moves the changes in that file, and those logged before.
    The source must exist; a target that does not exist is created.
    """
    if watch:
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
    with (
        opened_pair(source, target, new=True, given=may_make(changes), asks=not dry_run) as (one, other),
        shown_progress(output) as on_progress,
        catch_warnings(),
    ):
        simplefilter("ignore", KvsyncWarning)  # the hint is part of the summary
        result = api.sync(
            one,
            other,
            changes,
            direction=run.direction,
            read_only_source=run.read_only_source,
            conflict=run.conflict,
            scan=run.scans,
            full=run.full,
            guard=run.guard,
            trust=run.trust,
            dry_run=dry_run,
            max_delete=run.max_delete,
            max_overwrite=run.max_overwrite,
            max_bytes=run.max_bytes,
            max_conflicts=run.max_conflicts,
            lease_seconds=lease.lease_seconds,
            wait_seconds=lease.wait_seconds,
            max_drift_seconds=max_drift_seconds,
            tombstone_grace=tombstone_grace,
            on_progress=on_progress,
        )
    output.result(result_fields(result) if output.json else {})
    names = redact(result.source), redact(result.target)
    output.say_all(_lines(result, dry_run=dry_run))
    output.alarm_all(alarm_lines(result, run.conflict, dry_run=dry_run), title=ARROWS[run.direction].join(names))
    output.say_all(_last_lines(result))
    return left_behind(output, result.missing, result.unreadable, planned=dry_run)


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


def _lines(result: SyncResult, *, dry_run: bool) -> Iterator[str]:
    moved = "would move" if dry_run else "moved     "
    in_source, in_target = result.committed
    title = f"{redact(result.source)}{ARROWS[result.direction]}{redact(result.target)}"
    yield f"{title} (dry run: nothing is written)" if dry_run else title
    yield f"  found      {counted(in_source, 'new change')} in the source, {in_target:,} in the target"
    if result.pushed or result.pulled or result.withheld:
        yield f"  {moved} {result.pushed:,} to the target, {result.pulled:,} to the source"
    else:
        left = result.missing or result.unreadable
        yield f"  {moved} nothing{'' if left else ': there is nothing to do'}"


def _last_lines(result: SyncResult) -> Iterator[str]:
    yield from withheld_lines(result.withheld, result.direction)
    yield from (f"  {'returned' if life.forgotten else 'restored'}   {redact(str(life))}" for life in result.lives)
    yield from expiry_line(result.expiry_ignored)
    yield from place_lines(result.created, result.notes, result.hint, will=result.dry_run)
    yield f"  guarantee  {result.guarantee}, {GUARANTEES.get(result.guarantee, 'defined by its adapter')}"
    yield f"  took       {result.seconds:.2f} s"


def _given(run: RunOptions) -> list[Put | Delete]:
    if run.changes is None:
        return []
    from kvsync.cli.changes import read_changes  # noqa: PLC0415 - most runs are given none

    return read_changes(run.changes)
