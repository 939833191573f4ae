"""Copies that an S3 server makes: of the version that is meant or none, and not at all where it ignores conditions."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from typing import TYPE_CHECKING, Any

import obstore
import pytest
from obstore.store import AzureStore, GCSStore, MemoryStore, S3Store
from servers.seaweed import ACCESS_KEY, BUCKET, SECRET_KEY

from kvsync.errors import LockLostError
from kvsync.storages.bucket import BucketStorage, copying, open_url
from kvsync.storages.bucket.client import Bucket, Meta
from kvsync.storages.contract import has_copy
from kvsync.storages.mapping import MappingStorage
from kvsync.testing import CountingStorage, Fault, FaultyStorage, LatencyStorage
from kvsync.testing.conformance import listing
from kvsync.types import Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servers.nanio import NanioServer
    from servers.seaweed import SeaweedServer

    from kvsync.storages.contract import Storage

MEBIBYTE = 1 << 20


def idle() -> None:
    pass


class Pair:
    """Two prefixes of one bucket, with one value in the first."""

    def __init__(self, url_of: Callable[..., str], value: bytes = b"value", **options: str) -> None:
        self.prefix = f"unit/{secrets.token_hex(6)}"
        self.source = open_url(url_of(f"{self.prefix}/a", **options))
        self.target = open_url(url_of(f"{self.prefix}/b", **options))
        self.value = value
        written = self.source.write(["k"], [value])
        assert written.tokens is not None
        assert written.tokens[0] is not None
        self.version = written.tokens[0]

    def copy(
        self, expect: list[bytes | None] | None = None, *, meanwhile: Callable[[], None] = idle, **other: Any
    ) -> Written | None:
        origin = self.source.origin("k")
        assert origin is not None
        given = {"origin": origin, "version": self.version, "size": len(self.value), **other}
        return self.target.copy("k", expect=expect, meanwhile=meanwhile, **given)

    def close(self) -> None:
        self.source.close()
        self.target.close()


@pytest.fixture
def pair(seaweed_server: SeaweedServer) -> Iterator[Pair]:
    with contextlib.closing(Pair(seaweed_server.url_of)) as made:
        yield made


def counted(monkeypatch: pytest.MonkeyPatch, answer: Callable[[], None] = idle) -> list[tuple[str, str]]:
    """Note every copy that is asked of a server; `answer` may fail in its stead."""
    asked = []
    copy = S3Store.copy

    def noted(self: S3Store, from_: str, to: str, **options: Any) -> None:
        asked.append((from_, to))
        if "probe/" not in to:
            answer()
        copy(self, from_, to, **options)

    monkeypatch.setattr(S3Store, "copy", noted)
    return asked


def test_a_large_value_is_copied_between_prefixes(seaweed_server: SeaweedServer) -> None:
    with contextlib.closing(Pair(seaweed_server.url_of, os.urandom(20 * MEBIBYTE))) as pair:
        assert pair.copy([None]) == Written((), (listing(pair.target)["k"],))
        assert pair.target.read(["k"]) == [pair.value]
        assert pair.target.objects() == []


def test_a_server_that_ignores_conditions_copies_nothing(
    nanio_server: NanioServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = counted(monkeypatch)
    with contextlib.closing(Pair(nanio_server.url_of, lease="advisory")) as pair:
        assert pair.copy() is None
        assert pair.copy([None]) is None
        assert all("/.kvsync/probe/" in path for paths in asked for path in paths)
        assert pair.target.read(["k"]) == [None]
        assert pair.target.objects() == []


def test_each_condition_has_to_be_kept(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may know one of them alone: AWS knew those of the source for years before those of the target."""
    written = pair.source.write(["the same as is tried"], [b"1"])
    assert written.tokens is not None
    for ignored in ("source", "if-match", "if-none-match"):
        pair.target._copier._trusted.clear()
        with monkeypatch.context() as patched:
            if ignored == "source":
                patched.setattr(copying, "NOBODYS_TAG", written.tokens[0])
            else:
                without(patched, ignored)
            assert pair.copy([None]) is None, ignored
            assert pair.target.read(["k"]) == [None]
    pair.target._copier._trusted.clear()
    assert pair.copy([None]) is not None


def without(patched: pytest.MonkeyPatch, name: str) -> None:
    headers = copying._headers
    patched.setattr(copying, "_headers", lambda e: {k: v for k, v in headers(e).items() if k != name})


@pytest.mark.parametrize(
    "error",
    [
        obstore.exceptions.NotSupportedError("501 Not Implemented: <Code>NotImplemented</Code>"),
        obstore.exceptions.PermissionDeniedError("403 Forbidden: <Code>AccessDenied</Code>"),
        obstore.exceptions.GenericError("Generic S3 error: HTTP error: request timed out"),
    ],
)
def test_a_server_that_does_not_copy_is_not_asked_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails() -> None:
        raise error

    asked = counted(monkeypatch, fails)
    assert pair.copy() is None
    count = len(asked)
    assert pair.copy() is None
    assert len(asked) == count
    assert pair.target.read(["k"]) == [None]


def test_what_is_wrong_with_one_value_is_not_held_against_others(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pair.copy([b"1" * 32]) is None
    assert pair.copy(version=b"1" * 32) is None
    assert pair.copy(origin=pair.source.origin("none")) is None
    with monkeypatch.context() as patched:

        def archived() -> None:
            raise obstore.exceptions.PermissionDeniedError("403 Forbidden: <Code>InvalidObjectState</Code>")

        counted(patched, archived)
        assert pair.copy() is None
    assert pair.target.read(["k"]) == [None]
    assert pair.copy([None]) is not None
    assert pair.target.read(["k"]) == [b"value"]


def test_what_cannot_be_asked_for_is_not(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = counted(monkeypatch)
    origin = pair.source.origin("k")
    assert origin is not None
    for token in (b"", b'a"b', b"a\r\nx-evil: 1", b"\xff"):
        assert pair.copy(version=token) is None
        assert pair.copy([token]) is None
    assert pair.copy(size=copying.COPY_BYTES_MAX + 1) is None
    assert pair.copy(origin=origin._replace(location="elsewhere")) is None
    assert pair.source.origin("x" * 1024) is None
    assert pair.target.copy("x" * 1024, origin, pair.version, 5, meanwhile=idle) is None
    assert asked == []


def test_what_is_there_after_a_copy_is_known_by_its_tag(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may write right after it; and a failure may come late, in an answer that says 200."""
    head = Bucket.head
    for theirs in (b"other", b"another size"):

        def late(self: Bucket, name: str, theirs: bytes = theirs) -> Meta | None:
            if name == "k":
                self.put(name, theirs)
            return head(self, name)

        with monkeypatch.context() as patched:
            patched.setattr(Bucket, "head", late)
            assert pair.copy() is None
        assert pair.target.read(["k"]) == [theirs]
        pair.target._copier._trusted.clear()
    pair.target.write(["k"], [b"other"])
    copy = S3Store.copy
    with monkeypatch.context() as patched:
        patched.setattr(S3Store, "copy", lambda s, a, b, **o: copy(s, a, b, **o) if "probe/" in b else None)
        assert pair.copy() is None


def test_a_tag_that_may_not_be_of_the_contents_proves_nothing(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server might count the versions of each object: then another value has the same tag elsewhere."""
    asked = counted(monkeypatch)
    assert pair.copy(version=b"7") is None
    assert asked == []


@pytest.mark.parametrize("in_parts", [False, True])
def test_a_server_that_gives_copies_other_tags_copies_nothing(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, in_parts: bool
) -> None:
    """AWS does so with what was uploaded in parts, and with what is encrypted by keys of its own service."""
    head = Bucket.head

    def other(self: Bucket, name: str) -> Meta | None:
        meta = head(self, name)
        tagged = meta is not None and meta.token is not None and (b"-" in meta.token) == in_parts
        return Meta(b"1" * 32, size=1) if tagged and name.endswith("probe/copy-to") else meta

    monkeypatch.setattr(Bucket, "head", other)
    parts = pair.source.write_stream("k", iter([b"12345"]))
    assert parts.tokens is not None
    assert (pair.copy(version=parts.tokens[0]) is None) == in_parts
    whole = pair.source.write(["k"], [b"12345"])
    assert whole.tokens is not None
    assert (pair.copy(version=whole.tokens[0]) is None) != in_parts


def test_whoever_waits_for_a_copy_can_keep_the_lease(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    counted(monkeypatch, lambda: time.sleep(1))
    looks: list[float] = []
    assert pair.copy(meanwhile=lambda: looks.append(time.monotonic())) is not None
    assert len(looks) >= 3

    def lost() -> None:
        message = "taken over"
        raise LockLostError(message)

    with pytest.raises(LockLostError):
        pair.copy(meanwhile=lost)


def test_only_stores_of_one_place_copy_from_each_other(
    seaweed_server: SeaweedServer, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def place(store: Any) -> str | None:
        return BucketStorage(store)._copier.location

    options: dict[str, Any] = {"access_key_id": "a", "secret_access_key": "bb", "region": "r"}
    one = place(S3Store("b", endpoint="http://one", **options))
    assert one == place(S3Store("b", endpoint="http://one", **options))
    others = [
        S3Store("b", endpoint="http://two", **options),
        S3Store("c", endpoint="http://one", **options),
        S3Store("b", endpoint="http://one", prefix="p", **options),
        S3Store("b", endpoint="http://one", **{**options, "region": "s"}),
    ]
    assert one not in {place(store) for store in others}
    # What obstore takes from the environment says where a store is, too.
    before = place(S3Store("b", **options))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://three")
    assert before != place(S3Store("b", **options))
    for store in (MemoryStore(), GCSStore("b", skip_signature=True), AzureStore("c", account_name="m", account_key="")):
        assert BucketStorage(store).origin("k") is None
    elsewhere = open_url(seaweed_server.url_of("p", bucket=seaweed_server.new_bucket()))
    assert pair.copy(origin=elsewhere.origin("k")) is None


def test_a_store_with_settings_of_its_own(seaweed_server: SeaweedServer, pair: Pair) -> None:
    store = S3Store(
        BUCKET,
        prefix=pair.prefix,
        endpoint=seaweed_server.endpoint,
        access_key_id=ACCESS_KEY,
        secret_access_key=SECRET_KEY,
        region="us-east-1",
        client_options={"allow_http": True, "default_headers": {"x-custom": "1"}},
    )
    source, target = BucketStorage(store, "a"), BucketStorage(store, "b")
    origin = source.origin("k")
    assert origin is not None
    assert target.copy("k", origin, pair.version, 5, [None], meanwhile=idle) is not None
    assert target.copy("k", origin, pair.version, 5, [None], meanwhile=idle) is None
    assert pair.target.read(["k"]) == [b"value"]


def test_wrappers_pass_copies_on_and_see_them(pair: Pair) -> None:
    faulty = FaultyStorage(pair.target, Fault(at=2, mode="lost"))
    counting = CountingStorage(LatencyStorage(faulty, seconds=0))
    wrapped: list[Storage] = [counting, CountingStorage(MappingStorage({}))]
    assert [has_copy(storage) for storage in wrapped] == [True, False]
    origin = counting.origin("k")
    assert origin == pair.target.origin("k")
    origin = pair.source.origin("k")
    assert origin is not None
    assert counting.copy("k", origin, b"1" * 32, 5, meanwhile=idle) is None
    with pytest.raises(OSError, match=r"operation 2 \(copy\)"):
        counting.copy("k", origin, pair.version, 5, meanwhile=idle)
    assert counting.operations == {"copy": 2}
    assert pair.target.read(["k"]) == [b"value"]
