"""Show progress on standard error: a bar on a terminal, elsewhere a line every few seconds."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kvsync.cli.output import write_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvsync.cli.output import Output
    from kvsync.result import OnProgress, Progress

__all__ = ["shown_progress"]

LINE_SECONDS = 5.0
WORDS = {"push": "to target", "pull": "to source"}


@contextmanager
def shown_progress(output: Output, *, monotonic: Callable[[], float] = time.monotonic) -> Iterator[OnProgress | None]:
    """Yield the callback that a run reports its progress to; None with `--quiet`."""
    if output.quiet:
        yield None
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _bar() as report:
            yield report
    else:
        yield _lines(monotonic)


def _lines(monotonic: Callable[[], float]) -> OnProgress:
    """Return a callback that writes at most one line in `LINE_SECONDS`."""
    last = monotonic()

    def report(progress: Progress) -> None:
        nonlocal last
        if monotonic() - last >= LINE_SECONDS:
            last = monotonic()
            write_line(sys.stderr, f"kvsync: {_words(progress)}")

    return report


def _words(progress: Progress) -> str:
    return f"{WORDS[progress.direction]}: {progress.done:,} of {progress.total:,} changes"


@contextmanager
def _bar() -> Iterator[OnProgress]:
    """Show a bar; until there are changes to count, show a spinner and the time."""
    from rich import progress as bars  # noqa: PLC0415 - needed only on a terminal
    from rich.console import Console  # noqa: PLC0415

    plain = None if os.environ.get("NO_COLOR") else "auto"
    console = Console(file=sys.stderr, color_system=plain)  # type: ignore[arg-type]
    columns = (
        bars.SpinnerColumn(),
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.TimeElapsedColumn(),
    )
    with bars.Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task("comparing", total=None)

        def report(progress: Progress) -> None:
            words = _words(progress)
            shown.update(task, description=words, completed=progress.done, total=progress.total)

        yield report
