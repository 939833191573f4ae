"""`kvsync sync A B C`: make more than two storages equal, by way of the first one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

from kvsync.cli.exitcodes import combined, exit_code_of
from kvsync.cli.failure import error_fields, tell_all
from kvsync.cli.left_behind import left_behind
from kvsync.cli.names import place
from kvsync.cli.progress import shown_progress
from kvsync.cli.summary import (
    ARROWS,
    alarm_lines,
    left_out_line,
    moved_lines,
    place_lines,
    result_fields,
    withheld_lines,
)
from kvsync.cli.targets import check_name
from kvsync.errors import KvsyncWarning
from kvsync.many import sync_all
from kvsync.storages.url import redact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kvsync.cli.output import Output
    from kvsync.many import SyncAllResult
    from kvsync.types import Delete, Put

__all__ = ["sync_many"]


def sync_many(
    storages: Sequence[str],
    changes: Sequence[Put | Delete],
    options: Mapping[str, Any],
    output: Output,
) -> int:
    """Make all storages equal, with options of `kvsync.sync`; return the exit code."""
    places = [place(storage) for storage in storages]
    for each in places:
        check_name(each)
    with shown_progress(output) as on_progress, catch_warnings():
        simplefilter("ignore", KvsyncWarning)
        result = sync_all(places, changes, on_progress=on_progress, **options)
    output.result(_fields(result, storages) if output.json else {})
    _tell(result, options, output)
    codes = [exit_code_of(error) for _, error in result.failures]
    tell_all(result.failures, storages[0])
    unreadable = [unreadable for run in result.runs for unreadable in run.unreadable]
    return combined([*codes, left_behind(output, result.missing, unreadable, planned=options["dry_run"])])


def _fields(result: SyncAllResult, tokens: Sequence[str]) -> dict[str, object]:
    fields = result.to_dict()
    fields["runs"] = [result_fields(run) for run in result.runs]
    fields["failures"] = [
        {"storage": redact(storage), "error": error_fields(error, tokens)} for storage, error in result.failures
    ]
    return fields


def _tell(result: SyncAllResult, options: Mapping[str, Any], output: Output) -> None:
    direction, policy, dry_run = options["direction"], options["conflict"], options["dry_run"]
    names = dict.fromkeys([*(run.target for run in result.runs), *(storage for storage, _ in result.failures)])
    title = f"{redact(result.hub)}{ARROWS[direction]}{', '.join(map(redact, names))}"
    output.say(f"{title} (dry run: nothing is written)" if dry_run else title)
    output.say_all(moved_lines(result.runs))
    for run in result.runs:
        name = f"{redact(run.source)}{ARROWS[direction]}{redact(run.target)}"
        if output.verbose:
            output.say(f"  {name}: {run.pushed:,} to the target, {run.pulled:,} to the source, {run.seconds:.2f} s")
        output.alarm_all(alarm_lines(run, policy, dry_run=dry_run), title=name)
        output.say_all(withheld_lines(run.withheld, direction))
        output.say_all(left_out_line(run.left_out))
        output.say_all(place_lines(run.created, run.notes, run.hint, will=dry_run))
    output.detail_all([f"  took       {result.seconds:.2f} s"])
