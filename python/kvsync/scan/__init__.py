"""Finding changes by comparing a storage with what its last scan saw."""

from kvsync.scan.budget import Budget
from kvsync.scan.scanning import InventoryGuard, Scan, scan

__all__ = ["Budget", "InventoryGuard", "Scan", "scan"]
