"""Say what is wrong with a command line, in words of ours: the parser's speak of tokens and of its own types."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from cyclopts import CoercionError, MissingArgumentError, UnknownOptionError, UnusedCliTokensError
from cyclopts.exceptions import RepeatArgumentError, UnknownCommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cyclopts import CycloptsError

__all__ = ["usage_text"]

SIMILAR = 0.7
"""How alike two words have to be for one to be the other with a slip of the pen."""

_TYPES = {float: "a number", int: "a whole number", bool: "given without a value"}


def usage_text(error: CycloptsError, commands: Sequence[str]) -> str:
    """Return what is wrong with a command line; `commands` are the names of all commands."""
    if isinstance(error, UnknownCommandError):
        return _unknown_command((error.unused_tokens or [""])[0], commands)
    return next((words(error) for kind, words in _WORDS if isinstance(error, kind)), _own_words(error))


def _own_words(error: CycloptsError) -> str:
    return " ".join(str(error).split())


def _too_many(error: UnusedCliTokensError) -> str:
    extra = ", ".join(map(repr, error.unused_tokens or []))
    return f"the command takes no further argument, but got {extra}; quote a name that contains spaces"


def _unknown_command(token: str, commands: Sequence[str]) -> str:
    if token.startswith("-"):
        return f"there is no command, or none that has the option {token!r}; commands are {', '.join(commands)}"
    return f"unknown command {token!r}{_similar(token, commands)}; commands are {', '.join(commands)}"


def _unknown_option(error: UnknownOptionError) -> str:
    given = error.token.keyword or error.token.value
    names = [name for argument in error.argument_collection for name in argument.names if name.startswith("-")]
    return f"unknown option {given.partition('=')[0]}{_similar(given, names)}"


def _similar(word: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(names), n=1, cutoff=SIMILAR)
    return f"; did you mean {close[0]}?" if close else ""


def _missing(error: MissingArgumentError) -> str:
    name = error.keyword or (error.argument.name if error.argument is not None else "an argument")
    return f"{name} needs a value" if name.startswith("-") else f"{name} is missing"


def _wrong_value(error: CoercionError) -> str:
    token, wanted = error.token, error.target_type
    if token is None or wanted is None:
        return _own_words(error)
    name = token.keyword or (error.argument.name if error.argument is not None else "the value")
    given = f", not {token.value!r}" if token.value else ""
    if get_origin(wanted) is Literal:
        choices = [str(choice) for choice in get_args(wanted)]
        return f"{name} must be {', '.join(choices[:-1])} or {choices[-1]}{given}{_similar(token.value, choices)}"
    return f"{name} must be {_TYPES.get(wanted, 'of another kind')}{given}"


def _repeated(error: RepeatArgumentError) -> str:
    return f"{error.token.keyword} is given twice"


_WORDS: tuple[tuple[type[CycloptsError], Callable[[Any], str]], ...] = (
    (UnusedCliTokensError, _too_many),
    (UnknownOptionError, _unknown_option),
    (MissingArgumentError, _missing),
    (CoercionError, _wrong_value),
    (RepeatArgumentError, _repeated),
)
