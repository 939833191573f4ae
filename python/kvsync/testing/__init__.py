"""For those who test a storage or against one.

A conformance suite, crashes, random histories, and storages that count, fail and wait.

`kvsync.testing.conformance.StorageConformance` needs pytest; the rest needs nothing.
"""

from __future__ import annotations

from kvsync.storages.wrapper import WrappedStorage
from kvsync.testing.counting import CountingStorage
from kvsync.testing.crash import crashes
from kvsync.testing.expiring import ExpiringStorage
from kvsync.testing.faults import FAULT_MODES, Fault, FaultError, FaultMode, FaultyStorage, Killed
from kvsync.testing.latency import LatencyStorage
from kvsync.testing.simulation import SimulationError, simulate
from kvsync.testing.virtual import virtual_environment

__all__ = [
    "FAULT_MODES",
    "CountingStorage",
    "ExpiringStorage",
    "Fault",
    "FaultError",
    "FaultMode",
    "FaultyStorage",
    "Killed",
    "LatencyStorage",
    "SimulationError",
    "WrappedStorage",
    "crashes",
    "simulate",
    "virtual_environment",
]
