"""Report an error in at most three lines: what happened, where, what to do next."""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kvsync import errors
from kvsync.cli.advice import advice, command_of
from kvsync.cli.exitcodes import FAILED, USAGE, exit_code_of
from kvsync.cli.json_fields import conflict_fields, time_text
from kvsync.cli.names import secrets, shown
from kvsync.cli.output import printable, write_line
from kvsync.cli.secrets import without_secrets
from kvsync.cli.signals import EndedError
from kvsync.cli.verbs import VERBS
from kvsync.storages.url import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kvsync.types import Refusal

__all__ = ["error_fields", "kind_of", "report", "tell", "tell_all"]

DEBUG = "KVSYNC_DEBUG"

_OPTION = re.compile(
    r"\b(?:max_delete|max_overwrite|max_bytes|max_conflicts|max_drift_seconds|lease_seconds|wait_seconds"
    r"|tombstone_grace|full_every|read_only_source)\b"
)

_FOR_PYTHON = re.compile(r" \(in Python [^)]*\)")

_VERBATIM = {"key", "deleted", "overwritten", "conflicts", "refused"}
"""Fields of an error that hold keys, which are told as they are."""


def report(error: BaseException, tokens: Sequence[str]) -> int:
    """Print an error, as JSON too if the command line asks for it, and return its exit code."""
    if _wants_json(tokens):
        with suppress(OSError):  # a full disk; standard error says it, too
            write_line(sys.stdout, json.dumps({"error": error_fields(error, tokens)}))
    return tell(error, tokens)


def error_fields(error: BaseException, tokens: Sequence[str]) -> dict[str, object]:
    """Return the facts of an error, for programs, without secrets."""
    fields = _fields(error, usage=_is_usage(error))
    safe = {name: value if name in _VERBATIM else _cleaned(value, tokens) for name, value in fields.items()}
    return safe | {"storage": shown(str(safe["storage"])) if safe["storage"] else None}


def tell(error: BaseException, tokens: Sequence[str], where: str = "") -> int:
    """Print an error on standard error, after `where` it comes from, and return its exit code."""
    if os.environ.get(DEBUG):
        for line in "".join(traceback.format_exception(error)).splitlines():
            write_line(sys.stderr, without_secrets(line, [*tokens, *secrets()]))
    usage = _is_usage(error)
    for line in _lines(error, error_fields(error, tokens), tokens, usage=usage, where=where):
        write_line(sys.stderr, line)
    if usage:
        return USAGE
    return exit_code_of(error) if isinstance(error, Exception) else FAILED


def tell_all(failures: Iterable[tuple[str, BaseException]], hub: str) -> None:
    """Print the errors of runs between a hub and other storages, each after the storage whose run failed."""
    for storage, error in failures:
        tell(error, ["sync", hub, storage], redact(storage))


def _is_usage(error: BaseException) -> bool:
    if isinstance(error, errors.UsageError):
        return True
    parser = sys.modules.get("cyclopts")
    return parser is not None and isinstance(error, parser.CycloptsError)


def _fields(error: BaseException, *, usage: bool) -> dict[str, object]:
    """Return the facts of an error, for programs."""
    fields: dict[str, object] = {
        "kind": kind_of(error, usage=usage),
        "message": _message(error, usage=usage),
        "storage": getattr(error, "storage", None),
        "key": getattr(error, "key", None),
    }
    return fields | _further_fields(error)


def _further_fields(error: BaseException) -> dict[str, object]:
    """Return the facts that only some kinds of errors have."""
    for kind, fields in _FURTHER:
        if isinstance(error, kind):
            return fields(error)
    signal = _signal(error)
    return {} if signal is None else {"signal": signal}


def _refused(refusal: Refusal) -> dict[str, str]:
    return {"key": refusal.key, "reason": redact(refusal.reason)}


_FURTHER: tuple[tuple[type[errors.KvsyncError], Callable[[Any], dict[str, object]]], ...] = (
    (errors.LockHeldError, lambda error: {"owner": error.owner, "expires": time_text(error.expires)}),
    (errors.ConflictError, lambda error: {"conflicts": [conflict_fields(each) for each in error.conflicts]}),
    (errors.RefusedError, lambda error: {"refused": [_refused(refusal) for refusal in error.refused]}),
    (errors.IndexDamagedError, lambda error: {"name": error.name, "offset": error.offset}),
    (
        errors.BudgetError,
        lambda error: {
            "option": f"--{error.option.replace('_', '-')}",
            "allow": error.allow,
            "deleted": error.deleted,
            "overwritten": error.overwritten,
            "known": error.known,
        },
    ),
)


def kind_of(error: BaseException, *, usage: bool) -> str:
    """Return the class of an error as words for programs: `LockHeldError` is "lock-held"."""
    if isinstance(error, errors.KvsyncError):
        name = type(error).__name__.removesuffix("Error")
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()
    if _signal(error) is not None:
        return "interrupted"
    return "usage" if usage else "internal"


def _signal(error: BaseException) -> str | None:
    """Return the name of the signal that ended the command, or None where none did."""
    if isinstance(error, EndedError):
        return error.signal
    return "SIGINT" if isinstance(error, KeyboardInterrupt) else None


def _message(error: BaseException, *, usage: bool) -> str:
    if isinstance(error, errors.LockHeldError):
        return f"locked by {error.owner} until {time_text(error.expires)}"
    if isinstance(error, errors.KvsyncError):
        message = _FOR_PYTHON.sub("", error.message)
        return _OPTION.sub(lambda found: "--" + found[0].replace("_", "-"), message)
    if usage:
        return _usage_message(error)
    signal = _signal(error)
    return _unexpected(error) if signal is None else f"interrupted by {signal}; the leases were released"


def _unexpected(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.strerror}: {error.filename!r}"
    return f"unexpected {type(error).__name__}: {error}"


def _usage_message(error: BaseException) -> str:
    from kvsync.cli.usage import usage_text  # noqa: PLC0415 - it loads the parser, which is loaded by now

    return usage_text(error, list(VERBS))  # type: ignore[arg-type]


def _lines(
    error: BaseException, safe: dict[str, object], tokens: Sequence[str], *, usage: bool, where: str
) -> list[str]:
    lines = [f"kvsync: error: {where and f'{where}: '}{_oneline(str(safe['message']))}"]
    places = [str(safe["storage"])] if safe["storage"] else []
    places += [f"key {safe['key']!r}"] if safe["key"] is not None else []
    if safe.get("name") is not None:
        places.append(f"index object {safe['name']}")
    if places:
        lines.append(f"  where: {_oneline(', '.join(places))}")
    then = _next(error, safe, tokens, usage=usage)
    return lines if then is None else [*lines, f"  next: {_oneline(then)}"]


def _next(error: BaseException, safe: dict[str, object], tokens: Sequence[str], *, usage: bool) -> str | None:
    if isinstance(error, errors.KvsyncError) or _signal(error) is not None:
        return advice(error, tokens, str(safe["storage"] or ""), VERBS)
    return f"see `{command_of(tokens, VERBS)} --help`" if usage else f"set {DEBUG}=1 to see where it happened"


def _oneline(text: str) -> str:
    return printable(" ".join(text.splitlines()))


def _wants_json(tokens: Sequence[str]) -> bool:
    options = tokens[: tokens.index("--")] if "--" in tokens else tokens
    return "--json" in options


def _cleaned(value: object, tokens: Sequence[str]) -> object:
    return without_secrets(value, [*tokens, *secrets()]) if isinstance(value, str) else value
