"""Runs that take long, or lose their lease while they are alive: nothing is lost, and no lease stays held."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from places import Clock, make, plain

import kvsync
from kvsync import Put
from kvsync.storages.mapping import MappingStorage

if TYPE_CHECKING:
    from pathlib import Path

SLOW_SECONDS = 25
"""More than a third of a lease's life, after which it is renewed."""


def staying(values: dict[str, bytes], kind: type[MappingStorage] = MappingStorage) -> MappingStorage:
    """Return a storage whose lease object stays, so that its manifest releases the lease."""
    storage = kind(values)
    storage.capabilities = replace(storage.capabilities, lease_stays=True)
    return storage


@pytest.mark.parametrize("direction", ["push", "pull"])
def test_a_lease_that_was_renewed_late_is_released(direction: str) -> None:
    """The last batch takes long, so finalising renews the lease first; the manifest has to name the new version."""
    clock = Clock()
    a: dict[str, bytes] = {}
    b: dict[str, bytes] = {}

    class Slow(MappingStorage):
        def write(self, *arguments: Any) -> Any:
            clock.sleep(SLOW_SECONDS)
            return super().write(*arguments)

    kvsync.sync(staying(a), staying(b), [Put("x", b"1")], environment=clock.environment)
    kvsync.commit(staying(a if direction == "push" else b), [Put("y", b"2")], environment=clock.environment)
    kvsync.sync(staying(a, Slow), staying(b, Slow), environment=clock.environment)
    assert plain(a) == plain(b) == {"x": b"1", "y": b"2"}
    assert kvsync.status(staying(a)).lease is None
    assert kvsync.status(staying(b)).lease is None
    result = kvsync.sync(staying(a), staying(b), [Put("z", b"3")], environment=clock.environment, wait_seconds=0)
    assert result.pushed == 1


@pytest.mark.parametrize("how", ["expired", "unlocked"])
def test_compaction_removes_nothing_of_a_run_that_took_its_lease_over(how: str) -> None:
    """It listed the index after its manifest was written, and removed what another run had listed since."""
    clock = Clock()
    a: dict[str, bytes] = {}
    b: dict[str, bytes] = {}
    for i in range(3):
        kvsync.sync(a, b, [Put(f"{i}/{j:04}", b"v") for j in range(900)], environment=clock.environment)

    class Overtaken(MappingStorage):
        def objects(self) -> list[str]:
            if how == "expired":
                clock.sleep(70)
            else:
                assert kvsync.unlock(a, force=True, clock=lambda: clock.now)
            theirs = [Put(f"new/{j:04}", b"v") for j in range(900)]
            assert kvsync.sync(b, a, theirs, environment=clock.environment).pushed == 900
            return super().objects()

    with pytest.raises(kvsync.LockLostError):
        kvsync.compact(Overtaken(a), environment=clock.environment)
    third: dict[str, bytes] = {}
    assert kvsync.sync(a, third, environment=clock.environment, wait_seconds=100).pushed == 3600
    assert plain(a) == plain(b) == plain(third)


def test_compaction_leaves_only_what_is_listed() -> None:
    a: dict[str, bytes] = {}
    for i in range(5):
        kvsync.commit(a, [Put(f"{i}/{j:04}", b"v") for j in range(900)])
    storage = MappingStorage(a)
    storage.store("segment/0000000000000001-ff", b"left by somebody", kvsync.types.ANY)
    kvsync.compact(a)
    segments = [name for name in storage.objects() if name.startswith("segment/")]
    assert len(segments) == 1
    assert len(kvsync.log(a)) == 4500
    assert kvsync.compact(a)[1] == 0


def test_an_old_value_of_a_run_that_was_unlocked_beats_nothing_newer() -> None:
    """It is unlocked while it is alive and about to store its intent; a scan must not stamp what it writes as new."""
    clock = Clock()
    a: dict[str, bytes] = {}
    b: dict[str, bytes] = {}
    kvsync.sync(a, b, [Put("x", b"0")], environment=clock.environment)
    clock.sleep(1)
    kvsync.commit(a, [Put("k", b"old")], environment=clock.environment)
    clock.sleep(1)

    class Unlocked(MappingStorage):
        def store(self, name: str, data: bytes, expect: Any) -> bytes:
            if name.startswith("segment/"):
                assert kvsync.unlock(b, force=True, clock=lambda: clock.now)
            return super().store(name, data, expect)

    with pytest.raises(kvsync.LockLostError):
        kvsync.sync(a, Unlocked(b), environment=clock.environment)
    assert b["k"] == b"old"
    clock.sleep(1)
    kvsync.commit(a, [Put("k", b"new")], environment=clock.environment)
    clock.sleep(1)
    result = kvsync.sync(b, a, scan=True, environment=clock.environment)
    assert not result.conflicts
    assert a["k"] == b["k"] == b"new"


def test_a_renewal_whose_answer_was_lost_is_no_takeover() -> None:
    """Neither the answer nor the read-back arrives; the next renewal finds the lease ours, at another version."""
    clock = Clock()
    a: dict[str, bytes] = {}
    b: dict[str, bytes] = {}
    kvsync.sync(staying(a), staying(b), [Put("x", b"0")], environment=clock.environment)
    kvsync.commit(staying(b), [Put(f"y{i}", b"1" * 5_000_000) for i in range(4)], environment=clock.environment)
    broken: list[str] = []

    class Disconnected(MappingStorage):
        def store(self, name: str, data: bytes, expect: Any) -> bytes:
            version = super().store(name, data, expect)
            if name == "lease" and broken == ["armed"]:
                broken.append("answer")
                raise kvsync.StorageError("connection reset")
            return version

        def load(self, name: str) -> Any:
            if name == "lease" and broken == ["armed", "answer"]:
                broken.append("read back")
                raise kvsync.StorageError("connection reset")
            return super().load(name)

    class Slow(MappingStorage):
        def write(self, *arguments: Any) -> Any:
            if not broken:
                broken.append("armed")
            clock.sleep(SLOW_SECONDS)
            return super().write(*arguments)

    result = kvsync.sync(staying(a, Slow), staying(b, Disconnected), environment=clock.environment)
    assert result.pulled == 4
    assert broken == ["armed", "answer", "read back"]
    assert kvsync.status(staying(b)).lease is None


@pytest.mark.parametrize("kind", ["dict", "folder", "sqlite"])
def test_a_given_change_that_loses_a_conflict_is_replaced_in_the_same_run(kind: str, folder: Path) -> None:
    """A run that scans wrote the given value itself, so it knows what is there."""
    one, two = make(kind, folder, "one"), make(kind, folder, "two")
    kvsync.sync(one.target, two.target, [Put("f", b"0")], scan=True)
    kvsync.commit(two.target, [Put("f", b"theirs")])
    given = [Put("f", b"mine"), Put("g", b"1")]
    result = kvsync.sync(one.target, two.target, given, scan=True, conflict="target")
    assert not result.missing
    assert one.values() == two.values() == {"f": b"theirs", "g": b"1"}
    again = kvsync.sync(one.target, two.target, scan=True)
    assert (again.pushed, again.pulled, again.committed) == (0, 0, (0, 0))


@pytest.mark.parametrize("kind", ["dict", "folder", "sqlite"])
def test_what_is_written_over_a_given_change_meanwhile_is_not_overwritten(kind: str, folder: Path) -> None:
    """The application replaces the value that the run has just written: the pull leaves it alone."""
    one, two = make(kind, folder, "one"), make(kind, folder, "two")
    kvsync.sync(one.target, two.target, [Put("f", b"0")], scan=True)
    kvsync.commit(two.target, [Put("f", b"theirs")])

    def meddle(progress: kvsync.Progress) -> None:
        if progress.step == "push":
            one.put("f", b"the application's")

    given = [Put("f", b"mine"), Put("g", b"1")]
    result = kvsync.sync(one.target, two.target, given, scan=True, conflict="target", on_progress=meddle)
    assert [missing.key for missing in result.missing] == ["f"]
    assert one.values()["f"] == b"the application's"
