"""The names of the Rust extension; no other module imports it."""

from __future__ import annotations

import warnings

from kvsync._core import (
    DEBUG_BUILD,
    DECISION,
    FORMAT_VERSION,
    INEXACT,
    KIND_INVENTORY,
    KIND_LEASE,
    KIND_LOST,
    KIND_MANIFEST,
    KIND_SEGMENT,
    TOMBSTONE,
    BlockDelta,
    BlockMerge,
    Correction,
    Cover,
    Delta,
    Directory,
    FoundValues,
    Given,
    Hasher,
    Merge,
    Page,
    Piece,
    Segment,
    Unread,
    Walk,
    check_key,
    checksum,
    delta,
    digest_values,
    newest_digest,
    seal,
    stamp_after,
    stamp_found,
    unseal,
)

__all__ = [
    "DEBUG_BUILD",
    "DECISION",
    "FORMAT_VERSION",
    "INEXACT",
    "KIND_INVENTORY",
    "KIND_LEASE",
    "KIND_LOST",
    "KIND_MANIFEST",
    "KIND_SEGMENT",
    "TOMBSTONE",
    "BlockDelta",
    "BlockMerge",
    "Correction",
    "Cover",
    "Delta",
    "Directory",
    "FoundValues",
    "Given",
    "Hasher",
    "Merge",
    "Page",
    "Piece",
    "Segment",
    "Unread",
    "Walk",
    "check_key",
    "checksum",
    "delta",
    "digest_values",
    "newest_digest",
    "seal",
    "stamp_after",
    "stamp_found",
    "unseal",
]

if DEBUG_BUILD:  # pragma: no cover - release wheels never take this branch
    warnings.warn(
        "kvsync._core is a debug build: correct, but slow; build it with `--release`", RuntimeWarning, stacklevel=2
    )
