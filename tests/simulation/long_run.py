"""Plays many histories and reports: `python tests/simulation/long_run.py COUNT [FIRST_SEED] [WORKERS]`.

Each seed is played three times: with the policy `latest` throughout, with another policy in every run, and with
applications that write behind kvsync's back. Exits 1 and names the seeds if any history breaks a promise.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import history

if TYPE_CHECKING:
    from collections.abc import Callable

PLAYS: dict[str, Callable[[int], object]] = {
    "latest": history.play,
    "every policy": partial(history.play, policies=history.POLICIES),
    "edited": history.edited,
}
CHUNK = 100


def play_chunk(first: int) -> list[str]:
    """Return what broke."""
    broken = []
    for seed in range(first, first + CHUNK):
        for name, play in PLAYS.items():
            try:
                play(seed)
            except Exception as error:
                broken.append(f"seed {seed}, {name}: {error!r:.200}")
    return broken


def main(count: int, first: int = 0, workers: int = 2) -> int:
    started = time.monotonic()
    broken: list[str] = []
    with ProcessPoolExecutor(workers) as pool:
        for done, some in enumerate(pool.map(play_chunk, range(first, first + count, CHUNK)), 1):
            broken += some
            if done % 20 == 0 or some:
                sys.stderr.write(f"{done * CHUNK} seeds, {len(broken)} broken, {time.monotonic() - started:.0f} s\n")
    seconds = time.monotonic() - started
    histories = len(PLAYS) * count
    sys.stdout.write(f"{histories} histories, {len(broken)} broken, {seconds:.0f} s\n")
    sys.stdout.write("".join(f"{line}\n" for line in broken))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
