"""What is special about Redis: keys of other kinds, lifetimes, eviction, limits, and servers that come and go."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers.process import free_ports
from servers.redis import RedisServer
from servers.tls import TlsEnd

import kvsync
from kvsync import Delete, Put
from kvsync.errors import SameStorageError, StorageError, UsageError
from kvsync.index.objects import store_if
from kvsync.native import digest_values
from kvsync.run.holder import read_lease
from kvsync.storages import extras, open_storage
from kvsync.storages.contract import has_expiry
from kvsync.storages.expiry import token_of
from kvsync.storages.redis import RedisStorage, open_url
from kvsync.storages.redis.link import ServerLink
from kvsync.storages.redis.listing import FETCH_VALUE_BYTES
from kvsync.storages.redis.storage import EXPIRES_MAX
from kvsync.storages.redis.strings import StringValues
from kvsync.storages.redis.url import Location, RedisUrl
from kvsync.storages.redis.values import Fetched
from kvsync.testing.conformance import listing
from kvsync.types import ABSENT, ANY, Skipped, Unreadable, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

numbers = itertools.count()
SECRET = "hunter2 p@ss/wörd"
SECRET_IN_URL = "hunter2%20p%40ss%2Fw%C3%B6rd"


@pytest.fixture
def prefix() -> str:
    return f"unit{next(numbers)}:"


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis(port=redis_server.port) as opened:
        yield opened


@pytest.fixture
def storage(redis_server: RedisServer, prefix: str) -> Iterator[RedisStorage]:
    with contextlib.closing(open_url(f"{redis_server.url}?prefix={prefix}")) as opened:
        yield opened


def token(value: bytes) -> bytes:
    return digest_values([value])[0]


def now_ms() -> int:
    return int(time.time() * 1000)


# URLs


@pytest.mark.parametrize(
    ("url", "host", "port", "database", "place"),
    [
        ("redis://", "localhost", 6379, 0, Location()),
        ("redis://cache", "cache", 6379, 0, Location()),
        ("redis://cache:7000/3?prefix=app:", "cache", 7000, 3, Location("app:")),
        ("redis://u:p@[::1]:7000/", "::1", 7000, 0, Location()),
        ("rediss://cache?hash=a%20b", "cache", 6379, 0, Location("", "a b")),
        ("redis://h?evicting=allow&foreign=skip", "h", 6379, 0, Location(evicting=True, foreign=True)),
        ("redis://h?evicting=refuse&foreign=fail", "h", 6379, 0, Location()),
        ("redis://h/0?cluster=true", "h", 6379, 0, Location()),
    ],
)
def test_urls(url: str, host: str, port: int, database: int, place: Location) -> None:
    parsed = RedisUrl.parse(url)
    assert (parsed.host, parsed.port, parsed.database, parsed.location) == (host, port, database, place)
    assert parsed.cluster == ("cluster=true" in url)
    assert (parsed.tls is not None) == url.startswith("rediss")


@pytest.mark.parametrize(
    "url",
    [
        "redis://h/one",
        "redis://h/1/2",
        "redis://h/-1",
        "redis://h/²",
        "redis://h:99999/",
        "redis://h?perfix=a",
        "redis://h?prefix=a&hash=b",
        "redis://h?hash=",
        "redis://h?cluster=yes",
        "redis://h/1?cluster=true",
        "redis://h?evicting=true",
        "redis://h?foreign=true",
        "redis://h?timeout=0",
        "redis://h?timeout=nan",
        "redis://h?timeout=soon",
        "redis://h?ca=ca.pem",
        "redis://h?verify=none",
        "rediss://h?verify=maybe",
        "redis://h?prefix=a&prefix=b",
    ],
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_url(url.replace("//h", f"//u:{SECRET_IN_URL}@h"))
    assert SECRET_IN_URL not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_tls_is_verified_unless_told_otherwise() -> None:
    arguments = RedisUrl.parse("rediss://h?ca=a.pem").arguments()
    assert (arguments["ssl"], arguments["ssl_cert_reqs"], arguments["ssl_check_hostname"]) == (True, "required", True)
    assert arguments["ssl_ca_certs"] == "a.pem"
    arguments = RedisUrl.parse("rediss://h?verify=none").arguments()
    assert (arguments["ssl_cert_reqs"], arguments["ssl_check_hostname"]) == ("none", False)
    assert "ssl" not in RedisUrl.parse("redis://h").arguments()


def test_handles_of_one_storage_know_each_other(redis_server: RedisServer) -> None:
    url = redis_server.url
    assert open_url(f"{url}?prefix=a").identity == open_url(f"{url}?timeout=5&prefix=a").identity
    assert len({open_url(url + tail).identity for tail in ("", "?prefix=a", "?hash=a", "?prefix=hash", "?hash=b")}) == 5
    with pytest.raises(SameStorageError):
        kvsync.sync(url, f"{url}?timeout=9", changes=[])
    with pytest.raises(SameStorageError):  # another name of the host: only the lease tells
        kvsync.sync(f"{url}?prefix=s", f"{url}?prefix=s".replace("127.0.0.1", "localhost"), changes=[Put("a", b"1")])


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(extras, "import_module", missing)
    with pytest.raises(UsageError, match=r"pip install 'kvsync\[redis\]'"):
        open_storage("redis://localhost")


# Servers that are not there, or do not want us


def test_opening_asks_nothing_and_the_first_call_says_who_is_not_there() -> None:
    (port,) = free_ports()
    storage = open_url(f"redis://me:{SECRET_IN_URL}@127.0.0.1:{port}/0")
    calls: list[Callable[[], object]] = [
        lambda: storage.read(["a"]),
        lambda: storage.write(["a"], [b"1"]),
        lambda: storage.write(["a"], [b"1"], [None]),
        lambda: storage.delete(["a"]),
        lambda: list(storage.scan()),
        lambda: storage.load("lease"),
        lambda: storage.store("lease", b"1", ABSENT),
        lambda: storage.remove(["lease"], ANY),
        storage.objects,
    ]
    for call in calls:
        with pytest.raises(StorageError, match="cannot be reached: check the address") as caught:
            call()
        assert caught.value.storage == storage.name == f"redis://me:***@127.0.0.1:{port}/0"


def test_logins(tmp_path: Path) -> None:
    with RedisServer(tmp_path, password=SECRET) as server:
        good = f"redis://:{SECRET_IN_URL}@127.0.0.1:{server.port}/0"
        open_url(good).write(["a"], [b"1"])
        assert SECRET_IN_URL not in repr(open_url(good))
        for userinfo, advice in [("", "put user and password"), ("default:guess-work@", "check user and password")]:
            storage = open_url(f"redis://{userinfo}127.0.0.1:{server.port}/0")
            with pytest.raises(StorageError, match=advice) as caught:
                storage.read(["a"])
            shown = "".join(traceback.format_exception(caught.value)) + repr(storage) + storage.name
            assert "guess-work" not in shown


def test_a_user_that_may_not(redis_server: RedisServer, prefix: str) -> None:
    """A user who may touch the prefix alone is enough, if it may ask for the eviction policy."""
    redis_server.ask("ACL", "SETUSER", "app", "on", ">pw", f"~{prefix}*", "+@all", "-config")
    redis_server.ask("ACL", "SETUSER", "guest", "on", ">pw", "~none", "+@all")
    storage = open_url(f"redis://app:pw@127.0.0.1:{redis_server.port}/0?prefix={prefix}")
    storage.write(["a"], [b"1"])
    storage.write(["a"], [b"2" * 2_000_000], [token(b"1")])
    storage.store("manifest", b"M", ABSENT)
    assert list(listing(storage)) == ["a"]
    guest = open_url(f"redis://guest:pw@127.0.0.1:{redis_server.port}/0?prefix={prefix}")
    with pytest.raises(StorageError, match="allow the user all commands"):
        guest.read(["a"])
    with pytest.raises(StorageError, match="allow the user all commands"):
        guest.store("manifest", b"M", ABSENT)


@pytest.mark.parametrize("right", ["%W~", "%R~", ""], ids=["write", "read", "nothing"])
@pytest.mark.parametrize("gone", [False, True], ids=["it is there", "it was deleted"])
def test_a_value_that_a_user_may_not_see_any_more_is_no_delete(
    redis_server: RedisServer, prefix: str, right: str, gone: bool
) -> None:
    """The server lists keys that a user may not read."""
    redis_server.ask("ACL", "SETUSER", "app", "reset", "on", ">pw", f"~{prefix}*", "+@all")
    url = f"redis://app:pw@127.0.0.1:{redis_server.port}/0?prefix={prefix}"
    data = {"a": b"1", "secret": b"2"}
    kvsync.sync(data, url, scan=True)
    rights = [f"~{prefix}a", f"~{prefix}.kvsync*", *([f"{right}{prefix}secret"] if right else [])]
    assert redis_server.ask("ACL", "SETUSER", "app", "resetkeys", *rights).startswith(b"+OK")
    if gone:
        redis_server.ask("DEL", f"{prefix}secret")
    seen_gone = gone and right == "%R~"
    with contextlib.nullcontext() if seen_gone else pytest.raises(StorageError, match="allow the user"):
        kvsync.sync(data, url, scan=True)
    assert data.get("secret") == (None if seen_gone else b"2")


def test_a_database_that_is_not_there(redis_server: RedisServer) -> None:
    with pytest.raises(StorageError, match="no database of that number"):
        open_url(redis_server.url.removesuffix("/0") + "/77").read(["a"])


def test_a_server_that_is_no_cluster(redis_server: RedisServer) -> None:
    with pytest.raises(StorageError, match="remove cluster=true"):
        open_url(f"{redis_server.url}?cluster=true").read(["a"])


def test_a_server_that_comes_back_serves_the_same_handle(tmp_path: Path) -> None:
    """It has forgotten connections and scripts by then, not values."""
    with RedisServer(tmp_path, appendfsync="always") as server:
        storage = open_url(server.url)
        storage.write(["a"], [b"1"], [None])
        version = storage.store("lease", b"L", ABSENT)
        server.kill()
        with pytest.raises(StorageError, match="cannot be reached"):
            storage.store("lease", b"M", version)
        with pytest.raises(StorageError):
            storage.read(["a"])
        server.start()
        assert storage.read(["a"]) == [b"1"]
        assert storage.load("lease") == (b"L", version)
        server.restart()
        storage.remove(["lease"], version)
        assert storage.objects() == []
        assert storage.write(["a"], [b"2"], [token(b"1")]).refused == ()


def test_a_replica_says_that_it_is_one(tmp_path: Path, redis_server: RedisServer) -> None:
    with RedisServer(tmp_path) as server:
        server.ask("REPLICAOF", "127.0.0.1", redis_server.port)
        storage = open_url(server.url)
        for call in (
            lambda: storage.write(["a"], [b"1"]),
            lambda: storage.write(["a"], [b"1"], [None]),
            lambda: storage.delete(["a"]),
            lambda: storage.store("lease", b"L", ABSENT),
        ):
            with pytest.raises(StorageError, match="read-only replica: name its primary"):
                call()


# Eviction, memory and limits


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_server_that_may_evict_is_refused_unless_told(tmp_path: Path, policy: str) -> None:
    with RedisServer(tmp_path, maxmemory="50mb", maxmemory_policy=policy) as server:
        storage = open_url(server.url)
        assert storage.read(["a"]) == [None]
        calls: list[Callable[[], object]] = [
            lambda: storage.write(["a"], [b"1"]),
            lambda: list(storage.scan()),
            lambda: storage.store("lease", b"L", ABSENT),
        ]
        for call in calls:
            with pytest.raises(StorageError, match=rf"may evict keys \(maxmemory-policy {policy}\).*evicting=allow"):
                call()
        assert server.ask("DBSIZE") == b":0\r\n"
        with pytest.raises(StorageError, match="evict"):
            kvsync.sync({"a": b"1"}, server.url, changes=[Put("a")])
        assert server.ask("DBSIZE") == b":0\r\n"
        told = open_url(f"{server.url}?evicting=allow")
        told.write(["a"], [b"1"])
        assert list(listing(told)) == ["a"]


@pytest.mark.parametrize(
    ("barred", "told"), [("-info -config", False), ("-info", True), ("-config", True), ("-@dangerous", False)]
)
def test_a_server_that_does_not_tell_its_policy_is_refused_unless_told(tmp_path: Path, barred: str, told: bool) -> None:
    """A user who may not ask was served as if nothing were ever evicted, and evicted keys spread as deletes."""
    lines = tmp_path / "more.conf"
    lines.write_text(f"user default on nopass ~* &* +@all {barred}\n")
    with RedisServer(tmp_path / "data", include=str(lines)) as server:
        storage = open_url(server.url)
        if told:
            storage.write(["a"], [b"1"])
            assert list(listing(storage)) == ["a"]
            return
        for call in (lambda: storage.write(["a"], [b"1"]), lambda: list(storage.scan())):
            with pytest.raises(StorageError, match=r"does not tell whether it may evict.*allow the user.*evicting="):
                call()
        allowed = open_url(f"{server.url}?evicting=allow")
        allowed.write(["a"], [b"1"])
        assert list(listing(allowed)) == ["a"]


def test_a_policy_that_changes_is_seen_by_the_next_scan(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        storage = open_url(server.url)
        storage.write(["a"], [b"1"])
        server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
        with pytest.raises(StorageError, match="evict"):
            list(storage.scan())


def test_a_server_without_memory_writes_nothing_half(tmp_path: Path) -> None:
    with RedisServer(tmp_path, maxmemory_policy="noeviction") as server:
        storage = open_url(server.url)
        storage.write(["a"], [b"1"])
        version = storage.store("lease", b"L", ABSENT)
        server.ask("CONFIG", "SET", "maxmemory", "1")
        calls: list[Callable[[], object]] = [
            lambda: storage.write(["a", "b"], [b"2", b"2"]),
            lambda: storage.write(["b"], [b"2"], [None]),
            lambda: storage.write(["a"], [b"2"], [token(b"1")]),
            lambda: storage.store("lease", b"M", version),
        ]
        for call in calls:
            with pytest.raises(StorageError, match="has reached its maxmemory: raise it or free memory"):
                call()
        assert storage.read(["a", "b"]) == [b"1", None]
        assert storage.load("lease") == (b"L", version)
        assert storage.delete(["a"], [token(b"1")]).refused == ()
        server.ask("CONFIG", "SET", "maxmemory", "0")
        storage.write(["b"], [b"2"])
        assert storage.read(["a", "b"]) == [None, b"2"]


def test_a_value_that_is_too_large_is_refused_alone(tmp_path: Path) -> None:
    with RedisServer(tmp_path, proto_max_bulk_len="1mb") as server:
        storage = open_url(server.url)
        large = bytes((1 << 20) + 1)
        for expect in (None, [None, None, None]):
            written = storage.write(["a", "large", "b"], [b"1", large, b"2"], expect)
            assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("large", False)]
            assert "1048577 bytes" in written.refused[0].reason
            assert storage.read(["a", "large", "b"]) == [b"1", None, b"2"]
            storage.delete(["a", "b"])


def test_a_key_with_a_lone_surrogate_is_refused_alone(storage: RedisStorage) -> None:
    keys = ["a", "lone \ud800", "b"]
    written = storage.write(keys, [b"1", b"2", b"3"])
    assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("lone \ud800", False)]
    assert storage.read(keys) == [b"1", None, b"3"]
    assert storage.write(keys, [b"4", b"5", b"6"], [token(b"1"), None, token(b"x")]).refused == (
        ("lone \ud800", written.refused[0].reason, False),
        ("b", "its value is not the expected one", True),
    )
    assert storage.delete(keys, [token(b"4"), None, token(b"x")]).refused[0].key == "b"
    assert storage.delete(keys).refused == ()
    assert listing(storage) == {}


def test_values_of_many_sizes_are_listed_whole(storage: RedisStorage) -> None:
    sizes = [0, 1, FETCH_VALUE_BYTES - 1, FETCH_VALUE_BYTES, FETCH_VALUE_BYTES + 1, 5 << 20, 3 << 20, 2 << 20]
    values = {f"{number}": os.urandom(size) for number, size in enumerate(sizes)}
    assert storage.write(list(values), list(values.values())).refused == ()
    assert listing(storage) == {key: token(value) for key, value in values.items()}
    assert storage.read(list(values)) == list(values.values())


def test_a_scan_holds_few_large_values_at_a_time(storage: RedisStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8):
        storage.write([f"small{number}", f"large{number}"], [b"1", bytes(3 << 20)])
    seen: list[int] = []
    get, fetch = StringValues.get, StringValues.fetch

    def held(values: list[Any]) -> list[Any]:
        seen.append(sum(len(value) for value in values if isinstance(value, bytes)))
        return values

    def fetched(self: StringValues, batches: Iterable[Sequence[bytes]], limit: int) -> Iterator[Fetched]:
        for found in fetch(self, batches, limit):
            yield Fetched(held(found.values), found.expires)

    monkeypatch.setattr(StringValues, "get", lambda self, names: held(get(self, names)))
    monkeypatch.setattr(StringValues, "fetch", fetched)
    assert len(listing(storage)) == 16
    assert sum(seen) == 8 * (3 << 20) + 8
    assert max(seen) <= 4 << 20
    seen.clear()
    later = now_ms() + 1_000_000
    storage.write_expiring([f"large{number}" for number in range(8)], [bytes(3 << 20)] * 8, [later] * 8)
    there = listing(storage)
    assert {there[f"large{number}"] for number in range(8)} == {token_of(token(bytes(3 << 20)), later)}
    assert sum(seen) == 8 * (3 << 20) + 8
    assert max(seen) <= 4 << 20


# Keys that are no values


@pytest.fixture
def mixed(client: redis.Redis, redis_server: RedisServer, prefix: str) -> Iterator[RedisStorage]:
    """Give a storage with a list, a set and a stream among its values."""
    client.rpush(f"{prefix}list", "x")
    client.sadd(f"{prefix}set", "x")
    client.xadd(f"{prefix}stream", {"x": "y"})
    client.set(f"{prefix}value", b"1")
    with contextlib.closing(open_url(f"{redis_server.url}?prefix={prefix}")) as opened:
        yield opened


def test_keys_of_other_types_are_named(mixed: RedisStorage) -> None:
    """One list below the prefix failed the whole scan, and so every run."""
    found = mixed.read(["list", "set", "stream", "value", "none"])
    assert [value.reason for value in found if isinstance(value, Unreadable)] == [
        "its key holds a list, not a string",
        "its key holds a set, not a string",
        "its key holds a stream, not a string",
    ]
    assert found[3:] == [b"1", None]
    assert listing(mixed) == {"value": token(b"1")}
    assert mixed.skipped == tuple(
        Skipped(kind, f"its key holds a {kind}, not a string", harmless=True) for kind in ("list", "set", "stream")
    )


def test_keys_of_other_types_are_never_as_expected(mixed: RedisStorage, client: redis.Redis, prefix: str) -> None:
    written = mixed.write(["list", "set", "value"], [b"x"] * 3, [None, token(b"1"), token(b"1")])
    assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("list", True), ("set", True)]
    deleted = mixed.delete(["list", "set", "none"], [None, token(b"1"), token(b"1")])
    assert [(refusal.key, refusal.changed) for refusal in deleted.refused] == [("list", True), ("set", True)]
    assert client.lrange(f"{prefix}list", 0, -1) == [b"x"]
    assert mixed.read(["value"]) == [b"x"]


@pytest.mark.parametrize("size", [1, 600_000])
def test_keys_of_other_types_are_not_overwritten(
    mixed: RedisStorage, client: redis.Redis, prefix: str, size: int
) -> None:
    """A write without a condition replaced them by its value, and destroyed what somebody kept there."""
    keys = ["new", "list", "value", "set", "stream", "\ud800"]
    written = mixed.write(keys, [bytes(size)] * 6)
    reasons = {refusal.key: refusal.reason for refusal in written.refused}
    assert not any(refusal.changed for refusal in written.refused)
    assert reasons.pop("\ud800").startswith("its key has a lone surrogate")
    what = "which is not overwritten: delete or rename it, or name another prefix"
    assert reasons == {kind: f"its key holds a {kind}, {what}" for kind in ("list", "set", "stream")}
    assert client.lrange(f"{prefix}list", 0, -1) == [b"x"]
    assert client.smembers(f"{prefix}set") == {b"x"}
    assert mixed.read(["new", "value"]) == [bytes(size)] * 2
    assert mixed.write(["list"], [bytes(size)]).refused[0].key == "list"


def test_keys_of_other_types_are_not_deleted(mixed: RedisStorage, client: redis.Redis, prefix: str) -> None:
    """A delete without a condition took the list with it."""
    refused = mixed.delete(["list", "value", "absent", "stream"]).refused
    what = "which is not deleted: delete or rename it, or name another prefix"
    assert [(refusal.key, refusal.reason) for refusal in refused] == [
        (kind, f"its key holds a {kind}, {what}") for kind in ("list", "stream")
    ]
    assert client.lrange(f"{prefix}list", 0, -1) == [b"x"]
    assert mixed.read(["value"]) == [None]
    assert mixed.delete(["absent"]) == Written()


def test_a_look_that_is_not_allowed_fails_the_write(
    client: redis.Redis, redis_server: RedisServer, prefix: str
) -> None:
    """It must not take every string for something else, nor write without having looked."""
    client.set(f"{prefix}value", b"1")
    client.acl_setuser("blind", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-strlen"])
    with contextlib.closing(open_url(f"redis://blind:x@127.0.0.1:{redis_server.port}?prefix={prefix}")) as blind:
        with pytest.raises(StorageError, match="strlen"):
            blind.write(["value"], [b"2"])
        assert blind.read(["value"]) == [b"1"]


def test_a_key_of_another_type_is_told_by_a_run(mixed: RedisStorage, client: redis.Redis, prefix: str) -> None:
    source: dict[str, bytes] = {}
    result = kvsync.sync(source, mixed, changes=[Put("list", b"1"), Put("b", b"2")])
    ((key, side, reason),) = [(missing.key, missing.side, missing.reason) for missing in result.missing]
    assert (key, side) == ("list", "target")
    assert "holds a list" in reason
    assert mixed.read(["b"]) == [b"2"]
    client.delete(f"{prefix}list")
    assert kvsync.sync(source, mixed).missing == []
    assert mixed.read(["list"]) == [b"1"]


@pytest.mark.parametrize("command", [("RPUSH", "x"), ("HSET", "f", "x"), ("SADD", "x"), ("XADD", "*", "f", "x")])
def test_a_value_that_became_something_else_is_neither_deleted_nor_overwritten(
    redis_server: RedisServer, client: redis.Redis, prefix: str, command: tuple[str, ...]
) -> None:
    url = f"{redis_server.url}?prefix={prefix}"
    mine = {f"{number}": b"1" for number in range(9)}
    kvsync.sync(mine, url, scan=True)
    client.delete(f"{prefix}4", f"{prefix}5")
    for key in "45":
        redis_server.ask(command[0], f"{prefix}{key}", *command[1:])
    client.set(f"{prefix}6", b"2")
    mine["5"] = b"2"
    result = kvsync.sync(mine, url, scan=True)
    assert [(entry.key, entry.side) for entry in result.unreadable] == [("4", "target"), ("5", "target")]
    assert "not a string" in result.unreadable[0].reason
    assert [entry.key for entry in result.missing] == ["5"]
    assert {key for key in mine if not key.startswith(".kvsync/")} == {f"{number}" for number in range(9)}
    assert (mine["4"], mine["6"]) == (b"1", b"2")
    assert b"string" not in (client.type(f"{prefix}4"), client.type(f"{prefix}5"))


@pytest.mark.parametrize("part", ["[ab]:", "a?:", "a*:", "\\a:", "[^b]:", "a\\"])
def test_a_prefix_is_no_pattern(redis_server: RedisServer, client: redis.Redis, prefix: str, part: str) -> None:
    for other in ("a:", "b:", "ab:", "a", "aab:"):
        client.set(f"{prefix}{other}theirs", b"1")
    place = Location(prefix + part)
    with redis.Redis(port=redis_server.port, retry=Retry(NoBackoff(), 0)) as mine:
        storage = RedisStorage.over(mine, place)
        storage.write(["ours"], [b"1"])
        assert list(listing(storage)) == ["ours"]


@pytest.mark.parametrize("layout", ["prefix", "hash"])
def test_names_that_are_no_text_are_named_and_stop_nothing(
    redis_server: RedisServer, client: redis.Redis, prefix: str, layout: str
) -> None:
    """One key that is not UTF-8 failed the whole scan, and so every run."""
    for name in (b"\xff\xfe", b"ok"):
        if layout == "hash":
            client.hset(prefix, name, b"1")
        else:
            client.set(prefix.encode() + name, b"1")
    url = f"{redis_server.url}?{layout}={prefix}"
    with contextlib.closing(open_url(url)) as storage:
        assert list(listing(storage)) == ["ok"]
        assert storage.skipped == (Skipped("\\xff\\xfe", "its name is not UTF-8, as a key is", harmless=False),)
    mine: dict[str, bytes] = {"mine": b"2"}
    result = kvsync.sync(mine, url, scan=True)
    assert [entry.key for entry in result.unreadable] == ["\\xff\\xfe"]
    assert mine["ok"] == b"1"
    assert kvsync.sync(mine, url, scan=True).pulled == 0
    with contextlib.closing(open_url(f"{url}&foreign=skip")) as storage:
        assert list(listing(storage)) == ["mine", "ok"]
        assert [entry.harmless for entry in storage.skipped] == [True]


def test_a_hash_that_is_none(redis_server: RedisServer, client: redis.Redis, prefix: str) -> None:
    client.rpush(f"{prefix}list", "x")
    storage = open_url(f"{redis_server.url}?hash={prefix}list")
    for call in (lambda: storage.read(["a"]), lambda: storage.write(["a"], [b"1"]), lambda: list(storage.scan())):
        with pytest.raises(StorageError, match="name another"):
            call()


def test_the_index_of_one_prefix_is_no_value_of_a_shorter_one(redis_server: RedisServer, prefix: str) -> None:
    """Whatever key a value has below the shorter prefix, it does not reach the other's index."""
    outer = open_url(f"{redis_server.url}?prefix={prefix}")
    inner = open_url(f"{redis_server.url}?prefix={prefix}app:")
    fields = open_url(f"{redis_server.url}?hash={prefix}app:")
    for number, each in enumerate((outer, inner, fields)):
        each.store("manifest", b"%d" % number, ABSENT)
    keys = [
        f"app:.kvsync{end}"
        for end in ("", "/manifest", "\xff", "\u00fe", "\ufffd", "\udcff".encode("utf-16", "surrogatepass").hex())
    ]
    outer.write(keys, [b"attack"] * len(keys))
    assert set(listing(outer)) == set(keys)
    for number, each in enumerate((outer, inner, fields)):
        stored = each.load("manifest")
        assert stored is not None
        assert stored.data == b"%d" % number
        assert each.objects() == ["manifest"]
    assert fields.read(["manifest"]) == [None]


def test_an_object_that_somebody_changed(redis_server: RedisServer, client: redis.Redis, prefix: str) -> None:
    storage = open_url(f"{redis_server.url}?prefix={prefix}")
    client.hset(prefix.encode() + b".kvsync\xff", "manifest", b"short")
    with pytest.raises(StorageError, match="changed by another program"):
        storage.load("manifest")


# Lifetimes


def test_a_write_takes_a_lifetime_off(storage: RedisStorage, client: redis.Redis, prefix: str) -> None:
    for key in ("a", "b"):
        client.set(f"{prefix}{key}", b"1", ex=1000)
    assert storage.read(["a"]) == [b"1"]
    there = listing(storage)
    storage.write(["a"], [b"2"])
    assert storage.write(["b"], [b"2"], [there["b"]]).refused == ()
    assert client.ttl(f"{prefix}a") == client.ttl(f"{prefix}b") == -1


def test_a_lifetime_that_somebody_else_changes_is_another_version(
    storage: RedisStorage, client: redis.Redis, prefix: str
) -> None:
    later = now_ms() + 1_000_000
    client.mset({f"{prefix}{key}": b"1" for key in "abc"})
    client.set(f"{prefix}d", b"1", pxat=later)
    before = listing(storage)
    assert before == dict.fromkeys("abc", token(b"1")) | {"d": token_of(token(b"1"), later)}
    client.pexpireat(f"{prefix}b", later)
    client.pexpireat(f"{prefix}c", later + 1)
    client.persist(f"{prefix}d")
    assert storage.expiries(["a", "b", "c", "d"]) == [0, later, later + 1, 0]
    after = listing(storage)
    assert [key for key in after if after[key] != before[key]] == ["b", "c", "d"]
    for key in "bcd":
        assert [refusal.key for refusal in storage.write([key], [b"2"], [before[key]]).refused] == [key]
        assert [refusal.key for refusal in storage.delete([key], [before[key]]).refused] == [key]
    assert storage.delete(list("abcd"), [after[key] for key in "abcd"]).refused == ()
    assert listing(storage) == {}


def test_a_lifetime_that_changes_between_look_and_write_stays(
    storage: RedisStorage, client: redis.Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = now_ms() + 1_000_000
    client.mset({f"{prefix}{key}": b"1" for key in "ab"})
    before = listing(storage)
    get = StringValues.get

    def late(self: StringValues, names: list[bytes]) -> list[bytes | Unreadable | None]:
        found = get(self, names)
        client.pexpireat(f"{prefix}b", later)
        return found

    monkeypatch.setattr(StringValues, "get", late)
    written = storage.write(["a", "b"], [b"2", b"2"], [before["a"], before["b"]])
    assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("b", True)]
    assert [refusal.key for refusal in storage.delete(["b"], [before["b"]]).refused] == ["b"]
    assert storage.expiries(["a", "b"]) == [0, later]


def test_a_time_beyond_what_scripts_tell_apart_is_refused_alone(storage: RedisStorage) -> None:
    expires = [EXPIRES_MAX - 1, EXPIRES_MAX, EXPIRES_MAX + 1, 1 << 62, 0]
    for expect in (None, [None] * 5):
        written = storage.write_expiring(list("abcde"), [b"1"] * 5, expires, expect)
        assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("c", False), ("d", False)]
        assert "later than" in written.refused[0].reason
        assert storage.expiries(list("abcde")) == [EXPIRES_MAX - 1, EXPIRES_MAX, 0, 0, 0]
        assert written.tokens is not None
        there = listing(storage)
        assert written.tokens == (there["a"], there["b"], None, None, there["e"])
        storage.delete(list("abe"))


@pytest.mark.parametrize("why", ["old", "barred"])
def test_a_server_that_does_not_tell_when_keys_expire_keeps_no_expiry(tmp_path: Path, why: str) -> None:
    """As Redis 6 does, which has no PEXPIRETIME, or for a user who may not use it."""
    lines = tmp_path / "more.conf"
    barred = "user default on nopass ~* &* +@all -pexpiretime\n"
    lines.write_text('rename-command PEXPIRETIME ""\n' if why == "old" else barred)
    with RedisServer(tmp_path / "data", include=str(lines)) as server:
        storage = open_url(server.url)
        assert has_expiry(storage)  # nothing has been asked yet
        assert storage.expiries(["a"]) == [0]
        later = now_ms() + 1_000_000
        written = storage.write_expiring(["a", "b"], [b"1", b"1"], [later, 0])
        assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("a", False)]
        assert "keeps no expiry" in written.refused[0].reason
        assert written.tokens == (None, token(b"1"))
        assert not has_expiry(storage)
        server.ask("SET", "c", "1", "PXAT", later)
        assert listing(storage) == {"b": token(b"1"), "c": token(b"1")}
        assert storage.expiries(["b", "c"]) == [0, 0]
        assert storage.write(["c", "d"], [b"2", b"2"], [token(b"1"), None]).refused == ()
        assert storage.delete(["b", "c"], [token(b"1"), token(b"2")]).refused == ()
        assert list(listing(storage)) == ["d"]
        told = open_url(f"{server.url}?evicting=allow")
        assert list(listing(told)) == ["d"]
        assert not has_expiry(told)


def test_fields_of_a_hash_keep_no_expiry(redis_server: RedisServer, prefix: str) -> None:
    with contextlib.closing(open_url(f"{redis_server.url}?hash={prefix}")) as storage:
        assert not has_expiry(storage)
        written = storage.write_expiring(["a", "b"], [b"1", b"1"], [now_ms() + 1_000_000, 0])
        assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("a", False)]
        assert storage.expiries(["a", "b"]) == [0, 0]
        late = token_of(token(b"1"), now_ms())
        assert [refusal.key for refusal in storage.write(["b"], [b"2"], [late]).refused] == ["b"]
        assert [refusal.key for refusal in storage.delete(["b"], [late]).refused] == ["b"]


def test_the_index_has_no_lifetime(storage: RedisStorage, client: redis.Redis, prefix: str) -> None:
    storage.store("manifest", b"1", ABSENT)
    client.expire(prefix.encode() + b".kvsync\xff", 1000)
    storage.store("lease", b"1", ANY)
    assert client.ttl(prefix.encode() + b".kvsync\xff") == -1


# Conditions


def test_a_value_that_changes_between_look_and_write_stays(
    storage: RedisStorage, client: redis.Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write(["a", "b", "c"], [b"1", b"1", b"1"])
    get = StringValues.get

    def late(self: StringValues, names: list[bytes]) -> list[bytes | Unreadable | None]:
        found = get(self, names)
        client.set(f"{prefix}b", b"theirs")
        return found

    monkeypatch.setattr(StringValues, "get", late)
    written = storage.write(["a", "b"], [b"2", b"2"], [token(b"1")] * 2)
    assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("b", True)]
    deleted = storage.delete(["b", "c"], [token(b"theirs"), token(b"1")])
    assert deleted.refused == ()
    client.set(f"{prefix}b", b"1")
    assert [refusal.key for refusal in storage.delete(["b"], [token(b"1")]).refused] == ["b"]
    monkeypatch.undo()
    assert storage.read(["a", "b", "c"]) == [b"2", b"theirs", None]


@pytest.mark.parametrize("place", ["prefix", "hash"])
@pytest.mark.parametrize("held", [None, b"0"])
def test_of_many_conditional_writers_one_wins(
    redis_server: RedisServer, prefix: str, place: str, held: bytes | None
) -> None:
    url = f"{redis_server.url}?{place}={prefix}"
    keys = [f"k{number}" for number in range(40)]
    if held is not None:
        open_url(url).write(keys, [held] * len(keys))
    barrier = Barrier(8)

    def race(number: int) -> set[str]:
        with contextlib.closing(open_url(url)) as mine:
            barrier.wait(30)
            mixed_up = keys[number * 5 :] + keys[: number * 5]
            expect = [None if held is None else token(held)] * len(keys)
            refused = mine.write(mixed_up, [b"%d of 8" % number] * len(keys), expect).refused
            assert all(refusal.changed for refusal in refused)
            return set(keys) - {refusal.key for refusal in refused}

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(race, range(8)))
    assert sorted(itertools.chain(*won)) == sorted(keys)
    winners = {key: b"%d of 8" % number for number, some in enumerate(won) for key in some}
    assert open_url(url).read(keys) == [winners[key] for key in keys]


class DeafProxy:
    """Passes everything on to a server, until told to lose one answer and the connection with it."""

    def __init__(self, port: int) -> None:
        self.server_port = port
        self.lose = False
        self.requests = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.server_port))
                threading.Thread(target=self._forward, args=(near, far), daemon=True).start()
                threading.Thread(target=self._answer, args=(far, near), daemon=True).start()

    def _forward(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(65536):
                self.requests += self.lose
                far.sendall(data)

    def _answer(self, far: socket.socket, near: socket.socket) -> None:
        with contextlib.suppress(OSError), near, far:
            while data := far.recv(65536):
                if self.lose:
                    self.lose = False
                    near.shutdown(socket.SHUT_RDWR)
                    return
                near.sendall(data)


def test_a_lost_answer_is_an_error_and_nothing_is_sent_twice(
    redis_server: RedisServer, storage: RedisStorage, prefix: str
) -> None:
    proxy = DeafProxy(redis_server.port)
    through = open_url(f"redis://127.0.0.1:{proxy.port}/0?prefix={prefix}")
    with contextlib.closing(proxy.listener), contextlib.closing(through):
        version = through.store("lease", b"1", ABSENT)
        through.write(["a"], [b"1"], [None])
        proxy.lose = True
        with pytest.raises(StorageError):
            through.store("lease", b"2", version)
        assert not proxy.lose
        assert proxy.requests == 1
        won = storage.load("lease")
        assert won is not None
        assert won.data == b"2"
        assert through.read(["a"]) == [b"1"]  # the connection is there again: what is lost is not the greeting
        proxy.lose = True
        assert store_if(through, "lease", b"3", won.version) != won.version
        assert through.read(["a"]) == [b"1"]
        proxy.lose = True
        with pytest.raises(StorageError):
            through.write(["b"], [b"1"], [None])
        assert storage.read(["a", "b"]) == [b"1", b"1"]
        assert proxy.requests == 3


# Processes, clients, the wire


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # from Python 3.12 on, where threads are about
def test_a_child_does_not_speak_on_its_parents_connection(storage: RedisStorage, client: redis.Redis) -> None:
    storage.write(["a"], [b"1"])
    ours = {entry["id"] for entry in client.client_list()}
    before = storage._link.client()
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            storage.write(["b"], [b"2"], [None])
            code = 0 if storage.read(["a", "b"]) == [b"1", b"2"] and storage._link.client() is not before else 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert storage.read(["a", "b"]) == [b"1", b"2"]
    assert ours <= {entry["id"] for entry in client.client_list()}


def test_a_client_of_the_callers(redis_server: RedisServer, prefix: str) -> None:
    with redis.Redis(port=redis_server.port, retry=Retry(NoBackoff(), 0)) as mine:
        storage = RedisStorage.over(mine, Location(prefix))
        storage.write(["a"], [b"1"], [None])
        storage.close()
        assert mine.get(f"{prefix}a") == b"1"
        with pytest.raises(StorageError, match="closed"):
            storage.read(["a"])
        other = RedisStorage.over(mine, Location(prefix))
        assert other.read(["a"]) == [b"1"]
        assert other.identity == storage.identity
        assert other.identity != RedisStorage.over(mine).identity


def test_a_client_of_one_connection_may_be_used_during_a_scan(
    redis_server: RedisServer, storage: RedisStorage, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvsync.storages.redis.listing.FETCH_COUNT", 2)
    storage.write(list("abcdefg"), [b"1"] * 7)
    with redis.Redis(port=redis_server.port, retry=Retry(NoBackoff(), 0), max_connections=1) as mine:
        given = RedisStorage.over(mine, Location(prefix))
        assert [given.read(keys) for keys, _ in given.scan()] == [[b"1", b"1"]] * 3 + [[b"1"]]


@pytest.mark.parametrize("place", ["prefix", "hash"])
def test_pages_that_are_asked_for_ahead(
    redis_server: RedisServer, client: redis.Redis, prefix: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one page is looked at, the server has been asked for the next ones, on a connection of their own."""
    monkeypatch.setattr("kvsync.storages.redis.listing.FETCH_COUNT", 2)
    values = {f"{number:02}": b"%d" % number for number in range(20)}
    with contextlib.closing(open_url(f"{redis_server.url}?{place}={prefix}")) as storage:
        storage.write(list(values), list(values.values()))
        whole = {key: token(value) for key, value in values.items()}
        assert listing(storage) == whole
        pages = storage.scan()
        assert [*next(pages)] == [["00", "01"], [token(b"0"), token(b"1")]]
        storage.write(["03", "19"], [b"new", b"new"])
        client.script_flush()
        assert storage.read(["00", "19"]) == [b"0", b"new"]
        rest = {key: found for page in pages for key, found in zip(*page, strict=True)}
        assert rest.pop("19") == token(b"new")
        assert rest.pop("03") in {token(b"new"), token(b"3")}
        assert rest.items() <= whole.items()
        assert len(rest) == 16
        left = storage.scan()
        next(left)
        left.close()  # type: ignore[attr-defined]
        assert storage.read(["03"]) == [b"new"]
        assert listing(storage) == whole | {"03": token(b"new"), "19": token(b"new")}


def test_a_connection_that_ends_during_a_scan_is_an_error(
    redis_server: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvsync.storages.redis.listing.FETCH_COUNT", 2)
    proxy = DeafProxy(redis_server.port)
    through = open_url(f"redis://127.0.0.1:{proxy.port}/0?prefix={prefix}")
    with contextlib.closing(proxy.listener), contextlib.closing(through):
        through.write(list("abcdefghijkl"), [b"1"] * 12)
        pages = through.scan()
        next(pages)
        proxy.lose = True
        with pytest.raises(StorageError):
            list(pages)
        assert not proxy.lose
        assert len(listing(through)) == 12


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ({"retry": Retry(NoBackoff(), 3)}, "repeats commands"),
        ({"retry": Retry(NoBackoff(), 0), "decode_responses": True}, "without decode_responses"),
    ],
)
def test_clients_that_would_lie(arguments: dict[str, Any], advice: str) -> None:
    with redis.Redis(**arguments) as mine, pytest.raises(UsageError, match=advice):
        RedisStorage.over(mine)


def test_no_command_blocks_the_server_for_the_whole_database(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        for place in ("prefix=a:", "hash=h", "prefix="):
            url = f"{server.url}?{place}"
            kvsync.sync({str(number): b"1" for number in range(2000)}, url, scan=True)
            kvsync.sync({}, url, scan=True)
        with redis.Redis(port=server.port) as client:
            used = set(client.info("commandstats"))
        assert "cmdstat_scan" in used
        assert not {"cmdstat_keys", "cmdstat_hgetall", "cmdstat_hvals", "cmdstat_flushdb"} & used


def test_an_older_server_lists_fields_with_their_values(
    redis_server: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_url(f"{redis_server.url}?hash={prefix}")
    storage.write([f"{number}" for number in range(1500)], [b"x" * 100] * 1500)
    before = listing(storage)
    hscan = redis.Redis.hscan

    def older(self: redis.Redis, *args: Any, **options: Any) -> Any:
        if options.pop("no_values", None):
            message = "syntax error"
            raise redis.ResponseError(message)
        return hscan(self, *args, **options)

    monkeypatch.setattr(redis.Redis, "hscan", older)
    assert listing(open_url(f"{redis_server.url}?hash={prefix}")) == before
    assert len(before) == 1500


@pytest.fixture
def tls_port(tmp_path: Path, redis_server: RedisServer) -> Iterator[int]:
    """Give the port of a TLS end before the server, with a certificate for localhost in `tmp_path`."""
    with TlsEnd(tmp_path, redis_server.port) as end:
        yield end.port


def test_only_a_trusted_server_is_spoken_to(tls_port: int, tmp_path: Path, prefix: str) -> None:
    ca = f"ca={tmp_path}/ca.pem"
    with contextlib.closing(open_url(f"rediss://localhost:{tls_port}/0?prefix={prefix}&{ca}")) as storage:
        storage.write(["a"], [b"1"])
        assert storage.read(["a"]) == [b"1"]
    for place, query in [("localhost", ""), ("127.0.0.1", ca)]:
        with (
            contextlib.closing(open_url(f"rediss://{place}:{tls_port}/0?{query}")) as storage,
            pytest.raises(StorageError, match="certificate is not trusted"),
        ):
            storage.read(["a"])
    with contextlib.closing(open_url(f"rediss://127.0.0.1:{tls_port}/0?prefix={prefix}&verify=none")) as storage:
        assert storage.read(["a"]) == [b"1"]


def test_a_server_without_tls_is_known_for_it_soon(redis_server: RedisServer) -> None:
    """It takes the handshake for an unfinished line and waits; six tries of 30 seconds each made three minutes."""
    started = time.monotonic()
    found = kvsync.doctor(f"rediss://127.0.0.1:{redis_server.port}/0?timeout=1")
    assert time.monotonic() - started < 2
    (wrong,) = found.wrong
    assert wrong.startswith("no answer to a TLS handshake within 1 seconds: the server probably does not use TLS")


def test_only_the_handshake_is_hastened(tls_port: int, tmp_path: Path) -> None:
    with contextlib.closing(open_url(f"rediss://localhost:{tls_port}/0?timeout=7&ca={tmp_path}/ca.pem")) as storage:
        storage.read(["a"])
        assert isinstance(storage._link, ServerLink)
        pool = storage._link.client().connection_pool
        connection = pool.get_connection()
        assert connection._sock.gettimeout() == 7
        pool.release(connection)


# Commands on the wire


# From end to end


@pytest.mark.parametrize("place", ["prefix=", "hash="])
@pytest.mark.parametrize("scan", [False, True])
def test_two_storages_become_equal(redis_server: RedisServer, prefix: str, place: str, scan: bool) -> None:
    url = f"{redis_server.url}?{place}{prefix}"
    mine: dict[str, bytes] = {f"user/{number}": b"%d" % number for number in range(300)}
    kvsync.sync(mine, url, changes=[Put(key) for key in mine], scan=scan)
    with contextlib.closing(open_url(url)) as theirs:
        assert theirs.read(["user/7", "user/299"]) == [b"7", b"299"]
        theirs.write(["new", "user/2"], [b"N", b"two"])
        theirs.delete(["user/3"])
        changes: list[Put | Delete] = [Put("user/1", b"one"), Delete("user/4")]
        kvsync.commit(url, [Put("new"), Put("user/2"), Delete("user/3")])
        kvsync.sync(mine, url, changes=changes, scan=scan)
        values = {key: value for key, value in mine.items() if not key.startswith(".kvsync/")}
        assert (values["user/1"], values["user/2"], values["new"]) == (b"one", b"two", b"N")
        assert not {"user/3", "user/4"} & set(values)
        assert listing(theirs) == {key: token(value) for key, value in values.items()}
        manifest = theirs.load("manifest")
        again = kvsync.sync(mine, url, changes=[], scan=scan)
        assert (again.pushed, again.pulled, again.conflicts) == (0, 0, [])
        assert theirs.load("manifest") == manifest
        assert read_lease(theirs) is None
