"""Runs syncs in forked children, each of which exits without a word at one operation; prints each one's fate."""

from __future__ import annotations

import os
import sys

import kvsync
from kvsync.storages import open_storage
from kvsync.storages.base import SupportsTransaction
from world import Fuse, Wire

KILLED = 9


class Mortal(Fuse):
    """Ends the process where another fuse raises."""

    def call(self, operation):  # type: ignore[no-untyped-def]
        self.count += 1
        if self.count == self.at:
            os._exit(KILLED)
        return operation()


class TransactionalWire(Wire):
    """Passes transactions on."""

    def transaction(self):  # type: ignore[no-untyped-def]
        assert isinstance(self.inner, SupportsTransaction)
        self.fuse.call(lambda: None)
        return self.inner.transaction()


def run(at: int, urls: list[str]) -> None:
    fuse = Mortal(at)
    wires = []
    for url in urls:
        storage, _ = open_storage(url)
        kind = TransactionalWire if isinstance(storage, SupportsTransaction) else Wire
        wires.append(kind(storage, fuse))
    kvsync.sync(wires[0], wires[1], conflict="source")


for attempt in sys.argv[1:]:
    number, *places = attempt.split("|")
    child = os.fork()
    if child == 0:
        run(int(number), places)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.stdout.write({KILLED: "killed\n", 0: "finished\n"}[status])
