"""What filters cost on a scan: the same scans with and without eight patterns, in turns, by processor time.

`python benches/bench_filters.py [KEYS]`
"""

from __future__ import annotations

import gc
import sys
import time
from statistics import median
from typing import TYPE_CHECKING

from kvsync.environment import Environment
from kvsync.filters import KeyFilter
from kvsync.replica.log import Log
from kvsync.scan import Budget, scan
from kvsync.storages.mapping import MappingStorage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.storages.contract import Storage

KEYS = 1_000_000
ROUNDS = 5
PATTERNS = [".git/", "*.swp", ".DS_Store", "node_modules/", "*.py[co]", "__pycache__/", "build/", "/dist/*"]


def seconds(storage: Storage, keys_filter: KeyFilter | None) -> float:
    """Return how long the processor takes for a first scan."""
    log = Log.read(storage, Environment())
    gc.collect()
    began = time.process_time()
    found = scan(log, 1, Budget(), lambda: None, keys_filter=keys_filter).found
    taken = time.process_time() - began
    assert found is not None
    assert len(found.puts) > 0
    return taken


def compare(storage: Storage) -> tuple[float, float]:
    """Return the median of both, in seconds."""
    keys_filter = KeyFilter([], [PATTERNS])
    plain, filtered = [], []
    for _ in range(ROUNDS):
        plain.append(seconds(storage, None))
        filtered.append(seconds(storage, keys_filter))
    return median(plain), median(filtered)


def main(arguments: Sequence[str]) -> None:
    """Print a line."""
    count = int(arguments[0]) if arguments else KEYS
    data = {f"dir{i // 1000:04}/sub{i % 1000 // 100}/file{i:07}.txt": b"%d" % i for i in range(count)}
    plain, filtered = compare(MappingStorage(data))
    print(f"first scan of {count:,} keys: {plain:.2f} s, with {len(PATTERNS)} patterns {filtered:.2f} s", end="")
    print(f" ({100 * (filtered / plain - 1):+.1f} %)")


if __name__ == "__main__":
    main(sys.argv[1:])
