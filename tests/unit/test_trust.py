"""`trust="etag"`: a first contact reads no value whose server claims the MD5 that the other side's value has."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import kvsync
from kvsync.errors import UsageError
from kvsync.storages import open_storage
from kvsync.storages.bucket import open_url
from kvsync.storages.contract import LARGE_BYTES
from kvsync.testing import CountingStorage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from servers.gcs import GcsServer
    from servers.seaweed import SeaweedServer

    from kvsync.storages import Storage

VALUES = {f"user/{number}": b"value %d" % number for number in range(50)}
COUNT = len(VALUES)


class Bucket:
    """A bucket with some values, whose server counts what it is asked for."""

    def __init__(self, server: GcsServer, prefix: str, values: dict[str, bytes]) -> None:
        self.server = server
        self.prefix = prefix
        self.storage = self.opened()
        self.storage.write(list(values), list(values.values()))
        server.requests.clear()

    def opened(self) -> Storage:
        """Return another handle."""
        return open_url(self.server.url_of(self.prefix))

    @property
    def looks(self) -> int:
        """How many values were read, or asked about."""
        counts = self.server.requests.items()
        begin, index = f"{self.prefix}/", f"{self.prefix}/.kvsync/"
        names = [name for (method, name), _ in counts if method in {"GET", "HEAD"} and name.startswith(begin)]
        return sum(not name.startswith(index) for name in names)

    def retag(self, tag: str, key: str = "") -> None:
        """Give values another entity tag."""
        for name, stored in list(self.server.objects.items()):
            if name.startswith(f"{self.prefix}/{key}"):
                self.server.objects[name] = replace(stored, tag=tag.format(stored.tag))


@pytest.fixture
def bucket(gcs_server: GcsServer) -> Callable[[dict[str, bytes]], Bucket]:
    return lambda values: Bucket(gcs_server, f"trust/{secrets.token_hex(6)}", values)


def local(kind: str, folder: Path, values: dict[str, bytes]) -> Storage:
    targets: dict[str, Any] = {"dict": {}, "sqlite": f"sqlite:///{folder}/kv.db", "folder": folder}
    storage = open_storage(targets[kind])[0]
    storage.write(list(values), list(values.values()))
    return storage


def adopted(one: Any, other: Any, **options: Any) -> tuple[int, ...]:
    """Return how many changes were committed on each side, pushed, pulled and decided."""
    result = kvsync.sync(one, other, scan=True, trust="etag", create="both", **options)
    assert not result.missing
    return (*result.committed, result.pushed, result.pulled, len(result.conflicts))


def without_index(values: dict[str, bytes]) -> dict[str, bytes]:
    return {key: value for key, value in values.items() if not key.startswith(".kvsync/")}


def lies(storage: Storage) -> list[str]:
    """Return the keys whose value is not the one that is logged."""
    return [key for keys in kvsync.verify(storage).unlogged.values() for key in keys]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", ["dict", "sqlite", "folder"])
def test_what_is_equal_is_not_read_from_the_bucket(
    bucket: Callable[[dict[str, bytes]], Bucket], tmp_path: Path, kind: str, turned: bool
) -> None:
    here, far = local(kind, tmp_path, VALUES), bucket(VALUES)
    sides = (far.storage, here) if turned else (here, far.storage)
    assert adopted(*sides) == (COUNT, COUNT, 0, 0, 0)
    assert kvsync.sync(*sides, scan=True).committed == (0, 0)
    assert far.looks == 0
    assert lies(far.storage) == lies(here) == []
    here.write(["user/1"], [b"new"])
    far.storage.delete(["user/2"])
    assert adopted(*sides)[2:] == (1, 1, 0)
    assert here.read(["user/1", "user/2"]) == far.storage.read(["user/1", "user/2"]) == [b"new", None]


def test_between_buckets_the_values_of_one_are_read(bucket: Callable[[dict[str, bytes]], Bucket]) -> None:
    one, other = bucket(VALUES), bucket(VALUES)
    assert adopted(one.storage, other.storage) == (COUNT, COUNT, 0, 0, 0)
    assert (one.looks, other.looks) == (COUNT, 0)


@pytest.mark.parametrize("turned", [False, True])
def test_no_value_is_read_where_one_bucket_has_a_log(
    bucket: Callable[[dict[str, bytes]], Bucket], turned: bool
) -> None:
    """The digests are known, and both servers claim the same."""
    known, new = bucket(VALUES), bucket(VALUES)
    kvsync.commit(known.storage, scan=True)
    known.server.requests.clear()
    sides = (new.storage, known.opened()) if turned else (known.opened(), new.storage)
    assert adopted(*sides)[2:] == (0, 0, 0)
    assert known.looks == new.looks == 0
    assert lies(new.storage) == []


def test_a_real_server_of_s3_claims_it_too(seaweed_server: SeaweedServer) -> None:
    values = dict(list(VALUES.items())[:20])
    far = CountingStorage(open_url(seaweed_server.url_of("trust/s3")))
    far.write(list(values), list(values.values()))
    assert adopted(dict(values), far) == (20, 20, 0, 0, 0)
    assert far.keys["read"] == 0


def test_what_differs_is_read_and_is_a_conflict(bucket: Callable[[dict[str, bytes]], Bucket]) -> None:
    """Also if it is of the same size."""
    here, far = dict(VALUES), bucket(VALUES | {"user/7": b"Value 7", "more": b"1"})
    assert adopted(here, far.storage)[3:] == (2, 1)
    assert far.looks == 2
    assert without_index(here) == VALUES | {"user/7": b"Value 7", "more": b"1"}


@pytest.mark.parametrize("tag", ["{}-2", "W/{}", "0x8D4BCC2E4835CD0", "{}0", "5" * 32])
def test_a_tag_that_is_no_md5_of_the_value_proves_nothing(
    bucket: Callable[[dict[str, bytes]], Bucket], tag: str
) -> None:
    """An upload in parts, and encryption by a customer's key: the value is read, with the same result."""
    far = bucket(VALUES)
    far.retag(tag)
    assert adopted(dict(VALUES), far.storage) == (COUNT, COUNT, 0, 0, 0)
    assert far.looks == COUNT


@pytest.mark.parametrize("kind", ["dict", "folder"])
def test_a_large_value_is_read_where_it_is_near(
    bucket: Callable[[dict[str, bytes]], Bucket], tmp_path: Path, kind: str
) -> None:
    values = {"large": bytes(LARGE_BYTES + 1), "small": b"1"}
    here, far = local(kind, tmp_path, values), bucket(values)
    far.retag(hashlib.md5(values["large"]).hexdigest(), "large")  # noqa: S324 - the client writes it in parts
    assert adopted(here, far.storage) == (2, 2, 0, 0, 0)
    assert far.looks == 0


def test_a_server_that_lies_harms_no_other_storage(bucket: Callable[[dict[str, bytes]], Bucket]) -> None:
    """Two values look equal, and nothing more: no other storage takes either for the other one."""
    here, third = {"a": b"mine", "b": b"same"}, {"c": b"3"}
    far = bucket({"a": b"liar", "b": b"same"})
    far.retag(hashlib.md5(b"mine").hexdigest(), "a")  # noqa: S324
    assert adopted(here, far.storage) == (2, 2, 0, 0, 0)
    assert far.storage.read(["a"]) == [b"liar"]
    assert lies(far.storage) == ["a"]
    result = kvsync.sync(far.storage, third, scan=True)
    assert [missing.key for missing in result.missing] == ["a"]
    assert without_index(third) == {"b": b"same", "c": b"3"}
    kvsync.sync(here, third, scan=True)
    assert without_index(third) == {"a": b"mine", "b": b"same", "c": b"3"}
    assert far.storage.read(["a"]) == [b"liar"]


def test_a_plan_trusts_too(bucket: Callable[[dict[str, bytes]], Bucket]) -> None:
    far = bucket(VALUES)
    assert kvsync.plan(dict(VALUES), far.storage, scan=True, trust="etag").empty
    assert far.looks == 0


def test_without_it_all_is_read(bucket: Callable[[dict[str, bytes]], Bucket]) -> None:
    far = bucket(VALUES)
    kvsync.sync(dict(VALUES), far.storage, scan=True)
    assert far.looks == COUNT
    with pytest.raises(UsageError, match="unknown trust"):
        kvsync.sync({}, {}, trust="md5")  # type: ignore[arg-type]
