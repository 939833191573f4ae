"""Ask on the terminal whether to go on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from kvsync.cli.output import OutputClosedError, write_line
from kvsync.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["asked", "confirmed", "has_terminal"]


def has_terminal() -> bool:
    """Return whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def asked(lines: Iterable[str], question: str) -> bool:
    """Show what is concerned, and ask; anything but a yes is a no."""
    try:
        for line in lines:
            write_line(sys.stderr, line)
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in {"y", "yes"}
    except BrokenPipeError as error:
        raise OutputClosedError from error


def confirmed(name: str, lines: Iterable[str], question: str, *, otherwise: str) -> bool:
    """Ask about the storage `name`; where nobody can be asked, `otherwise` says why, and what to pass.

    Raises:
        UsageError: there is no terminal.
    """
    if not has_terminal():
        message = f"cannot ask for confirmation without a terminal: {otherwise}"
        raise UsageError(message, storage=name)
    return asked(lines, question)
