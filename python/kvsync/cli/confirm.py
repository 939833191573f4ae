"""Ask on the terminal whether to go on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from kvsync.cli.output import OutputClosedError, first_of, write_line
from kvsync.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["confirmed"]


def confirmed(name: str, lines: Iterable[str], question: str) -> bool:
    """Show what is concerned in the storage `name`, and ask.

    Raises:
        UsageError: there is no terminal.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        message = f"cannot ask for confirmation without a terminal; pass --yes. The question: {question}"
        raise UsageError(message, storage=name)
    shown = list(lines)
    try:
        for line in (f"{name}:", *first_of(shown, len(shown))):
            write_line(sys.stderr, line)
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in {"y", "yes"}
    except BrokenPipeError as error:
        raise OutputClosedError from error
