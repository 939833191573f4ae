"""Forges many manifests and reports: `python tests/hostile/forge_many.py [COUNT] [FIRST_SEED]`.

Exits 1 and names the seeds if a good replica was harmed, or if a meeting took too long.
"""

from __future__ import annotations

import resource
import sys
import time
from collections import Counter

from meeting import meet

SECONDS_MAX = 5.0


def main(count: int = 10_000, first: int = 0) -> int:
    outcomes: Counter[str] = Counter()
    broken: list[str] = []
    longest = 0.0
    started = time.monotonic()
    for seed in range(first, first + count):
        began = time.monotonic()
        try:
            outcomes[meet(seed).word] += 1
        except Exception as error:
            broken.append(f"seed {seed}: {error!r:.200}")
        longest = max(longest, time.monotonic() - began)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    sys.stdout.write(
        f"{count} meetings, {len(broken)} broken, {time.monotonic() - started:.0f} s, the longest {longest:.2f} s, "
        f"{peak_mib} MiB at most\n"
    )
    sys.stdout.write("".join(f"  {word}: {number}\n" for word, number in outcomes.most_common()))
    sys.stdout.write("".join(f"{line}\n" for line in broken))
    return 1 if broken or longest > SECONDS_MAX else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
