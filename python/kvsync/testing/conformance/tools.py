"""What the tests of the suite have in common."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from kvsync.storages.contract import ObjectMismatch, has_copy, has_expiry, has_streaming, has_transaction

if TYPE_CHECKING:
    from kvsync.storages.contract import Storage, SupportsCopy, SupportsExpiry, SupportsStreaming, SupportsTransaction
    from kvsync.types import Origin

__all__ = [
    "HOUR_MS",
    "SOON_MS",
    "YEAR_9999_MS",
    "Interrupted",
    "copying_of",
    "expiring_of",
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
PATIENCE_SECONDS = 20.0
"""What is to go within `SOON_MS` is waited for so long: a server removes it when it likes, and machines are slow."""


class Interrupted(Exception):  # noqa: N818 - it is no error
    """Ends a transaction of a test."""


def idle() -> None:
    """Do nothing meanwhile."""


def now_ms() -> int:
    """Return the wall clock, in milliseconds."""
    return int(time.time() * 1000)


def listing(storage: Storage) -> dict[str, bytes]:
    """Return a whole scan as {key: token}, having checked its order."""
    keys: list[str] = []
    tokens: list[bytes] = []
    for some_keys, some_tokens in storage.scan():
        assert len(some_keys) == len(some_tokens)
        keys += some_keys
        tokens += some_tokens
    encoded = [key.encode() for key in keys]
    assert all(first < second for first, second in pairwise(encoded))
    return dict(zip(keys, tokens, strict=True))


def write(storage: Storage, values: dict[str, bytes]) -> set[str]:
    """Write, and return the keys that the storage refused for good."""
    written = storage.write(list(values), list(values.values()))
    assert not any(refusal.changed for refusal in written.refused)
    assert all(refusal.reason for refusal in written.refused)
    refused = {refusal.key for refusal in written.refused}
    if written.tokens is not None:
        assert [token is None for token in written.tokens] == [key in refused for key in values]
    return refused


def refuses(storage: Storage, data: bytes, expect: object) -> None:
    """Make sure that the manifest is not written where `expect` is not so."""
    with pytest.raises(ObjectMismatch):
        storage.store("manifest", data, expect)  # type: ignore[arg-type]


def expiring_of(storage: Storage) -> SupportsExpiry:
    """Return `storage`, which keeps expiry; skip the test for one that does not."""
    if not has_expiry(storage):
        pytest.skip("keeps no expiry")
    return storage


def wait_until_gone(storage: Storage, keys: list[str]) -> None:
    """Wait in real time, which a server's clock follows."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while storage.read(keys) != [None] * len(keys):
        assert time.monotonic() < deadline, f"{keys} do not expire"
        time.sleep(SOON_MS / 10_000)


def streaming_of(storage: Storage) -> SupportsStreaming:
    """Return `storage`, which moves values in parts; skip the test for one that does not."""
    if not has_streaming(storage):
        pytest.skip("moves values only whole")
    return storage


def copying_of(storage: Storage, key: str) -> tuple[SupportsCopy, Origin]:
    """Return `storage`, whose server copies, and where `key` is copied from; skip the test for any other."""
    origin = storage.origin(key) if has_copy(storage) else None
    if not has_copy(storage) or origin is None:
        pytest.skip("its server copies nothing")
    return storage, origin


def transactional(storage: Storage) -> SupportsTransaction:
    """Return `storage`, which has transactions; skip the test for one that has none."""
    if not has_transaction(storage):
        pytest.skip("has no transactions")
    return storage
