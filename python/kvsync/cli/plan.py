"""`kvsync plan`: show what a run would do."""

from collections.abc import Iterator, Sequence
from typing import Annotated
from warnings import catch_warnings, simplefilter

from kvsync import api
from kvsync.cli.changes import read_changes
from kvsync.cli.conflicts import conflict_lines
from kvsync.cli.exitcodes import DONE
from kvsync.cli.json_fields import change_fields, conflict_fields, key_fields
from kvsync.cli.left_behind import left_behind, left_lines
from kvsync.cli.options import LeaseOptions, Option, RunOptions, Source, Target
from kvsync.cli.output import Output, counted
from kvsync.cli.summary import (
    ARROWS,
    change_line,
    expiry_line,
    guarantee_line,
    left_out_line,
    place_lines,
    withheld_lines,
)
from kvsync.cli.sync import NO_LEASE, NO_RUN, PLAIN
from kvsync.cli.targets import opened_pair
from kvsync.errors import KvsyncWarning
from kvsync.opening import may_make
from kvsync.planning import Plan
from kvsync.storages import redact
from kvsync.storages.contract import Storage
from kvsync.types import Delete, Put

__all__ = ["plan"]


DIFF = "Show what would become of the value of this key alone: its lines, or sizes and digests."


def plan(
    source: Source,
    target: Target,
    /,
    *,
    run: RunOptions = NO_RUN,
    diff: Annotated[str | None, Option(help=DIFF, show_default=False)] = None,
    lease: LeaseOptions = NO_LEASE,  # noqa: ARG001 - accepted, so that any `sync` command line works with `plan`
    output: Output = PLAIN,
) -> int:
    """Show what sync would do, key by key, and write nothing.

    Accepts the options of sync. Takes no lease and overwrites nothing, so
    --guard, --lease-seconds and --wait-seconds have no effect. Exits with 1 if
    there are keys that an earlier run could not move, or that cannot be read.
    """
    changes = read_changes(run.changes)
    with opened_pair(source, target, new=True, given=may_make(changes)) as (one, other), catch_warnings():
        simplefilter("ignore", KvsyncWarning)  # the hint is part of what is shown
        found = api.plan(
            one,
            other,
            changes,
            direction=run.direction,
            read_only_source=run.read_only_source,
            include=run.include or (),
            exclude=run.exclude or (),
            conflict=run.conflict,
            scan=run.scans,
            full=run.full,
            trust=run.trust,
            max_delete=run.max_delete,
            max_overwrite=run.max_overwrite,
            max_bytes=run.max_bytes,
            max_conflicts=run.max_conflicts,
        )
        if diff is not None:
            return _tell_diff(diff, found, (one, other), changes, output)
    output.result(_fields(found) if output.json else {})
    _tell(found, output)
    output.alarm_all(_alarms(found, run.conflict), title=_title(found))
    output.say_all(_last_lines(found))
    output.detail_all([guarantee_line(found.guarantee)])
    return left_behind(output, found.missing, found.unreadable, planned=True)


def _tell_diff(
    key: str, found: Plan, storages: tuple[Storage, Storage], changes: Sequence[Put | Delete], output: Output
) -> int:
    """Print the diff of one key."""
    from kvsync.cli.diff import diff_of  # noqa: PLC0415 - most plans show no diff

    diff = diff_of(key, found, storages, changes)
    output.result({"source": redact(found.source), "target": redact(found.target), **diff.fields()})
    output.say(_title(found))
    output.say_all(diff.lines())
    return DONE


def _fields(found: Plan) -> dict[str, object]:
    return {
        "source": redact(found.source),
        "target": redact(found.target),
        "direction": found.direction,
        "empty": found.empty,
        "to_target": [change_fields(change) for change in found.to_target],
        "to_source": [change_fields(change) for change in found.to_source],
        "conflicts": [conflict_fields(conflict) for conflict in found.conflicts],
        "withheld": found.withheld,
        "left_out": found.left_out,
        "missing": [key_fields(missing) for missing in found.missing],
        "unreadable": [key_fields(unreadable) for unreadable in found.unreadable],
        "guarantee": found.guarantee,
        "expiry_ignored": found.expiry_ignored,
        "creates": {side: redact(what) for side, what in found.creates.items()},
        "notes": [redact(note) for note in found.notes],
        "hint": found.hint or None,
        "lag_seconds": found.lag_seconds,
    }


def _title(found: Plan) -> str:
    return f"{redact(found.source)}{ARROWS[found.direction]}{redact(found.target)} (plan: nothing is written)"


def _tell(found: Plan, output: Output) -> None:
    output.say(_title(found))
    if found.empty and found.complete:
        output.say("  nothing to do")
    for side, changes, count in (
        ("target", found.to_target, found.to_target_count),
        ("source", found.to_source, found.to_source_count),
    ):
        if count:
            output.say(f"  to the {side}: {counted(count, 'change')}")
            output.list_all((change_line(change) for change in changes), count)


def _alarms(found: Plan, policy: str) -> Iterator[str]:
    if found.direction == "mirror":
        policy = "source"
    yield from conflict_lines(found.conflicts, found.source, found.target, policy, planned=True)
    yield from left_lines(found.missing, found.unreadable)


def _last_lines(found: Plan) -> Iterator[str]:
    yield from withheld_lines(found.withheld, found.direction)
    yield from left_out_line(found.left_out)
    yield from expiry_line(found.expiry_ignored)
    yield from place_lines(found.creates, found.notes, found.hint, will=True)
