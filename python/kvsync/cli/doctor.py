"""`kvsync doctor`: test what a storage supports, and report what is wrong with it."""

import os
from collections.abc import Iterator

from kvsync import checks
from kvsync.cli.exitcodes import DONE, FAILED
from kvsync.cli.options import Location
from kvsync.cli.output import Output, first_of
from kvsync.cli.summary import GUARANTEES
from kvsync.cli.sync import PLAIN
from kvsync.cli.targets import opened
from kvsync.diagnosis import Diagnosis
from kvsync.errors import StorageError
from kvsync.opening import unmade
from kvsync.storages import redact
from kvsync.storages.contract import SKIPPED_MAX, Storage, Support
from kvsync.storages.wording import shown

__all__ = ["doctor"]


def doctor(storage: Location, /, *, output: Output = PLAIN) -> int:
    """Test what a storage supports, and report what is wrong with it; exit 1 if anything is.

    Writes one small index object, then removes it and everything created for it.
    """
    with opened(storage, new=True) as one:
        _check_path(one)
        found = checks.doctor(one)
    output.result(_fields(found))
    output.say_all(_lines(found))
    output.alarm_all(_problems(found), title=redact(found.storage))
    if found.healthy and not found.unmade:
        output.say("  no problems found")
    return DONE if found.healthy else FAILED


def _check_path(storage: Storage) -> None:
    """Refuse a misspelt path; a table or a bucket that does not exist is reported instead.

    Raises:
        StorageError: there is nothing at the path.
    """
    path = getattr(storage, "path", None)
    if isinstance(path, str) and not os.path.lexists(path):
        message = f"{unmade(storage)} does not exist: check the spelling, or create or mount it"
        raise StorageError(message, storage=storage.name)


def _fields(found: Diagnosis) -> dict[str, object]:
    probe = found.probe
    return {
        "storage": redact(found.storage),
        "guarantee": found.guarantee,
        "unmade": redact(found.unmade) or None,
        "healthy": found.healthy,
        "skipped": [entry._asdict() for entry in found.skipped],
        "limits": [redact(text) for text in found.limits],
        "notes": [redact(text) for text in found.notes],
        "wrong": [redact(text) for text in found.wrong],
        "round_trip_seconds": found.round_trip_seconds,
        "creates_once": probe.creates_once if probe else None,
        "replaces_current_only": probe.replaces_current_only if probe else None,
        "removes_current_only": probe.removes_current_only if probe else None,
        "transactional": Support.TRANSACTION in found.capabilities.supports,
        "versions": _has_tokens(found),
        "expiry": Support.EXPIRY in found.capabilities.supports,
    }


def _lines(found: Diagnosis) -> Iterator[str]:
    yield redact(found.storage)
    probe = found.probe
    if probe is not None:
        yield f"  creates only if absent        {_answer(held=probe.creates_once)}"
        yield f"  replaces only if unchanged    {_answer(held=probe.replaces_current_only)}"
        yield f"  removes only if unchanged     {_answer(held=probe.removes_current_only)}"
    supports = found.capabilities.supports
    yield f"  commits in a transaction      {'yes' if Support.TRANSACTION in supports else 'no, batch by batch'}"
    yield f"  has version tokens            {'yes' if _has_tokens(found) else 'no, a scan reads every value'}"
    yield f"  keeps expiry                  {'yes' if Support.EXPIRY in supports else 'no, expired values stay'}"
    if found.round_trip_seconds is not None:
        yield f"  round trip                    {found.round_trip_seconds * 1000:.2f} ms"
    if found.guarantee is not None:
        yield f"  guarantee                     {found.guarantee}, {GUARANTEES.get(found.guarantee, '')}"
    skipped = [entry for entry in found.skipped if entry.harmless]
    if skipped:
        first, more = skipped[0], " or more" if len(skipped) >= SKIPPED_MAX else ""
        yield f"  skipped, not values           {len(skipped)}{more}, such as {shown(first.name):.200}: {first.reason}"
    if found.unmade:
        yield f"  not created yet               {redact(found.unmade)}; the first run creates it, so nothing was tested"
    for text in found.limits:
        yield f"  limit                         {redact(text)}"
    for text in found.notes:
        yield f"  note                          {redact(text)}"


def _problems(found: Diagnosis) -> Iterator[str]:
    yield from first_of((f"  problem                       {redact(text)}" for text in found.wrong), len(found.wrong))


def _has_tokens(found: Diagnosis) -> bool:
    return found.capabilities.tokens != "blake3"


def _answer(*, held: bool | None) -> str:
    if held is None:
        return "not supported; lease objects are never removed"
    return "yes" if held else "no: it ignores the condition"
