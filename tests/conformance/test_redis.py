"""Redis against the suite for storages: a whole database, a prefix, a hash, and a cluster."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
import redis
from servers.redis import RedisCluster, RedisServer
from shortened import shortened

from kvsync.storages.contract import Capabilities, Support, Tier
from kvsync.storages.redis import open_url
from kvsync.testing import CountingStorage
from kvsync.testing.conformance import StorageConformance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvsync.storages.contract import Storage

EXPECTED = Capabilities(
    Tier.CONDITIONAL,
    distance="network",
    lease_stays=True,
    supports=frozenset(
        {Support.IDENTITY, Support.NESTING, Support.EXPIRY, Support.SKIPPED, Support.LIMITS, Support.HINTS}
    ),
)
HASH = replace(EXPECTED, supports=EXPECTED.supports - {Support.EXPIRY})

numbers = itertools.count()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers


class TestDatabase(StorageConformance):
    expects = EXPECTED

    @pytest.fixture
    def reopen(self, redis_server: RedisServer) -> Iterator[Callable[[], Storage]]:
        url = redis_server.url.removesuffix("/0") + "/5"
        yield partial(open_url, url)
        open_url(url)._link.client().flushdb()

    @pytest.fixture
    def client(self, redis_server: RedisServer) -> Iterator[redis.Redis]:
        with redis.Redis(port=redis_server.port, db=5) as client:
            yield client

    @pytest.fixture
    def spoil(self, client: redis.Redis) -> Callable[[str], None]:
        def put_list(key: str) -> None:
            client.delete(key)
            client.rpush(key, "x")

        return put_list

    @pytest.fixture
    def hinder(self, spoil: Callable[[str], None]) -> Callable[[str], None]:
        return spoil

    @pytest.fixture
    def misname(self, client: redis.Redis) -> Callable[[], object]:
        return lambda: client.set(b"\xff", b"1")


class TestPrefix(StorageConformance):
    """A prefix that is full of what SCAN takes for a pattern, amid other keys."""

    expects = EXPECTED

    @pytest.fixture
    def reopen(self, redis_server: RedisServer) -> Callable[[], Storage]:
        url = f"{redis_server.url}?prefix=a*[%5Ex]%3F%5C{next(numbers)}:"
        redis_server.ask("SET", "a*x", "foreign")
        redis_server.ask("SADD", "aaax?1", "foreign")
        return partial(open_url, url)


class TestHash(StorageConformance):
    expects = HASH

    @pytest.fixture
    def name(self) -> str:
        return f"users{next(numbers)}"

    @pytest.fixture
    def reopen(self, redis_server: RedisServer, name: str) -> Callable[[], Storage]:
        return partial(open_url, f"{redis_server.url}?hash={name}")

    @pytest.fixture
    def misname(self, redis_server: RedisServer, name: str) -> Callable[[], object]:
        return lambda: redis.Redis(port=redis_server.port).hset(name, b"\xff", b"1")


class TestCluster(StorageConformance):
    expects = EXPECTED

    @pytest.fixture
    def prefix(self) -> str:
        return f"app{next(numbers)}:"

    @pytest.fixture
    def reopen(self, cluster: RedisCluster, prefix: str) -> Callable[[], Storage]:
        return partial(open_url, f"{cluster.url}&prefix={prefix}")

    @pytest.fixture
    def client(self, cluster: RedisCluster) -> Iterator[redis.RedisCluster]:
        with redis.RedisCluster(host="127.0.0.1", port=cluster.servers[0].port) as client:
            yield client

    @pytest.fixture
    def spoil(self, client: redis.RedisCluster, prefix: str) -> Callable[[str], None]:
        def put_hash(key: str) -> None:
            client.delete(prefix + key)
            client.hset(prefix + key, "x", "y")

        return put_hash

    @pytest.fixture
    def misname(self, client: redis.RedisCluster, prefix: str) -> Callable[[], object]:
        return lambda: client.set(prefix.encode() + b"\xff", b"1")


@shortened
class TestHashInCluster(StorageConformance):
    expects = HASH

    @pytest.fixture
    def reopen(self, cluster: RedisCluster) -> Callable[[], Storage]:
        url = f"{cluster.url}&hash=users{next(numbers)}"
        return partial(open_url, url)


@shortened
class TestWrapped(StorageConformance):
    expects = EXPECTED
    processes = False

    @pytest.fixture
    def reopen(self, redis_server: RedisServer) -> Callable[[], Storage]:
        url = f"{redis_server.url}?prefix=wrapped{next(numbers)}/"
        return lambda: CountingStorage(open_url(url))
