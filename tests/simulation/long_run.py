"""Plays many histories and reports: `python tests/simulation/long_run.py COUNT [FIRST_SEED] [WORKERS] [--expiring]`.

Each seed is played four times: with the policy `latest` throughout and with another policy in every run, each with
changes that are given, and the same two with applications that write behind kvsync's back. With --expiring, it is
played twice, with values that expire, the second time with applications that set times behind its back. Exits 1 and
names the seeds if any history breaks a promise.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import history
import lifetimes

if TYPE_CHECKING:
    from collections.abc import Callable

PLAYS: dict[str, Callable[[int], object]] = {
    "latest": history.play,
    "every policy": partial(history.play, policies=history.POLICIES),
    "edited": history.edited,
    "edited, latest": partial(history.edited, policies=("latest",)),
}
EXPIRING: dict[str, Callable[[int], object]] = {"expiring": lifetimes.play, "expiring, edited": lifetimes.edited}
CHUNK = 100


def play_chunk(first: int, plays: dict[str, Callable[[int], object]] = PLAYS) -> list[str]:
    """Return what broke."""
    broken = []
    for seed in range(first, first + CHUNK):
        for name, play in plays.items():
            try:
                play(seed)
            except Exception as error:
                broken.append(f"seed {seed}, {name}: {error!r:.200}")
    return broken


def main(count: int, first: int = 0, workers: int = 2, *, expiring: bool = False) -> int:
    plays = EXPIRING if expiring else PLAYS
    started = time.monotonic()
    broken: list[str] = []
    with ProcessPoolExecutor(workers) as pool:
        for done, some in enumerate(pool.map(partial(play_chunk, plays=plays), range(first, first + count, CHUNK)), 1):
            broken += some
            if done % 20 == 0 or some:
                sys.stderr.write(f"{done * CHUNK} seeds, {len(broken)} broken, {time.monotonic() - started:.0f} s\n")
    seconds = time.monotonic() - started
    histories = len(plays) * count
    sys.stdout.write(f"{histories} histories, {len(broken)} broken, {seconds:.0f} s\n")
    sys.stdout.write("".join(f"{line}\n" for line in broken))
    return 1 if broken else 0


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:] if argument != "--expiring"]
    sys.exit(main(*numbers, expiring="--expiring" in sys.argv))
