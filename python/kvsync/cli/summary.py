"""What a run did, in words for people and as fields for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.cli.conflicts import conflict_lines, restore_commands
from kvsync.cli.json_fields import conflict_fields
from kvsync.cli.left_behind import left_lines
from kvsync.cli.output import counted, first_of
from kvsync.storages.contract import Tier
from kvsync.storages.url import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from kvsync.result import SyncResult

__all__ = ["ARROWS", "GUARANTEES", "alarm_lines", "expiry_line", "place_lines", "result_fields", "withheld_lines"]

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


def alarm_lines(result: SyncResult, policy: str, *, dry_run: bool = False) -> Iterator[str]:
    """Yield what people have to look at."""
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
