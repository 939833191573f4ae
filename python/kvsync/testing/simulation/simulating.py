"""Plays histories one after another, and reports."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kvsync.errors import KvsyncWarning
from kvsync.testing.simulation.disks import DISKS
from kvsync.testing.simulation.ending import end
from kvsync.testing.simulation.pieces import small_blocks, small_pieces
from kvsync.testing.simulation.playing import play
from kvsync.testing.simulation.schedule import HAZARDS, POLICIES, Setting, draw
from kvsync.testing.simulation.shrinking import shrunk
from kvsync.testing.simulation.world import BrokenPromiseError, World

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from kvsync.policy import PolicyName
    from kvsync.testing.simulation.disks import MakeDisk
    from kvsync.testing.simulation.events import History
    from kvsync.testing.simulation.schedule import Hazard

__all__ = ["Failure", "Report", "SimulationError", "Simulator", "simulate"]

SEEDS_MAX = 20
"""How many seeds a report names of each kind of failure."""

UNDONE = ("restores", "clones", "damaged", "forgotten", "crashes")
"""What may leave somebody in doubt."""
DOUBTS = ("told restored", "told forgotten", "told maybe deleted among peers", "false conflicts")


@dataclass(frozen=True)
class Failure:
    """A history that broke a promise.

    Attributes:
        seed: the seed of the history.
        kind: which promise it broke, in two or three words.
        story: what happened, line by line, from a history that was shrunk as far as it still breaks that promise.
    """

    seed: int
    kind: str
    story: str

    def __str__(self) -> str:
        return f"seed {self.seed}, {self.kind}:\n{self.story}"


class SimulationError(AssertionError):
    """A history broke a promise.

    Attributes:
        failure: the history, with its story.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


@dataclass
class Report:
    """What came out of a number of histories.

    Attributes:
        histories: how many were played.
        failures: those that broke a promise.
        counts: how often what happened, over all histories.
    """

    histories: int = 0
    failures: list[Failure] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """The part of all histories that broke a promise."""
        return len(self.failures) / self.histories if self.histories else 0.0

    def __str__(self) -> str:
        kinds = Counter(failure.kind for failure in self.failures)
        lines = [f"{self.histories} histories, {len(self.failures)} broken ({100 * self.rate:.3g} %)"]
        lines += [f"  {count} {kind} (seeds: {self._seeds(kind)})" for kind, count in kinds.most_common()]
        lines += [f"  {what}: {count}" for what, count in sorted(self.counts.items())]
        return "\n".join(lines)

    def _seeds(self, kind: str) -> str:
        seeds = [str(failure.seed) for failure in self.failures if failure.kind == kind]
        return ", ".join([*seeds[:SEEDS_MAX], *(["..."] if len(seeds) > SEEDS_MAX else [])])

    def add(self, other: Report) -> None:
        """Add what another report counted."""
        self.histories += other.histories
        self.failures += other.failures
        self.counts += other.counts


@dataclass(frozen=True)
class Simulator:
    """Plays the histories of a setting; `disks` makes the storages of each kind, in files below `directory` if any."""

    setting: Setting
    disks: dict[str, MakeDisk]
    directory: str

    def play(self, seed: int, report: Report, *, tells: bool = True) -> Failure | None:
        """Play the history of a seed; count what happened, and return how it failed. `tells`: with its shrunk story."""
        history = draw(seed, self.setting)
        world, broken = self.attempt(history)
        report.histories += 1
        report.counts.update(_counted(world))
        if broken is None:
            return None
        story = self.story(history, broken.kind) if tells else str(broken)
        failure = Failure(seed, broken.kind, story)
        report.failures.append(failure)
        return failure

    def attempt(self, history: History) -> tuple[World, BrokenPromiseError | None]:
        """Play a history; return its world and the promise that it broke."""
        directory = os.path.join(self.directory, "history")
        world = World.of(history, self.disks, directory)
        try:
            with small_pieces(), small_blocks():
                for event in history.events:
                    play(world, event)
                world.tell_ending()
                end(world)
        except BrokenPromiseError as error:
            return world, error
        finally:
            # Most disks have made nothing there.
            shutil.rmtree(directory, ignore_errors=True)
        return world, None

    def story(self, history: History, kind: str) -> str:
        """Shrink a history that breaks a promise; return what happens in it, line by line."""

        def fails(smaller: History) -> bool:
            broken = self.attempt(smaller)[1]
            return broken is not None and broken.kind == kind

        world, broken = self.attempt(shrunk(history, fails))
        return _numbered(world, str(broken))


def simulate(
    histories: int = 100,
    *,
    seed: int = 0,
    storages: Sequence[str | MakeDisk] = ("dict",),
    hazards: Collection[Hazard] = HAZARDS,
    policies: Sequence[PolicyName] = POLICIES,
    raises: bool = True,
) -> Report:
    """Play random histories over storages, and check that nothing is lost untold, revived or left unequal.

    In each history 2 to 6 storages meet in pairs. Applications write values into them, and what can go wrong does: see
    `hazards`. In the end all storages meet until nothing moves.

    Args:
        histories: how many.
        seed: the seed of the first one; the next one has the next number.
        storages: which kinds: names in `DISKS`, or classes of disks of your own. A history has one kind, or a mix.
        hazards: what may go wrong: names in `HAZARDS`.
        policies: the conflict policies of the runs.
        raises: raise an error at the first history that breaks a promise; otherwise report all of them.

    Returns:
        What came out.

    Raises:
        SimulationError: a history broke a promise; its text is the story of that history.

    >>> simulate(5, hazards=("crashes",)).histories
    5
    """
    disks = dict(_named(storage) for storage in storages)
    report = Report()
    with tempfile.TemporaryDirectory(prefix="kvsync-simulation-") as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore", KvsyncWarning)
        simulator = Simulator(Setting(tuple(disks), frozenset(hazards), tuple(policies)), disks, directory)
        for number in range(seed, seed + histories):
            failure = simulator.play(number, report, tells=raises)
            if failure is not None and raises:
                raise SimulationError(failure)
    return report


def _counted(world: World) -> dict[str, int]:
    """Return how often things happened, and how often something was told though nothing called for it."""
    counts = world.counts
    if any(counts.get(what) for what in UNDONE):
        return counts
    untoward = {f"{what}, nothing undone": counts[what] for what in DOUBTS if what in counts}
    return counts | untoward


def _named(storage: str | MakeDisk) -> tuple[str, MakeDisk]:
    if isinstance(storage, str):
        return storage, DISKS[storage]
    return getattr(storage, "__name__", repr(storage)), storage


def _numbered(world: World, ending: str) -> str:
    numbers = {event: line for line, event in enumerate(world.lines, 1)}
    lines = [f"{line:3}  {text}" for line, text in enumerate(world.lines.values(), 1)]
    story = "\n".join([*lines, f"     {ending}"])
    return re.sub(r"\{line of (\d+)\}", lambda found: str(numbers.get(int(found[1]), "?")), story)
