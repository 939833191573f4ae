"""What to do after an error: the next command to type."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from kvsync import errors
from kvsync.cli.secrets import shown_token
from kvsync.cli.signals import EndedError
from kvsync.index.lost import LOST_PREFIX
from kvsync.index.objects import LEASE

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = ["advice", "command_of"]

_NEXT: tuple[tuple[type[BaseException], str], ...] = (
    (errors.LockHeldError, "wait and run again; if the holder is dead, run `kvsync unlock STORAGE`"),
    (errors.LockLostError, "run again; the next run continues where this one stopped"),
    (errors.ConflictError, "choose a policy: --conflict latest, source, target or keep-both"),
    (errors.ClockError, "once the clock here is right, see what a repair does with `kvsync verify STORAGE --repair`"),
    (errors.FormatError, "upgrade kvsync"),
    (errors.IndexDamagedError, "see what that means, and repair it, with `kvsync verify STORAGE --repair`"),
    (KeyboardInterrupt, "run again; the next run continues where this one stopped"),
    (EndedError, "run again; the next run continues where this one stopped"),
)

_ONE_WAY = {"--push", "--pull", "--mirror"}
_BARE = {"--dry-run", "--json", "--quiet", "--verbose", "-n", "-q", "-v"}


def advice(error: BaseException, tokens: Sequence[str], storage: str, commands: Collection[str]) -> str | None:
    """Return what to do next, or None where the message has said it.

    Args:
        error: what ended the command.
        tokens: the command line.
        storage: the storage concerned, without secrets; empty if there is none.
        commands: the names of all commands.
    """
    text = _advice(error, tokens, commands)
    return text if text is None else text.replace("STORAGE", shlex.quote(storage) if storage else "STORAGE")


def command_of(tokens: Sequence[str], commands: Collection[str]) -> str:
    """Return the command that was called, or `kvsync` alone if there is no such command."""
    return " ".join(["kvsync", *(token for token in tokens[:1] if token in commands)])


def _advice(error: BaseException, tokens: Sequence[str], commands: Collection[str]) -> str | None:
    if isinstance(error, errors.BudgetError):
        return _after_budget(error, tokens)
    if isinstance(error, errors.SameStorageError):
        return None
    if isinstance(error, errors.IndexDamagedError) and _concerns_lease(error):
        return "if no run is active, replace it with `kvsync unlock STORAGE`"
    if isinstance(error, errors.IndexDamagedError) and (error.name or "").startswith(LOST_PREFIX):
        return (
            "only that one value, which had lost a conflict, cannot be had back, and all else is intact; set it aside "
            "with `kvsync verify STORAGE --repair`"
        )
    for kind, text in _NEXT:
        if isinstance(error, kind):
            return text
    return _after_usage(error, tokens, commands) if isinstance(error, errors.UsageError) else None


def _after_usage(error: errors.UsageError, tokens: Sequence[str], commands: Collection[str]) -> str:
    if error.key is not None and tokens[:1] in (["lost"], ["restore"]):
        return "see `kvsync lost STORAGE`"
    if error.storage is not None and tokens[:1] in (["forget"], ["accept"]):
        return f"see `kvsync {'peers' if tokens[0] == 'forget' else 'status'} STORAGE`"
    if tokens[:1] == ["run"]:
        return "see `kvsync pairs`"
    if error.storage is not None and "://" in error.storage and "--" not in error.message:
        return "see `kvsync storages` for the forms of URLs"
    return f"see `{command_of(tokens, commands)} --help`"


def _concerns_lease(error: errors.IndexDamagedError) -> bool:
    return error.name == LEASE and not isinstance(error, errors.FormatError)


def _after_budget(error: errors.BudgetError, tokens: Sequence[str]) -> str:
    """Return the command that shows what a run would do, and the option that lets it."""
    again = f"run again with --{error.option.replace('_', '-')} {error.allow}"
    if tokens[:1] == ["verify"]:
        return f"if they were damaged, and not changed on purpose, {again}"
    if tokens[:1] == ["run"]:
        run = shlex.join(["kvsync", "run", *tokens[1:]])
        option = f"--{error.option.replace('_', '-')} {error.allow}"
        return f"look at all of it with `{run} {option} -n -v`; if it is intended, run `{run} {option}`"
    lost = "if the values were lost, bring them back with `kvsync verify STORAGE OTHER --refill`"
    if tokens[:1] not in (["sync"], ["plan"]):
        return f"check the storage; {lost}; if this is intended, {again}"
    option = "--" + error.option.replace("_", "-")
    look = f"look at all of it with `{_plan_of(tokens, option, '100%' if option == '--max-delete' else error.allow)}`"
    if option != "--max-delete" or _ONE_WAY.intersection(tokens):  # a refill moves values both ways
        return f"{look}; if it is intended, {again}"
    return f"{look}; {lost}; if it is intended, {again}"


def _plan_of(tokens: Sequence[str], option: str, allow: str) -> str:
    """Return the `plan` of the same run, with the whole budget of an option."""
    kept: list[str] = []
    rest = iter(tokens[1:])
    for token in rest:
        name = token.partition("=")[0]
        if name == option:
            if "=" not in token:
                next(rest, None)
        elif name not in _BARE:
            kept.append(shown_token(token))
    return shlex.join(["kvsync", "plan", *kept, option, allow])
