"""NATS JetStream against the suite for storages: a bucket of our own, and some that others made."""

from __future__ import annotations

import uuid
from functools import partial
from typing import TYPE_CHECKING

import pytest
from shortened import shortened

from kvsync.storages.contract import Capabilities, OpaqueTokens, Support, Tier
from kvsync.storages.nats import NatsServer as Where
from kvsync.storages.nats import NatsStorage, open_url
from kvsync.testing import CountingStorage
from kvsync.testing.conformance import StorageConformance

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers.nats import NatsServer

    from kvsync.storages.contract import Storage


EXPECTED = Capabilities(
    Tier.CONDITIONAL,
    distance="network",
    tokens=OpaqueTokens(racy_ms=0),
    supports=frozenset(
        {Support.TOKENS, Support.IDENTITY, Support.SKIPPED, Support.DRY_PROBE, Support.LIMITS, Support.HINTS}
    ),
)


@pytest.fixture
def bucket() -> str:
    return f"b{uuid.uuid4().hex}"


class TestNats(StorageConformance):
    expects = EXPECTED
    unique_versions = True

    @pytest.fixture
    def reopen(self, nats_server: NatsServer, bucket: str) -> Callable[[], Storage]:
        return partial(open_url, nats_server.url(bucket))

    @pytest.fixture
    def spoil(self, nats_server: NatsServer, bucket: str) -> Callable[[str], None]:
        def put_expiring(key: str) -> None:
            headers = {"Nats-TTL": "1h"}
            nats_server.ask(lambda kv: kv._js.publish(f"$KV.{bucket}.{key}", b"1", headers=headers), bucket)

        return put_expiring

    @pytest.fixture
    def misname(self, nats_server: NatsServer, bucket: str) -> Callable[[], None]:
        return lambda: nats_server.ask(lambda kv: kv._js.publish(f"$KV.{bucket}.a:b", b"1"), bucket)


class TestBucketWithoutDirectGet(StorageConformance):
    """As the Python client makes one by default, in memory, with a history."""

    expects = EXPECTED
    unique_versions = True

    @pytest.fixture
    def reopen(self, nats_server: NatsServer, bucket: str) -> Callable[[], Storage]:
        nats_server.make(bucket, direct=False, history=5, storage="memory")
        return partial(NatsStorage, bucket, Where(f"127.0.0.1:{nats_server.port}"))


@shortened
class TestWrappedNats(StorageConformance):
    expects = EXPECTED
    processes = False
    unique_versions = True

    @pytest.fixture
    def reopen(self, nats_server: NatsServer, bucket: str) -> Callable[[], Storage]:
        return lambda: CountingStorage(open_url(nats_server.url(bucket)))
