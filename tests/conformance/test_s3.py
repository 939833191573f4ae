"""Buckets against the suite for storages: a real S3 server with a prefix and without, and obstore's store in memory."""

from __future__ import annotations

import secrets
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from kvsync.storages.bucket import BucketStorage, open_url
from kvsync.storages.contract import Capabilities, OpaqueTokens, Support, Tier
from kvsync.testing import CountingStorage
from kvsync.testing.conformance import StorageConformance

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers.seaweed import SeaweedServer

    from kvsync.storages.contract import Storage


EXPECTED = Capabilities(
    Tier.CONDITIONAL,
    distance="network",
    tokens=OpaqueTokens(),
    conditions="claimed",
    lease_stays=True,
    supports=frozenset(Support) - {Support.TRANSACTION, Support.EXPIRY, Support.FILES, Support.DRY_PROBE},
)
IN_MEMORY = replace(EXPECTED, supports=EXPECTED.supports - {Support.HOST, Support.COPY})


class TestS3(StorageConformance):
    expects = EXPECTED

    @pytest.fixture
    def reopen(self, seaweed_server: SeaweedServer) -> Callable[[], Storage]:
        url = seaweed_server.url_of(f"conformance/{secrets.token_hex(8)}")
        return partial(open_url, url)


class TestWholeBucket(StorageConformance):
    """No prefix; SeaweedFS makes a bucket at its first write."""

    expects = EXPECTED

    @pytest.fixture
    def reopen(self, seaweed_server: SeaweedServer) -> Callable[[], Storage]:
        url = seaweed_server.url_of("", bucket=seaweed_server.new_bucket())
        return partial(open_url, url)


class TestBucketInMemory(StorageConformance):
    expects = IN_MEMORY
    processes = False

    @pytest.fixture
    def reopen(self) -> Callable[[], Storage]:
        from obstore.store import MemoryStore

        store = MemoryStore()
        return lambda: BucketStorage(store, "in/memory")


class TestWrappedBucket(StorageConformance):
    expects = IN_MEMORY
    processes = False

    @pytest.fixture
    def reopen(self) -> Callable[[], Storage]:
        from obstore.store import MemoryStore

        store = MemoryStore()
        return lambda: CountingStorage(BucketStorage(store))
