"""Write results to standard output and the rest to standard error, with control characters escaped."""

from __future__ import annotations

import errno
import io
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TextIO

from kvsync.cli.options import flag
from kvsync.errors import UsageError
from kvsync.storages.url import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "Output",
    "OutputClosedError",
    "colours",
    "counted",
    "detach_output",
    "duration",
    "first_of",
    "prepare_streams",
    "printable",
    "write_bytes",
    "write_line",
]

SHOWN_MAX = 20
STYLES = {"good": "32", "bad": "31", "faint": "2", "strong": "1"}


class OutputClosedError(Exception):
    """The reader of our output went away."""


@dataclass(frozen=True, slots=True)
class Output:
    """How a command prints its result.

    Attributes:
        json: print one JSON object.
        quiet: print nothing for people but conflicts and failures.
        verbose: print all there is to tell, such as each key that was moved.
    """

    json: Annotated[bool, flag(help="Print one JSON object on standard output.")] = False
    quiet: Annotated[bool, flag(help="Print nothing but conflicts and failures.", short="-q")] = False
    verbose: Annotated[bool, flag(help="Print all there is to tell, such as each key.", short="-v")] = False

    def say(self, text: str, style: str | None = None) -> None:
        """Print one line of the result for people."""
        if not self.json and not self.quiet:
            write_line(sys.stdout, text, style)

    def say_all(self, lines: Iterable[str]) -> None:
        """Print lines of the result for people."""
        for line in lines:
            self.say(line)

    def detail_all(self, lines: Iterable[str]) -> None:
        """Print lines for people who want to know all."""
        if self.verbose:
            self.say_all(lines)

    def list_all(self, lines: Iterable[str], count: int) -> None:
        """Print the first of so many lines for people, or all to those who want to know all."""
        self.say_all(lines if self.verbose else first_of(lines, count))

    def alarm_all(self, lines: Iterable[str], *, title: str) -> None:
        """Print what has to be known even where nothing else is to be said: then on standard error, below a title."""
        if not self.json and not self.quiet:
            self.say_all(lines)
        elif not self.json:
            for number, line in enumerate(lines):
                if not number:
                    write_line(sys.stderr, f"kvsync: {title}")
                write_line(sys.stderr, line, "bad")

    def result(self, answer: Mapping[str, object]) -> None:
        """Print the result for programs: one object, ASCII only."""
        if self.json:
            import json  # noqa: PLC0415 - most commands print no JSON

            write_line(sys.stdout, json.dumps(answer))

    def note(self, text: str) -> None:
        """Print a remark on standard error, unless quiet."""
        if not self.quiet:
            write_line(sys.stderr, text, "faint")

    def warn(self, text: str) -> None:
        """Print a warning on standard error, also when quiet."""
        write_line(sys.stderr, f"kvsync: warning: {redact(text)}", "bad")


def write_line(stream: TextIO, text: str, style: str | None = None) -> None:
    """Write a line with control characters escaped, in colour if the stream shows colours.

    Raises:
        OutputClosedError: the reader went away.
    """
    line = printable(text)
    if style is not None and colours(stream):
        line = f"\x1b[{STYLES[style]}m{line}\x1b[0m"
    try:
        stream.write(line + "\n")
        stream.flush()
    except OSError as error:
        # EIO: a terminal that was closed.
        if error.errno in {errno.EPIPE, errno.EIO}:
            raise OutputClosedError from error
        reason = f"what was done cannot be told, since the output cannot be written: {error.strerror}"
        raise OSError(error.errno, reason) from error


def write_bytes(data: bytes) -> None:
    """Write bytes to standard output as they are.

    Raises:
        UsageError: it takes text alone, since a program has put something else in its place.
        OutputClosedError: the reader went away.
    """
    if not hasattr(sys.stdout, "buffer"):
        message = "standard output takes text alone: name a file with --output"
        raise UsageError(message)
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        raise OutputClosedError from error


def colours(stream: TextIO) -> bool:
    """Return whether to colour `stream`: a terminal whose user does not ask for none (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def printable(text: str) -> str:
    r"""Return `text` with every character escaped that could move the cursor, or hide or reorder text.

    >>> print(printable("a\x1b[2Jb\u202ec\n"))
    a\x1b[2Jb\u202ec\n
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> counted(1, "change"), counted(12_000, "key")
    ('1 change', '12,000 keys')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def duration(seconds: float) -> str:
    """Return a length of time in its greatest whole unit.

    >>> duration(0.25), duration(90), duration(7200), duration(400_000)
    ('0.2 s', '90 s', '2 h', '4 days')
    """
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"


def first_of(lines: Iterable[str], count: int) -> Iterator[str]:
    """Yield the first few lines, then how many more there are."""
    for _, line in zip(range(SHOWN_MAX), lines, strict=False):
        yield line
    if count > SHOWN_MAX:
        yield f"  ... and {count - SHOWN_MAX:,} more (--json lists all)"


def prepare_streams() -> None:
    """Escape characters that the terminal's encoding lacks, instead of failing on them; replace closed streams.

    Their numbers would go to the next files that are opened, and those of a storage are no place for messages.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - open as long as the process
        elif type(stream) is io.TextIOWrapper and mode == "w":
            stream.reconfigure(errors="backslashreplace")


def detach_output() -> None:
    """Point closed streams at the null device, so that the interpreter can flush them when it exits."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if type(stream) is io.TextIOWrapper:
            os.dup2(nothing, stream.fileno())
    os.close(nothing)
