"""The lease: one holder at a time writes the index of a storage.

A lease is an index object that only conditional writes change. It is free when it is absent, when its record says that
it was released, or when the storage's last manifest names its version as released. Its holder is dead when it was a
process of this machine that has ended. It counts as dead when the lease is past its expiry by more than `SKEW_SECONDS`,
or was seen unchanged for its whole life on our own monotonic clock.

There is no heartbeat thread: the holder calls `Lease.keep` before each batch of writes, which renews on progress and
stops the run in time. This package knows the lease object only; `kvsync.run.lock` brings lease and manifest together.
"""

from kvsync.lease.acquire import Acquirer, Held
from kvsync.lease.hold import Lease, Previous, PreviousHolder
from kvsync.lease.record import LIFE_SECONDS_MAX, SKEW_SECONDS, LeaseRecord, LeaseState

__all__ = [
    "LIFE_SECONDS_MAX",
    "SKEW_SECONDS",
    "Acquirer",
    "Held",
    "Lease",
    "LeaseRecord",
    "LeaseState",
    "Previous",
    "PreviousHolder",
]
