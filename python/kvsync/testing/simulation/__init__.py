"""Random histories of storages that are written, synced, crashed, restored, copied and damaged, all from a seed."""

from __future__ import annotations

from kvsync.testing.simulation.disks import DISKS, Disk, FolderDisk, MakeDisk, SqliteDisk
from kvsync.testing.simulation.schedule import HAZARDS, Hazard
from kvsync.testing.simulation.simulating import Failure, Report, SimulationError, simulate

__all__ = [
    "DISKS",
    "HAZARDS",
    "Disk",
    "Failure",
    "FolderDisk",
    "Hazard",
    "MakeDisk",
    "Report",
    "SimulationError",
    "SqliteDisk",
    "simulate",
]
