"""Plays many histories and reports: `python tests/simulation/long_run.py COUNT [FIRST_SEED] [WORKERS]`.

Each seed is played twice: with the policy `latest` throughout, and with another policy in every run. Exits 1 and names
the seeds if any history breaks a promise.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ProcessPoolExecutor

import history

CHUNK = 100


def play_chunk(first: int) -> list[str]:
    broken = []
    for seed in range(first, first + CHUNK):
        for policies in (("latest",), history.POLICIES):
            try:
                history.play(seed, policies)
            except Exception as error:
                broken.append(f"seed {seed}, {len(policies)} policies: {error!r:.200}")
    return broken


def main(count: int, first: int = 0, workers: int = 2) -> int:
    started = time.monotonic()
    broken: list[str] = []
    with ProcessPoolExecutor(workers) as pool:
        for done, some in enumerate(pool.map(play_chunk, range(first, first + count, CHUNK)), 1):
            broken += some
            if done % 20 == 0 or some:
                sys.stderr.write(f"{done * CHUNK} seeds, {len(broken)} broken, {time.monotonic() - started:.0f} s\n")
    sys.stdout.write(f"{2 * count} histories, {len(broken)} broken, {time.monotonic() - started:.0f} s\n")
    sys.stdout.write("".join(f"{line}\n" for line in broken))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
