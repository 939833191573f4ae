"""`kvsync verify`: check index and values of a storage, compare it with another one, and repair it."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Annotated

from kvsync import checks
from kvsync.audit.findings import Finding
from kvsync.audit.values import Verification
from kvsync.cli.confirm import confirmed
from kvsync.cli.exitcodes import DONE, FAILED
from kvsync.cli.json_fields import key_fields
from kvsync.cli.left_behind import left_lines
from kvsync.cli.options import EXCLUDE, INCLUDE, Option, Source, WaitSeconds, flag
from kvsync.cli.output import Output, counted, first_of
from kvsync.cli.sync import PLAIN
from kvsync.cli.targets import opened, opened_pair
from kvsync.errors import UsageError
from kvsync.storages import redact
from kvsync.storages.contract import Storage
from kvsync.storages.wording import shown

__all__ = ["verify"]

REFILL = "Take values of SOURCE that are gone, or not what its log says, for lost: bring them back from TARGET."
MAX_DELETE = "Stop if --refill would overwrite more than N values, or P%. Default: 50%, but at least 3."


def verify(  # noqa: PLR0913 - each is an option
    source: Source,
    target: Annotated[str | None, Option(help="Another storage to compare it with.", show_default=False)] = None,
    /,
    *,
    repair: Annotated[bool, flag(help="Mend each index; shows first what that means, and asks.")] = False,
    refill: Annotated[bool, flag(help=REFILL)] = False,
    include: Annotated[list[str] | None, Option(help=INCLUDE, leading_hyphen=True)] = None,
    exclude: Annotated[list[str] | None, Option(help=EXCLUDE, leading_hyphen=True)] = None,
    max_delete: Annotated[str | None, Option(help=MAX_DELETE, leading_hyphen=True)] = None,
    yes: Annotated[bool, flag(help="Do not ask for confirmation.")] = False,
    wait_seconds: WaitSeconds = 10.0,
    output: Output = PLAIN,
) -> int:
    """Check every byte of the index of a storage, and its values against its log; compare it with another one.

    Without --repair and --refill it reads everything and writes nothing.
    Exit 1 if an index is damaged, or the two storages differ.
    """
    if refill and target is None:
        message = "--refill needs a TARGET to bring values back from"
        raise UsageError(message)
    with _opened(source, target) as (one, other):
        look = partial(checks.verify, one, other, include=include or (), exclude=exclude or ())
        found = look()
        names = redact(one.name), None if other is None else redact(other.name)
        planned = _planned(found, one.name, refill=refill) if repair or refill else []
        if planned and not yes and not _is_meant(names[0], planned):
            output.warn(f"{names[0]}: nothing was repaired")
            return FAILED
        if planned:
            found = look(repair=True, refill=refill, max_delete=max_delete, wait_seconds=wait_seconds)
        if refill and not planned and not found.equal:
            output.warn(_nothing_lost(found, one.name, *names))
    output.result(_fields(found, *names))
    title = " <-> ".join(name for name in names if name is not None)
    output.say(title)
    if found.equal and found.intact:
        output.say_all(_lines(found, names[1]))
        return DONE
    output.alarm_all(_lines(found, names[1]), title=title)
    return FAILED


@contextmanager
def _opened(source: str, target: str | None) -> Iterator[tuple[Storage, Storage | None]]:
    if target is None:
        with opened(source) as one:
            yield one, None
    else:
        with opened_pair(source, target) as pair:
            yield pair


def _planned(found: Verification, name: str, *, refill: bool) -> list[str]:
    """Return what a repair would do, one line each."""
    lines = [f"  {_finding_line(finding)}" for finding in found.findings if not finding.harmless]
    lost = found.unlogged[name] if refill else []
    if lost:
        gone = len(found.gone[name])
        lines.append(
            f"  {counted(len(lost), 'key')} of {redact(name)} taken for lost ({gone:,} gone, {len(lost) - gone:,} not "
            "what the log says)"
        )
    return lines


def _nothing_lost(found: Verification, source: str, *names: str | None) -> str:
    """Say how to go on where a refill has nothing to do: one that was interrupted may lack its sync."""
    shown = [name for name in names if name is not None]
    other = sum(len(keys) for name, keys in found.gone.items() if name != source)
    turned = shlex.join(["kvsync", "verify", *reversed(shown), "--refill"])
    them = "it" if other == 1 else "them"
    swap = (
        f"{counted(other, 'key')} of {shown[-1]} gone, to bring {them} back run `{turned}`; otherwise " if other else ""
    )
    return f"no value of {shown[0]} is lost; {swap}`{shlex.join(['kvsync', 'sync', *shown])}` makes the two equal"


def _is_meant(name: str, planned: list[str]) -> bool:
    """Ask on the terminal.

    Raises:
        UsageError: there is no terminal.
    """
    shown = [f"{name}:", *first_of(planned, len(planned))]
    return confirmed(name, shown, "Repair that?", otherwise=f"{planned[0].strip()}; pass --yes to repair that")


def _fields(found: Verification, source: str, target: str | None) -> dict[str, object]:
    return {
        "source": source,
        "target": target,
        "equal": found.equal,
        "intact": found.intact,
        "same": found.same,
        "only_source": found.only_source,
        "only_target": found.only_target,
        "different": found.different,
        "unreadable": [key_fields(unreadable) for unreadable in found.unreadable],
        "expired": found.expired,
        "unlogged": {redact(name): keys for name, keys in found.unlogged.items()},
        "gone": {redact(name): keys for name, keys in found.gone.items()},
        "findings": [_finding_fields(finding) for finding in found.findings],
        "mended": [_finding_fields(finding) for finding in found.mended],
        "notes": [redact(note) for note in found.notes],
        "left_out": found.left_out,
    }


def _finding_fields(finding: Finding) -> dict[str, object]:
    return asdict(finding) | {"storage": redact(finding.storage), "mend": finding.mend.value}


def _finding_line(finding: Finding) -> str:
    return f"{redact(finding.storage)}: {finding}"


def _lines(found: Verification, target: str | None) -> Iterator[str]:
    if target is None:
        yield f"  values     {counted(found.same, 'key')}"
    else:
        same = f"{counted(found.same, 'key')} with the same value"
        yield f"  equal: {same}" if found.equal else f"  NOT EQUAL, but for {same}"
    yield from _differences(found)
    if found.left_out:
        yield f"  left out: {counted(found.left_out, 'key')}, by filters"
    yield from left_lines([], found.unreadable)
    for name, keys in found.unlogged.items():
        gone = f", {len(found.gone[name]):,} of them gone" if found.gone[name] else ""
        if keys:
            yield f"  {redact(name)}: {counted(len(keys), 'key')} changed since the last run{gone}"
    yield from _index_lines(found)


def _differences(found: Verification) -> Iterator[str]:
    for title, keys in (
        ("only in the source", found.only_source),
        ("only in the target", found.only_target),
        ("different", found.different),
        ("expired, but still stored on one side", found.expired),
    ):
        if keys:
            yield f"  {title}: {counted(len(keys), 'key')}"
            yield from first_of((f"    {shown(key)}" for key in keys), len(keys))


def _index_lines(found: Verification) -> Iterator[str]:
    for word, findings in (
        ("note", [finding for finding in found.findings if finding.harmless]),
        ("mended", found.mended),
        ("DAMAGED", [finding for finding in found.findings if not finding.harmless]),
    ):
        yield from first_of((f"  {word:<9}  {_finding_line(finding)}" for finding in findings), len(findings))
    yield from (f"  repair     {redact(note)}" for note in found.notes)
    if found.intact:
        yield "  index      intact"
    else:
        yield "  to repair it, run the same command with --repair"
