"""Google Cloud Storage against the suite for storages: obstore's client, and a double of the service."""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING

import pytest

from kvsync.storages.bucket import open_url
from kvsync.storages.contract import Capabilities, OpaqueTokens, Support, Tier
from kvsync.testing.conformance import StorageConformance

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers.gcs import GcsServer

    from kvsync.storages.contract import Storage


class TestGcs(StorageConformance):
    expects = Capabilities(
        Tier.CONDITIONAL,
        distance="network",
        tokens=OpaqueTokens(),
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
        },
    )

    @pytest.fixture
    def reopen(self, gcs_server: GcsServer) -> Callable[[], Storage]:
        url = gcs_server.url_of(f"conformance/{secrets.token_hex(8)}")
        return partial(open_url, url)
