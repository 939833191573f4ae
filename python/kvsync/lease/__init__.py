"""The lease: one holder at a time writes the index of a storage.

A lease is an index object that only conditional writes change. It is free when it is absent (its last
holder released it cleanly), says that it was released, ended with the manifest (`kvsync.lease.left`), is past
its expiry by more than `SKEW_SECONDS`, or was seen unchanged for its whole life on our own monotonic clock.
There is no heartbeat thread: the holder calls `Lease.keep` before each batch of writes, which renews on
progress and stops the run in time.
"""

from kvsync.lease.acquiring import held
from kvsync.lease.contender import seize
from kvsync.lease.holding import Inheritance, Lease
from kvsync.lease.left import manifest_left, recall
from kvsync.lease.record import LIFE_SECONDS_MAX, SKEW_SECONDS, LeaseRecord, LeaseState, read_record

__all__ = [
    "LIFE_SECONDS_MAX",
    "SKEW_SECONDS",
    "Inheritance",
    "Lease",
    "LeaseRecord",
    "LeaseState",
    "held",
    "manifest_left",
    "read_record",
    "recall",
    "seize",
]
