"""Finding changes by comparing a storage with what its last scan saw."""

from kvsync.scan.budget import Budget
from kvsync.scan.scanning import Scan, scan
from kvsync.scan.stamping import stamped
from kvsync.scan.vouching import Voucher, claims_of

__all__ = ["Budget", "Scan", "Voucher", "claims_of", "scan", "stamped"]
