"""Read plain command lines without the parser, which takes longer to load than most runs take.

What is plain: a verb, its arguments, and options in full, each given once and with a value that can be read in one way
only. Everything else, such as `--help` and whatever may be wrong, is left to the parser (`kvsync.cli.app`).
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from kvsync.cli.options import Option
from kvsync.cli.verbs import VERBS, function_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["call_of", "takes_value"]

_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?\Z")


class _NotPlainError(Exception):
    """Only the parser can tell what is meant."""


class _Place(NamedTuple):
    """Where the value of an option goes: to a parameter, or to a field of a parameter that groups options."""

    parameter: str
    field: str | None = None


class _Named(NamedTuple):
    """An option by one of its names, which stands for a constant if it takes no value."""

    place: _Place
    kind: Any
    constant: bool | None = None


def call_of(tokens: Sequence[str]) -> Callable[[], int] | None:
    """Return the call that a plain command line means, or None where only the parser can tell."""
    if not tokens or tokens[0] not in VERBS:
        return None
    function = function_of(tokens[0])
    hints = get_type_hints(function, include_extras=True)
    count = function.__code__.co_posonlyargcount
    kinds = [_kind_of(hint) for hint in list(hints.values())[:count]]
    groups = {name: kind for name, hint in list(hints.items())[count:] if _is_group(kind := _kind_of(hint))}
    named = dict(_named(list(hints.items())[count:]))
    try:
        arguments, options = _read(tokens[1:], named)
        required = count - len(function.__defaults__ or ())
        return partial(function, *_arguments(arguments, kinds, required), **_options(options, groups))
    except _NotPlainError:
        return None


def takes_value(verb: str) -> dict[str, bool]:
    """Return all options of a verb, by each of their names, and whether a value follows."""
    function = function_of(verb)
    hints = list(get_type_hints(function, include_extras=True).items())
    return {name: option.constant is None for name, option in _named(hints[function.__code__.co_posonlyargcount :])}


def _read(tokens: Sequence[str], named: dict[str, _Named]) -> tuple[list[str], dict[_Place, object]]:
    arguments: list[str] = []
    options: dict[_Place, object] = {}
    rest = iter(tokens)
    for token in rest:
        if token and not token.startswith("-"):
            arguments.append(token)
            continue
        name, equals, value = token.partition("=")
        option = named.get(name)
        if option is None or option.place in options or (equals and option.constant is not None):
            raise _NotPlainError
        if option.constant is None:
            options[option.place] = _converted(value if equals else next(rest, ""), option.kind)
        else:
            options[option.place] = option.constant
    return arguments, options


def _converted(value: str, kind: Any) -> object:
    if not value or value.startswith("-"):
        raise _NotPlainError
    if kind is str or str in get_args(kind):
        return value
    if kind is float and _NUMBER.match(value):
        return float(value)
    if get_origin(kind) is Literal and value in get_args(kind):
        return value
    raise _NotPlainError


def _arguments(given: list[str], kinds: list[Any], required: int) -> list[object]:
    """Return the values of the positional parameters, of which the last may take any number."""
    takes_all = bool(kinds) and get_origin(kinds[-1]) is tuple
    if len(given) < required or (len(given) > len(kinds) and not takes_all):
        raise _NotPlainError
    if not takes_all or len(given) < len(kinds):
        return list(map(_converted, given, kinds))
    return [*map(_converted, given, kinds[:-1]), tuple(given[len(kinds) - 1 :])]


def _options(options: dict[_Place, object], groups: dict[str, Any]) -> dict[str, object]:
    """Return the values of the keyword parameters that are given."""
    values = {place.parameter: value for place, value in options.items() if place.field is None}
    for name, group in groups.items():
        fields = {place.field: value for place, value in options.items() if place.field and place.parameter == name}
        if fields:
            values[name] = group(**fields)
    return values


def _named(hints: Sequence[tuple[str, Any]], group: str | None = None) -> Iterator[tuple[str, _Named]]:
    """Yield every option, by each of its names."""
    for name, hint in hints:
        kind = _kind_of(hint)
        place = _Place(name) if group is None else _Place(group, name)
        if _is_group(kind):
            yield from _named(list(get_type_hints(kind, include_extras=True).items()), name)
        for option in _options_in(hint):
            takes_none = kind is bool or bool in get_args(kind)
            given = _Named(place, kind, True if takes_none else None)
            yield option.name or "--" + name.replace("_", "-"), given
            if option.short:
                yield option.short, given
            if option.negative:
                yield option.negative, _Named(place, kind, constant=False)


def _kind_of(hint: Any) -> Any:
    return getattr(hint, "__origin__", hint) if hasattr(hint, "__metadata__") else hint


def _options_in(hint: Any) -> list[Option]:
    return [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Option)]


def _is_group(kind: Any) -> bool:
    return hasattr(kind, "__dataclass_fields__")
