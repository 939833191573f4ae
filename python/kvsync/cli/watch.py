"""`kvsync sync --watch`: one line a run, until a signal ends it."""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kvsync.cli.exitcodes import DONE
from kvsync.cli.failure import kind_of
from kvsync.cli.json_fields import time_text
from kvsync.cli.names import place, shown
from kvsync.cli.output import counted, write_line
from kvsync.cli.summary import ARROWS, alarm_lines, place_lines, result_fields
from kvsync.cli.targets import check_name
from kvsync.environment import utc
from kvsync.storages.url import redact
from kvsync.watching.api import watch as watching
from kvsync.watching.events import WatchRun

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvsync.cli.options import LeaseOptions, RunOptions
    from kvsync.cli.output import Output
    from kvsync.watching.events import Outage
    from kvsync.watching.watch import Watch

__all__ = ["watch_pair"]

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


def watch_pair(  # noqa: PLR0913 - each is an option, or a group of them
    source: str,
    target: str,
    *,
    run: RunOptions,
    lease: LeaseOptions,
    every: str,
    full_every: str,
    heartbeat: str | None,
    max_drift_seconds: float,
    tombstone_grace: str,
    output: Output,
) -> int:
    """Make two storages equal whenever something changes, until a signal comes; return the exit code."""
    source, target = place(source), place(target)
    check_name(source)
    check_name(target)
    events = watching(
        source,
        target,
        direction=run.direction,
        read_only_source=run.read_only_source,
        include=run.include or (),
        exclude=run.exclude or (),
        conflict=run.conflict,
        max_delete=run.max_delete,
        max_overwrite=run.max_overwrite,
        max_bytes=run.max_bytes,
        max_conflicts=run.max_conflicts,
        every=every,
        full_every=full_every,
        heartbeat=heartbeat,
        lease_seconds=lease.lease_seconds,
        max_drift_seconds=max_drift_seconds,
        tombstone_grace=tombstone_grace,
    )
    output.say(f"watching {shown(source)}{ARROWS[run.direction]}{shown(target)}; Ctrl-C ends it")
    with events, _stopped_by_signals(events):
        told = ""
        for event in events:
            if isinstance(event, WatchRun):
                told = ""
                _tell_run(event, run.conflict, output)
            else:
                told = _tell_outage(event, told, output)
        if events.cut:
            output.say("stopped within a run; the next one moves the rest")
    return DONE


@contextmanager
def _stopped_by_signals(events: Watch) -> Iterator[None]:
    """Let the first signal end the watch after the batch that is being moved; a second one cuts that off."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    # Who starts us with a signal ignored (nohup, a job in the background) wants that.
    before = {number: found for number in numbers if (found := signal.getsignal(number)) is not signal.SIG_IGN}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(_number: int, _frame: object) -> None:
        restore()
        events.stop()

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        restore()


def _tell_run(run: WatchRun, policy: str, output: Output) -> None:
    fields = {"event": "run", "time": time_text(time.time()), "reason": run.reason}
    output.result(fields | result_fields(run.result) if output.json else {})
    if not (run.did_something or run.outage is not None or run.reason in {"start", "full"}):
        return  # so a quiet log has a line for each hour
    result = run.result
    words = [f"{result.pushed:,} to the target", f"{result.pulled:,} to the source"]
    if result.withheld:
        words.append(f"{len(result.withheld):,} withheld")
    if result.conflicts:
        words.append(counted(len(result.conflicts), "conflict"))
    if left := len(result.missing) + len(result.unreadable):
        words.append(f"{left:,} left behind")
    if run.outage is not None:
        words.append(f"back, after an outage since {utc(run.outage.since)}")
    output.say(f"{utc(time.time())}  {', '.join(words)} ({run.reason}, {run.seconds:.2f} s)")
    output.say_all(place_lines(result.created, result.notes, "", will=False))
    names = redact(result.source), redact(result.target)
    output.alarm_all(alarm_lines(result, policy), title=ARROWS[result.direction].join(names))


def _tell_outage(outage: Outage, told: str, output: Output) -> str:
    """Tell of a run that failed, unless the same was said lately; return what was said last."""
    error = outage.error
    message = redact(error.message)
    output.result(
        {
            "event": "outage",
            "time": time_text(time.time()),
            "side": outage.side,
            "since": time_text(outage.since),
            "failures": outage.failures,
            "retry_seconds": round(outage.retry_seconds, 3),
            "lasting": outage.lasting,
            "error": {"kind": kind_of(error, usage=False), "message": message, "storage": _name(error.storage)},
        }
    )
    is_rare = outage.failures & (outage.failures - 1) == 0  # the 1st, 2nd, 4th, 8th failure
    if message != told or is_rare:
        where = f" {_name(error.storage)}:" if error.storage else ""
        tries = "" if outage.failures == 1 else f", {outage.failures} failures since {utc(outage.since)}"
        pause = f"next try in {outage.retry_seconds:.0f} s"
        write_line(sys.stderr, f"{utc(time.time())}  kvsync: error:{where} {message} ({pause}{tries})", "bad")
    return message


def _name(storage: str | None) -> str | None:
    return None if storage is None else shown(storage)
