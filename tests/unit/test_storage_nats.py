"""What is special about NATS: names, markers, parts, replicas that lag, answers that are lost, and logins."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
import socket
import subprocess
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.js.errors import BucketNotFoundError
from servers.nats import NatsServer
from servers.proxy import DroppingProxy

import kvsync
from kvsync import Delete, Put
from kvsync.errors import IndexDamagedError, StorageError, UsageError
from kvsync.index.objects import store_if
from kvsync.storages import open_storage
from kvsync.storages.contract import ObjectMismatch
from kvsync.storages.nats import NatsServer as Where
from kvsync.storages.nats import NatsStorage, open_url
from kvsync.storages.nats import listing as natslisting
from kvsync.storages.nats import objects as natsobjects
from kvsync.storages.nats import reading as natsreading
from kvsync.storages.nats.keys import INDEX, decode, encode, is_name, quote
from kvsync.testing.conformance import listing
from kvsync.types import ABSENT, ANY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def bucket() -> str:
    return f"b{uuid.uuid4().hex}"


@pytest.fixture
def storage(nats_server: NatsServer, bucket: str) -> Iterator[NatsStorage]:
    opened = open_url(nats_server.url(bucket))
    yield opened
    opened.close()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[NatsServer]:
    """Give a server that a test may kill."""
    with NatsServer(tmp_path / "nats", user="me", password="pass word/1") as server:
        yield server


def at(server: NatsServer, bucket: str, *, timeout: float = 10.0, port: int | None = None) -> NatsStorage:
    where = Where(f"127.0.0.1:{port or server.port}", user=server.user, password=server.password, timeout=timeout)
    return NatsStorage(bucket, where)


def names(server: NatsServer, bucket: str) -> list[str]:
    """Return every name in a bucket, those of index and markers, too."""

    async def ask(kv: Any) -> list[str]:
        info = await kv._js.stream_info(kv._stream, subjects_filter=">")
        return sorted(subject.removeprefix(kv._pre) for subject in info.state.subjects or {})

    found: list[str] = server.ask(ask, bucket)
    return found


# Names


keys = st.text(st.sampled_from("a=3D/._-\u00e9 \0*>") | st.characters(exclude_categories=["Cs"]), max_size=12)


@given(keys)
def test_every_key_has_a_name_and_the_name_gives_it_back(key: str) -> None:
    name = encode(key)
    assert is_name(name)
    assert not name.startswith(INDEX)
    assert decode(name) == key


@given(st.text("aF=3D20/._-kvsync", min_size=1, max_size=12).filter(is_name))
def test_every_name_of_others_is_a_key(name: str) -> None:
    if not name.startswith(INDEX):
        assert encode(decode(name)) == name


def test_two_keys_never_share_a_name() -> None:
    some = [
        "",
        "=",
        "=3D",
        "=3D3D",
        "a=20b",
        "a b",
        "a=3D20b",
        "=kvsync.x",
        "=3Dkvsync.x",
        ".",
        "=2E",
        "..",
        "a.",
        "a=2E",
    ]
    assert len({encode(key) for key in some}) == len(some)
    assert [encode(key) for key in ("user/1", "YWJj==", "a.b-c_d")] == ["user/1", "YWJj==", "a.b-c_d"]
    assert quote("a..b") == "a.=2Eb"


# URLs, logins, packages


@pytest.mark.parametrize(
    ("url", "name", "address"),
    [
        ("nats://host/b", "nats://host/b", "host:4222"),
        ("nats://[::1]:1234/b_-9", "nats://[::1]:1234/b_-9", "[::1]:1234"),
        ("nats://me:s%2Fcret@host/b", "nats://me:***@host/b", "host:4222"),
        ("nats://t0ken@host/b", "nats://***@host/b", "host:4222"),
        ("nats://t0%2Fken@host/b", "nats://***@host/b", "host:4222"),
        ("NATS://host/b?tls=true&timeout=2.5", "NATS://host/b?tls=true&timeout=2.5", "host:4222"),
        ("nats://host/b?credentials=/home/me/c.creds", "nats://host/b?credentials=***", "host:4222"),
    ],
)
def test_urls(url: str, name: str, address: str) -> None:
    storage = open_storage(url)[0]
    assert isinstance(storage, NatsStorage)
    assert storage.name == name
    assert repr(storage) == f"NatsStorage({name!r})"
    assert f"nats:{address}/" in storage.identity
    assert "cret" not in storage.identity
    assert "t0ken" not in storage.identity


@pytest.mark.parametrize(
    "url",
    [
        "nats://host",
        "nats://host/",
        "nats:///b",
        "nats://host/a/b",
        "nats://host/a.b",
        "nats://host/a%20b",
        "nats://host:port/b",
        "nats://t0ken@host:99999/b",
        "nats://host/b?what=1",
        "nats://t0ken@host/b?what=1",
        "nats://t0ken@host/b?tls=1&tls=2",
        "nats://host/b?tls=maybe",
        "nats://host/b?timeout=0",
        "nats://host/b?timeout=nan",
        "nats://host/b?timeout=x",
        "nats://host/b?evicting=yes",
    ],
)
def test_bad_urls(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_url(url)
    assert "t0" not in str(caught.value)
    assert "ken" not in str(caught.value).replace("token", "")


def test_one_storage_is_recognised_and_another_account_is_another() -> None:
    assert open_url("nats://HOST/b").identity == open_url("nats://host:4222/b?timeout=3").identity
    assert open_url("nats://host/b").identity != open_url("nats://host/c").identity
    assert open_url("nats://a:x@host/b").identity != open_url("nats://b:x@host/b").identity


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name.partition(".")[0])

    monkeypatch.setattr("kvsync.storages.extras.import_module", missing)
    with pytest.raises(UsageError, match=r"pip install 'kvsync\[nats\]'"):
        open_url("nats://host/b")


def test_opening_and_closing_reaches_no_server() -> None:
    storage = open_url("nats://127.0.0.1:1/b")
    storage.close()
    storage.close()
    with pytest.raises(StorageError, match="closed"):
        storage.read(["a"])


def test_no_server_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        storage = open_url(f"nats://me:hunter2@127.0.0.1:{port}/b")
        with pytest.raises(StorageError, match=rf"127\.0\.0\.1:{port}.*start it, or fix the URL") as caught:
            storage.read(["a"])
    assert caught.value.storage == storage.name
    assert "hunter2" not in str(caught.value)
    storage.close()


@pytest.mark.parametrize("password", ["wrong", "pass+word/1", ""])
def test_a_wrong_password(own_server: NatsServer, password: str) -> None:
    storage = NatsStorage("b", Where(f"127.0.0.1:{own_server.port}", user="me", password=password))
    with pytest.raises(StorageError, match=r"refused the login.*check user and password") as caught:
        storage.write(["a"], [b"1"])
    assert not password or password not in str(caught.value)
    storage.close()


def test_logins(own_server: NatsServer, tmp_path: Path) -> None:
    url = f"nats://me:pass%20word%2F1@127.0.0.1:{own_server.port}/b"
    storage = open_url(url)
    storage.write(["a"], [b"1"])
    assert storage.read(["a"]) == [b"1"]
    storage.close()
    with NatsServer(tmp_path / "token", token="t0ken") as server:
        storage = open_url(server.url("b"))
        storage.write(["a"], [b"2"])
        assert storage.read(["a"]) == [b"2"]
        storage.close()
        storage = open_url(f"nats://wr0ng@127.0.0.1:{server.port}/b")
        with pytest.raises(StorageError, match="refused the login") as caught:
            storage.read(["a"])
        assert "wr0ng" not in str(caught.value)
        storage.close()


def test_no_password_goes_over_a_plain_connection_where_tls_is_asked_for() -> None:
    """The client library goes on in plain text if the server does not ask for more."""
    heard: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(5)
            connection.sendall(b'INFO {"server_id":"x","version":"2.15.1","max_payload":1048576,"headers":true}\r\n')
            while data := connection.recv(1 << 16):
                heard.append(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        storage = open_url(f"nats://me:hunter2@127.0.0.1:{listener.getsockname()[1]}/b?tls=true")
        with pytest.raises(StorageError, match="encrypt"):
            storage.read(["a"])
        storage.close()
        thread.join(10)
    assert b"hunter2" not in b"".join(heard)


def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    more = ("--tls", "--tlscert", str(certificate), "--tlskey", str(key))
    with NatsServer(tmp_path / "nats", user="me", password="hunter2", more=more) as server:
        storage = open_url(server.url("b", "?tls=true"))
        with pytest.raises(StorageError, match="certificate"):
            storage.write(["a"], [b"1"])
        storage.close()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        storage = open_url(server.url("b", "?tls=true"))
        storage.write(["a"], [b"1"])
        assert storage.read(["a"]) == [b"1"]
        storage.close()


def test_what_a_user_may_not_do_is_said_at_once(tmp_path: Path) -> None:
    config = tmp_path / "nats.conf"
    config.write_text('authorization { users: [{user: me, password: hunter2, permissions: {publish: ["$JS.API.>"]}}] }')
    with NatsServer(tmp_path / "nats", more=("-c", str(config))) as server:
        storage = open_url(f"nats://me:hunter2@127.0.0.1:{server.port}/b")
        started = time.monotonic()
        with pytest.raises(StorageError, match=r"(?i)permissions violation.*\$KV\.b\.a"):
            storage.write(["a"], [b"1"])
        assert time.monotonic() - started < 5
        assert storage.read(["a"]) == [None]
        storage.close()


def test_the_rights_that_are_listed_are_enough(tmp_path: Path) -> None:
    from kvsync.storages.nats import storage as module

    documented = (module.__doc__ or "").partition("A user needs")[2].partition("A server")[0]
    rights = [right.replace("BUCKET", "b") for right in re.findall(r"`([^`]+)`", documented)]
    assert rights.pop() == "_INBOX.>"
    config = tmp_path / "nats.conf"
    allowed = ", ".join(f'"{right}"' for right in rights)
    permissions = f'{{publish: [{allowed}], subscribe: "_INBOX.>"}}'
    config.write_text(f"authorization {{ users: [{{user: me, password: hunter2, permissions: {permissions}}}] }}")
    with NatsServer(tmp_path / "nats", more=("-c", str(config))) as server:
        storage = open_url(f"nats://me:hunter2@127.0.0.1:{server.port}/b?timeout=5")
        storage.write(["a", "b"], [b"1", b"2"])
        assert storage.read(["a", "b"]) == [b"1", b"2"]
        assert len(listing(storage)) == 2
        storage.delete(["a"])
        version = storage.store("lease", b"1", ABSENT)
        storage.store("large", bytes(2 << 20), ANY)
        assert storage.objects() == ["large", "lease"]
        storage.remove(["lease"], version)
        storage.remove(["large"], ANY)
        assert storage.objects() == []
        storage.close()


@pytest.mark.parametrize(
    "denied",
    [
        'publish: {deny: ["$JS.API.DIRECT.GET.>"]}',
        'publish: {deny: ["$JS.API.STREAM.MSG.GET.>"]}',
        'publish: {deny: ["$JS.API.CONSUMER.>"]}',
        'publish: {deny: ["$KV.b.secret"]}, subscribe: {deny: ["$KV.b.secret"]}',
    ],
    ids=["many values", "one value", "listing", "one subject"],
)
def test_a_value_that_a_user_may_not_see_any_more_is_no_delete(tmp_path: Path, denied: str) -> None:
    config = tmp_path / "nats.conf"
    config.write_text("authorization { users: [{user: me, password: hunter2}] }")
    data = {"a": b"1", "secret": b"2"}
    with NatsServer(tmp_path / "nats", more=("-c", str(config))) as server:
        url = f"nats://me:hunter2@127.0.0.1:{server.port}/b?timeout=2"
        kvsync.sync(data, url, scan=True)
        config.write_text(f"authorization {{ users: [{{user: me, password: hunter2, permissions: {{{denied}}}}}] }}")
        server.stop()
        server.start()
        with contextlib.suppress(StorageError):
            kvsync.sync(data, url, scan=True)
    assert data["a"] == b"1"
    assert data["secret"] == b"2"


def test_credentials_that_are_not_there(own_server: NatsServer, tmp_path: Path) -> None:
    storage = open_url(f"nats://127.0.0.1:{own_server.port}/b?credentials={tmp_path}/s3cret.creds")
    with pytest.raises(StorageError, match=r"credentials|nkeys"):
        storage.read(["a"])
    storage.close()


def test_a_server_without_jetstream(tmp_path: Path) -> None:
    class Plain(NatsServer):
        def command(self) -> list[str]:
            return [part for part in super().command() if part != "-js"]

    with Plain(tmp_path / "nats") as server:
        storage = open_url(server.url("b"))
        with pytest.raises(StorageError, match="JetStream"):
            storage.read(["a"])
        storage.close()


# Buckets


def test_only_a_write_makes_the_bucket(nats_server: NatsServer, storage: NatsStorage, bucket: str) -> None:
    assert storage.read(["a"]) == [None]
    assert listing(storage) == {}
    assert storage.objects() == []
    assert storage.load("manifest") is None
    assert storage.delete(["a"]).refused == ()
    assert storage.delete(["a"], [b"x" * 16]).refused == ()
    storage.remove(["lease"], ANY)
    with pytest.raises(ObjectMismatch):
        storage.remove(["lease"], b"x" * 16)
    with pytest.raises(ObjectMismatch):
        storage.store("lease", b"x", b"x" * 16)
    with pytest.raises(BucketNotFoundError):
        names(nats_server, bucket)
    storage.write(["a"], [b"1"])
    config = nats_server.ask(lambda kv: kv.status(), bucket).stream_info.config
    assert (config.max_msgs_per_subject, str(config.storage), config.allow_direct) == (1, "file", True)
    assert nats_server.ask(lambda kv: kv.get("a"), bucket).value == b"1"


def test_two_make_the_bucket_at_once(nats_server: NatsServer, bucket: str) -> None:
    storages = [open_url(nats_server.url(bucket)) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        written = list(pool.map(lambda pair: pair[1].write([f"k{pair[0]}"], [b"1"]), enumerate(storages)))
    assert all(not one.refused for one in written)
    assert len(listing(storages[0])) == 6
    for storage in storages:
        storage.close()


def test_what_others_wrote(nats_server: NatsServer, storage: NatsStorage, bucket: str) -> None:
    async def work(kv: Any) -> None:
        for key in ("plain", "YWJj==", "a.b", "=", "a=20b", "gone", "purged"):
            await kv.put(key, b"value of " + key.encode())
        await kv.delete("gone")
        await kv.purge("purged")

    nats_server.make(bucket, history=3)
    nats_server.ask(work, bucket)
    assert list(listing(storage)) == ["", "YWJj==", "a b", "a.b", "plain"]
    values = storage.read(["", "YWJj==", "a b", "plain", "gone", "purged", "="])
    assert values == [b"value of =", b"value of YWJj==", b"value of a=20b", b"value of plain", None, None, None]
    assert storage.modified_ms(["gone", "plain"])[0] is None
    assert storage.write(["gone", "plain"], [b"1", b"2"], [None, None]).refused[0].key == "plain"
    storage.write(["YWJj=="], [b"x"])
    assert nats_server.ask(lambda kv: kv.get("YWJj=="), bucket).value == b"x"


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize(
    ("config", "reason"),
    [({"ttl": 3600}, "max_age"), ({"discard": "old", "max_bytes": 1 << 20}, "max_bytes")],
)
def test_a_bucket_that_evicts_is_refused_unless_told(
    nats_server: NatsServer, bucket: str, config: dict[str, Any], reason: str, direct: bool
) -> None:
    async def evict(kv: Any) -> None:
        made = (await kv.status()).stream_info.config
        await kv._js.delete_stream(made.name)
        if "discard" in config:
            made = made.evolve(discard="old", max_bytes=config["max_bytes"])
        await kv._js.add_stream(made.evolve(max_age=float(config.get("ttl", 0))))

    nats_server.make(bucket, direct=direct)
    nats_server.ask(evict, bucket)
    storage = open_url(nats_server.url(bucket))
    calls: list[Callable[[], object]] = [
        lambda: storage.read(["a"]),
        lambda: storage.write(["a"], [b"1"]),
        lambda: list(storage.scan()),
        lambda: storage.load("lease"),
    ]
    for call in calls:
        with pytest.raises(UsageError, match=rf"{reason}.*evicting=allow") as caught:
            call()
        assert caught.value.storage == storage.name
    storage.close()
    told = open_url(nats_server.url(bucket, "?evicting=allow"))
    told.write(["a"], [b"1"])
    assert told.read(["a"]) == [b"1"]
    told.close()


def test_streams_that_are_no_bucket_of_values(nats_server: NatsServer, storage: NatsStorage, bucket: str) -> None:
    async def other(kv: Any) -> None:
        await kv._js.add_stream(name=f"KV_{bucket}", subjects=[f"{bucket}.>"])

    async def mirror(kv: Any) -> None:
        from nats.js.api import StreamSource

        await kv._js.add_stream(name=f"KV_{bucket}m", mirror=StreamSource(name=f"KV_{bucket}o"))

    nats_server.make(f"{bucket}o")
    nats_server.ask(other, f"{bucket}o")
    with pytest.raises(UsageError, match="is not a bucket"):
        storage.read(["a"])
    nats_server.ask(mirror, f"{bucket}o")
    storage = open_url(nats_server.url(f"{bucket}m"))
    with pytest.raises(UsageError, match=f"mirror of KV_{bucket}o"):
        storage.read(["a"])
    storage.close()


def test_a_name_that_is_no_key_is_named_and_stops_nothing(
    nats_server: NatsServer, storage: NatsStorage, bucket: str
) -> None:
    """One such message failed the whole scan, and so every run."""

    async def work(kv: Any) -> None:
        await kv._js.publish(f"$KV.{bucket}.caf\u00e9", b"1")
        await kv._js.publish(f"$KV.{bucket}.a:b", b"1")

    storage.write(["a"], [b"1"])
    nats_server.ask(work, bucket)
    assert list(listing(storage)) == ["a"]
    assert [(entry.name, entry.harmless) for entry in storage.skipped] == [("a:b", False), ("caf\u00e9", False)]
    data: dict[str, bytes] = {"mine": b"2"}
    result = kvsync.sync(data, storage, scan=True)
    assert [entry.key for entry in result.unreadable] == ["a:b", "caf\u00e9"]
    assert (result.pushed, result.pulled) == (1, 1)


def test_a_value_with_a_time_to_live_is_named_and_not_taken(nats_server: NatsServer, bucket: str) -> None:
    """It was synced like any other; the server dropped it, and that spread as a delete."""

    async def work(kv: Any) -> None:
        await kv._js.publish(f"$KV.{bucket}.a", b"passing", headers={"Nats-TTL": "1h"})
        await kv._js.publish(f"$KV.{bucket}.b", b"passing", headers={"Nats-TTL": "1h"})
        await kv._js.publish(f"$KV.{bucket}.stays", b"1", headers={"Nats-TTL": "never"})

    url = nats_server.url(bucket)
    data = {"a": b"1", "c": b"1"}
    kvsync.sync(data, url, scan=True)
    nats_server.ask(work, bucket)
    data["a"] = b"2"
    result = kvsync.sync(data, url, scan=True)
    assert [(entry.key, entry.side) for entry in result.unreadable] == [("a", "target"), ("b", "target")]
    assert "Nats-TTL" in result.unreadable[0].reason
    assert [entry.key for entry in result.missing] == ["a"]
    assert (data["a"], data["stays"]) == (b"2", b"1")
    assert "b" not in data
    with contextlib.closing(open_url(nats_server.url(bucket, "?evicting=allow"))) as told:
        assert told.read(["a", "b"]) == [b"passing"] * 2


def test_tokens_of_single_keys_are_those_of_a_listing(storage: NatsStorage) -> None:
    storage.write(["a", "b", "c d"], [b"1"] * 3)
    storage.delete(["b"])
    assert storage.tokens(["c d", "b", "none", "a", "\ud800"]) == [
        listing(storage)["c d"],
        None,
        None,
        listing(storage)["a"],
        None,
    ]


def test_tokens_of_a_bucket_that_was_made_anew_are_others(
    nats_server: NatsServer, storage: NatsStorage, bucket: str
) -> None:
    (old,) = storage.write(["a"], [b"1"]).tokens or ()
    lease = storage.store("lease", b"1", ABSENT)

    async def again(kv: Any) -> None:
        await kv._js.delete_key_value(bucket)
        await kv._js.create_key_value(bucket=bucket)
        await kv.put("a", b"2")  # revision 1 again

    nats_server.ask(again, bucket)
    assert listing(storage)["a"] != old
    assert [one.changed for one in storage.write(["a"], [b"3"], [old]).refused] == [True]
    assert [one.changed for one in storage.delete(["a"], [old]).refused] == [True]
    with pytest.raises(ObjectMismatch):
        storage.store("lease", b"x", lease)
    with pytest.raises(ObjectMismatch):
        storage.remove(["lease"], lease)
    assert storage.read(["a"]) == [b"2"]


def test_a_bucket_that_vanishes(nats_server: NatsServer, storage: NatsStorage, bucket: str) -> None:
    async def vanish(kv: Any) -> None:
        await kv._js.delete_key_value(bucket)

    storage.write(["a"], [b"1"])
    nats_server.ask(vanish, bucket)
    with pytest.raises(StorageError, match="gone"):
        storage.write(["a"], [b"1"])
    assert storage.read(["a", "b"]) == [None, None]
    storage.write(["a"], [b"2"])
    nats_server.ask(vanish, bucket)
    assert storage.read(["a", "b"]) == [None, None]
    assert storage.load("lease") is None
    assert listing(storage) == {}


# Limits


def test_what_does_not_fit_is_refused_and_the_rest_written(storage: NatsStorage) -> None:
    batch = ["a", "large", "\u00e9" * 700, "\ud800", "z"]
    written = storage.write(batch, [b"1", bytes((1 << 20) + 1), b"1", b"1", b"1"])
    assert [(one.key, one.changed) for one in written.refused] == [(key, False) for key in batch[1:4]]
    assert "1,048,576" in written.refused[0].reason
    assert "max_payload" in written.refused[0].reason
    assert "4,200" in written.refused[1].reason
    assert "surrogate" in written.refused[2].reason
    assert written.tokens is not None
    assert [token is None for token in written.tokens] == [False, True, True, True, False]
    assert list(listing(storage)) == ["a", "z"]
    assert storage.read(batch) == [b"1", None, None, None, b"1"]
    assert storage.delete(batch[1:4]).refused == ()
    assert storage.modified_ms(batch)[1:4] == [None] * 3
    assert storage.write(["large"], [bytes(1 << 20)], [None]).refused[0].changed is False  # its condition takes room


def test_a_buckets_own_limit(nats_server: NatsServer, storage: NatsStorage, bucket: str) -> None:
    nats_server.make(bucket, max_value_size=5000)
    assert [one.changed for one in storage.write(["a", "b"], [bytes(5001), bytes(5000)]).refused] == [False]
    version = storage.store("manifest", bytes(range(256)) * 100, ABSENT)
    assert storage.load("manifest") == (bytes(range(256)) * 100, version)


def test_a_full_bucket(nats_server: NatsServer, storage: NatsStorage, bucket: str) -> None:
    nats_server.make(bucket, max_bytes=10_000)
    with pytest.raises(StorageError, match="maximum bytes exceeded"):
        storage.write([f"k{number}" for number in range(100)], [bytes(1000)] * 100)
    assert 0 < len(listing(storage)) < 10


def test_keys_of_many_parts(storage: NatsStorage) -> None:
    long = ["a." * 511 + "a", "x" * 3_600]
    storage.write(long, [b"1", b"2"])
    assert storage.read(long) == [b"1", b"2"]
    assert list(listing(storage)) == long


def test_many_large_values(storage: NatsStorage) -> None:
    """More than one answer may hold, so the server sends them in several."""
    some = [f"k{number:02d}" for number in range(40)]
    values = [bytes([number]) * 900_000 for number in range(40)]
    storage.write(some, values)
    assert storage.read(["none", *some]) == [None, *values]


def test_deletes_leave_markers_that_are_no_values(nats_server: NatsServer, storage: NatsStorage, bucket: str) -> None:
    some = ["a", "b", "c"]
    tokens = storage.write(some, [b"1"] * 3).tokens
    assert tokens is not None
    storage.delete(["a"])
    storage.delete(["b"], [tokens[1]])
    assert list(listing(storage)) == ["c"]
    assert names(nats_server, bucket) == some
    assert storage.read(some) == [None, None, b"1"]
    again = storage.write(some, [b"2"] * 3, [None] * 3)
    assert [one.key for one in again.refused] == ["c"]
    assert storage.read(some) == [b"2", b"2", b"1"]
    assert storage.write(["a"], [b"3"], [tokens[0]]).refused[0].changed

    async def life(kv: Any) -> str:
        await kv.delete("c")
        headers = (await kv._js.get_last_msg(kv._stream, f"$KV.{bucket}.a")).headers
        return str(headers.get("Nats-TTL"))

    storage.delete(["a"])
    assert nats_server.ask(life, bucket) == str(7 * 24 * 3600)


def test_modified_is_when_it_was_stored(storage: NatsStorage) -> None:
    some = [f"k{number}" for number in range(1500)]
    before = time.time() * 1000
    storage.write(some, [b"1"] * 1500)
    many, few = storage.modified_ms([*some, "none"]), storage.modified_ms([*some[:5], "none"])
    assert many[-1] is None
    assert few == [*many[:5], None]
    assert all(moment is not None and before - 5000 < moment < before + 60_000 for moment in many[:-1])


# Conditions


def test_one_of_many_writers_wins_each_key(nats_server: NatsServer, bucket: str) -> None:
    storages = [open_url(nats_server.url(bucket)) for _ in range(4)]
    some = [f"k{number}" for number in range(50)]
    storages[0].write(some[:25], [b"0"] * 25)
    tokens = listing(storages[0])
    expect = [tokens.get(key) for key in some]
    barrier = threading.Barrier(4)

    def race(number: int) -> set[str]:
        barrier.wait(30)
        written = storages[number].write(some, [b"%d" % number] * 50, expect)
        assert all(one.changed for one in written.refused)
        return set(some) - {one.key for one in written.refused}

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(race, range(4)))
    assert sorted(key for keys_ in won for key in keys_) == sorted(some)
    values = storages[0].read(some)
    assert all(values[some.index(key)] == b"%d" % number for number in range(4) for key in won[number])
    for storage in storages:
        storage.close()


def test_a_lost_answer_is_an_error_and_the_write_is_recognised(own_server: NatsServer) -> None:
    with DroppingProxy(own_server.port) as proxy:
        storage = at(own_server, "b", port=proxy.port)
        storage.write(["a"], [b"0"])
        proxy.arm()
        with pytest.raises(StorageError, match="run again"):
            storage.store("lease", b"mine", ABSENT)
        assert proxy.dropped
        assert storage.load("lease") is not None  # it was done, and the same handle connects again
        version = storage.store("lease", b"mine", ANY)
        proxy.arm()
        assert store_if(storage, "lease", b"mine, again", version) == storage.load("lease").version  # type: ignore[union-attr]
        assert proxy.dropped
        proxy.arm()
        with pytest.raises(StorageError):
            storage.write(["a"], [b"1"])
        assert storage.read(["a"]) == [b"1"]
        storage.close()


# Large objects


def parts(server: NatsServer, bucket: str) -> list[str]:
    return [name for name in names(server, bucket) if name.startswith("=kvsync.part.")]


def test_large_objects_lie_in_parts(nats_server: NatsServer, storage: NatsStorage, bucket: str) -> None:
    first, second = os.urandom(5 << 20), os.urandom(3 << 20)
    version = storage.store("segment/1.5", first, ABSENT)
    assert storage.load("segment/1.5") == (first, version)
    assert storage.objects() == ["segment/1.5"]
    assert listing(storage) == {}
    assert len(parts(nats_server, bucket)) == 6
    for expect in (ABSENT, b"no version"):
        with pytest.raises(ObjectMismatch):
            storage.store("segment/1.5", second, expect)
    assert len(parts(nats_server, bucket)) == 6  # nothing is left of what was not written
    version = storage.store("segment/1.5", second, version)
    assert storage.load("segment/1.5") == (second, version)
    assert len(parts(nats_server, bucket)) == 4
    storage.store("segment/1.5", first, ANY)
    assert len(parts(nats_server, bucket)) == 6
    version = storage.store("segment/1.5", b"small", ANY)
    assert storage.load("segment/1.5") == (b"small", version)
    assert parts(nats_server, bucket) == []


def test_removing_large_objects_leaves_nothing(nats_server: NatsServer, storage: NatsStorage, bucket: str) -> None:
    data = bytes(2 << 20)
    storage.store("a", data, ABSENT)
    storage.store("small", b"1", ABSENT)
    version = storage.store("b", data, ABSENT)
    storage.store("c", data, ABSENT)
    with pytest.raises(ObjectMismatch):
        storage.remove(["a"], version)
    other = open_url(nats_server.url(bucket))
    other.remove(["a", "small", "none"], ANY)  # a handle that has not seen their parts
    other.close()
    storage.remove(["b"], version)
    assert storage.objects() == ["c"]
    assert names(nats_server, bucket)[0] == "=kvsync.head.c"
    assert len(names(nats_server, bucket)) == 4
    storage.store("b", b"anew", ABSENT)


def test_an_object_is_read_whole_while_it_is_replaced(nats_server: NatsServer, bucket: str) -> None:
    writer, reader = open_url(nats_server.url(bucket)), open_url(nats_server.url(bucket))
    writer.store("inventory", b"0" * (2 << 20), ANY)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(lambda: [writer.store("inventory", b"%d" % turn * (2 << 20), ANY) for turn in range(9)])
        loads = 0
        while not done.done() or not loads:
            there = reader.load("inventory")
            assert there is not None
            assert len(there.data) == 2 << 20
            assert len(set(there.data)) == 1
            loads += 1
        done.result()
    writer.close()
    reader.close()


def test_parts_that_a_crash_left_go_when_they_are_old(
    nats_server: NatsServer, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_700_000_000.0]
    storage = NatsStorage(bucket, Where(f"127.0.0.1:{nats_server.port}"), clock=lambda: now[0])
    kept = storage.store("kept", bytes(2 << 20), ABSENT)

    async def crash(*_: object) -> None:
        message = "crashed"
        raise StorageError(message)

    with monkeypatch.context() as patch:
        patch.setattr(natsobjects.Objects, "_put_head", crash)
        with pytest.raises(StorageError, match="crashed"):
            storage.store("lost", bytes(2 << 20), ABSENT)
    assert len(parts(nats_server, bucket)) == 6
    now[0] += 3600
    storage.store("young", bytes(2 << 20), ABSENT)
    assert len(parts(nats_server, bucket)) == 9
    now[0] += 25 * 3600
    storage.store("old", bytes(2 << 20), ABSENT)
    left = parts(nats_server, bucket)
    assert len(left) == 9
    assert not [part for part in left if part.startswith("=kvsync.part.lost.")]
    assert storage.load("kept") == (bytes(2 << 20), kept)
    storage.close()


def test_a_part_that_is_gone_is_damage(nats_server: NatsServer, storage: NatsStorage, bucket: str) -> None:
    storage.store("manifest", bytes(2 << 20), ABSENT)
    (part, *_) = parts(nats_server, bucket)

    async def damage(kv: Any) -> None:
        await kv._js.purge_stream(kv._stream, subject=f"$KV.{bucket}.{part}")

    nats_server.ask(damage, bucket)
    with pytest.raises(IndexDamagedError, match="parts of manifest are gone") as caught:
        storage.load("manifest")
    assert caught.value.name == "manifest"


# Listings and replicas


def test_a_listing_with_a_gap_is_an_error(storage: NatsStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write([f"k{number}" for number in range(100)], [b"1"] * 100)
    numbers = natslisting._numbers
    calls: list[str] = []

    def skip(reply: str) -> tuple[int, int, int]:
        calls.append(reply)
        revision, number, moment = numbers(reply)
        return revision, number + (len(calls) > 50), moment

    monkeypatch.setattr(natslisting, "_numbers", skip)
    with pytest.raises(StorageError, match="gap"):
        listing(storage)
    monkeypatch.setattr(natslisting, "_numbers", numbers)
    assert len(listing(storage)) == 100


def test_a_listing_that_lags_is_an_error(storage: NatsStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write(["a", "b"], [b"1"] * 2)
    get = natsreading.get

    async def ahead(*arguments: Any, **options: Any) -> Any:
        entries = await get(*arguments, **options)
        return [type(entry)(entry.revision + 1, entry.data, entry.headers, entry.time) for entry in entries if entry]

    monkeypatch.setattr(natslisting, "get", ahead)
    with pytest.raises(StorageError, match="lags"):
        listing(storage)


def test_an_answer_that_lags_is_not_believed(storage: NatsStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica or mirror may answer with what was; then the leader is asked."""
    storage.write(["a", "b"], [b"old"] * 2)
    ask_many = natsreading._ask_many
    asked: list[int] = []

    async def stale(session: Any, bucket: Any, some: Any) -> Any:
        asked.append(len(some))
        answers = await ask_many(session, bucket, some)
        return [answer._replace(entries={}, reached=answer.reached - 1) for answer in answers]

    monkeypatch.setattr(natsreading, "_ask_many", stale)
    assert storage.read(["a", "b", "none"]) == [b"old", b"old", None]
    assert asked == [3, 3]


def test_keys_change_while_they_are_listed(nats_server: NatsServer, storage: NatsStorage, bucket: str) -> None:
    """The consumer said that nothing was left when some of the keys that had just changed were still to come."""
    some = [f"k{number:04d}" for number in range(3000)]
    storage.write(some, [b"0"] * 3000)
    other = open_url(nats_server.url(bucket))
    with ThreadPoolExecutor(1) as pool:
        writes = pool.submit(lambda: [other.write(some[::7], [b"%d" % turn] * len(some[::7])) for turn in range(20)])
        while not writes.done():
            assert len(listing(storage)) == 3000
        writes.result()
    other.close()


# Servers that go away, and forks


def test_a_server_that_is_killed_and_comes_back(own_server: NatsServer) -> None:
    storage = at(own_server, "b")
    storage.write(["a"], [b"1"])
    version = storage.store("lease", b"1", ABSENT)
    own_server.kill()
    started = time.monotonic()
    with pytest.raises(StorageError) as caught:
        storage.read(["a"])
    with pytest.raises(StorageError, match="start it"):
        storage.store("lease", b"2", version)
    assert time.monotonic() - started < 5
    assert own_server.password not in str(caught.value)
    own_server.start()
    assert storage.read(["a"]) == [b"1"]
    storage.remove(["lease"], version)
    own_server.restart()
    assert list(listing(storage)) == ["a"]
    storage.close()


def test_a_server_that_is_killed_during_a_batch(own_server: NatsServer) -> None:
    storage = at(own_server, "b")
    some = [f"k{number}" for number in range(4000)]
    storage.write(some, [b"0" * 1000] * 4000)
    killer = threading.Timer(0.1, own_server.kill)
    killer.start()
    with pytest.raises(StorageError):
        while True:
            storage.write(some, [b"1" * 1000] * 4000)
    killer.join()
    own_server.start()
    assert {bytes(value[:1]) for value in storage.read(some) if isinstance(value, bytes)} <= {b"0", b"1"}
    assert storage.write(some, [b"2"] * 4000).refused == ()
    storage.close()


def stop(server: NatsServer) -> None:
    """Make a server stand still."""
    assert server._process is not None
    server._process.send_signal(signal.SIGSTOP)
    while ") T " not in Path(f"/proc/{server._process.pid}/stat").read_text():
        time.sleep(0.01)


def test_a_server_that_does_not_answer(own_server: NatsServer) -> None:
    storage = at(own_server, "b", timeout=0.5)
    storage.write(["a"], [b"1"])
    stop(own_server)
    try:
        for _ in range(2):  # over the connection there was, and over a new one
            started = time.monotonic()
            with pytest.raises(StorageError, match=r"0\.5 seconds"):
                storage.store("lease", b"1", ABSENT)
            assert time.monotonic() - started < 5
    finally:
        own_server._process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
    assert storage.read(["a"]) == [b"1"]
    storage.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of Python 3.12
def test_a_child_opens_a_connection_of_its_own(storage: NatsStorage) -> None:
    storage.write(["a"], [b"1"])
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(20)
            storage.write(["b"], [b"2"])
            status = 0 if storage.read(["a", "b"]) == [b"1", b"2"] else 2
            storage.close()
        finally:
            os._exit(status)
    for _ in range(20):
        assert storage.read(["a"]) == [b"1"]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert storage.read(["a", "b"]) == [b"1", b"2"]


def test_threads_share_a_handle(storage: NatsStorage) -> None:
    def work(number: int) -> bool:
        some = [f"{number}/{turn}" for turn in range(500)]
        storage.write(some, [b"%d" % number] * 500)
        return storage.read(some) == [b"%d" % number] * 500 and len(listing(storage)) >= 500

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))


def test_no_thread_is_left(nats_server: NatsServer, bucket: str) -> None:
    def running() -> int:
        return sum(thread.name == "kvsync-nats" for thread in threading.enumerate())

    gc.collect()
    assert running() == 0
    closed, dropped = open_url(nats_server.url(bucket)), open_url(nats_server.url(bucket))
    closed.write(["a"], [b"1"])
    dropped.read(["a"])
    assert running() == 1  # for both
    closed.close()
    assert dropped.read(["a"]) == [b"1"]
    del dropped
    gc.collect()
    assert running() == 0
    again = open_url(nats_server.url(bucket))
    assert again.read(["a"]) == [b"1"]
    again.close()


def test_closing_ends_calls_that_are_under_way(own_server: NatsServer) -> None:
    storage, other = at(own_server, "b"), at(own_server, "c")
    storage.write(["a"], [b"1"])
    other.write(["a"], [b"1"])
    stop(own_server)
    try:
        with ThreadPoolExecutor(2) as pool:
            cut, waits = pool.submit(storage.read, ["a"]), pool.submit(other.read, ["a"])
            time.sleep(0.3)
            started = time.monotonic()
            storage.close()
            with pytest.raises(StorageError, match="closed"):
                cut.result(10)
            assert time.monotonic() - started < 5
            own_server._process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
            assert waits.result(20) == [b"1"]
    finally:
        own_server._process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
    other.close()


# A whole sync


@pytest.mark.parametrize("scan", [False, True])
def test_a_sync_and_another(nats_server: NatsServer, bucket: str, scan: bool) -> None:
    data = {f"user/{number} \u00e9": b"%d" % number for number in range(50)}
    url = nats_server.url(bucket)
    kvsync.sync(data, url, changes=[Put(key) for key in list(data)])
    with kvsync.open(url) as store:
        assert len(store) == 50
        store["user/1 \u00e9"] = b"there"
        store["new"] = b"there"
        del store["user/2 \u00e9"]
    result = kvsync.sync(data, url, changes=[Put("here", b"here"), Delete("user/3 \u00e9")], scan=False)
    assert (result.pushed, result.pulled) == (2, 3)
    storage = open_url(url)
    values = {key: value for key, value in data.items() if not key.startswith(".kvsync")}
    assert list(listing(storage)) == sorted(values)
    assert storage.read(sorted(values)) == [values[key] for key in sorted(values)]
    storage.close()
    again = kvsync.sync(data, url, scan=True) if scan else kvsync.sync(data, url, changes=[])
    assert (again.pushed, again.pulled, again.conflicts) == (0, 0, [])


def test_doctor_makes_no_bucket(storage: NatsStorage, bucket: str) -> None:
    found = kvsync.doctor(storage)
    assert (found.healthy, found.probe) == (True, None)
    assert f"the bucket {bucket!r}" in found.unmade
    assert kvsync.doctor(storage).unmade == found.unmade
    storage.write(["a"], [b"1"])
    found = kvsync.doctor(storage)
    assert found.probe is not None
    assert found.probe.sound
    assert storage.objects() == []
