"""Show progress on standard error: a bar on a terminal, elsewhere a line every few seconds."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kvsync.cli.output import write_line
from kvsync.cli.sizes import bytes_text, seconds_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvsync.cli.output import Output
    from kvsync.result import OnProgress, Progress

__all__ = ["Pace", "shown_progress", "words_of"]

LINE_SECONDS = 5.0
WORDS = {"push": "to target", "pull": "to source"}


@contextmanager
def shown_progress(output: Output, *, monotonic: Callable[[], float] = time.monotonic) -> Iterator[OnProgress | None]:
    """Yield the callback that a run reports its progress to; None with `--quiet`."""
    if output.quiet:
        yield None
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _bar(monotonic) as report:
            yield report
    else:
        yield _lines(monotonic)


class Pace:
    """How fast a step of a run goes, since the first report of it: what was done before took an unknown time."""

    def __init__(self) -> None:
        self._first: Progress | None = None
        self._began = 0.0

    def words(self, progress: Progress, now: float) -> str:
        """Return how fast bytes are moved, and how long that will still take; empty where it cannot be told."""
        first = self._first
        if first is None or first.step != progress.step:
            self._first, self._began = progress, now
            return ""
        seconds, size = now - self._began, progress.bytes_done - first.bytes_done
        if seconds <= 0 or size <= 0:
            return ""
        rate = size / seconds
        left = seconds_text((progress.bytes_total - progress.bytes_done) / rate)
        return f", {bytes_text(round(rate))}/s, {left} left"


def words_of(progress: Progress) -> str:
    """Return how far a run is.

    >>> from kvsync.result import Progress
    >>> words_of(Progress("push", 3, 20, 1200, 5_000_000))
    'to target: 3 of 20, 1.2 kB of 5.0 MB'
    >>> words_of(Progress("wait", storage="notes"))
    'waiting for the lease of notes'
    >>> words_of(Progress("recover", 1, 20, storage="notes"))
    'adopting what an interrupted run left in notes, 1 of 20'
    """
    if progress.step == "wait":
        return f"waiting for the lease of {progress.storage}"
    if progress.step == "recover":
        left = f"adopting what an interrupted run left in {progress.storage}"
        return f"{left}, {progress.done:,} of {progress.total:,}"
    moved = f"{WORDS[progress.step]}: {progress.done:,} of {progress.total:,}"
    if not progress.bytes_total:
        return moved
    return f"{moved}, {bytes_text(progress.bytes_done)} of {bytes_text(progress.bytes_total)}"


def _lines(monotonic: Callable[[], float]) -> OnProgress:
    """Return a callback that writes at most one line in `LINE_SECONDS`, and at once why nothing goes on."""
    last, pace = monotonic(), Pace()
    waits_for = ""

    def report(progress: Progress) -> None:
        nonlocal last, waits_for
        now = monotonic()
        rate = pace.words(progress, now)
        awaited = progress.storage if progress.step == "wait" else ""
        if (awaited and awaited != waits_for) or now - last >= LINE_SECONDS:
            last = now
            write_line(sys.stderr, f"kvsync: {words_of(progress)}{rate}")
        waits_for = awaited

    return report


@contextmanager
def _bar(monotonic: Callable[[], float]) -> Iterator[OnProgress]:
    """Show a bar with words below it; until there are changes to count, show a spinner and the time.

    The bar stands in a line of its own, since a terminal may have no more than 60 columns.
    """
    from rich import progress as bars  # noqa: PLC0415 - needed only on a terminal
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    class Words(bars.ProgressColumn):
        """The description, of which no part means anything to rich, cut to the width of the terminal."""

        def render(self, task: bars.Task) -> Text:
            return Text(task.description, overflow="ellipsis", no_wrap=True)

    plain = None if os.environ.get("NO_COLOR") else "auto"
    console = Console(file=sys.stderr, color_system=plain)  # type: ignore[arg-type]
    columns = (bars.SpinnerColumn(), Words(), bars.BarColumn(bar_width=10), bars.TimeElapsedColumn())
    with bars.Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task("comparing", total=None)
        pace = Pace()

        def report(progress: Progress) -> None:
            words = words_of(progress) + pace.words(progress, monotonic())
            by_bytes = progress.bytes_total > 0
            done = progress.bytes_done if by_bytes else progress.done
            total = progress.bytes_total if by_bytes else progress.total
            shown.update(task, description=words, completed=done, total=total or None)

        yield report
