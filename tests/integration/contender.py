"""Several processes that want the lease of one storage, again and again; see test_exclusion.py.

In its turn each makes a file that must not be there, logs a change, and counts one up in a value: reading, then
writing, with nothing but the lease to keep others from doing so at the same time.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from kvsync.environment import Environment
from kvsync.native import Segment, stamp_after
from kvsync.options import Options
from kvsync.run.lock import lock
from kvsync.storages import open_storage

COUNTER = "counter"
LEASE_SECONDS = 60.0
WAIT_SECONDS = 300.0


def main(url: str, contenders: int, rounds: int, folder: Path) -> int:
    """Let processes contend, which start at the same time; return how many of them failed."""
    running = [started(url, f"contender {number}", rounds, folder) for number in range(contenders)]
    return sum(os.waitpid(child, 0)[1] != 0 for child in running)


def started(url: str, name: str, rounds: int, folder: Path) -> int:
    """Start a process that contends, and return its number."""
    child = os.fork()
    if child == 0:
        try:
            contend(url, name, rounds, folder)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def contend(url: str, name: str, rounds: int, folder: Path) -> None:
    """Take as many turns as asked for."""
    storage, _ = open_storage(url)
    environment = Environment()
    options = Options(lease_seconds=LEASE_SECONDS, wait_seconds=WAIT_SECONDS)
    turn = folder / "somebody's turn"
    for number in range(rounds):
        with lock((storage,), options, environment) as sides:
            assert isinstance(sides, tuple)
            (side,) = sides
            assert side.lease is not None
            os.close(os.open(turn, os.O_CREAT | os.O_EXCL))
            manifest = side.log.manifest
            (value,) = storage.read([COUNTER])
            count = int(value) + 1 if isinstance(value, bytes) else 1
            stamp = stamp_after(environment.now_ms(), manifest.clock)
            logged = Segment.from_values([f"{name}/{number}"], [b"%d" % count], manifest.replica, stamp)
            storage.write([COUNTER], [b"%d" % count])
            # Every other time the manifest releases the lease, where it can; from then on it is somebody else's turn.
            token = side.lease.release_token if number % 2 else b""
            if token:
                turn.unlink()
            knowledge = manifest.knowledge.commit(logged, replica=manifest.replica, mark=environment.mark())
            side.log.write(logged, knowledge, lease=token)
            if token:
                side.lease.mark_released()
            else:
                turn.unlink()
    storage.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))
