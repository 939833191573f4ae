"""Options in storage URLs that are not just text: one of a few words, or a number of seconds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kvsync.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["choice", "seconds"]


def choice(options: Mapping[str, str], name: str, choices: Sequence[str], *, storage: str) -> str:
    """Return an option that is one of a few words; by default the first of `choices`.

    >>> choice({"evicting": "allow"}, "evicting", ("refuse", "allow"), storage="redis://host")
    'allow'

    Raises:
        UsageError: it is another word.
    """
    value = options.get(name, choices[0])
    if value not in choices:
        message = f"{name} is {' or '.join(choices)}{_shown(value)}"
        raise UsageError(message, storage=storage)
    return value


def seconds(
    options: Mapping[str, str],
    name: str,
    *,
    default: float,
    most: float,
    least: float | None = None,
    storage: str,
) -> float:
    """Return an option that is a number of seconds, from `least` to `most`; `least` None: more than 0.

    >>> seconds({}, "timeout", default=30, most=86_400, storage="redis://host")
    30.0

    Raises:
        UsageError: it is not a number, or outside these bounds.
    """
    text = options.get(name)
    try:
        value = float(default if text is None else text)
    except ValueError:
        value = math.nan
    if (value > 0 if least is None else value >= least) and value <= most:
        return value
    bounds = f"more than 0 and at most {most:.15g}" if least is None else f"from {least:.15g} to {most:.15g}"
    message = f"{name} is a number of seconds, {bounds}{_shown(text)}"
    raise UsageError(message, storage=storage)


def _shown(value: str | None) -> str:
    # A password with a raw "?" ends up here, including the "@" that follows it.
    return f", not {value!r:.100}" if value is not None and "@" not in value else ""
