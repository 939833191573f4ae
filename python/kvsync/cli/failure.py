"""Report an error in at most three lines: what happened, where, what to do next."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import traceback
from typing import TYPE_CHECKING

from kvsync import errors
from kvsync.cli.exitcodes import FAILED, USAGE, exit_code_of
from kvsync.cli.json_fields import conflict_fields, time_text
from kvsync.cli.output import printable, write_line
from kvsync.index.objects import LEASE
from kvsync.storages.url import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["kind_of", "report"]

DEBUG = "KVSYNC_DEBUG"

_OPTION = re.compile(r"\b(?:max_delete|max_drift_seconds|lease_seconds|wait_seconds)\b")

_DELIMITER = re.compile(r"[\s'\"<>]")

_NEXT: tuple[tuple[type[BaseException], str], ...] = (
    (errors.LockHeldError, "wait and run again; if the holder is dead, run `kvsync unlock STORAGE`"),
    (errors.LockLostError, "run again; the next run continues where this one stopped"),
    (errors.ConflictError, "choose a policy: --conflict latest, source, target or keep-both"),
    (errors.BudgetError, "check the storage; if this is intended, allow it with --max-delete N or P%"),
    (errors.FormatError, "upgrade kvsync"),
    (errors.IndexDamagedError, "restore that object from a backup, or remove the whole index and scan again"),
    (errors.SameStorageError, "name two different storages"),
    (KeyboardInterrupt, "run again; the next run continues where this one stopped"),
)


def report(error: BaseException, tokens: Sequence[str]) -> int:
    """Print an error, as JSON too if the command line asks for it, and return its exit code."""
    if os.environ.get(DEBUG):
        for line in "".join(traceback.format_exception(error)).splitlines():
            write_line(sys.stderr, _without_secrets(line, tokens))
    usage = _is_usage(error)
    fields = _fields(error, usage=usage)
    safe = {name: value if name == "key" else _cleaned(value, tokens) for name, value in fields.items()}
    if _wants_json(tokens):
        write_line(sys.stdout, json.dumps({"error": safe}))
    for line in _lines(error, safe, tokens, usage=usage):
        write_line(sys.stderr, line)
    if usage:
        return USAGE
    return exit_code_of(error) if isinstance(error, Exception) else FAILED


def _is_usage(error: BaseException) -> bool:
    if isinstance(error, errors.UsageError):
        return True
    from cyclopts import CycloptsError  # noqa: PLC0415 - already loaded if it is the cause

    return isinstance(error, CycloptsError)


def _fields(error: BaseException, *, usage: bool) -> dict[str, object]:
    """Return the facts of an error, for programs."""
    fields: dict[str, object] = {
        "kind": kind_of(error, usage=usage),
        "message": _message(error, usage=usage),
        "storage": getattr(error, "storage", None),
        "key": getattr(error, "key", None),
    }
    if isinstance(error, errors.LockHeldError):
        fields |= {"owner": error.owner, "expires": time_text(error.expires)}
    elif isinstance(error, errors.ConflictError):
        fields |= {"conflicts": [conflict_fields(conflict) for conflict in error.conflicts]}
    elif isinstance(error, errors.RefusedError):
        fields |= {"refused": [{"key": refusal.key, "reason": redact(refusal.reason)} for refusal in error.refused]}
    elif isinstance(error, errors.IndexDamagedError):
        fields |= {"name": error.name, "offset": error.offset}
    return fields


def kind_of(error: BaseException, *, usage: bool) -> str:
    """Return the class of an error as words for programs: `LockHeldError` is "lock-held"."""
    if isinstance(error, errors.KvsyncError):
        name = type(error).__name__.removesuffix("Error")
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return "usage" if usage else "internal"


def _message(error: BaseException, *, usage: bool) -> str:
    if isinstance(error, errors.LockHeldError):
        return f"locked by {error.owner} until {time_text(error.expires)}"
    if isinstance(error, errors.KvsyncError):
        return _OPTION.sub(lambda found: "--" + found[0].replace("_", "-"), error.message)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; the leases were released"
    if usage:
        return " ".join(str(error).split())
    if isinstance(error, OSError):
        return f"{type(error).__name__}: {error}"
    return f"unexpected {type(error).__name__}: {error}"


def _lines(error: BaseException, safe: dict[str, object], tokens: Sequence[str], *, usage: bool) -> list[str]:
    lines = [f"kvsync: error: {_oneline(str(safe['message']))}"]
    places = [str(safe["storage"])] if safe["storage"] else []
    places += [f"key {safe['key']!r}"] if safe["key"] is not None else []
    if safe.get("name") is not None:
        places.append(f"index object {safe['name']}")
    if places:
        lines.append(f"  where: {_oneline(', '.join(places))}")
    advice = _advice(error, tokens, usage=usage)
    if advice is None:
        return lines
    storage = shlex.quote(str(safe["storage"] or "STORAGE"))
    return [*lines, f"  next: {_oneline(advice.replace('STORAGE', storage))}"]


def _advice(error: BaseException, tokens: Sequence[str], *, usage: bool) -> str | None:
    """Return what to do next; `STORAGE` stands for the storage concerned."""
    if (
        isinstance(error, errors.IndexDamagedError)
        and error.name == LEASE
        and not isinstance(error, errors.FormatError)
    ):
        return "if no run is active, replace it with `kvsync unlock STORAGE`"
    for kind, text in _NEXT:
        if isinstance(error, kind):
            return text
    if usage:
        return f"see `{_command(tokens)} --help`"
    return None if isinstance(error, errors.KvsyncError) else f"set {DEBUG}=1 to see where it happened"


def _command(tokens: Sequence[str]) -> str:
    """Return the command that was called, or `kvsync` alone if there is no such command."""
    from kvsync.cli.app import app  # noqa: PLC0415 - a circle otherwise; it is loaded by now

    return " ".join(["kvsync", *(token for token in tokens[:1] if token in set(app))])


def _oneline(text: str) -> str:
    return printable(" ".join(text.splitlines()))


def _wants_json(tokens: Sequence[str]) -> bool:
    options = tokens[: tokens.index("--")] if "--" in tokens else tokens
    return "--json" in options


def _cleaned(value: object, tokens: Sequence[str]) -> object:
    return _without_secrets(value, tokens) if isinstance(value, str) else value


def _without_secrets(text: str, tokens: Sequence[str]) -> str:
    """Hide secrets: first those of the URLs on the command line, exactly, then whatever looks like one."""
    for token in tokens:
        # Inside a text a space, quote or bracket ends a URL. A token is one URL, so quote them before redacting it.
        shown = redact(_DELIMITER.sub(lambda found: f"%{ord(found[0]):02X}", token))
        if "***" in shown:
            for form in (token, repr(token)[1:-1], json.dumps(token)[1:-1]):
                text = text.replace(form, shown)
    return redact(text)
