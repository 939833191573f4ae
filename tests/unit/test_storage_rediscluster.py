"""What is special about a Redis Cluster: slots that move, servers that go, and nothing sent twice."""

from __future__ import annotations

import contextlib
import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers.redis import RedisCluster, RedisServer
from servers.tls import TlsEnd

import kvsync
from kvsync import Delete, Put
from kvsync.errors import StorageError, UsageError
from kvsync.native import digest_values
from kvsync.storages.redis import RedisStorage, open_url
from kvsync.storages.redis.url import Location
from kvsync.testing.conformance import listing
from kvsync.types import ABSENT, Skipped, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

numbers = itertools.count()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path_factory.mktemp("cluster"), appendfsync="always") as servers:
        yield servers


@pytest.fixture
def prefix() -> str:
    return f"unit{next(numbers)}:"


@pytest.fixture
def storage(cluster: RedisCluster, prefix: str) -> Iterator[RedisStorage]:
    with contextlib.closing(open_url(f"{cluster.url}&prefix={prefix}")) as opened:
        yield opened


def token(value: bytes) -> bytes:
    return digest_values([value])[0]


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


class Move:
    """The move of one slot from the server that holds it to the next, step by step."""

    def __init__(self, cluster: RedisCluster, key: str) -> None:
        self.key = key
        self.slot = redis.crc.key_slot(key.encode())
        giver = self.slot * len(cluster.servers) // 16_384
        self.giver: RedisServer = cluster.servers[giver]
        self.taker: RedisServer = cluster.servers[(giver + 1) % len(cluster.servers)]

    def begin(self) -> None:
        assert self.taker.ask("CLUSTER", "SETSLOT", self.slot, "IMPORTING", self._id(self.giver)) == b"+OK\r\n"
        assert self.giver.ask("CLUSTER", "SETSLOT", self.slot, "MIGRATING", self._id(self.taker)) == b"+OK\r\n"

    def move_key(self) -> None:
        assert self.giver.ask("MIGRATE", "127.0.0.1", self.taker.port, self.key, 0, 5000) == b"+OK\r\n"

    def end(self) -> None:
        for server in (self.taker, self.giver):
            assert server.ask("CLUSTER", "SETSLOT", self.slot, "NODE", self._id(self.taker)) == b"+OK\r\n"

    def reversed(self) -> Move:
        self.giver, self.taker = self.taker, self.giver
        return self

    @staticmethod
    def _id(server: RedisServer) -> str:
        return server.ask("CLUSTER", "MYID").split(b"\r\n")[1].decode()


def test_keys_lie_on_every_server_and_the_index_on_one(
    cluster: RedisCluster, storage: RedisStorage, prefix: str
) -> None:
    keys = [f"{number}" for number in range(300)]
    storage.write(keys, [b"1"] * 300)
    for name in ("manifest", "lease", "segment/0000000000000001-0"):
        storage.store(name, b"M", ABSENT)
    held = []
    for server in cluster.servers:
        with redis.Redis(port=server.port) as client:
            held.append(len(list(client.scan_iter(f"{prefix}*", count=1000))))
    assert min(held) > 50
    assert sum(held) == 301
    assert set(listing(storage)) == set(keys)


def test_one_server_of_a_cluster_says_what_it_is(cluster: RedisCluster, prefix: str) -> None:
    storage = open_url(f"{cluster.servers[0].url}?prefix={prefix}")
    with pytest.raises(StorageError, match="add cluster=true"):
        storage.write([f"{number}" for number in range(100)], [b"1"] * 100)
    with pytest.raises(StorageError, match="add cluster=true"):
        storage.read([f"{number}" for number in range(100)])


def test_a_slot_that_moves_is_followed_and_no_listing_is_made_meanwhile(
    cluster: RedisCluster, storage: RedisStorage, prefix: str
) -> None:
    storage.write(["a", "b"], [b"1", b"1"], [None, None])
    move = Move(cluster, f"{prefix}a")
    move.begin()
    with pytest.raises(StorageError, match="is moving slots"):
        listing(storage)
    move.move_key()
    assert storage.read(["a", "b"]) == [b"1", b"1"]
    assert storage.write(["a"], [b"2"], [token(b"1")]).refused == ()
    move.end()
    assert storage.read(["a", "b"]) == [b"2", b"1"]
    storage.write(["a", "b"], [b"3", b"3"])
    assert [refusal.key for refusal in storage.delete(["a", "b"], [token(b"x"), token(b"3")]).refused] == ["a"]
    assert listing(storage) == {"a": token(b"3")}
    back = move.reversed()
    back.begin()
    back.move_key()
    back.end()
    assert storage.write(["a"], [b"4"], [token(b"3")]).refused == ()
    assert listing(storage) == {"a": token(b"4")}


def test_a_slot_that_moves_during_a_listing_fails_it(
    cluster: RedisCluster, storage: RedisStorage, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key goes from a server that is not listed yet to one that was: it is in neither listing."""
    storage.write(["a", "b", "c"], [b"1"] * 3)
    move = Move(cluster, f"{prefix}a")
    link = storage._link
    primaries = link.primaries

    def late() -> list[Any]:
        move.begin()
        move.move_key()
        move.end()
        monkeypatch.undo()
        return primaries()

    topology = link.topology

    def first() -> object:
        before = topology()
        monkeypatch.setattr(link, "primaries", late)
        return before

    monkeypatch.setattr(link, "topology", first)
    with pytest.raises(StorageError, match="moved slots during the listing"):
        listing(storage)
    assert set(listing(storage)) == {"a", "b", "c"}
    back = move.reversed()
    back.begin()
    back.move_key()
    back.end()


def test_a_server_that_is_away_fails_the_call_and_comes_back(
    cluster: RedisCluster, storage: RedisStorage, prefix: str
) -> None:
    keys = [f"{number}" for number in range(30)]
    storage.write(keys, [b"1"] * 30)
    version = storage.store("lease", b"L", ABSENT)
    cluster.servers[1].kill()
    with pytest.raises(StorageError):
        storage.read(keys)
    with pytest.raises(StorageError):
        storage.write(keys, [b"2"] * 30, [token(b"1")] * 30)
    with pytest.raises(StorageError):
        listing(storage)
    cluster.servers[1].start()
    cluster.wait()
    held = storage.read(keys)
    assert set(held) <= {b"1", b"2"}
    assert storage.load("lease") == (b"L", version)
    assert set(listing(storage)) == set(keys)


def test_a_replica_that_takes_over_is_found_by_the_same_handle(tmp_path: Path) -> None:
    with RedisCluster(tmp_path / "primaries") as servers, RedisServer(tmp_path / "replica", cluster=True) as replica:
        replica.ask("CLUSTER", "MEET", "127.0.0.1", servers.servers[0].port)
        lost = servers.servers[2]
        lost_id = lost.ask("CLUSTER", "MYID").split(b"\r\n")[1].decode()
        until(lambda: replica.ask("CLUSTER", "REPLICATE", lost_id) == b"+OK\r\n")
        with contextlib.closing(open_url(servers.url)) as storage:
            keys = [f"{number}" for number in range(100)]
            storage.write(keys, [b"1"] * 100)
            until(lambda: b"master_link_status:up" in replica.ask("INFO", "replication"))
            assert storage.read(keys) == [b"1"] * 100
            until(lambda: lost.ask("WAIT", 1, 1000) == b":1\r\n")
            lost.kill()
            with pytest.raises(StorageError):
                storage.read(keys)
            until(lambda: b"role:master" in replica.ask("INFO", "replication"))
            until(lambda: b"cluster_state:ok" in servers.servers[0].ask("CLUSTER", "INFO"))
            values: list[object] = []

            def readable() -> bool:
                with contextlib.suppress(StorageError):
                    values[:] = storage.read(keys)
                return bool(values)

            until(readable)
            assert values == [b"1"] * 100
            assert storage.write(keys, [b"2"] * 100, [token(b"1")] * 100).refused == ()
            assert set(listing(storage)) == set(keys)


def test_one_server_that_may_evict_is_enough(cluster: RedisCluster, storage: RedisStorage) -> None:
    cluster.servers[2].ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(StorageError, match="evict"):
            storage.write(["a"], [b"1"])
    finally:
        cluster.servers[2].ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    storage.write(["a"], [b"1"])


def test_keys_of_other_types_are_named(cluster: RedisCluster, storage: RedisStorage, prefix: str) -> None:
    with redis.RedisCluster(port=cluster.servers[0].port, host="127.0.0.1") as client:
        client.rpush(f"{prefix}list", "x")
    storage.write(["a", "b"], [b"1", b"2"])
    found = storage.read(["a", "list", "b", "none"])
    assert found == [b"1", Unreadable("its key holds a list, not a string"), b"2", None]
    assert list(listing(storage)) == ["a", "b"]
    assert storage.skipped == (Skipped("list", "its key holds a list, not a string", harmless=True),)


def test_names_that_are_no_text_are_named(cluster: RedisCluster, storage: RedisStorage, prefix: str) -> None:
    with redis.RedisCluster(port=cluster.servers[0].port, host="127.0.0.1") as client:
        client.set(prefix.encode() + b"\xff", "x")
    storage.write(["a"], [b"1"])
    assert list(listing(storage)) == ["a"]
    assert [(entry.name, entry.harmless) for entry in storage.skipped] == [("\\xff", False)]


def test_of_many_conditional_writers_one_wins(cluster: RedisCluster, prefix: str) -> None:
    url = f"{cluster.url}&prefix={prefix}"
    keys = [f"k{number}" for number in range(40)]
    barrier = Barrier(6)

    def race(number: int) -> set[str]:
        with contextlib.closing(open_url(url)) as mine:
            barrier.wait(30)
            refused = mine.write(keys, [b"%d" % number] * len(keys), [None] * len(keys)).refused
            return set(keys) - {refusal.key for refusal in refused}

    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(race, range(6)))
    assert sorted(itertools.chain(*won)) == sorted(keys)


def test_a_client_of_the_callers(cluster: RedisCluster, prefix: str) -> None:
    place: dict[str, Any] = {"host": "127.0.0.1", "port": cluster.servers[0].port}
    with redis.RedisCluster(**place, retry=Retry(NoBackoff(), 0)) as client:
        storage = RedisStorage.over(client, Location(prefix))
        storage.write(["a"], [b"1"], [None])
        storage.close()
        assert client.get(f"{prefix}a") == b"1"
    with redis.RedisCluster(**place) as client, pytest.raises(UsageError, match="repeats commands"):
        RedisStorage.over(client)


def test_nobody_there(tmp_path: Path) -> None:
    storage = open_url("redis://me:geheim@127.0.0.1:1/0?cluster=true")
    calls: list[Callable[[], object]] = [lambda: storage.read(["a"]), lambda: listing(storage), storage.objects]
    for call in calls:
        with pytest.raises(StorageError, match="check the address") as caught:
            call()
        assert "geheim" not in str(caught.value)


def test_servers_without_tls_are_known_for_it_soon(cluster: RedisCluster) -> None:
    """They wait in silence for the rest of the handshake, and the client library waited as long as for a call."""
    port = cluster.servers[0].port
    with redis.Redis(port=port) as watcher:
        before = watcher.info("stats")["total_connections_received"]
        with (
            contextlib.closing(open_url(f"rediss://127.0.0.1:{port}/0?cluster=true&timeout=1")) as storage,
            pytest.raises(
                StorageError,
                match=r"no answer to a TLS handshake within 1 seconds: the server probably does not use TLS",
            ),
        ):
            storage.read(["a"])
        assert watcher.info("stats")["total_connections_received"] - before == 1


def test_a_cluster_over_tls(tmp_path: Path) -> None:
    servers = RedisCluster(tmp_path / "cluster", 1)
    (server,) = servers.servers
    with TlsEnd(tmp_path, server.port) as end:
        server.options["cluster_announce_port"] = end.port
        url = f"rediss://localhost:{end.port}/0?cluster=true"
        with servers, contextlib.closing(open_url(f"{url}&verify=none")) as storage:
            storage.write([f"{number}" for number in range(100)], [b"1"] * 100)
            assert len(listing(storage)) == 100
            with contextlib.closing(open_url(url)) as strict, pytest.raises(StorageError, match="is not trusted"):
                strict.read(["1"])


@pytest.mark.parametrize("place", ["prefix=", "hash="])
def test_two_storages_become_equal(cluster: RedisCluster, prefix: str, place: str) -> None:
    url = f"{cluster.url}&{place}{prefix}"
    mine: dict[str, bytes] = {f"user/{number}": b"%d" % number for number in range(300)}
    kvsync.sync(mine, url, scan=True)
    with contextlib.closing(open_url(url)) as theirs:
        theirs.write(["new", "user/2"], [b"N", b"two"])
        theirs.delete(["user/3"])
        kvsync.sync(mine, url, changes=[Put("user/1", b"one"), Delete("user/4")], scan=True)
        values = {key: value for key, value in mine.items() if not key.startswith(".kvsync/")}
        assert (values["user/1"], values["user/2"], values["new"]) == (b"one", b"two", b"N")
        assert not {"user/3", "user/4"} & set(values)
        assert listing(theirs) == {key: token(value) for key, value in values.items()}
        manifest = theirs.load("manifest")
        again = kvsync.sync(mine, url, scan=True)
        assert (again.pushed, again.pulled, again.conflicts) == (0, 0, [])
        assert theirs.load("manifest") == manifest
