"""What a run did, in words for people and as fields for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.cli.conflicts import conflict_lines, places_of_losers, restore_commands
from kvsync.cli.json_fields import conflict_fields, expiry_text
from kvsync.cli.left_behind import left_behind, left_lines
from kvsync.cli.output import counted, first_of
from kvsync.cli.sizes import bytes_text
from kvsync.storages.contract import Tier
from kvsync.storages.url import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from kvsync.cli.output import Output
    from kvsync.result import SyncResult
    from kvsync.types import Change

__all__ = [
    "ARROWS",
    "GUARANTEES",
    "alarm_lines",
    "change_line",
    "expiry_line",
    "guarantee_line",
    "left_out_line",
    "moved_lines",
    "place_lines",
    "result_fields",
    "tell",
    "withheld_lines",
]

ARROWS: dict[str, str] = {"both": " <-> ", "push": " -> ", "pull": " <- ", "mirror": " => "}
"""What stands between the names of two storages, by direction."""

GUARANTEES = {
    Tier.TRANSACTIONAL: "transactional: values and log change together",
    Tier.CONDITIONAL: "conditional writes: only a delete made right after a crash may be undone",
    Tier.FOLDER: "folder: locked by the operating system, each file replaced atomically",
    Tier.ADVISORY: "advisory lease: nobody else may write during a run",
}


def result_fields(result: SyncResult) -> dict[str, object]:
    """Return the fields of a result, with the commands that put losing values back."""
    fields = result.to_dict()
    fields["conflicts"] = [
        conflict_fields(conflict) | {"restore": restore_commands(conflict, result.source, result.target)}
        for conflict in result.conflicts
    ]
    return fields


def tell(output: Output, result: SyncResult, policy: str, *, name: str = "") -> int:
    """Print a result for people, and return the exit code; `name` is that of the pair, if it has one."""
    names = ARROWS[result.direction].join((redact(result.source), redact(result.target)))
    title = f"{name}: {names}" if name else names
    output.say(f"{title} (dry run: nothing is written)" if result.dry_run else title)
    output.say_all(moved_lines([result]))
    output.detail_all(_key_lines(result))
    output.alarm_all(alarm_lines(result, policy, dry_run=result.dry_run), title=title)
    output.say_all(withheld_lines(result.withheld, result.direction))
    output.say_all(left_out_line(result.left_out))
    output.say_all(f"  {'returned' if life.forgotten else 'restored'}   {redact(str(life))}" for life in result.lives)
    output.say_all(expiry_line(result.expiry_ignored))
    output.say_all(place_lines(result.created, result.notes, result.hint, will=result.dry_run))
    output.detail_all(_detail_lines(result))
    return left_behind(output, result.missing, result.unreadable, planned=result.dry_run)


def moved_lines(results: Sequence[SyncResult]) -> Iterator[str]:
    """Yield in one line, or two, what the runs of a command moved."""
    moved = sum(result.pushed + result.pulled for result in results)
    deleted = sum(result.deleted for result in results)
    dry_run = any(result.dry_run for result in results)
    words = []
    if moved > deleted:
        size = bytes_text(sum(result.bytes for result in results))
        words.append(f"{counted(moved - deleted, 'key')} {'to be ' if dry_run else ''}copied ({size})")
    if deleted:
        words.append(f"{deleted:,} {'to be ' if dry_run and not words else ''}deleted")
    conflicts = [conflict for result in results for conflict in result.conflicts]
    if conflicts:
        words.append(counted(len(conflicts), "conflict"))
    if not words:
        yield _nothing(results)
        return
    yield f"  {', '.join(words)}{_lost_hint(results)}"
    if moved and len(results) == 1:
        yield f"  {results[0].pushed:,} to the target, {results[0].pulled:,} to the source"


def _nothing(results: Sequence[SyncResult]) -> str:
    if any(result.withheld or not result.complete for result in results):
        return "  nothing moved"
    return "  nothing to copy" if any(any(result.committed) for result in results) else "  nothing to do"


def _lost_hint(results: Sequence[SyncResult]) -> str:
    """Return the command that lists the values which lost a conflict; empty where none is kept."""
    for result in results:
        for conflict in result.conflicts:
            if places := places_of_losers(conflict, result.source, result.target):
                return f": kvsync lost {places[0]}"
    return ""


def _key_lines(result: SyncResult) -> Iterator[str]:
    """Yield what was moved, key by key."""
    for side, changes in (("target", result.to_target), ("source", result.to_source)):
        for change in changes:
            yield change_line(change, f" to the {side}" if not change.deletes else f" in the {side}")


def change_line(change: Change, where: str = "") -> str:
    """Return one change in words."""
    if change.deletes:
        return f"    delete   {change.key!r}{where}"
    return f"    put      {change.key!r} ({counted(change.size, 'byte')}{expiry_text(change)}){where}"


def _detail_lines(result: SyncResult) -> Iterator[str]:
    in_source, in_target = result.committed
    yield f"  found      {counted(in_source, 'new change')} in the source, {in_target:,} in the target"
    yield guarantee_line(result.guarantee)
    yield f"  took       {result.seconds:.2f} s"


def guarantee_line(guarantee: Tier) -> str:
    """Return what a pair, or a storage, guarantees."""
    return f"  guarantee  {guarantee}, {GUARANTEES.get(guarantee, 'defined by its adapter')}"


def alarm_lines(result: SyncResult, policy: str, *, dry_run: bool = False) -> Iterator[str]:
    """Yield what people have to look at."""
    if result.direction == "mirror":
        policy = "source"
    yield from conflict_lines(result.conflicts, result.source, result.target, policy, planned=dry_run)
    yield from left_lines(result.missing, result.unreadable)
    for doubt in result.maybe_deleted:
        yield f"  check      {redact(str(doubt))}"
        yield from first_of((f"             {key!r}" for key in doubt.keys), len(doubt.keys))


def withheld_lines(keys: Sequence[str], direction: str) -> Iterator[str]:
    """Yield what a one-way run leaves where it is, if there is anything."""
    if keys:
        side = "source" if direction == "pull" else "target"
        yield f"  withheld   {counted(len(keys), 'key')} of the {side}, which a {direction} leaves as they are there:"
        yield from first_of((f"             {key!r}" for key in keys), len(keys))


def left_out_line(keys: Sequence[str]) -> Iterator[str]:
    """Yield a line on changes that a filter keeps from moving, if there are any."""
    if keys:
        yield f"  left out   {counted(len(keys), 'logged change')} by a filter; a run without it moves what is left out"


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
