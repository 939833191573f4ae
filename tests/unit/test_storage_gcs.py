"""What is special about Google's and Azure's buckets: generations, one write a second, and objects that are held."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING, Any

import obstore
import pytest
from obstore.store import MemoryStore
from servers.gcs import CONDITION, GcsServer
from storage_stories import absent_bucket_is_told

import kvsync
from kvsync import Put
from kvsync.errors import StorageError
from kvsync.storages.bucket import BucketStorage, client, open_url
from kvsync.storages.contract import ObjectMismatch
from kvsync.testing.conformance import listing
from kvsync.types import ABSENT, ANY, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def prefix() -> str:
    return f"unit/{secrets.token_hex(6)}"


@pytest.fixture
def storage(gcs_server: GcsServer, prefix: str) -> Iterator[BucketStorage]:
    with contextlib.closing(open_url(gcs_server.url_of(prefix))) as opened:
        yield opened


# Google: generations


def test_the_same_bytes_written_again_are_another_version(storage: BucketStorage) -> None:
    """An entity tag is of the contents; a lease that was taken over and given back must not look like one's own."""
    first = storage.store("lease", b"free", ABSENT)
    second = storage.store("lease", b"held", first)
    third = storage.store("lease", b"free", second)
    assert third != first
    with pytest.raises(ObjectMismatch):
        storage.store("lease", b"mine", first)
    assert storage.load("lease") == (b"free", third)
    for version in (first, second, ABSENT):
        with pytest.raises(ObjectMismatch):
            storage.remove(["lease"], version)
    storage.remove(["lease"], third)


def test_a_version_of_another_service_matches_nothing(storage: BucketStorage) -> None:
    version = storage.store("manifest", b"1", ABSENT)
    for forged in (version.partition(b"\n")[0], version + b"x", version.replace(b"\n", b"\n-"), b"\n1"):
        with pytest.raises(ObjectMismatch):
            storage.store("manifest", b"2", forged)


def test_a_value_written_between_look_and_write_is_left_alone(
    gcs_server: GcsServer, storage: BucketStorage, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write(["a"], [b"1"])
    token = listing(storage)["a"]
    put_if = client.Bucket.put_if

    def late(self: client.Bucket, *args: Any) -> client.Meta:
        obstore.put(self.store, f"{prefix}/a", b"meanwhile")
        return put_if(self, *args)

    monkeypatch.setattr(client.Bucket, "put_if", late)
    (refusal,) = storage.write(["a"], [b"2"], [token]).refused
    assert refusal.changed
    assert storage.read(["a"]) == [b"meanwhile"]


def test_a_large_value_moves_in_parts(storage: BucketStorage) -> None:
    part = os.urandom(1 << 20)
    written = storage.write_stream("large", iter([part] * 40))
    assert written.tokens == (listing(storage)["large"],)
    stream = storage.read_stream("large")
    assert stream is not None
    assert not isinstance(stream, Unreadable)
    assert b"".join(stream) == part * 40


def test_the_doctor_tells_a_server_that_keeps_conditions_from_one_that_does_not(tmp_path: Path) -> None:
    with GcsServer(tmp_path) as server:
        found = kvsync.doctor(server.url_of("p"))
        assert (found.guarantee, found.wrong) == ("T2", [])
    with GcsServer(tmp_path, conditions=False) as server:
        assert kvsync.doctor(server.url_of("p")).guarantee == "T4"
        with pytest.raises(StorageError, match="ignores conditional writes"):
            kvsync.sync({}, server.url_of("p"), changes=[Put("a", b"1")])


def test_a_bucket_that_is_not_there(gcs_server: GcsServer) -> None:
    with contextlib.closing(open_url(gcs_server.url_of("", bucket="no-such-bucket"))) as storage:
        absent_bucket_is_told(storage)


# Google: one write a second to an object


def test_a_run_waits_where_an_object_takes_one_write_a_second(tmp_path: Path) -> None:
    """Google answers the second write of a lease within a second with a 429; no run got past taking its lease."""
    with GcsServer(tmp_path, write_seconds=1.0) as server:
        url = server.url_of("p")
        assert kvsync.sync({}, url, changes=[Put("a", b"1")]).pushed == 1
        assert server.refused
        assert kvsync.doctor(url).wrong == []


def test_a_server_that_never_has_time_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SLOW_PAUSE_SECONDS", 0.001)
    with GcsServer(tmp_path) as server, contextlib.closing(open_url(server.url_of("p"))) as storage:
        version = storage.store("lease", b"1", ABSENT)
        server.write_seconds = 3600.0
        with pytest.raises(StorageError, match="asks for fewer requests"):
            storage.store("lease", b"2", version)
        assert server.refused == client.CONFLICT_ATTEMPTS
        assert storage.load("lease") == (b"1", version)


def test_a_condition_is_sent_with_every_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SLOW_PAUSE_SECONDS", 0.05)
    with GcsServer(tmp_path, write_seconds=0.2) as server:
        seen: list[str | None] = []
        answer = server.answer

        def noted(method: str, target: str, headers: dict[str, str], body: bytes) -> Any:
            if method == "PUT":
                seen.append(headers.get(CONDITION))
            return answer(method, target, headers, body)

        monkeypatch.setattr(server, "answer", noted)
        with contextlib.closing(open_url(server.url_of("p"))) as storage:
            storage.store("lease", b"2", storage.store("lease", b"1", ABSENT))
        assert len(seen) > 2
        assert seen[0] == "0"
        assert None not in seen


# Azure: what is archived or held


def refused(status: str, code: str) -> Exception:
    kind = obstore.exceptions.PreconditionError if status.startswith("412") else obstore.exceptions.AlreadyExistsError
    return kind(f"Error performing PUT: Server returned non-2xx status code: {status}: <Code>{code}</Code>")


class Held(MemoryStore):
    """A store that does nothing with objects whose names say so, and answers as Azure does."""

    def _check(self, path: str) -> None:
        if path.endswith("archived"):
            raise refused("409 Conflict", "BlobArchived")
        if path.endswith("leased"):
            raise refused("412 Precondition Failed", "LeaseIdMissing")
        if path.endswith("odd"):
            raise refused("409 Conflict", "NobodyKnows")

    def get(self, path: str, **options: Any) -> Any:
        if not path.endswith("leased"):
            self._check(path)
        return super().get(path, **options)

    def put(self, path: str, *args: Any, **options: Any) -> Any:
        self._check(path)
        return super().put(path, *args, **options)

    def delete(self, paths: Any) -> None:
        for path in [paths] if isinstance(paths, str) else paths:
            if path.endswith("leased"):
                message = f"Bulk delete request failed for key {path}: There is currently a lease on the blob"
                raise obstore.exceptions.GenericError(message)
            super().head(path)
            super().delete(path)


Held.__name__ = "AzureStore"


@pytest.fixture
def held() -> BucketStorage:
    store = Held()
    for name in ("archived", "leased", "a"):
        MemoryStore.put(store, name, b"before")
    return BucketStorage(store, unretried=store)


def test_what_is_archived_is_unreadable_alone(held: BucketStorage) -> None:
    """A 409 came out of a read as the client's own error."""
    assert held.read(["archived", "a"]) == [Unreadable("BlobArchived"), b"before"]


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("key", ["archived", "leased"])
def test_what_is_held_is_refused_alone(held: BucketStorage, key: str, conditional: bool) -> None:
    """A 412 for a lease is not about our condition: the value there is the expected one."""
    tokens = listing(held)
    (refusal,) = held.write([key, "a"], [b"1", b"2"], [tokens[key], tokens["a"]] if conditional else None).refused
    assert (refusal.key, refusal.changed) == (key, False)
    assert held.read(["a"]) == [b"2"]


def test_what_is_held_is_not_deleted_and_the_others_are(held: BucketStorage) -> None:
    (refusal,) = held.delete(["absent", "leased", "archived", "a"]).refused
    assert (refusal.key, refusal.changed) == ("leased", False)
    assert list(listing(held)) == ["leased"]


def test_an_index_object_that_is_held_is_an_error(held: BucketStorage) -> None:
    calls: list[Callable[[], object]] = [
        lambda: held.store("leased", b"1", ABSENT),
        lambda: held.store("leased", b"1", ANY),
        lambda: held.remove(["leased"], ANY),
    ]
    for call in calls:
        with pytest.raises(StorageError, match=r"leased"):
            call()


def test_a_conflict_that_nobody_asked_about_is_an_error(held: BucketStorage) -> None:
    for call in (lambda: held.write(["odd"], [b"1"]), lambda: held.read(["odd"])):
        with pytest.raises(StorageError, match="run again"):
            call()
