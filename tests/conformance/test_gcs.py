"""Google Cloud Storage against the suite for storages: obstore's client, and a double of the service."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from kvsync.storages.bucket import open_url
from kvsync.testing.conformance import StorageConformance

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers.gcs import GcsServer

    from kvsync.storages.contract import Storage


class TestGcs(StorageConformance):
    @pytest.fixture
    def reopen(self, gcs_server: GcsServer) -> Callable[[], Storage]:
        url = gcs_server.url_of(f"conformance/{secrets.token_hex(8)}")
        return lambda: open_url(url)
