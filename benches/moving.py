"""Tells how much memory a first sync takes at most, in a process of its own, so that no other peak hides this one.

Run by `bench_memory.py` with the URLs of source and target; the keys to sync come as JSON on standard input, their
values are in the source. Prints JSON.
"""

from __future__ import annotations

import gc
import json
import sys
from threading import Event, Thread

import kvsync
from kvsync import Put
from kvsync.storages import open_storage
from measure import reset_peak, resident_bytes

PAUSE_SECONDS = 0.005


def main() -> None:
    """Sync, and print what was resident before and at most."""
    source, target = (open_storage(url)[0] for url in sys.argv[1:3])
    keys = json.load(sys.stdin)
    gc.collect()
    reset_peak()
    report = {"before": resident_bytes("VmRSS"), "own": 0}
    ended = Event()

    def watch() -> None:
        while not ended.wait(PAUSE_SECONDS):
            report["own"] = max(report["own"], resident_bytes("RssAnon"))

    watcher = Thread(target=watch)
    watcher.start()
    result = kvsync.sync(source, target, changes=[Put(key) for key in keys])
    report["peak"] = resident_bytes("VmHWM")
    ended.set()
    watcher.join()
    assert (result.pushed, result.missing) == (len(keys), [])
    print(json.dumps(report))


if __name__ == "__main__":
    main()
