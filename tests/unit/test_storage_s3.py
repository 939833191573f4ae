"""What is special about buckets: names that others chose, conditions, lost answers, and servers that come and go."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import re
import secrets
import socket
import threading
import time
import traceback
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from threading import Barrier
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import parse_qs, quote

import obstore
import pytest
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, S3Store
from servers.process import free_ports
from servers.seaweed import ACCESS_KEY, BUCKET, SECRET_KEY, SeaweedServer

import kvsync
from kvsync import Delete, Put
from kvsync.environment import Environment
from kvsync.errors import SameStorageError, StorageError, UsageError
from kvsync.index.objects import store_if
from kvsync.native import digest_values
from kvsync.probe import probe
from kvsync.storages import extras, open_storage
from kvsync.storages.bucket import BucketStorage, open_url
from kvsync.storages.bucket.listing import NO_KEY, PAGE_COUNT
from kvsync.storages.bucket.location import Location, without_retries
from kvsync.storages.bucket.name import decode, encode, is_safe
from kvsync.storages.bucket.workers import map_concurrently
from kvsync.storages.contract import ObjectMismatch, TornRead
from kvsync.testing.conformance import HARD_KEYS, listing
from kvsync.types import ABSENT, ANY, Skipped, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from servers.nanio import NanioServer


@pytest.fixture
def prefix() -> str:
    return f"unit/{secrets.token_hex(6)}"


@pytest.fixture
def storage(seaweed_server: SeaweedServer, prefix: str) -> Iterator[BucketStorage]:
    with contextlib.closing(open_url(seaweed_server.url_of(prefix))) as opened:
        yield opened


@pytest.fixture
def memory() -> MemoryStore:
    return MemoryStore()


def raw_store(server: SeaweedServer, **options: Any) -> S3Store:
    settings: dict[str, Any] = {
        "endpoint": server.endpoint,
        "access_key_id": ACCESS_KEY,
        "secret_access_key": SECRET_KEY,
        "region": "us-east-1",
        "client_options": {"allow_http": True},
    }
    return S3Store(BUCKET, **{**settings, **options})


def put_foreign(server: SeaweedServer, name: str, data: bytes = b"foreign") -> None:
    """Write an object whose name obstore would not take: it signs another one's URL."""
    target = f"{server.endpoint}/{BUCKET}/{quote(name)}?x-id="
    signer = raw_store(server, endpoint=target, virtual_hosted_style_request=True)
    url = obstore.sign(signer, "PUT", "PutObject", timedelta(minutes=1))
    with urllib.request.urlopen(urllib.request.Request(url, data=data, method="PUT"), timeout=10):  # noqa: S310
        pass


def shown(error: BaseException) -> str:
    """Return all that a traceback would print."""
    return "".join(traceback.format_exception(error))


# Names


@pytest.mark.parametrize("dots", [True, False])
def test_names_are_injective_and_plain_where_they_can_be(dots: bool) -> None:
    pieces = ["/", ".", "%", "2E", "25", "a", "\\", "\0"]
    keys = {"".join(some) for count in range(6) for some in product(pieces, repeat=count)} | set(HARD_KEYS)
    keys |= {f"{head}{tail}" for head in (".kvsync", "%2Ekvsync", "%252Ekvsync") for tail in ("", "/", "/a")}
    names = {key: encode(key, dots=dots) for key in keys}
    assert len(set(names.values())) == len(keys)
    for key, name in names.items():
        assert is_safe(name, dots=dots)
        assert decode(name, dots=dots) == key
        if is_safe(key, dots=dots):
            assert decode(key, dots=dots) is not None
            assert encode(decode(key, dots=dots) or "", dots=dots) == key
    for key in ("user/1.json", "100%.txt", "a%20b", "%41", "MixedCase", "é/😀", "a b", "CON", ".a", "x" * 300):
        assert names.get(key, encode(key, dots=dots)) == key
    # Azure drops a dot at the end of a component.
    for key in ("a.", "a./b", "a..", "...", "x/y./z"):
        assert (names.get(key, encode(key, dots=dots)) == key) == dots
        assert dots or not re.search(r"\.(/|$)", encode(key, dots=False))


def test_other_tools_read_and_write_the_same_objects(
    seaweed_server: SeaweedServer, storage: BucketStorage, prefix: str
) -> None:
    store = raw_store(seaweed_server)
    store.put(f"{prefix}/user/1.json", b"theirs")
    storage.write(["user/2.json"], [b"ours"])
    assert listing(storage).keys() == {"user/1.json", "user/2.json"}
    assert storage.read(["user/1.json"]) == [b"theirs"]
    assert store.get(f"{prefix}/user/2.json").bytes().to_bytes() == b"ours"


def test_foreign_names_break_no_listing_and_are_no_values(
    seaweed_server: SeaweedServer, storage: BucketStorage, prefix: str
) -> None:
    held = {f"k/{number:04d}": b"%d" % number for number in range(PAGE_COUNT + 1)}
    held |= {"a b+c%2Fé&<>\"'": b"awkward", "empty": b"", "..": b"quoted"}
    storage.write(list(held), list(held.values()))
    before = listing(storage)
    assert before.keys() == held.keys()
    splits = ["", "gone", "k/0400", "k/0900x", "k/1200", "z"]
    assert listing(storage, splits) == before
    assert storage._listing._in_ranges
    foreign = ["n\x01m", "e\x7f", "tab\tbed", "marker/"]
    for name in foreign:
        put_foreign(seaweed_server, f"{prefix}/{name}")
    with pytest.raises(obstore.exceptions.InvalidPathError):
        raw_store(seaweed_server).list(f"{prefix}").collect()
    # The fallback says the same of every value, its token included.
    assert listing(storage, splits) == listing(storage) == before
    assert not storage._listing._in_ranges
    assert storage.skipped == kvsync.doctor(storage).skipped
    assert {entry.name for entry in storage.skipped} == set(foreign)
    # SeaweedFS keeps no data at the name of a folder.
    assert [entry.name for entry in storage.skipped if entry.harmless] == ["marker/"]
    storage.store("manifest", b"M", ABSENT)
    assert storage.objects() == ["manifest"]
    storage.remove(["manifest"], ANY)
    source: dict[str, bytes] = {}
    result = kvsync.sync(source, storage, scan=True)
    assert {entry.key for entry in result.unreadable} == set(foreign) - {"marker/"}
    assert {key: value for key, value in source.items() if not key.startswith(".kvsync")} == held


def test_a_foreign_name_where_nothing_else_helps_is_named(monkeypatch: pytest.MonkeyPatch, memory: MemoryStore) -> None:
    storage = BucketStorage(memory)

    def broken(*_: object, **__: object) -> None:
        raise obstore.exceptions.InvalidPathError('Error parsing Path "a//b"')

    monkeypatch.setattr(MemoryStore, "list", broken)
    with pytest.raises(StorageError, match=r"a//b.*rename or remove"):
        list(storage.scan())


def test_the_marker_of_a_folder_is_no_value(seaweed_server: SeaweedServer, storage: BucketStorage, prefix: str) -> None:
    put_foreign(seaweed_server, f"{prefix}/folder/", b"")
    storage.write(["folder/a", "empty"], [b"1", b""])
    assert [o["path"] for o in raw_store(seaweed_server).list(prefix).collect()].count(f"{prefix}/folder") == 1
    assert listing(storage).keys() == {"folder/a", "empty"}
    assert storage.skipped == (Skipped("folder/", "it is the marker of a folder", harmless=True),)


class Answering(BaseHTTPRequestHandler):
    """A bucket `b` with two objects below `p`: `a`, and one whose name ends in a slash."""

    objects: ClassVar = {"p/a": b"1", "p/full/": b"data"}

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        begin = parse_qs(query).get("prefix", [""])[0]
        rows = "".join(
            f"<Contents><Key>{name}</Key><LastModified>2026-01-01T00:00:00Z</LastModified><ETag>&quot;tag&quot;</ETag>"
            f"<Size>{len(data)}</Size></Contents>"
            for name, data in self.objects.items()
            if name.startswith(begin)
        )
        if path.strip("/") == "b":
            self.answer(f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode())
        else:
            self.answer(self.objects.get(path.removeprefix("/b/")))

    do_HEAD = do_GET  # noqa: N815 - the base class wants that name

    def answer(self, body: bytes | None) -> None:
        self.send_response(200 if body is not None else 404)
        for name, value in (("ETag", '"tag"'), ("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None:
        pass


def test_data_at_the_marker_of_a_folder_is_named() -> None:
    """It was listed under a name without the slash, found at none, and left behind without a word."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"s3://b/p?endpoint=http://127.0.0.1:{server.server_port}&access_key_id=a&secret_access_key=bb"
            with contextlib.closing(open_url(url)) as storage:
                assert listing(storage).keys() == {"a", "full"}
                assert storage.read(["a", "full"]) == [b"1", None]
                assert storage.skipped == (Skipped("full/", NO_KEY, harmless=False),)
        finally:
            server.shutdown()
            thread.join()


def test_a_storage_within_another_keeps_its_index_to_itself(seaweed_server: SeaweedServer, prefix: str) -> None:
    with (
        contextlib.closing(open_url(seaweed_server.url_of(prefix))) as outer,
        contextlib.closing(open_url(seaweed_server.url_of(f"{prefix}/in"))) as inner,
    ):
        inner.write(["a"], [b"1"])
        inner.store("manifest", b"M", ABSENT)
        assert list(listing(outer)) == ["in/a"]
        assert outer.objects() == []
        assert outer.load("manifest") is None


def test_a_name_too_long_is_refused_alone(storage: BucketStorage, prefix: str) -> None:
    room = 1024 - len(prefix) - 1
    fits = "/".join("x" * 99 for _ in range(room // 100))
    longest = fits + "/" + "y" * (room - len(fits) - 1)
    assert len(longest) == room
    for key in (longest + "z", "é" * 512):
        (refusal,) = storage.write([key, "a"], [b"1", b"2"]).refused
        assert (refusal.key, refusal.changed) == (key, False)
        assert "1024 bytes" in refusal.reason
        assert storage.read([key, "a"]) == [None, b"2"]
        assert storage.delete([key]).refused == ()
        assert storage.modified_ms([key]) == [None]
    assert storage.write([longest], [b"1"]).refused == ()
    assert storage.read([longest]) == [b"1"]


def test_what_the_server_refuses_is_refused_alone(storage: BucketStorage) -> None:
    # SeaweedFS stores components as files of at most 255 bytes.
    written = storage.write(["x" * 256, "a"], [b"1", b"2"])
    assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("x" * 256, False)]
    assert written.tokens is not None
    assert written.tokens[0] is None
    assert storage.read(["a"]) == [b"2"]


# URLs


@pytest.mark.parametrize(
    ("url", "bucket", "prefix"),
    [
        ("s3://bucket", "bucket", ""),
        ("s3://bucket/", "bucket", ""),
        ("s3://bucket/a/b/", "bucket", "a/b"),
        ("gs://bucket/a%20b?concurrency=4", "bucket", "a b"),
        ("az://container/x?account=me&account_key=c2VjcmV0", "container", "x"),
        ("S3://bucket/x?region=&endpoint=https://minio.example/", "bucket", "x"),
    ],
)
def test_urls(url: str, bucket: str, prefix: str) -> None:
    place = Location.parse(url)
    assert (place.bucket, place.prefix) == (bucket, prefix)
    with contextlib.closing(open_url(url)) as opened:
        assert opened.capabilities.tier == "T2"
        assert opened.capabilities.conditions == "claimed"


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("s3://", "URL of a bucket"),
        ("s3:///prefix", "URL of a bucket"),
        ("s3://key:secret@bucket/x", "URL of a bucket"),
        ("s3://bucket/a//b", "prefix"),
        ("s3://bucket/../b", "prefix"),
        ("s3://bucket/.kvsync", "prefix"),
        ("s3://bucket/" + "x" * 600, "prefix"),
        ("s3://bucket?concurrency=0", "concurrency"),
        ("s3://bucket?concurrency=many", "concurrency"),
        ("s3://bucket?concurrency=9999999999999999999999", "concurrency"),
        ("s3://bucket?lease=none", "lease"),
        ("s3://bucket?endpoint=minio", "endpoint"),
        ("s3://bucket?endpoint=ftp://minio", "endpoint"),
        ("s3://bucket?endpoint=http://me:secret@minio", "endpoint"),
        ("s3://bucket?endpoint=http://minio:notaport", "endpoint"),
        ("s3://bucket?secret=x", "unknown parameter"),
        ("gs://bucket?region=x", "unknown parameter"),
        ("az://container/a./b?account=me&account_key=c2VjcmV0", "prefix"),
    ],
)
def test_bad_urls(url: str, match: str) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        open_storage(url)
    assert "key:secret" not in shown(caught.value)
    assert "me:secret" not in shown(caught.value)


def test_schemes_are_registered_and_obstore_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name, name=name.partition(".")[0])

    monkeypatch.setattr(extras, "import_module", missing)
    for scheme in ("s3", "gs", "az"):
        with pytest.raises(UsageError, match=re.escape(f"pip install 'kvsync[{scheme}]'")):
            open_storage(f"{scheme}://bucket/prefix")


def test_plain_http_only_where_the_url_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    with contextlib.closing(open_url("s3://bucket")) as opened, pytest.raises(StorageError) as caught:
        opened.read(["a"])
    assert "builder error" in str(caught.value)


def test_credentials_come_from_the_environment(seaweed_server: SeaweedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    url = f"s3://{BUCKET}/unit/{secrets.token_hex(4)}?endpoint={seaweed_server.endpoint}"
    with contextlib.closing(open_url(url)) as opened:
        assert opened.read(["a"]) == [None]
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
        with contextlib.closing(open_url(url)) as refused, pytest.raises(StorageError, match="access was denied"):
            refused.read(["a"])


def test_settings_that_the_client_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    url = "s3://bucket?secret_access_key=2retnuh"
    with pytest.raises(UsageError, match=r"check the URL's parameters and the environment.*AccessKeyId") as caught:
        open_url(url)
    assert "2retnuh" not in shown(caught.value)


def test_secrets_are_never_shown(seaweed_server: SeaweedServer) -> None:
    secret = "hunter2-and-more"
    url = f"s3://{BUCKET}/x?endpoint={seaweed_server.endpoint}&access_key_id=AKIAIOSFODNN7&secret_access_key={secret}"
    with contextlib.closing(open_url(url)) as opened:
        calls: list[Callable[[], object]] = [
            lambda: opened.read(["a", "b"]),
            lambda: opened.write(["a"], [b"1"]),
            lambda: opened.delete(["a"]),
            lambda: list(opened.scan()),
            lambda: opened.store("lease", b"1", ABSENT),
            lambda: opened.load("lease"),
            opened.objects,
        ]
        for call in calls:
            with pytest.raises(StorageError, match="access was denied: check the credentials") as caught:
                call()
            assert caught.value.storage == opened.name
            for text in (
                shown(caught.value),
                repr(opened),
                opened.name,
                repr(Location.parse(url)),
                str(opened.identity),
            ):
                assert secret not in text
                assert "AKIAIOSFODNN7" not in text
                assert "Debug source" not in text


def test_a_server_that_repeats_secrets_is_scrubbed(monkeypatch: pytest.MonkeyPatch) -> None:
    def repeats(*_: object, **__: object) -> None:
        raise obstore.exceptions.GenericError("403 Forbidden: AKIAIOSFODNN7 with hunter2+secret and token tok3n")

    monkeypatch.setattr(S3Store, "get", repeats)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "tok3n")
    url = "s3://b/x?endpoint=https://s3.example&access_key_id=AKIAIOSFODNN7&secret_access_key=hunter2%2Bsecret"
    with contextlib.closing(open_url(url)) as opened, pytest.raises(StorageError, match="403 Forbidden") as caught:
        opened.read(["a"])
    for secret in ("AKIAIOSFODNN7", "hunter2", "tok3n"):
        assert secret not in shown(caught.value)


def test_identity_tells_two_handles_of_one_storage(seaweed_server: SeaweedServer, prefix: str) -> None:
    url = seaweed_server.url_of(prefix)
    with pytest.raises(SameStorageError):
        kvsync.sync(url, seaweed_server.url_of(prefix + "/", concurrency="3"))
    assert Location.parse(url).identity != Location.parse(seaweed_server.url_of(prefix + "x")).identity
    assert Location.parse("s3://b/p").identity != Location.parse("gs://b/p").identity


def test_a_client_of_ones_own(seaweed_server: SeaweedServer, prefix: str) -> None:
    store = raw_store(seaweed_server)
    with contextlib.closing(BucketStorage(store, prefix)) as opened:
        opened.write(["a"], [b"1"])
        opened.store("lease", b"1", ABSENT)
        with pytest.raises(ObjectMismatch):
            opened.store("lease", b"2", ABSENT)
    assert store.get(f"{prefix}/a").bytes().to_bytes() == b"1"
    with pytest.raises(StorageError, match="closed"):
        opened.read(["a"])
    twin = without_retries(store)
    assert twin.retry_config["max_retries"] == 0
    assert twin.config == store.config
    for other in (GCSStore("b", skip_signature=True), AzureStore("c", account_name="me", account_key="c2VjcmV0")):
        assert without_retries(other).config == other.config
        BucketStorage(other)
    with pytest.raises(UsageError, match="LocalStore"):
        BucketStorage(LocalStore())


# Conditions


def test_one_of_eight_conditional_writers_wins(seaweed_server: SeaweedServer, prefix: str) -> None:
    with contextlib.closing(open_url(seaweed_server.url_of(prefix))) as storage:
        for turn in range(3):
            token = listing(storage).get("a") if turn else None
            barrier = Barrier(8)

            def race(number: int, barrier: Barrier = barrier, token: bytes | None = token, turn: int = turn) -> bool:
                with contextlib.closing(open_url(seaweed_server.url_of(prefix))) as mine:
                    barrier.wait(30)
                    written = mine.write(["a"], [b"%d of %d" % (number, turn)], [token])
                    assert all(refusal.changed for refusal in written.refused)
                    return not written.refused

            with ThreadPoolExecutor(8) as pool:
                won = list(pool.map(race, range(8)))
            assert won.count(True) == 1
            assert storage.read(["a"]) == [b"%d of %d" % (won.index(True), turn)]


class Answers:
    """A store of obstore whose conditional puts answer as told, in order; then as they are."""

    def __init__(self, inner: MemoryStore, *answers: Exception | None, after: bool = False) -> None:
        self.inner = inner
        self.answers = list(answers)
        self.after = after
        self.puts = 0

    def put(self, *args: Any, **options: Any) -> Any:
        self.puts += 1
        answer = self.answers.pop(0) if self.answers else None
        if answer is None or self.after:
            done = self.inner.put(*args, **options)
        if answer is not None:
            raise answer
        return done


def conflict() -> Exception:
    return obstore.exceptions.AlreadyExistsError(
        "Object at location x already exists: Server returned non-2xx status code: 409 Conflict: "
        "<Code>ConditionalRequestConflict</Code>"
    )


def test_a_conflict_means_try_again_not_lost(memory: MemoryStore) -> None:
    unretried = Answers(memory, conflict(), conflict())
    storage = BucketStorage(memory, unretried=unretried)
    version = storage.store("lease", b"1", ABSENT)
    assert unretried.puts == 3
    assert storage.load("lease") == (b"1", version)
    unretried.answers = [conflict()]
    assert storage.write(["a"], [b"1"], [None]).refused == ()
    # But where it contradicts the expectation, it is lost at once.
    unretried.answers, unretried.puts = [conflict()], 0
    with pytest.raises(ObjectMismatch):
        storage.store("lease", b"2", ABSENT)
    assert unretried.puts == 1
    unretried.answers = [conflict() for _ in range(20)]
    with pytest.raises(StorageError, match="kept getting in the way"):
        storage.store("lease", b"2", version)
    assert storage.load("lease") == (b"1", version)


def test_a_lost_answer_is_unknown_and_found_by_reading_back(memory: MemoryStore) -> None:
    lost = obstore.exceptions.GenericError("Generic S3 error: HTTP error: error sending request")
    storage = BucketStorage(memory, unretried=Answers(memory, lost, after=True))
    with pytest.raises(StorageError, match="cannot be reached"):
        storage.store("lease", b"nonce 1", ABSENT)
    storage.remove(["lease"], ANY)
    version = store_if(BucketStorage(memory, unretried=Answers(memory, lost, after=True)), "lease", b"nonce 2", ABSENT)
    assert storage.load("lease") == (b"nonce 2", version)


def test_conditional_writes_are_sent_once() -> None:
    """A client's own retry meets the first try's success and reports it as a refusal."""
    with Mute() as server:
        url = f"s3://b/p?endpoint=http://127.0.0.1:{server.port}&access_key_id=a&secret_access_key=bb"
        with contextlib.closing(open_url(url)) as storage:
            with pytest.raises(StorageError):
                storage.store("lease", b"1", ABSENT)
            assert server.requests == 1
            with pytest.raises(StorageError):
                storage.write(["a"], [b"1"], [b"token"])
            assert server.requests == 2
            with pytest.raises(StorageError):
                storage.write(["a"], [b"1"])
            assert server.requests > 3


class Mute:
    """A server that hangs up on each request."""

    def __enter__(self) -> Self:
        self.requests = 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()
        return self

    def serve(self) -> None:
        while True:
            connection, _ = self.socket.accept()
            with connection:
                if connection.recv(65536) == b"stop":
                    return
                self.requests += 1

    def __exit__(self, *_: object) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"stop")
        self.thread.join(10)
        self.socket.close()


def test_a_server_that_ignores_conditions_is_found_out(nanio_server: NanioServer, prefix: str) -> None:
    url = nanio_server.url_of(prefix)
    with contextlib.closing(open_url(url)) as storage:
        found = probe(storage, Environment())
        assert not found.creates_once
        assert not found.replaces_current_only
        assert storage.objects() == []
    with pytest.raises(StorageError, match="ignores conditional writes"):
        kvsync.sync({}, url, changes=[Put("a", b"1")])
    advisory = nanio_server.url_of(prefix, lease="advisory")
    kvsync.sync({}, advisory, changes=[Put("a", b"1")])
    assert kvsync.doctor(advisory).guarantee == "T4"
    with contextlib.closing(open_url(advisory)) as storage:
        assert storage.read(["a"]) == [b"1"]
        assert storage.capabilities.tier == "T4"


def test_a_server_that_keeps_them_is_not(seaweed_server: SeaweedServer, prefix: str) -> None:
    found = kvsync.doctor(seaweed_server.url_of(prefix))
    assert (found.guarantee, found.wrong) == ("T2", [])


def test_removing_looks_first(storage: BucketStorage) -> None:
    first = storage.store("lease", b"1", ABSENT)
    second = storage.store("lease", b"2", first)
    for expect in (first, ABSENT):
        with pytest.raises(ObjectMismatch):
            storage.remove(["lease"], expect)
    storage.remove(["lease"], second)
    with pytest.raises(ObjectMismatch):
        storage.remove(["lease"], second)
    storage.remove(["lease"], ABSENT)


def test_a_forged_version_never_reaches_a_header(storage: BucketStorage) -> None:
    storage.write(["a"], [b"1"])
    storage.store("manifest", b"1", ABSENT)
    for token in (b"", b'a"b', b"a\r\nX-Evil: 1", b"\xff"):
        assert [refusal.changed for refusal in storage.write(["a"], [b"2"], [token]).refused] == [True]
        with pytest.raises(ObjectMismatch):
            storage.store("manifest", b"2", token)


class Tagless(MemoryStore):
    """A store that names no entity tags, or only weak ones."""

    tag: str | None = None

    def _without(self, answer: Any) -> Any:
        return {**answer, "e_tag": self.tag}

    def put(self, *args: Any, **options: Any) -> Any:
        return self._without(super().put(*args, **options))

    def head(self, path: str) -> Any:
        return self._without(super().head(path))

    def list(self, *args: Any, **options: Any) -> Any:
        for page in super().list(*args, **options):
            yield [self._without(answer) for answer in page]

    def get(self, path: str, **options: Any) -> Any:
        found = super().get(path, **options)
        return Found(found.bytes(), self._without(found.meta))


class Found:
    def __init__(self, data: Any, meta: Any) -> None:
        self.data, self.meta = data, meta

    def bytes(self) -> Any:
        return self.data


Tagless.__name__ = "MemoryStore"


@pytest.mark.parametrize("tag", [None, 'W/"weak"'])
def test_without_entity_tags_a_scan_reads(monkeypatch: pytest.MonkeyPatch, tag: str | None) -> None:
    monkeypatch.setattr(Tagless, "tag", tag)
    storage = BucketStorage(Tagless())
    written = storage.write(["a", "b"], [b"1", b"2"])
    before = listing(storage)
    assert before == {"a": b"blake3:" + digest_values([b"1"])[0], "b": b"blake3:" + digest_values([b"2"])[0]}
    assert written.tokens == (before["a"], before["b"])
    storage.write(["a"], [b"3"])
    assert listing(storage)["a"] != before["a"]
    refused = storage.write(["a", "b"], [b"4", b"4"], [before["a"], before["b"]]).refused
    assert [(refusal.key, refusal.changed) for refusal in refused] == [("a", True)]
    assert [refusal.key for refusal in storage.delete(["a", "b"], [before["a"], before["b"]]).refused] == ["a", "b"]
    assert storage.read(["a", "b"]) == [b"3", b"4"]
    assert storage.delete(["a"], [listing(storage)["a"]]).refused == ()
    with pytest.raises(StorageError, match="no strong ETag"):
        storage.store("manifest", b"1", ABSENT)
        storage.load("manifest")


# Scans


def test_what_a_scan_saw_is_not_asked_for_again(memory: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = BucketStorage(memory)
    storage.write(["a", "b"], [b"1", b"22"])
    listing(storage)
    storage.read(["a"])
    asked: list[str] = []
    head = MemoryStore.head

    def noted(self: MemoryStore, path: str) -> Any:
        asked.append(path)
        return head(self, path)

    monkeypatch.setattr(MemoryStore, "head", noted)
    assert storage.sizes(["a", "b", "c"]) == [1, 2, None]
    assert asked == ["c"]
    assert None not in storage.modified_ms(["a", "b"])
    assert asked == ["c", "b"]
    storage.write(["a"], [b"1234"])
    assert storage.sizes(["a"]) == [4]


# Servers that come and go


def test_connection_refused_says_so() -> None:
    (port,) = free_ports(1)
    url = f"s3://b/p?endpoint=http://127.0.0.1:{port}&access_key_id=a&secret_access_key=bb"
    with contextlib.closing(open_url(url)) as storage:
        started = time.monotonic()
        for call in (
            lambda: storage.read(["a"] * 50),
            lambda: list(storage.scan()),
            lambda: storage.store("lease", b"", ABSENT),
        ):
            with pytest.raises(StorageError, match="cannot be reached: check the endpoint and the network") as caught:
                call()
            assert caught.value.storage == storage.name
        assert time.monotonic() - started < 30


def test_a_bucket_that_is_not_there(seaweed_server: SeaweedServer) -> None:
    with contextlib.closing(open_url(seaweed_server.url_of("", bucket="no-such-bucket"))) as storage:
        for call in (
            lambda: storage.read(["a"]),
            lambda: list(storage.scan()),
            lambda: storage.load("lease"),
            storage.objects,
        ):
            with pytest.raises(StorageError, match="the bucket does not exist: create it"):
                call()


def test_one_handle_survives_its_server(tmp_path: Path) -> None:
    with SeaweedServer(tmp_path) as server, contextlib.closing(open_url(server.url_of("p"))) as storage:
        storage.write(["a"], [b"1"])
        version = storage.store("lease", b"1", ABSENT)
        server.kill()
        for call in (
            lambda: storage.read(["a"]),
            lambda: storage.store("lease", b"2", version),
            lambda: list(storage.scan()),
        ):
            with pytest.raises(StorageError):
                call()
        server.restart()
        assert storage.load("lease") == (b"1", version)
        storage.store("lease", b"2", version)
        assert storage.read(["a"]) == [b"1"]
        assert list(listing(storage)) == ["a"]


def _child(storage: BucketStorage, url: str, answers: Any) -> None:
    texts = []
    for call in (lambda: storage.read(["a"]), lambda: list(storage.scan()), lambda: open_url(url).read(["a"])):
        try:
            call()
            texts.append("no error")
        except StorageError as error:
            texts.append(str(error))
    answers.send(texts)


def test_a_forked_child_is_told_and_does_not_hang(seaweed_server: SeaweedServer, prefix: str) -> None:
    url = seaweed_server.url_of(prefix)
    with contextlib.closing(open_url(url)) as storage:
        storage.write(["a"], [b"1"])
        ours, theirs = multiprocessing.Pipe()
        child = multiprocessing.get_context("fork").Process(target=_child, args=(storage, url, theirs))
        child.start()
        try:
            assert ours.poll(20)
            assert all("spawn" in text for text in ours.recv())
        finally:
            child.kill()
            child.join(10)
        assert storage.read(["a"]) == [b"1"]


# Many at once


def test_a_failure_ends_the_batch_after_the_others() -> None:
    began: list[int] = []
    ended: list[int] = []

    def call(number: int) -> int:
        began.append(number)
        if number == 3:
            message = "3 failed"
            raise StorageError(message)
        time.sleep(0.05)
        ended.append(number)
        return number

    with pytest.raises(StorageError, match="3 failed"):
        map_concurrently(call, range(1000), 4)
    assert sorted(began) == sorted([*ended, 3])
    assert len(began) < 20
    assert map_concurrently(lambda n: n * 2, range(100), 7) == [n * 2 for n in range(100)]
    assert map_concurrently(lambda n: n, [], 7) == []


def test_no_more_requests_at_once_than_asked_for(memory: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    now = most = 0
    lock = threading.Lock()
    put = MemoryStore.put

    def counted(self: MemoryStore, *args: Any, **options: Any) -> Any:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.002)
        try:
            return put(self, *args, **options)
        finally:
            with lock:
                now -= 1

    monkeypatch.setattr(MemoryStore, "put", counted)
    BucketStorage(memory, concurrency=5).write([f"{n}" for n in range(100)], [b""] * 100)
    assert most == 5


def answering(monkeypatch: pytest.MonkeyPatch, error: Exception, path: str, *methods: str) -> None:
    """Let a store in memory answer requests for one object with an error."""

    def failing(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(store: MemoryStore, paths: str | list[str], *args: Any, **options: Any) -> Any:
            if path in ([paths] if isinstance(paths, str) else paths):
                raise error
            return method(store, paths, *args, **options)

        return call

    for name in methods:
        monkeypatch.setattr(MemoryStore, name, failing(getattr(MemoryStore, name)))


NON_2XX = "Error performing GET http://s3/b/a in 1ms - Server returned non-2xx status code"
ONE_OBJECT = {
    "archived": (403, "Forbidden", "<Code>InvalidObjectState</Code>"),
    "denied": (403, "Forbidden", "<Code>AccessDenied</Code><Message>Access Denied</Message>"),
    "key of the customer": (400, "Bad Request", "<Code>InvalidRequest</Code><Message>was stored using SSE</Message>"),
    "disabled key": (400, "Bad Request", "<Code>KMS.DisabledException</Code>"),
}


def answer_of(code: int, words: str, body: str) -> Exception:
    kind = obstore.exceptions.PermissionDeniedError if code == 403 else obstore.exceptions.GenericError
    return kind(f"{NON_2XX}: {code} {words}: {body}")


@pytest.mark.parametrize("why", ONE_OBJECT)
@pytest.mark.parametrize("filled", [True, False])
def test_a_value_that_is_not_given_is_unreadable_alone(
    monkeypatch: pytest.MonkeyPatch, memory: MemoryStore, why: str, filled: bool
) -> None:
    """One such object failed the whole read, and so every run."""
    storage = BucketStorage(memory)
    storage.write(["a", "b", "c"], [b"1", b"2", bytes(9 << 20)])
    before = listing(storage) if filled else None
    for path in ("a", "c"):
        answering(monkeypatch, answer_of(*ONE_OBJECT[why]), path, "get")
        answering(monkeypatch, answer_of(ONE_OBJECT[why][0], ONE_OBJECT[why][1], ""), path, "head")
    found = storage.read(["a", "b"])
    assert isinstance(found[0], Unreadable)
    assert found[1] == b"2"
    assert isinstance(storage.read_stream("c"), Unreadable)
    assert storage.modified_ms(["a", "b"])[0] is None
    assert storage.tokens(["a", "b", "none"]) == [b"", listing(storage)["b"], None]
    assert before is None or listing(storage) == before
    assert storage.sizes(["b"]) == [1]


def test_an_object_that_may_not_be_changed_is_refused_alone(
    monkeypatch: pytest.MonkeyPatch, memory: MemoryStore
) -> None:
    """One such object failed the whole batch."""
    storage = BucketStorage(memory)
    keys = ["a", "b", "c"]
    storage.write(keys, [b"1"] * 3)
    answering(monkeypatch, answer_of(*ONE_OBJECT["denied"]), "b", "put", "delete")
    tokens = [listing(storage)[key] for key in keys]
    for expect in (tokens, None):
        (refusal,) = storage.write(keys, [b"2"] * 3, expect).refused
        assert (refusal.key, refusal.changed) == ("b", False)
        assert "access was denied" in refusal.reason
    assert storage.read(keys) == [b"2", b"1", b"2"]
    assert [refusal.key for refusal in storage.delete(keys).refused] == ["b"]
    assert storage.read(keys) == [None, b"1", None]


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"])
def test_a_refused_login_is_no_matter_of_one_object(
    monkeypatch: pytest.MonkeyPatch, memory: MemoryStore, code: str
) -> None:
    storage = BucketStorage(memory)
    storage.write(["a"], [b"1"])
    answering(monkeypatch, answer_of(403, "Forbidden", f"<Code>{code}</Code>"), "a", "get", "put")
    for call in (lambda: storage.read(["a"]), lambda: storage.write(["a"], [b"2"])):
        with pytest.raises(StorageError, match="access was denied"):
            call()


# Versioning


def test_a_bucket_whose_versioning_was_suspended_is_named(seaweed_server: SeaweedServer) -> None:
    """SeaweedFS then refuses to replace, by its right tag, what was written before. A run waited for a lease that
    nobody held, and ended with "held until" a time that was past; doctor tried a new object, and found nothing."""
    bucket = seaweed_server.new_bucket()
    url = seaweed_server.url_of("p", bucket=bucket)
    seaweed_server.set_versioning(bucket, "Enabled")
    data = {"a": b"1", "b": b"1"}
    kvsync.sync(data, url, scan=True)
    assert kvsync.doctor(url).healthy
    seaweed_server.set_versioning(bucket, "Suspended")
    refuses = "although it has the expected version.*versioning is suspended: enable versioning again"
    with pytest.raises(StorageError, match=refuses):
        kvsync.sync(data, url, scan=True, wait_seconds=5)
    diagnosis = kvsync.doctor(url)
    assert not diagnosis.healthy
    assert re.search(refuses, " ".join(diagnosis.wrong))
    with contextlib.closing(open_url(url)) as storage:
        (refusal,) = storage.write(["a", "c"], [b"2", b"2"], [listing(storage)["a"], None]).refused
        assert (refusal.key, refusal.changed) == ("a", False)
        assert "versioning is suspended" in refusal.reason
    seaweed_server.set_versioning(bucket, "Enabled")
    assert kvsync.doctor(url).healthy
    data["a"] = b"3"
    assert kvsync.sync(data, url, scan=True).pushed == 1


# Large values


def test_a_large_value_moves_in_parts(storage: BucketStorage) -> None:
    part = os.urandom(1 << 20)
    count = 50
    written = storage.write_stream("large", iter([part] * count))
    assert written.refused == ()
    assert written.tokens == (listing(storage)["large"],)
    stream = storage.read_stream("large")
    assert stream is not None
    assert not isinstance(stream, Unreadable)
    copied = io.BytesIO()
    sizes = [copied.write(some) for some in stream]
    assert max(sizes) <= 8 << 20
    assert copied.getvalue() == part * count
    # On condition: more than is held in memory, so looked at just before it appears.
    token = listing(storage)["large"]
    assert storage.write_stream("large", iter([b"x" * (1 << 20)] * 40), [token]).refused == ()
    (refusal,) = storage.write_stream("large", iter([b"y" * (1 << 20)] * 40), [token]).refused
    assert refusal.changed
    assert storage.sizes(["large"]) == [40 << 20]


def test_a_large_value_that_was_written_meanwhile_is_left_alone(storage: BucketStorage) -> None:
    storage.write(["large"], [b"before"])
    token = listing(storage)["large"]

    def parts() -> Iterator[bytes]:
        for _ in range(40):
            yield b"x" * (1 << 20)
        storage.write(["large"], [b"meanwhile"])

    (refusal,) = storage.write_stream("large", parts(), [token]).refused
    assert refusal.changed
    assert storage.read(["large"]) == [b"meanwhile"]


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("expect", [None, [None]])
def test_parts_that_break_write_nothing(storage: BucketStorage, count: int, expect: list[bytes | None] | None) -> None:
    broken = TornRead("it changed")

    def parts() -> Iterator[bytes]:
        for _ in range(count):
            yield b"x" * (1 << 20)
        raise broken

    with pytest.raises(TornRead) as caught:
        storage.write_stream("large", parts(), expect)
    assert caught.value is broken
    assert storage.read(["large"]) == [None]
    assert listing(storage) == {}


def test_a_value_that_changes_while_it_is_read_is_torn(storage: BucketStorage) -> None:
    storage.write_stream("large", iter([b"x" * (1 << 20)] * 20))
    stream = storage.read_stream("large")
    assert stream is not None
    assert not isinstance(stream, Unreadable)
    next(stream)
    storage.write_stream("large", iter([b"y" * (1 << 20)] * 20))
    with pytest.raises(TornRead, match="changed"):
        list(stream)
    gone = storage.read_stream("large")
    assert gone is not None
    assert not isinstance(gone, Unreadable)
    storage.delete(["large"])
    with pytest.raises(TornRead):
        list(gone)


# End to end


def test_a_dict_and_a_bucket_become_equal(seaweed_server: SeaweedServer, storage: BucketStorage, prefix: str) -> None:
    url = seaweed_server.url_of(prefix)
    source: dict[str, bytes] = {}
    changes = [Put(f"user/{number}", b"%d" % number) for number in range(200)]
    result = kvsync.sync(source, url, changes=[*changes, Put("../odd//key", b"odd"), Put("empty", b"")])
    assert result.pushed == 202
    with kvsync.open(url) as store:
        store["theirs"] = b"t"
        del store["user/1"]
    result = kvsync.sync(source, url, changes=[Put("ours", b"o"), Delete("user/2")])
    assert (result.pushed, result.pulled) == (2, 2)
    ours = {key: value for key, value in source.items() if not key.startswith(".kvsync/")}
    keys = sorted(ours)
    assert list(listing(storage)) == keys
    assert storage.read(keys) == [ours[key] for key in keys]
    again = kvsync.sync(source, url)
    assert (again.pushed, again.pulled, again.conflicts) == (0, 0, [])
    # What another program does is found by a scan.
    raw = raw_store(seaweed_server)
    raw.put(f"{prefix}/user/3", b"changed outside")
    raw.delete(f"{prefix}/user/4")
    result = kvsync.sync(source, url, scan=True)
    assert result.pulled == 2
    assert source["user/3"] == b"changed outside"
    assert "user/4" not in source
    quiet = kvsync.sync(source, url, scan=True)
    assert (quiet.pushed, quiet.pulled) == (0, 0)
