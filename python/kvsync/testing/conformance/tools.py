"""What the tests of the suite share."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from kvsync.native import Page, Walk
from kvsync.storages.contract import ObjectMismatch, has_copy, has_expiry, has_splits, has_streaming, has_transaction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.native import FoundValues
    from kvsync.storages.contract import (
        Storage,
        SupportsCopy,
        SupportsExpiry,
        SupportsStreaming,
        SupportsTransaction,
    )
    from kvsync.types import Expectation, Origin

__all__ = [
    "HOUR_MS",
    "SOON_MS",
    "YEAR_9999_MS",
    "Interrupted",
    "copying_of",
    "expiring_of",
    "found_by_listing",
    "idle",
    "listing",
    "now_ms",
    "refuses",
    "streaming_of",
    "transactional",
    "wait_until_gone",
    "write",
]

YEAR_9999_MS = 253_402_300_799_999
HOUR_MS = 3_600_000
SOON_MS = 150
EXPIRY_SECONDS_MAX = 20.0
"""How long to wait for a value that expires within `SOON_MS`: a server removes it when it likes, machines are slow."""


class Interrupted(Exception):  # noqa: N818 - it is no error
    """Ends a transaction of a test."""


def idle() -> None:
    """Do nothing."""


def now_ms() -> int:
    """Return the wall clock in milliseconds."""
    return int(time.time() * 1000)


def listing(storage: Storage, splits: Sequence[str] = ()) -> dict[str, bytes]:
    """Return a whole scan as {key: token}; check that keys ascend, so that none occurs twice."""
    keys: list[str] = []
    tokens: list[bytes] = []
    for some_keys, some_tokens in storage.scan(splits) if splits and has_splits(storage) else storage.scan():
        assert len(some_keys) == len(some_tokens)
        keys += some_keys
        tokens += some_tokens
    encoded = [key.encode() for key in keys]
    assert all(first < second for first, second in pairwise(encoded))
    return dict(zip(keys, tokens, strict=True))


def found_by_listing(storage: Storage) -> FoundValues:
    """Return the values that a scan reads while it lists."""
    walk = Walk([])
    for listed in storage.scan():
        page = listed if isinstance(listed, Page) else Page.of_tokens(*listed)
        walk.compare(page, 0)
    return walk.take()[0]


def write(storage: Storage, values: dict[str, bytes]) -> set[str]:
    """Write without conditions; return the keys that the storage refuses."""
    written = storage.write(list(values), list(values.values()))
    assert not any(refusal.changed for refusal in written.refused)
    assert all(refusal.reason for refusal in written.refused)
    refused = {refusal.key for refusal in written.refused}
    if written.tokens is not None:
        assert [token is None for token in written.tokens] == [key in refused for key in values]
    return refused


def refuses(storage: Storage, data: bytes, expect: Expectation) -> None:
    """Check that the manifest is not written, since it does not have the version `expect`."""
    with pytest.raises(ObjectMismatch):
        storage.store("manifest", data, expect)


def expiring_of(storage: Storage) -> SupportsExpiry:
    """Return `storage`, which keeps expiry."""
    assert has_expiry(storage)
    return storage


def wait_until_gone(storage: Storage, keys: list[str]) -> None:
    """Wait in real time, which the clock of a server follows."""
    deadline = time.monotonic() + EXPIRY_SECONDS_MAX
    while storage.read(keys) != [None] * len(keys):
        assert time.monotonic() < deadline, f"{keys} do not expire"
        time.sleep(SOON_MS / 10_000)


def streaming_of(storage: Storage) -> SupportsStreaming:
    """Return `storage`, which moves values in parts."""
    assert has_streaming(storage)
    return storage


def copying_of(storage: Storage, key: str) -> tuple[SupportsCopy, Origin]:
    """Return `storage`, whose server copies, and where `key` is copied from."""
    assert has_copy(storage)
    origin = storage.origin(key)
    assert origin is not None
    return storage, origin


def transactional(storage: Storage) -> SupportsTransaction:
    """Return `storage`, which has transactions."""
    assert has_transaction(storage)
    return storage
