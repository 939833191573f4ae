"""Runs syncs in forked children, each of which exits without a word at one operation; prints each one's fate."""

from __future__ import annotations

import os
import sys
from typing import Any

import kvsync
from kvsync.storages import open_storage
from kvsync.testing import Fault, FaultyStorage

KILLED = 9


class Mortal(Fault):
    """Ends the process where another fault raises."""

    def call(self, method: str, operation: Any, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        if self.count == self.at:
            os._exit(KILLED)
        return operation(*args, **kwargs)


def run(at: int, urls: list[str]) -> None:
    fault = Mortal(at)
    source, target = (FaultyStorage(open_storage(url)[0], fault) for url in urls)
    kvsync.sync(source, target, conflict="source")


for attempt in sys.argv[1:]:
    number, *places = attempt.split("|")
    child = os.fork()
    if child == 0:
        run(int(number), places)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.stdout.write({KILLED: "killed\n", 0: "finished\n"}[status])
