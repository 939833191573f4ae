"""Google Cloud Storage against the suite for storages: obstore's client, and a double of the service."""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING

import pytest

from kvsync.storages.bucket import open_url
from kvsync.storages.bucket.client import md5_of
from kvsync.storages.bucket.listing import PAGE_COUNT
from kvsync.storages.contract import Capabilities, OpaqueTokens, Support, Tier
from kvsync.testing.conformance import StorageConformance
from kvsync.testing.conformance.values import check_batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers.gcs import GcsServer

    from kvsync.storages.contract import Storage


class TestGcs(StorageConformance):
    expects = Capabilities(
        Tier.CONDITIONAL,
        distance="network",
        tokens=OpaqueTokens(md5_of=md5_of),
        conditions="claimed",
        lease_stays=True,
        supports=frozenset(Support)
        - {
            Support.TRANSACTION,
            Support.METADATA,
            Support.EXPIRY,
            Support.FILES,
            Support.COPY,
            Support.DRY_PROBE,
            Support.LIMITS,
            Support.JOURNAL,
        },
    )
    test_ten_thousand_keys_in_a_batch = None  # type: ignore[assignment]

    def test_three_pages_of_keys_in_a_batch(self, storage: Storage) -> None:
        """The adapter takes ten thousand from a real server in test_s3.py; the double is slow."""
        check_batch(storage, PAGE_COUNT * 2 + 500)

    @pytest.fixture
    def reopen(self, gcs_server: GcsServer) -> Callable[[], Storage]:
        url = gcs_server.url_of(f"conformance/{secrets.token_hex(8)}")
        return partial(open_url, url)
