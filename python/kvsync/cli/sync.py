"""`kvsync sync`: make two storages equal."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated
from warnings import catch_warnings, simplefilter

from cyclopts import Parameter

from kvsync import api
from kvsync.cli.changes import read_changes
from kvsync.cli.exitcodes import DONE, FAILED
from kvsync.cli.json_fields import conflict_fields, order_text
from kvsync.cli.options import LeaseOptions, RunOptions, Source, Target, flag
from kvsync.cli.output import Output, counted, first_of
from kvsync.cli.progress import shown_progress
from kvsync.cli.targets import opened_pair
from kvsync.errors import KvsyncWarning
from kvsync.result import MissingKey, SyncResult, UnreadableKey
from kvsync.storages import Tier, redact
from kvsync.types import Conflict

__all__ = ["GUARANTEES", "expiry_line", "place_lines", "sync"]

GUARANTEES = {
    Tier.TRANSACTIONAL: "transactional: values and log change together",
    Tier.CONDITIONAL: "conditional writes: only a delete made right after a crash may be undone",
    Tier.FOLDER: "folder: locked by the operating system, each file replaced atomically",
    Tier.ADVISORY: "advisory lease: nobody else may write during a run",
}

NO_RUN = RunOptions()
NO_LEASE = LeaseOptions()
PLAIN = Output()


def sync(
    source: Source,
    target: Target,
    /,
    *,
    run: RunOptions = NO_RUN,
    dry_run: Annotated[bool, flag(help="Count what would be done, and write nothing.")] = False,
    lease: LeaseOptions = NO_LEASE,
    max_drift_seconds: Annotated[float, Parameter(help="How far in the future a change may be stamped.")] = 86_400.0,
    output: Output = PLAIN,
) -> int:
    """Make two storages equal, both ways, moving only what changed.

    Scans both for changes since the last run. With --changes it does not scan,
    but moves the changes in that file, and those logged before.
    The source must exist; a target that does not exist is created.
    """
    changes = read_changes(run.changes)
    started = time.perf_counter()
    with (
        opened_pair(source, target, new=True, given=bool(changes), asks=not dry_run) as (one, other),
        shown_progress(output) as on_progress,
        catch_warnings(),
    ):
        simplefilter("ignore", KvsyncWarning)  # the hint is part of the summary
        result = api.sync(
            one,
            other,
            changes,
            conflict=run.conflict,
            scan=run.scans,
            guard=run.guard,
            dry_run=dry_run,
            max_delete=run.max_delete,
            lease_seconds=lease.lease_seconds,
            wait_seconds=lease.wait_seconds,
            max_drift_seconds=max_drift_seconds,
            on_progress=on_progress,
        )
        kept = {} if dry_run else _kept(result.conflicts)
    seconds = time.perf_counter() - started
    output.result(_fields(result, kept, seconds, dry_run=dry_run))
    output.say_all(_lines(result, kept, seconds, run.conflict, dry_run=dry_run))
    return _outcome(result, output, dry_run=dry_run)


def _outcome(result: SyncResult, output: Output, *, dry_run: bool) -> int:
    """Return the exit code: a run that left keys behind has not made the storages equal."""
    if dry_run or not (result.missing or result.unreadable):
        return DONE
    if result.missing:
        count = counted(len(result.missing), "key")
        output.warn(f"{count} could not be moved; all others were, and the next run tries again")
    if result.unreadable:
        count = counted(len(result.unreadable), "key")
        output.warn(f"{count} could not be read; all others were, and the next run looks again")
    return FAILED


def _kept(conflicts: list[Conflict]) -> dict[str, str]:
    """Return {key: where its losing value is kept}, for each one that is kept."""
    kept = {c.key: f"index object {' and '.join(c.lost_as)}" for c in conflicts if c.lost_as}
    return kept | {c.key: f"key {c.kept_as!r}" for c in conflicts if c.kept_as is not None}


def _fields(result: SyncResult, kept: dict[str, str], seconds: float, *, dry_run: bool) -> dict[str, object]:
    return {
        "source": redact(result.source),
        "target": redact(result.target),
        "dry_run": dry_run,
        "pushed": result.pushed,
        "pulled": result.pulled,
        "committed": dict(zip(("source", "target"), result.committed, strict=True)),
        "conflicts": [
            conflict_fields(conflict) | {"loser_kept": kept.get(conflict.key)} for conflict in result.conflicts
        ],
        "missing": [_key_fields(missing) for missing in result.missing],
        "unreadable": [_key_fields(unreadable) for unreadable in result.unreadable],
        "operations": {side: dict(counter) for side, counter in result.operations.items()},
        "guarantee": result.guarantee,
        "expiry_ignored": result.expiry_ignored,
        "created": {side: redact(what) for side, what in result.created.items()},
        "notes": [redact(note) for note in result.notes],
        "hint": result.hint or None,
        "seconds": round(seconds, 6),
    }


def _key_fields(entry: MissingKey | UnreadableKey) -> dict[str, str]:
    return {"key": entry.key, "side": entry.side, "reason": redact(entry.reason)}


def _lines(result: SyncResult, kept: dict[str, str], seconds: float, policy: str, *, dry_run: bool) -> Iterator[str]:
    moved = "would move" if dry_run else "moved     "
    in_source, in_target = result.committed
    title = f"{redact(result.source)} <-> {redact(result.target)}"
    yield f"{title} (dry run: nothing is written)" if dry_run else title
    yield f"  found      {counted(in_source, 'new change')} in the source, {in_target:,} in the target"
    if result.pushed or result.pulled:
        yield f"  {moved} {result.pushed:,} to the target, {result.pulled:,} to the source"
    else:
        yield f"  {moved} nothing: there is nothing to do"
    conflicts = (
        _conflict_line(conflict, kept, dry_run=dry_run) + order_text(conflict, policy) for conflict in result.conflicts
    )
    yield from first_of(conflicts, len(result.conflicts))
    yield from first_of((_key_line("missing", missing) for missing in result.missing), len(result.missing))
    yield from first_of((_key_line("unreadable", each) for each in result.unreadable), len(result.unreadable))
    yield from expiry_line(result.expiry_ignored)
    yield from place_lines(result.created, result.notes, result.hint, will=dry_run)
    yield f"  guarantee  {result.guarantee}, {GUARANTEES.get(result.guarantee, 'defined by its adapter')}"
    yield f"  took       {seconds:.2f} s"


def expiry_line(ignored: int) -> Iterator[str]:
    """Yield a line on values that stay after they expire, if there are any."""
    if ignored:
        yield f"  expiry     {counted(ignored, 'value')} will stay after expiring: the storage does not support expiry"


def place_lines(created: Mapping[str, str], notes: Iterable[str], hint: str, *, will: bool) -> Iterator[str]:
    """Yield what is made or `will` be made, what is special about the two storages, and what was hardly meant."""
    yield from (f"  {'creates' if will else 'created'}    {redact(what)}, the {side}" for side, what in created.items())
    yield from (f"  note       {redact(note)}" for note in notes)
    if hint:
        yield f"  hint       {hint}"


def _conflict_line(conflict: Conflict, kept: dict[str, str], *, dry_run: bool) -> str:
    losing = conflict.target if conflict.winner == "source" else conflict.source
    if losing.deletes:
        loser = "the other side had deleted it"
    elif conflict.key in kept:
        loser = f"the other value is kept as {kept[conflict.key]}"
    else:
        loser = "the other value would be kept" if dry_run else "the other value was not kept"
    return f"  conflict   {conflict.key!r}: the {conflict.winner} wins; {loser}"


def _key_line(title: str, entry: MissingKey | UnreadableKey) -> str:
    return f"  {title:<10} {entry.key!r} in the {entry.side}: {redact(entry.reason)}"
