"""Two prefixes of one bucket: large values are copied by the server, and never another one than is logged."""

from __future__ import annotations

import hashlib
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from places import Clock
from servers.proxy import DroppingProxy
from variants import amount

import kvsync
from kvsync import Put
from kvsync.storages.bucket import BucketStorage, open_url
from kvsync.storages.contract import LARGE_BYTES
from kvsync.testing import CountingStorage, Fault, FaultyStorage, crashes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from servers.nanio import NanioServer
    from servers.seaweed import SeaweedServer

    from kvsync.storages.contract import Pages, Storage
    from kvsync.testing import FaultMode
    from kvsync.types import Written

LARGE = LARGE_BYTES + 12_345
OPERATIONS_MAX = 200


@cache
def large(seed: int, size: int = LARGE) -> bytes:
    return hashlib.shake_128(b"%d" % seed).digest(size)


class Bucket:
    """Two prefixes of a bucket, and time that runs ahead of its server's, so that no value is too young for a scan."""

    def __init__(self, url_of: Callable[[str], str], name: str) -> None:
        self.urls = url_of(f"copy/{name}/a"), url_of(f"copy/{name}/b")
        self.a, self.b = map(open_url, self.urls)
        self.clock = Clock(time.time() + 60, tick=0.0005)

    def sync(self, a: Storage | str | None = None, b: Storage | str | None = None, **options: Any) -> kvsync.SyncResult:
        options = {"scan": True, "environment": self.clock.environment, "wait_seconds": 300, **options}
        return kvsync.sync(a or self.a, b or self.b, **options)

    def equal(self) -> bool:
        """Whether both hold what their logs say, the same."""
        found = kvsync.verify(self.a, self.b)
        return found.equal and not any(found.unlogged.values())


@pytest.fixture
def bucket(seaweed_server: SeaweedServer, request: pytest.FixtureRequest) -> Bucket:
    return Bucket(seaweed_server.url_of, f"{request.node.name}-{time.time_ns()}")


def operations(result: kvsync.SyncResult) -> tuple[int, int]:
    """Return how many values the target had copied, and how many it took in parts."""
    done = result.operations["target"]
    return done.get("copy", 0), done.get("write_stream", 0)


def through(bucket: Bucket, server: SeaweedServer, proxy: DroppingProxy) -> list[str]:
    """Return the URLs of both prefixes by way of a proxy."""
    return [url.replace(f"%3A{server.s3}&", f"%3A{proxy.port}&") for url in bucket.urls]


def test_the_bytes_of_a_large_value_stay_with_the_server(seaweed_server: SeaweedServer, bucket: Bucket) -> None:
    size = 64 << 20
    bucket.a.write(["film"], [large(1, size)])
    bucket.sync()
    with DroppingProxy(seaweed_server.s3) as proxy:
        a, b = through(bucket, seaweed_server, proxy)
        bucket.a.write(["film"], [large(2, size)])
        kvsync.commit(bucket.a, scan=True, environment=bucket.clock.environment)
        result = bucket.sync(a, b)
        assert (result.pushed, result.missing, operations(result)) == (1, [], (1, 0))
        assert bucket.b.read(["film"]) == [large(2, size)]
        # Nor do they pass afterwards: the copy is known by its version.
        result = bucket.sync(a, b)
        assert (result.pushed, result.pulled, result.committed) == (0, 0, (0, 0))
        assert proxy.moved_bytes < 1 << 20
    assert bucket.equal()


def test_a_copy_goes_back_in_the_same_way(bucket: Bucket) -> None:
    bucket.a.write(["film"], [large(1)])
    bucket.sync()
    bucket.b.write(["film"], [large(2)])
    result = bucket.sync()
    assert (result.pulled, result.operations["source"]["copy"]) == (1, 1)
    assert bucket.a.read(["film"]) == [large(2)]
    assert bucket.equal()


@pytest.mark.parametrize("there", [False, True])
def test_what_is_named_as_stored_is_copied_as_it_was_read(bucket: Bucket, there: bool) -> None:
    if there:
        bucket.b.write(["film"], [large(0)])
    bucket.a.write(["film"], [large(1)])
    result = bucket.sync(scan=False, changes=[Put("film")])
    assert (result.pushed, operations(result)) == (1, (1, 0))
    assert result.operations["source"]["read_stream"] == 1
    assert bucket.b.read(["film"]) == [large(1)]
    assert bucket.equal()


def test_what_is_named_as_stored_and_changes_then_is_not_copied(bucket: Bucket) -> None:
    bucket.a.write(["film"], [large(1)])
    target = Disturbed(bucket.b, lambda: bucket.a.write(["film"], [large(2)]), nothing)
    result = bucket.sync(b=target, scan=False, changes=[Put("film")])
    assert [missing.key for missing in result.missing] == ["film"]
    assert target.operations["copy"] == 1
    assert bucket.b.read(["film"]) == [None]
    assert bucket.sync(scan=False, changes=[Put("film")]).missing == []
    assert bucket.b.read(["film"]) == [large(2)]
    assert bucket.equal()


def test_a_value_whose_version_nobody_knows_moves_in_parts(bucket: Bucket) -> None:
    bucket.a.write(["film"], [large(1)])
    kvsync.commit(bucket.a, [Put("film")], environment=bucket.clock.environment)
    assert operations(bucket.sync(scan=False)) == (0, 1)
    assert bucket.b.read(["film"]) == [large(1)]


def test_small_values_move_as_before(bucket: Bucket) -> None:
    bucket.a.write(["film", "note"], [large(1), b"small"])
    result = bucket.sync()
    assert (result.pushed, operations(result)) == (2, (1, 0))
    assert bucket.equal()


def test_a_server_that_ignores_conditions_moves_in_parts(
    nanio_server: NanioServer, request: pytest.FixtureRequest
) -> None:
    bucket = Bucket(lambda name: nanio_server.url_of(name, lease="advisory"), f"{request.node.name}-{time.time_ns()}")
    bucket.a.write(["film", "other"], [large(1), large(2)])
    result = bucket.sync()
    assert (result.pushed, operations(result)) == (2, (2, 2))
    assert bucket.b.read(["film", "other"]) == [large(1), large(2)]
    assert not [name for name in bucket.b.objects() if name.startswith("probe/")]


class Disturbed(CountingStorage):
    """A storage beside which somebody writes just before, and just after, the server copies."""

    def __init__(self, inner: BucketStorage, before: Callable[[], object], after: Callable[[], object]) -> None:
        super().__init__(inner)
        self.before, self.after = before, after

    def copy(self, *args: Any, **options: Any) -> Written | None:
        self.before()
        copied = super().copy(*args, **options)
        self.after()
        return copied


def nothing() -> None:
    pass


@pytest.mark.parametrize("there", [False, True])
def test_a_value_that_changed_after_the_scan_is_not_copied(bucket: Bucket, there: bool) -> None:
    if there:
        bucket.a.write(["film"], [large(0)])
        bucket.sync()
    bucket.a.write(["film"], [large(1)])
    target = Disturbed(bucket.b, lambda: bucket.a.write(["film"], [large(2)]), nothing)
    result = bucket.sync(b=target)
    assert target.operations["copy"] == 1
    assert [missing.key for missing in result.missing] == ["film"]
    assert bucket.b.read(["film"]) == [large(0) if there else None]
    result = bucket.sync()
    assert (result.missing, result.conflicts) == ([], [])
    assert bucket.b.read(["film"]) == [large(2)]
    assert bucket.equal()


def test_a_value_that_is_another_one_only_while_it_is_copied(bucket: Bucket) -> None:
    """Before and after, all tags are as they should be: nobody could tell afterwards what was copied."""
    bucket.a.write(["film"], [large(1)])
    target = Disturbed(
        bucket.b, lambda: bucket.a.write(["film"], [large(2)]), lambda: bucket.a.write(["film"], [large(1)])
    )
    result = bucket.sync(b=target)
    assert (result.pushed, result.missing) == (1, [])
    assert (target.operations["copy"], target.operations["write_stream"]) == (1, 1)
    assert bucket.b.read(["film"]) == [large(1)]
    assert bucket.equal()


def test_a_value_that_was_read_as_another_one_than_listed(bucket: Bucket) -> None:
    """The listed tag is not of what was read then, though it is of what is there when it comes to the copy."""

    class Late(CountingStorage):
        def scan(self, splits: Sequence[str] = ()) -> Pages:
            listed = list(super().scan(splits))
            bucket.a.write(["film"], [large(2)])
            yield from listed

    bucket.a.write(["film"], [large(1)])
    target = Disturbed(bucket.b, lambda: bucket.a.write(["film"], [large(1)]), nothing)
    result = bucket.sync(Late(bucket.a), target)
    assert (result.pushed, target.operations["copy"]) == (1, 0)
    assert bucket.b.read(["film"]) == [large(2)]
    assert bucket.equal()


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("size", [LARGE, 40 << 20])
def test_what_somebody_wrote_at_the_target_is_not_overwritten(bucket: Bucket, size: int, there: bool) -> None:
    if there:
        bucket.a.write(["film"], [large(0)])
        bucket.sync()
    bucket.a.write(["film"], [large(1, size)])
    target = Disturbed(bucket.b, lambda: bucket.b.write(["film"], [b"theirs"]), nothing)
    result = bucket.sync(b=target)
    assert target.operations["copy"] == 1
    assert [missing.key for missing in result.missing] == ["film"]
    assert bucket.b.read(["film"]) == [b"theirs"]
    (conflict,) = bucket.sync(conflict="target").conflicts
    assert conflict.key == "film"
    assert bucket.a.read(["film"]) == bucket.b.read(["film"]) == [b"theirs"]


@pytest.mark.parametrize("theirs", [b"theirs", large(3)])
def test_what_somebody_wrote_right_after_the_copy_is_found(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, theirs: bytes
) -> None:
    """Between the copy and the look at it: taken for the copy, this value would never be found."""
    copier = bucket.b._copier
    copied = copier._copied

    def then_written(*args: Any) -> bool:
        done = copied(*args)
        BucketStorage.write(bucket.b, ["film"], [theirs])
        return done

    bucket.a.write(["film"], [large(1)])
    with monkeypatch.context() as patched:
        patched.setattr(copier, "_copied", then_written)
        bucket.sync()
    bucket.sync(conflict="target")
    assert bucket.b.read(["film"]) == [theirs]
    assert bucket.a.read(["film"]) == [theirs]
    assert bucket.equal()


def test_a_copy_that_failed_within_an_answer_that_says_200(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there stays there, and is as large as what was to come: it must not pass for that."""
    bucket.a.write(["film"], [large(0)])
    bucket.sync()
    bucket.a.write(["film"], [large(1)])
    with monkeypatch.context() as patched:
        patched.setattr(bucket.b._copier, "_copied", lambda *_: True)
        result = bucket.sync()
    assert (result.pushed, operations(result)) == (1, (1, 1))
    assert bucket.b.read(["film"]) == [large(1)]
    assert bucket.equal()


@pytest.fixture
def soon_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take much smaller values for large ones, so that many runs take little time."""
    for module in ("run.transfer", "digesting"):
        monkeypatch.setattr(f"kvsync.{module}.LARGE_BYTES", 1000)
        monkeypatch.setattr(f"kvsync.{module}.BATCH_BYTES", 1000)


def film(seed: int) -> bytes:
    return large(seed)[:2000]


def changed(bucket: Bucket) -> None:
    """A large value that replaces another one, and a new one."""
    bucket.a.write(["film", "note"], [film(0), b"0"])
    bucket.sync()
    bucket.a.write(["film", "new", "note"], [film(1), film(2), b"1"])


def check_done(bucket: Bucket, where: str) -> None:
    """The next run ends right, and the one after it has nothing to do."""
    bucket.clock.now += 600
    result = bucket.sync()
    assert (result.conflicts, result.missing) == ([], []), where
    assert bucket.b.read(["film", "new", "note"]) == [film(1), film(2), b"1"], where
    assert bucket.equal(), where
    again = bucket.sync()
    assert (again.pushed, again.pulled, again.committed) == (0, 0, (0, 0)), where


@pytest.mark.usefixtures("soon_large")
@pytest.mark.parametrize("mode", ["killed", "killed-after"])
def test_a_crash_at_any_operation(
    seaweed_server: SeaweedServer, mode: FaultMode, request: pytest.FixtureRequest
) -> None:
    def make() -> Bucket:
        bucket = Bucket(seaweed_server.url_of, f"{request.node.name}-{time.time_ns()}")
        changed(bucket)
        return bucket

    def run(bucket: Bucket, fault: Fault) -> None:
        result = bucket.sync(FaultyStorage(bucket.a, fault), FaultyStorage(bucket.b, fault))
        assert operations(result) == (2, 0)

    points = 0
    for fault, bucket in crashes(make, run, modes=[mode]):
        check_done(bucket, str(fault))
        points += 1
    assert points > 16


@pytest.mark.usefixtures("soon_large")
def test_an_answer_lost_at_any_exchange(seaweed_server: SeaweedServer, request: pytest.FixtureRequest) -> None:
    lost = 0
    with DroppingProxy(seaweed_server.s3) as proxy:
        for number in range(1, OPERATIONS_MAX, amount(2, 1)):
            bucket = Bucket(seaweed_server.url_of, f"{request.node.name}-{number}-{time.time_ns()}")
            changed(bucket)
            proxy.arm(number)
            try:
                bucket.sync(*through(bucket, seaweed_server, proxy))
            except kvsync.KvsyncError:
                lost += 1
            dropped = proxy.dropped
            proxy.disarm()
            check_done(bucket, f"exchange {number}")
            if not dropped:
                break
    assert number > 20
    assert lost


def test_a_copy_that_was_made_before_a_crash_is_adopted(bucket: Bucket) -> None:
    """Nothing but the logged value ever appears, so a crash right after the copy leaves that, and it is adopted."""
    bucket.a.write(["film"], [large(1)])

    def crash() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bucket.sync(b=Disturbed(bucket.b, nothing, crash))
    assert bucket.b.read(["film"]) == [large(1)]
    bucket.clock.now += 600
    result = bucket.sync()
    assert (result.pushed, result.pulled, result.conflicts) == (0, 0, [])
    assert result.operations["target"].get("copy", 0) == 0
    assert bucket.equal()
