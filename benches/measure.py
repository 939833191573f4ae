"""How the benches measure: implementations in turn, ratios of one run, peaks in a process of their own."""

from __future__ import annotations

import gc
import json
import os
import statistics
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

FULL = os.environ.get("KVSYNC_BENCH") == "full"
"""Whether to run at the sizes that the bars are about, instead of a smoke run."""


@dataclass(frozen=True)
class Timing:
    """Seconds that an implementation took, round by round, and of those the processor's in this process."""

    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...] = ()

    @property
    def best(self) -> float:
        """The fastest round: what the work costs when nothing else runs."""
        return min(self.seconds)

    @property
    def cpu(self) -> float:
        """The least that any round kept the processor busy."""
        return min(self.cpu_seconds)

    @property
    def median(self) -> float:
        """The middle round."""
        return statistics.median(self.seconds)


@contextmanager
def collector_off() -> Iterator[None]:
    """Keep the cyclic collector from running into one implementation's time for another's objects."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long one call takes; its result is dropped after the clock was read."""
    start = time.perf_counter()
    result = work()
    elapsed = time.perf_counter() - start
    del result
    return elapsed


def cost_of(work: Callable[[], object]) -> tuple[float, float]:
    """Return how long one call takes, and for how long it keeps the processor busy."""
    start, busy = time.perf_counter(), time.process_time()
    result = work()
    elapsed = time.perf_counter() - start, time.process_time() - busy
    del result
    return elapsed


def in_turn(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Time all implementations, one after another in each round, so that noise meets all of them.

    The cyclic collector is off: it would be the rivals that pay for it.
    """
    return in_turn_prepared({name: partial(itself, work) for name, work in works.items()}, rounds)


def itself(work: Callable[[], object]) -> Callable[[], object]:
    """Return `work`, which needs no preparation."""
    return work


def in_turn_prepared(makers: Mapping[str, Callable[[], Callable[[], object]]], rounds: int) -> dict[str, Timing]:
    """Time in turn what each maker returns; making it is not timed. The cyclic collector is off meanwhile."""
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in makers}
    for _ in range(rounds):
        for name, make in makers.items():
            work = make()
            with collector_off():
                costs[name].append(cost_of(work))
            del work
    return {name: Timing(*zip(*taken, strict=True)) for name, taken in costs.items()}


def resident_bytes(entry: str = "VmRSS") -> int:
    """Return a memory figure of this process from /proc, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{entry}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(entry)


def reset_peak() -> None:
    """Make VmHWM start again from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


@dataclass(frozen=True)
class Line:
    """One line of the summary: a figure, and the bar that it has to reach.

    `unit` says what `value` is; `at_least` tells whether more is better; `bar` is None for a figure that is
    shown beside the others and judged by nobody.
    """

    bench: str
    work: str
    what: str
    value: float
    unit: str
    bar: float | None = None
    at_least: bool = False
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the bar is reached; None without one."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    def __str__(self) -> str:
        """Return the line as the summary prints it."""
        sign = ">=" if self.at_least else "<="
        bar = "" if self.bar is None else f"{sign} {self.bar:g} {'' if self.met else 'MISSED'}"
        return f"{self.work:<49} {self.what:<36} {self.value:>10.4g} {self.unit:<8} {bar}".rstrip()


class Report:
    """What a run of the benches found."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def add(self, line: Line) -> None:
        """Keep a line for the summary, and show it at once where pytest runs with `-s`."""
        self.lines.append(line)
        print(line)

    def missed(self) -> list[Line]:
        """Return the lines that have a bar and do not reach it."""
        return [line for line in self.lines if line.met is False]

    def write(self, path: Path, machine: Mapping[str, object]) -> None:
        """Write everything as JSON."""
        lines = [{**asdict(line), "met": line.met} for line in self.lines]
        path.write_text(json.dumps({"full": FULL, "machine": machine, "lines": lines}, indent=1) + "\n")
