"""`kvsync doctor`: find out by trying what a storage can do, and what is wrong with it."""

from collections.abc import Iterator

from kvsync import api
from kvsync.cli.exitcodes import DONE, FAILED
from kvsync.cli.options import Place
from kvsync.cli.output import Output
from kvsync.cli.sync import GUARANTEES, PLAIN
from kvsync.cli.targets import opened
from kvsync.doctor import Diagnosis
from kvsync.storages import redact
from kvsync.storages.contract import FOREIGN_MAX, Support

__all__ = ["doctor"]


def doctor(storage: Place, /, *, output: Output = PLAIN) -> int:
    """Try what a storage can do: writes one small index object, and removes it and all that was made for it."""
    with opened(storage) as one:
        found = api.doctor(one)
    output.result(_fields(found))
    output.say_all(_lines(found))
    return DONE if found.healthy else FAILED


def _fields(found: Diagnosis) -> dict[str, object]:
    probe = found.probe
    return {
        "storage": redact(found.storage),
        "guarantee": found.guarantee,
        "unmade": redact(found.unmade) or None,
        "healthy": found.healthy,
        "foreign": list(found.foreign),
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
        yield f"  creates an object once        {_answer(held=probe.creates_once)}"
        yield f"  replaces the current version  {_answer(held=probe.replaces_current_only)}"
        yield f"  removes the current version   {_answer(held=probe.removes_current_only)}"
    supports = found.capabilities.supports
    yield f"  commits as one                {'yes' if Support.TRANSACTION in supports else 'no, batch by batch'}"
    yield f"  tells versions apart          {'yes' if _has_tokens(found) else 'no, a scan reads every value'}"
    yield f"  keeps expiry                  {'yes' if Support.EXPIRY in supports else 'no, what it holds stays'}"
    if found.round_trip_seconds is not None:
        yield f"  round trip                    {found.round_trip_seconds * 1000:.2f} ms"
    if found.guarantee is not None:
        yield f"  guarantee                     {found.guarantee}, {GUARANTEES.get(found.guarantee, '')}"
    if found.foreign:
        more = " or more" if len(found.foreign) == FOREIGN_MAX else ""
        yield f"  passed over, no values        {len(found.foreign)}{more}, such as {found.foreign[0]!r:.200}"
    if found.unmade:
        yield f"  not there yet                 {redact(found.unmade)}; the first run makes it, so nothing was tried"
    for text in found.wrong:
        yield f"  wrong                         {redact(text)}"
    if found.healthy and not found.unmade:
        yield "  nothing is wrong"


def _has_tokens(found: Diagnosis) -> bool:
    return found.capabilities.tokens != "blake3"


def _answer(*, held: bool | None) -> str:
    if held is None:
        return "cannot on condition; lease objects stay where they are"
    return "yes, and refuses any other" if held else "no: it ignores the condition"
