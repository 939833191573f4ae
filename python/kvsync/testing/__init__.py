"""For tests of a storage, or with one: a conformance suite, and storages that count, fail, wait and expire.

`kvsync.testing.conformance.StorageConformance` needs pytest; the rest needs nothing.
"""

from __future__ import annotations

from kvsync.storages.wrapper import WrappedStorage
from kvsync.testing.counting import CountingStorage
from kvsync.testing.expiring import ExpiringStorage
from kvsync.testing.faulty import FaultyStorage
from kvsync.testing.latency import LatencyStorage

__all__ = ["CountingStorage", "ExpiringStorage", "FaultyStorage", "LatencyStorage", "WrappedStorage"]
