"""What Azure does that no other bucket does, and whole runs against it, also with answers that are lost."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
import test_lost_answers as lost
import test_matrix as matrix
from servers.azurite import CONTAINER
from servers.proxy import DroppingProxy
from storage_stories import absent_bucket_is_told

import kvsync
from kvsync import Put
from kvsync.errors import StorageError
from kvsync.storages.bucket import BucketStorage, open_url
from kvsync.testing.conformance import listing
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from servers.azurite import AzuriteServer

KINDS = [("folder", "azure"), ("azure", "folder"), ("azure", "gcs"), ("s3", "azure"), ("azure", "azure")]


@pytest.fixture
def prefix() -> str:
    return f"unit/{secrets.token_hex(6)}"


@pytest.fixture
def storage(azure_server: AzuriteServer, prefix: str) -> Iterator[BucketStorage]:
    with contextlib.closing(open_url(azure_server.url_of(prefix))) as opened:
        yield opened


def test_an_archived_value_is_unreadable_alone(
    azure_server: AzuriteServer, storage: BucketStorage, prefix: str
) -> None:
    storage.write(["a", "b"], [b"1", b"2"])
    azure_server.ask("PUT", f"{CONTAINER}/{prefix}/a", {"comp": "tier"}, {"x-ms-access-tier": "Archive"})
    assert storage.read(["a", "b"]) == [Unreadable("BlobArchived"), b"2"]
    assert list(listing(storage)) == ["a", "b"]
    assert [(refusal.key, refusal.changed) for refusal in storage.write(["a", "b"], [b"3"] * 2).refused] == [
        ("a", False)
    ]


def test_a_leased_value_is_refused_alone(azure_server: AzuriteServer, storage: BucketStorage, prefix: str) -> None:
    storage.write(["a", "b", "c"], [b"1", b"2", b"3"])
    lease = {"x-ms-lease-action": "acquire", "x-ms-lease-duration": "60"}
    azure_server.ask("PUT", f"{CONTAINER}/{prefix}/a", {"comp": "lease"}, lease)
    tokens = listing(storage)
    for expect in ([tokens["a"], tokens["b"]], None):
        (refusal,) = storage.write(["a", "b"], [b"4", b"5"], expect).refused
        assert (refusal.key, refusal.changed) == ("a", False)
    (refusal,) = storage.delete(["a", "b", "absent", "c"]).refused
    assert (refusal.key, refusal.changed) == ("a", False)
    assert listing(storage) == {"a": tokens["a"]}


def test_many_are_deleted_though_some_are_absent(storage: BucketStorage) -> None:
    keys = [f"k/{number}" for number in range(300)]
    storage.write(keys[::2], [b"v"] * 150)
    assert storage.delete(keys).refused == ()
    assert listing(storage) == {}


def test_a_container_that_is_not_there(azure_server: AzuriteServer) -> None:
    with contextlib.closing(open_url(azure_server.url_of("", container="no-such-container"))) as storage:
        absent_bucket_is_told(storage)


def test_a_key_of_dots_has_a_name_that_azure_keeps(storage: BucketStorage, azure_server: AzuriteServer) -> None:
    storage.write(["a.", "a", "b./c"], [b"1", b"2", b"3"])
    assert list(listing(storage)) == ["a", "a.", "b./c"]


def test_a_large_value_moves_in_parts(storage: BucketStorage) -> None:
    part = os.urandom(1 << 20)
    assert storage.write_stream("large", iter([part] * 40)).refused == ()
    stream = storage.read_stream("large")
    assert stream is not None
    assert not isinstance(stream, Unreadable)
    assert b"".join(stream) == part * 40


def test_the_doctor_finds_nothing_wrong(azure_server: AzuriteServer, prefix: str) -> None:
    found = kvsync.doctor(azure_server.url_of(prefix))
    assert (found.guarantee, found.wrong) == ("T2", [])


def test_a_wrong_key_is_told_and_not_shown(azure_server: AzuriteServer) -> None:
    with contextlib.closing(open_url(azure_server.url_of("x", account_key="c2VjcmV0LWtleQ=="))) as storage:
        with pytest.raises(StorageError, match="access was denied") as caught:
            storage.read(["a"])
        assert "c2VjcmV0" not in str(caught.value)
        assert quote("c2VjcmV0LWtleQ==") not in storage.name


@pytest.mark.parametrize("scan", [False, True], ids=["given", "scan"])
@pytest.mark.parametrize("policy", ["latest", "keep-both", "fail"])
@pytest.mark.parametrize(("first", "second"), KINDS)
def test_every_case_at_once(folder: Path, first: str, second: str, policy: str, scan: bool) -> None:
    matrix.test_every_case_at_once(folder, first, second, policy, scan)


@pytest.mark.parametrize("turned", [False, True], ids=["target", "source"])
def test_an_answer_lost_at_any_exchange(azure_server: AzuriteServer, folder: Path, turned: bool) -> None:
    with DroppingProxy(azure_server.port) as proxy:
        lost.test_an_answer_lost_at_any_exchange("azure", proxy, folder, turned)


def test_a_dict_and_a_container_become_equal(azure_server: AzuriteServer, prefix: str) -> None:
    source: dict[str, bytes] = {}
    url = azure_server.url_of(prefix)
    assert kvsync.sync(source, url, changes=[Put("../odd//key", b"odd"), Put("dot.", b"")]).pushed == 2
    other: dict[str, bytes] = {}
    assert kvsync.sync(other, url).pulled == 2
    assert (other["../odd//key"], other["dot."]) == (b"odd", b"")
