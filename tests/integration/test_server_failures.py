"""Servers that die in the middle of a run, that are not there, that say no, that are full: and the run after that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lmdb
import pytest
from edits import GIVEN, THERE, met
from places import Clock, Hooked
from servers.nats import NatsServer
from servers.postgres import PASSWORD, SECURED, PostgresServer
from servers.process import Server, free_ports
from servers.redis import RedisServer
from servers.seaweed import SeaweedServer
from variants import LONG, amount

import kvsync
from kvsync import Put

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KINDS = ("redis", "postgres", "s3", "nats")
BASE = {f"key/{number}": b"base %d" % number for number in range(20)}
DONE = met(BASE)


def server_of(kind: str, folder: Path) -> Server:
    classes: dict[str, type[Server]] = {
        "redis": RedisServer,
        "postgres": PostgresServer,
        "s3": SeaweedServer,
        "nats": NatsServer,
    }
    return classes[kind](folder)


def url_of(kind: str, server: Any, name: str) -> str:
    """Return the URL of a corner of a server."""
    if kind == "redis":
        return f"{server.url}?prefix={name}:"
    if kind == "postgres":
        server.run(f"CREATE SCHEMA {name}")
        return f"{server.url}?schema={name}"
    if kind == "s3":
        url: str = server.url_of(name)
        return url
    bucket: str = server.url(name)
    return bucket


def plain(mapping: dict[str, bytes]) -> dict[str, bytes]:
    return {key: value for key, value in mapping.items() if not key.startswith(".kvsync/")}


@pytest.fixture(params=KINDS)
def own_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Server]]:
    """Give a server that may be killed."""
    with server_of(request.param, tmp_path / "server") as server:
        yield request.param, server


def test_a_server_killed_during_a_run(own_server: tuple[str, Server]) -> None:
    """At several places of the run; the run fails and says where, the next one finishes, nothing is lost."""
    kind, server = own_server
    failed = 0
    places = (1, 3, 5, 7)
    # In the short variant two servers die at two of the places, and two at the others.
    for number, at in enumerate(places if LONG else places[KINDS.index(kind) % 2 :: 2]):
        url = url_of(kind, server, f"corner{number}")
        clock = Clock(tick=0.0005)
        mapping: dict[str, bytes] = {}
        kvsync.sync(mapping, url, [Put(*item) for item in BASE.items()], environment=clock.environment)
        kvsync.commit(url, THERE, environment=clock.environment)
        kvsync.commit(mapping, GIVEN, environment=clock.environment)
        calls = 0

        def kill(*_: object, at: int = at) -> None:
            nonlocal calls
            calls += 1
            if calls == at:
                server.kill()

        error: kvsync.KvsyncError | None = None
        try:
            kvsync.sync(mapping, Hooked(url, before=kill), environment=clock.environment)
        except kvsync.KvsyncError as raised:
            error = raised
        failed += error is not None
        assert error is None or (isinstance(error, kvsync.StorageError | kvsync.LockError) and error.storage)
        server.restart()
        result = kvsync.sync(mapping, url, environment=clock.environment, wait_seconds=300)
        assert result.conflicts == []
        assert result.missing == []
        assert plain(mapping) == DONE
        assert kvsync.verify(mapping, url).equal
        assert kvsync.sync(mapping, url, environment=clock.environment).operations["source"] == {"load": 1}
    assert failed >= amount(1, 3)


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:{port}/0?prefix=p:",
        "postgresql://somebody:hunter2@127.0.0.1:{port}/postgres",
        "s3://bucket/p?endpoint=http://127.0.0.1:{port}&access_key_id=a&secret_access_key=hunter2",
        "nats://somebody:hunter2@127.0.0.1:{port}/bucket?timeout=2",
    ],
    ids=KINDS,
)
def test_connection_refused(url: str) -> None:
    (port,) = free_ports()
    mapping = {"k": b"v"}
    with pytest.raises(kvsync.StorageError) as raised:
        kvsync.sync(mapping, url.format(port=port), [Put("k")])
    assert str(port) in str(raised.value)
    assert "hunter2" not in f"{raised.value!r} {raised.value}"
    assert plain(mapping) == {"k": b"v"}
    assert kvsync.status(mapping).lease is None


def test_authentication_fails(tmp_path: Path) -> None:
    with PostgresServer(tmp_path / "postgres") as server:
        url = server.url.replace("kvsync@", f"{SECURED}:hunter2@")
        with pytest.raises(kvsync.StorageError, match="password") as raised:
            kvsync.sync({}, url, [Put("k", b"v")])
        assert "hunter2" not in str(raised.value)
        assert PASSWORD not in str(raised.value)
    with RedisServer(tmp_path / "redis", password="right") as redis:
        with pytest.raises(kvsync.StorageError) as raised:
            kvsync.sync({}, redis.url.replace(":right@", ":hunter2@"), [Put("k", b"v")])
        assert "hunter2" not in str(raised.value)
    with NatsServer(tmp_path / "nats", user="u", password="right") as nats:
        with pytest.raises(kvsync.StorageError) as raised:
            kvsync.sync({}, nats.url("bucket").replace(":right@", ":hunter2@"), [Put("k", b"v")])
        assert "hunter2" not in str(raised.value)


def test_s3_says_who_may_not(seaweed_server: SeaweedServer) -> None:
    url = seaweed_server.url_of("corner").replace("testsecret", "hunter2")
    assert "hunter2" in url
    with pytest.raises(kvsync.StorageError) as raised:
        kvsync.sync({}, url, [Put("k", b"v")])
    assert "hunter2" not in str(raised.value)


def test_redis_without_memory(tmp_path: Path) -> None:
    """Nothing is dropped silently; once there is room, the next run finishes."""
    with RedisServer(tmp_path / "redis", maxmemory="12mb", maxmemory_policy="noeviction") as server:
        mapping = {f"k{number}": bytes(50_000) for number in range(400)}
        wanted = dict(mapping)
        told = ""
        try:
            missing = kvsync.sync(mapping, server.url, [Put(key) for key in wanted]).missing
        except kvsync.StorageError as raised:
            missing, told = [], str(raised)
        assert missing or "memory" in told
        server.ask("CONFIG", "SET", "maxmemory", "200mb")
        result = kvsync.sync(mapping, server.url, wait_seconds=0)
        assert result.missing == []
        assert kvsync.verify(mapping, server.url).equal
        assert plain(mapping) == wanted


def test_lmdb_without_room(folder: Path) -> None:
    mapping = {f"k{number}": bytes([number % 251]) * 5_000 for number in range(400)}
    wanted = dict(mapping)
    url = f"lmdb:///{folder}/small?map_size="
    with pytest.raises(kvsync.StorageError, match="map_size"):
        kvsync.sync(mapping, f"{url}256K", [Put(key) for key in wanted])
    assert plain(mapping) == wanted
    result = kvsync.sync(mapping, f"{url}64M")
    assert result.missing == []
    assert kvsync.verify(mapping, f"{url}64M").equal
    with lmdb.open(f"{folder}/small", max_dbs=8) as environment:
        assert environment.stat()["entries"]
