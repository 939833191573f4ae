"""Play many histories and count: `python tests/model/long_run.py COUNT [--off PART ...] [--seed S] [--mixed] ...`.

Prints how many histories were bad, by what was wrong, with the first seed of each; then all counts. Exits 1 if any was
bad. With --story, prints what happened in each history.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from model.histories import play
from model.parts import DESCRIBED, EXTRA, PARTS
from model.policies import POLICIES
from model.world import Options, mixed


@dataclass
class Report:
    """What some histories came to."""

    histories: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    first: dict[str, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        bad = self.bad.total()
        share = 100 * bad / max(1, self.histories)
        which = "".join(f", {what} {count} (first {self.first[what]})" for what, count in self.bad.most_common())
        counts = ", ".join(f"{what} {count}" for what, count in sorted(self.counts.items()))
        return f"{self.histories} histories, {bad} bad ({share:.3f} %){which}\n  {counts}"


def play_all(
    seeds: range, options: Options | None, parts: frozenset[str] = PARTS, *, story: bool = False, stop: bool = False
) -> Report:
    """Play the histories of some seeds, with mixed options where none are given; to the first bad one if `stop`."""
    report = Report()
    for seed in seeds:
        world, wrong = play(seed, options or mixed(seed), parts, story=story)
        report.histories += 1
        report.counts += world.counts
        if wrong is not None:
            report.bad[wrong] += 1
            report.first.setdefault(wrong, seed)
        if world.story is not None:
            sys.stdout.write("\n  ".join(map(str, [seed, wrong or "good", *world.story])) + "\n")
        if wrong is not None and stop:
            break
    return report


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Plays histories of restored and copied storages, and counts.")
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--off", nargs="*", default=[], choices=sorted(DESCRIBED), metavar="PART")
    parser.add_argument("--on", nargs="*", default=[], choices=sorted(EXTRA), metavar="PART")
    parser.add_argument("--mixed", action="store_true", help="let the seed choose all that follows")
    parser.add_argument("--story", action="store_true")
    parser.add_argument("--collect", choices=["acked", "eager", "none"], default="acked")
    parser.add_argument("--policies", nargs="*", choices=POLICIES, default=["latest"])
    for option in fields(Options):
        if option.type in {"float", "int"}:
            number = float if option.type == "float" else int
            parser.add_argument(f"--{option.name.replace('_', '-')}", type=number, default=option.default)
        elif option.type == "bool":
            flag, action = ("--no-", "store_false") if option.default else ("--", "store_true")
            parser.add_argument(f"{flag}{option.name}", dest=option.name, action=action)
    return parser


def main() -> int:
    arguments = vars(_parser().parse_args())
    arguments["policies"] = tuple(arguments["policies"])
    options = Options(**{option.name: arguments[option.name] for option in fields(Options)})
    seeds = range(arguments["seed"], arguments["seed"] + arguments["count"])
    started = time.monotonic()
    parts = (PARTS | set(arguments["on"])) - set(arguments["off"])
    report = play_all(seeds, None if arguments["mixed"] else options, parts, story=arguments["story"])
    sys.stdout.write(f"{report}\n  {time.monotonic() - started:.0f} s\n")
    return 1 if report.bad else 0


if __name__ == "__main__":
    sys.exit(main())
