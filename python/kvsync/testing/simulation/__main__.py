"""Plays random histories, and tells how one failed: `python -m kvsync.testing.simulation --histories 1000`."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from kvsync.testing.simulation.disks import DISKS
from kvsync.testing.simulation.schedule import HAZARDS, POLICIES
from kvsync.testing.simulation.simulating import Report, simulate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CHUNK = 50
STORIES = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the histories that the arguments ask for; return 1 if any broke a promise."""
    options = _parser().parse_args(arguments)
    play = partial(simulate, storages=options.storages, hazards=options.hazards, policies=options.policies)
    report, began = Report(), time.monotonic()
    with ProcessPoolExecutor(options.workers) as pool:
        chunks = [
            pool.submit(play, min(CHUNK, options.histories - done), seed=options.seed + done, raises=False)
            for done in range(0, options.histories, CHUNK)
        ]
        for chunk in chunks:
            report.add(chunk.result())
            _progress(report, options.histories, time.monotonic() - began)
    sys.stdout.write(f"{report}\n")
    _tell(report, play, options.stories)
    return 1 if report.failures else 0


def _tell(report: Report, play: partial[Report], stories: int) -> None:
    """Print shrunk stories, of as many kinds of failures as there are."""
    firsts = {failure.kind: failure for failure in reversed(report.failures)}
    chosen = [*firsts.values(), *(failure for failure in report.failures if failure not in firsts.values())]
    for failure in chosen[:stories]:
        try:
            play(1, seed=failure.seed)
        except AssertionError as error:
            sys.stdout.write(f"\n{error}\n")


def _progress(report: Report, histories: int, seconds: float) -> None:
    sys.stderr.write(f"\r{report.histories} of {histories}, {len(report.failures)} broken, {seconds:.0f} s")
    sys.stderr.write("\n" if report.histories == histories else "")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kvsync.testing.simulation", description=__doc__.partition(":")[0])
    parser.add_argument("--histories", type=int, default=1000, metavar="N", help="how many (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the seed of the first one (default: 0)")
    parser.add_argument(
        "--storages", type=_names(DISKS), default=("dict",), metavar="NAMES", help=f"of {','.join(DISKS)}"
    )
    parser.add_argument(
        "--hazards", type=_names(HAZARDS), default=HAZARDS, metavar="NAMES", help=f"of {','.join(HAZARDS)} (all)"
    )
    parser.add_argument(
        "--policies", type=_names(POLICIES), default=POLICIES, metavar="NAMES", help=f"of {','.join(POLICIES)} (all)"
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="how many processes (default: 1)")
    parser.add_argument("--stories", type=int, default=STORIES, metavar="N", help=f"how many to tell ({STORIES})")
    return parser


class _names:  # noqa: N801 - argparse names it in its errors
    """Reads names that are separated by commas."""

    def __init__(self, known: Iterable[str]) -> None:
        self.known = tuple(known)

    def __call__(self, text: str) -> tuple[str, ...]:
        names = tuple(name for name in text.split(",") if name)
        for name in names:
            if name not in self.known:
                message = f"{name!r} is none of {', '.join(self.known)}"
                raise argparse.ArgumentTypeError(message)
        return names


if __name__ == "__main__":
    sys.exit(main())
