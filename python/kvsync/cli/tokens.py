"""The order of a command line: `--config FILE` may stand anywhere, and options may stand before the command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.cli import names
from kvsync.cli.verbs import VERBS
from kvsync.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["arranged"]

CONFIG = "--config"


def arranged(tokens: Sequence[str]) -> list[str]:
    """Return a command line that begins with its command; note the file that it names.

    Raises:
        UsageError: `--config` names no file.
    """
    rest = _without_config(tokens)
    if not rest or not rest[0].startswith("-"):
        return rest
    at = next((at for at, token in enumerate(rest) if token in VERBS and _are_options(rest[:at], token)), None)
    return rest if at is None else [rest[at], *rest[:at], *rest[at + 1 :]]


def _without_config(tokens: Sequence[str]) -> list[str]:
    rest: list[str] = []
    left = iter(tokens)
    for token in left:
        if token == "--":  # noqa: S105 - no secret
            return [*rest, token, *left]
        name, equals, value = token.partition("=")
        if name == CONFIG:
            path = value if equals else next(left, "")
            if not path or path.startswith("-"):
                message = f"{CONFIG} needs the path of a file"
                raise UsageError(message)
            names.use(path)
        else:
            rest.append(token)
    return rest


def _are_options(tokens: Sequence[str], verb: str) -> bool:
    """Whether tokens are options of a verb, with their values, and nothing else."""
    from kvsync.cli.plain import takes_value  # noqa: PLC0415 - most command lines begin with the verb

    options = takes_value(verb)
    rest = iter(tokens)
    for token in rest:
        name, equals, _ = token.partition("=")
        if name not in options or (options[name] and not equals and next(rest, None) is None):
            return False
    return True
