"""Buckets against the suite for storages: a real S3 server with a prefix and without, and obstore's store in memory."""

from __future__ import annotations

import secrets
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from obstore.exceptions import PermissionDeniedError
from obstore.store import MemoryStore
from shortened import shortened
from variants import LONG

from kvsync.storages.bucket import BucketStorage, open_url
from kvsync.storages.bucket.client import md5_of
from kvsync.storages.bucket.listing import PAGE_COUNT
from kvsync.storages.contract import Capabilities, OpaqueTokens, Support, Tier
from kvsync.testing import CountingStorage
from kvsync.testing.conformance import StorageConformance
from kvsync.testing.conformance.values import check_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servers.seaweed import SeaweedServer

    from kvsync.storages.contract import Storage


EXPECTED = Capabilities(
    Tier.CONDITIONAL,
    distance="network",
    tokens=OpaqueTokens(md5_of=md5_of),
    conditions="claimed",
    lease_stays=True,
    supports=frozenset(Support)
    - {Support.TRANSACTION, Support.METADATA, Support.EXPIRY, Support.FILES, Support.DRY_PROBE, Support.JOURNAL},
)
IN_MEMORY = replace(EXPECTED, supports=EXPECTED.supports - {Support.HOST, Support.COPY, Support.LIMITS})


def deny(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Refuse every request that names `path`."""

    def denying(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(store: MemoryStore, paths: str | list[str], *args: Any, **options: Any) -> Any:
            if path in ([paths] if isinstance(paths, str) else paths):
                message = "status code: 403 Forbidden: <Code>AccessDenied</Code><Message>Access Denied</Message>"
                raise PermissionDeniedError(message)
            return method(store, paths, *args, **options)

        return call

    for name in ("get", "head", "put", "delete"):
        monkeypatch.setattr(MemoryStore, name, denying(getattr(MemoryStore, name)))


class TestS3(StorageConformance):
    """Ten thousand keys go the same way as three pages, by a server that takes 20 seconds of a core for them."""

    expects = EXPECTED
    if not LONG:
        test_ten_thousand_keys_in_a_batch = None  # type: ignore[assignment]

    def test_three_pages_of_keys_in_a_batch(self, storage: Storage) -> None:
        check_batch(storage, PAGE_COUNT * 2 + 500)

    @pytest.fixture
    def reopen(self, seaweed_server: SeaweedServer) -> Callable[[], Storage]:
        url = seaweed_server.url_of(f"conformance/{secrets.token_hex(8)}")
        return partial(open_url, url)


@shortened
class TestWholeBucket(StorageConformance):
    """No prefix; SeaweedFS makes a bucket at its first write."""

    expects = EXPECTED
    test_ten_thousand_keys_in_a_batch = None  # type: ignore[assignment]

    def test_two_pages_of_keys_in_a_batch(self, storage: Storage) -> None:
        check_batch(storage, PAGE_COUNT + 1)

    @pytest.fixture
    def reopen(self, seaweed_server: SeaweedServer) -> Iterator[Callable[[], Storage]]:
        bucket = seaweed_server.new_bucket()
        yield partial(open_url, seaweed_server.url_of("", bucket=bucket))
        seaweed_server.remove_bucket(bucket)


class TestBucketInMemory(StorageConformance):
    expects = IN_MEMORY
    processes = False

    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()

    @pytest.fixture
    def reopen(self, store: MemoryStore) -> Callable[[], Storage]:
        return lambda: BucketStorage(store, "in/memory")

    @pytest.fixture
    def spoil(self, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        """Put an object there, and answer 403 to every request for it, as where its rights or its own key say so."""

        def put_denied(key: str) -> None:
            store.put(f"in/memory/{key}", b"theirs")
            deny(monkeypatch, f"in/memory/{key}")

        return put_denied

    @pytest.fixture
    def hinder(self, spoil: Callable[[str], None]) -> Callable[[str], None]:
        return spoil


@shortened
class TestWrappedBucket(StorageConformance):
    expects = IN_MEMORY
    processes = False

    @pytest.fixture
    def reopen(self) -> Callable[[], Storage]:
        store = MemoryStore()
        return lambda: CountingStorage(BucketStorage(store))
