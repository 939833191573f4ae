"""Storages on servers that are one, or within one another, by two names of the server; and misspelt ones.

Each run took the inner storage's index and values in, and grew the outer one by as much again.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from server_places import corner

import kvsync
from kvsync import Put, SameStorageError, StorageError
from kvsync.storages import open_storage

if TYPE_CHECKING:
    from servers.nats import NatsServer
    from servers.postgres import PostgresServer
    from servers.redis import RedisServer
    from servers.seaweed import SeaweedServer


def renamed(url: str) -> str:
    """Return the URL by another name of this machine."""
    changed = url.replace("127.0.0.1", "localhost").replace(quote("127.0.0.1"), "localhost")
    assert changed != url
    return changed


def is_unused(url: str) -> bool:
    """Whether there is neither a value nor an index object."""
    with contextlib.closing(open_storage(url)[0]) as storage:
        return not any(keys for keys, _ in storage.scan()) and not set(storage.objects()) - {"lease"}


def refused(one: str, other: str) -> None:
    for pair in ((one, other), (other, one)):
        with pytest.raises(SameStorageError):
            kvsync.sync(*pair, scan=True, create="both", wait_seconds=0)
    assert is_unused(one)
    assert is_unused(other)


@pytest.mark.parametrize("inner", ["sub:", ""])
def test_redis(redis_server: RedisServer, inner: str) -> None:
    prefix = f"{corner()}:"
    url = f"{redis_server.url}?prefix={prefix}"
    refused(url, renamed(url) + inner)
    with pytest.raises(SameStorageError):
        kvsync.plan(url, url + inner)


def test_redis_prefixes_side_by_side_are_two_storages(redis_server: RedisServer) -> None:
    prefix = corner()
    url = f"{redis_server.url}?prefix={prefix}"
    result = kvsync.sync(f"{url}a:", renamed(f"{url}b:"), [Put("k", b"1")])
    assert (result.pushed, result.created) == (1, {})
    other = url.replace("/0?", "/1?")
    assert kvsync.sync(f"{url}a:", renamed(f"{other}a:x:"), scan=True).pushed == 1


@pytest.mark.parametrize("inner", ["/sub", ""])
def test_s3(seaweed_server: SeaweedServer, inner: str) -> None:
    prefix = corner()
    refused(seaweed_server.url_of(prefix), renamed(seaweed_server.url_of(prefix + inner)))


def test_postgresql(postgres_server: PostgresServer) -> None:
    schema = postgres_server.schema()
    url = f"{postgres_server.url}?schema={schema}&table=t"
    refused(url, renamed(url) + "&application_name=other")
    found_by_path = f"{postgres_server.url}?table=t&options={quote(f'-c search_path={schema}')}"
    with pytest.raises(SameStorageError):
        kvsync.sync(url, found_by_path, scan=True, create="both", wait_seconds=0)


def test_nats(nats_server: NatsServer) -> None:
    bucket = corner()
    refused(nats_server.url(bucket), renamed(nats_server.url(bucket)))


def test_a_misspelt_table_is_not_created(postgres_server: PostgresServer) -> None:
    """`?table=setings` was created as a source, and filled from the target."""
    url = f"{postgres_server.url}?schema={postgres_server.schema()}&table="
    peer: dict[str, bytes] = {"k": b"1"}
    for run in (kvsync.sync, kvsync.plan):
        with pytest.raises(StorageError, match="the table 'setings' in the database does not exist"):
            run(f"{url}setings", peer, scan=True)
    with pytest.raises(StorageError, match="does not exist"):
        kvsync.sync(peer, f"{url}setings", scan=True, create="none")
    assert kvsync.sync(peer, f"{url}settings", scan=True).created == {"target": "the table 'settings' in the database"}
    assert kvsync.sync(f"{url}settings", peer, scan=True).created == {}


def test_a_misspelt_bucket_is_not_created(nats_server: NatsServer) -> None:
    """A source's bucket was created, and filled from the target."""
    bucket = corner()
    peer: dict[str, bytes] = {"k": b"1"}
    for run in (kvsync.sync, kvsync.plan):
        with pytest.raises(StorageError, match=f"the bucket '{bucket}' does not exist"):
            run(nats_server.url(bucket), peer, scan=True)
    result = kvsync.sync(nats_server.url(bucket), {}, [Put("k", b"1")])
    assert result.created == {"source": f"the bucket '{bucket}'"}
    assert kvsync.sync(nats_server.url(bucket), peer, scan=True).created == {}


def test_a_prefix_always_exists(redis_server: RedisServer, seaweed_server: SeaweedServer) -> None:
    """Neither Redis nor a bucket knows whether anybody has used a prefix."""
    for url in (f"{redis_server.url}?prefix={corner()}:", seaweed_server.url_of(corner())):
        assert kvsync.sync(url, {}, scan=True).created == {}
