"""Azure's blobs against the suite for storages."""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING

import pytest

from kvsync.storages.bucket import open_url
from kvsync.storages.bucket.client import md5_of
from kvsync.storages.contract import Capabilities, OpaqueTokens, Support, Tier
from kvsync.testing.conformance import StorageConformance

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers.azurite import AzuriteServer

    from kvsync.storages.contract import Storage


class TestAzure(StorageConformance):
    expects = Capabilities(
        Tier.CONDITIONAL,
        distance="network",
        tokens=OpaqueTokens(md5_of=md5_of),
        conditions="claimed",
        lease_stays=True,
        supports=frozenset(Support)
        - {Support.TRANSACTION, Support.METADATA, Support.EXPIRY, Support.COPY, Support.DRY_PROBE, Support.LIMITS}
        - {Support.SPLITS, Support.JOURNAL},
    )

    @pytest.fixture
    def reopen(self, azure_server: AzuriteServer) -> Callable[[], Storage]:
        url = azure_server.url_of(f"conformance/{secrets.token_hex(8)}")
        return partial(open_url, url)
