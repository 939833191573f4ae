"""The only door to the Rust extension: everything else imports its names from here."""

from __future__ import annotations

import warnings

from kvsync._core import (
    DEBUG_BUILD,
    DECISION,
    FORMAT_VERSION,
    KIND_LEASE,
    KIND_LOST,
    KIND_MANIFEST,
    TOMBSTONE,
    Cover,
    Delta,
    Given,
    Hasher,
    Inventory,
    Segment,
    check_key,
    checksum,
    delta,
    digest_values,
    newest_digest,
    seal,
    stamp_after,
    unseal,
)

__all__ = [
    "DEBUG_BUILD",
    "DECISION",
    "FORMAT_VERSION",
    "KIND_LEASE",
    "KIND_LOST",
    "KIND_MANIFEST",
    "TOMBSTONE",
    "Cover",
    "Delta",
    "Given",
    "Hasher",
    "Inventory",
    "Segment",
    "check_key",
    "checksum",
    "delta",
    "digest_values",
    "newest_digest",
    "seal",
    "stamp_after",
    "unseal",
]

if DEBUG_BUILD:  # pragma: no cover - release wheels never take this branch
    warnings.warn("kvsync._core is a debug build: exact, but slow", RuntimeWarning, stacklevel=2)
