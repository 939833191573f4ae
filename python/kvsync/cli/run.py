"""`kvsync run`: sync the pairs that `kvsync.toml` names."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Annotated, Any
from warnings import catch_warnings, simplefilter

from kvsync import api
from kvsync.cli.exitcodes import combined
from kvsync.cli.failure import error_fields, tell
from kvsync.cli.names import needed_config, note
from kvsync.cli.options import BudgetOptions, flag
from kvsync.cli.output import Output
from kvsync.cli.progress import shown_progress
from kvsync.cli.summary import result_fields
from kvsync.cli.summary import tell as tell_result
from kvsync.cli.sync import PLAIN
from kvsync.cli.targets import check_name
from kvsync.config.file import Config
from kvsync.errors import KvsyncError, KvsyncWarning, UsageError
from kvsync.result import SyncResult

__all__ = ["run"]

NO_BUDGETS = BudgetOptions()

NAMES = "Names of pairs or groups."


def run(
    names: Annotated[tuple[str, ...], flag(help=NAMES)] = (),
    /,
    *,
    all_: Annotated[bool, flag(name="--all", help="Run all pairs, in the order of the file.")] = False,
    dry_run: Annotated[bool, flag(help="Count what would be done, and write nothing.", short="-n")] = False,
    budgets: BudgetOptions = NO_BUDGETS,
    output: Output = PLAIN,
) -> int:
    """Sync the pairs that kvsync.toml names, one after the other.

    A pair that fails does not stop the others. If all that fail do so for the
    same reason, the exit code tells it; otherwise it is 1.
    """
    config = needed_config()
    chosen = _chosen(config, names, all_=all_)
    given = {"dry_run": dry_run} | {name: value for name, value in asdict(budgets).items() if value is not None}
    fields: list[dict[str, object]] = []
    codes = [_run(name, config, given, output, fields.append) for name in chosen]
    code = combined(codes)
    output.result({"pairs": fields})
    if len(chosen) > 1 and any(codes):
        output.warn(f"{sum(map(bool, codes)):,} of {len(chosen):,} pairs failed, or left keys behind")
    return code


def _chosen(config: Config, names: tuple[str, ...], *, all_: bool) -> list[str]:
    """Return the names of the pairs to run.

    Raises:
        UsageError: there are none, or one is unknown.
    """
    if bool(names) == all_:
        known = ", ".join([*config.pairs, *config.groups]) or "none"
        message = f"name pairs or groups, or give --all, and not both; {config.path} has {known}"
        raise UsageError(message)
    chosen = list(config.pairs) if all_ else config.members(names)
    if not chosen:
        message = f"{config.path} has no pair: `kvsync init` shows how one looks"
        raise UsageError(message)
    return chosen


def _run(
    name: str, config: Config, given: Mapping[str, Any], output: Output, add: Callable[[dict[str, object]], None]
) -> int:
    """Run one pair, print what came of it, and return its exit code."""
    tokens = ["run", name]
    try:
        result, policy = _synced(name, config, given, output)
    except KvsyncError as error:
        add({"pair": name, "error": error_fields(error, tokens)})
        return tell(error, tokens, name)
    add({"pair": name, **result_fields(result)} if output.json else {})
    return tell_result(output, result, policy, name=name)


def _synced(name: str, config: Config, given: Mapping[str, Any], output: Output) -> tuple[SyncResult, str]:
    pair = config.pair(name)
    source, target = config.place(pair.source), config.place(pair.target)
    for place in (source, target):
        check_name(place)
        note(place, place.name)
    options = {**pair.options, **given}
    with shown_progress(output) as on_progress, catch_warnings():
        simplefilter("ignore", KvsyncWarning)
        return api.sync(source, target, on_progress=on_progress, **options), options.get("conflict", "latest")
