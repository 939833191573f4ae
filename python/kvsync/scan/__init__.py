"""Finding changes by comparing a storage with what its last scan saw."""

from kvsync.scan.budget import Budget
from kvsync.scan.scanning import Scan, scan

__all__ = ["Budget", "Scan", "scan"]
