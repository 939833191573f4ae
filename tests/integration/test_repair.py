"""What `verify` finds on every kind of storage, and what a repair leaves: nothing lost, nothing locked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from places import KINDS, SERVER_KINDS, START, Clock, DictPlace, Picky, make, plain

import kvsync
from kvsync.audit.findings import Mend
from kvsync.errors import BudgetError, FormatError, IndexDamagedError, LockHeldError
from kvsync.index import compaction
from kvsync.index.manifest import Manifest
from kvsync.lease import Acquirer, Lease, LeaseRecord
from kvsync.native import Segment
from kvsync.replica.log import Log
from kvsync.storages.mapping import MappingStorage
from kvsync.testing import Fault, FaultyStorage, crashes, virtual_environment
from kvsync.testing.simulation.pieces import small_blocks
from kvsync.types import ANY

if TYPE_CHECKING:
    from pathlib import Path

    from places import Place

WAIT_SECONDS = 300
VALUES = {f"k{number}": b"%d" % number for number in range(6)}


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def filled(kind: str, folder: Path, clock: Clock) -> tuple[Place, dict[str, bytes]]:
    """Return a storage of a kind, and a mapping that it has met."""
    peer: dict[str, bytes] = {}
    place = make(kind, folder, "one", clock)
    for key, value in VALUES.items():
        place.put(key, value)
    kvsync.sync(place.target, peer, scan=True, create="both", environment=clock.environment)
    return place, peer


@pytest.mark.parametrize("kind", [*KINDS, *SERVER_KINDS])
def test_each_object_damaged_or_removed(folder: Path, kind: str) -> None:
    clock = Clock()
    place, peer = filled(kind, folder, clock)
    names = [*place.objects(), "lease"]
    for name in names:
        for damage in ("flipped", "removed", "nonsense"):
            clock.sleep(1)
            data = place.objects().get(name, b"")
            with place.storage() as storage:
                if damage == "removed":
                    storage.remove([name], ANY)
                else:
                    storage.store(name, flipped(data, len(data) // 2) if damage == "flipped" and data else b"x", ANY)
            found = kvsync.verify(place.target, repair=True, wait_seconds=WAIT_SECONDS, environment=clock.environment)
            assert found.intact, (name, damage)
            assert found.mended or damage == "removed", (name, damage)
            result = kvsync.sync(place.target, peer, scan=True, wait_seconds=5, environment=clock.environment)
            assert (result.conflicts, result.missing) == ([], []), (name, damage)
            assert place.values() == plain(peer) == VALUES, (name, damage)
    third: dict[str, bytes] = {}
    kvsync.sync(place.target, third, scan=True, environment=clock.environment)
    kvsync.sync(third, peer, scan=True, environment=clock.environment)
    assert plain(third) == VALUES


@pytest.mark.parametrize("kind", [*KINDS, *SERVER_KINDS])
def test_a_base_in_blocks_is_mended(folder: Path, kind: str) -> None:
    """Its directory, and each of its packs; a repair makes new ones, with other names."""
    clock = Clock()
    with small_blocks():
        place, peer = filled(kind, folder, clock)
        for prefix in ("segment/", "pack/"):
            for at, damage in ((0, "flipped"), (-1, "removed"), (0, "nonsense")):
                clock.sleep(1)
                with place.storage() as storage:
                    names = Log.read(storage, clock.environment, dry=True).object_names()
                    name = sorted(name for name in names if name.startswith(prefix))[at]
                    data = place.objects()[name]
                    if damage == "removed":
                        storage.remove([name], ANY)
                    else:
                        storage.store(name, flipped(data, 50) if damage == "flipped" else b"x", ANY)
                found = kvsync.verify(
                    place.target, repair=True, wait_seconds=WAIT_SECONDS, environment=clock.environment
                )
                assert found.intact, (name, damage)
                assert [finding.name for finding in found.mended] == [name], damage
                result = kvsync.sync(place.target, peer, scan=True, wait_seconds=5, environment=clock.environment)
                assert (result.conflicts, result.missing) == ([], []), (name, damage)
                assert place.values() == plain(peer) == VALUES, (name, damage)


@pytest.mark.parametrize("kind", KINDS)
def test_verify_alone_writes_nothing(folder: Path, kind: str) -> None:
    clock = Clock()
    place, peer = filled(kind, folder, clock)
    assert kvsync.verify(place.target, peer).intact
    place.replace("manifest", b"nonsense")
    before = place.photograph()
    found = kvsync.verify(place.target, peer)
    assert not found.intact
    assert found.equal
    assert [(finding.name, finding.mend) for finding in found.findings] == [("manifest", Mend.REBUILD)]
    assert place.photograph() == before


@pytest.mark.parametrize("kind", [*KINDS, *SERVER_KINDS])
def test_a_storage_that_lost_its_values_is_filled_again(folder: Path, kind: str) -> None:
    """It took a code snippet that removed the index."""
    clock = Clock()
    place, peer = filled(kind, folder, clock)
    peer["k1"] = b"newer"
    del peer["k2"]
    peer["k9"] = b"9"
    for key in VALUES:
        place.delete(key)
    with pytest.raises(BudgetError, match="--refill"):
        kvsync.sync(place.target, peer, scan=True, environment=clock.environment)
    found = kvsync.verify(place.target, peer, refill=True, wait_seconds=WAIT_SECONDS, environment=clock.environment)
    assert (found.equal, found.intact) == (True, True)
    expected = {**VALUES, "k1": b"newer", "k9": b"9"}
    del expected["k2"]
    assert place.values() == plain(peer) == expected
    result = kvsync.sync(place.target, peer, scan=True, environment=clock.environment)
    assert (result.pushed, result.pulled, result.committed) == (0, 0, (0, 0))


def lost_values() -> tuple[dict[str, bytes], dict[str, bytes], Clock]:
    """Return two mappings that have met, and the clock."""
    clock = Clock()
    one, other = dict(VALUES), dict[str, bytes]()
    kvsync.sync(one, other, scan=True, environment=clock.environment)
    return one, other, clock


def test_what_the_other_storage_has_changed_since_is_no_conflict() -> None:
    one, other, clock = lost_values()
    other["k1"] = b"newer"
    del other["k2"]
    for key in ("k1", "k2", "k3", "k4"):
        del one[key]
    replica = kvsync.status(one).replica
    found = kvsync.verify(one, other, refill=True, environment=clock.environment)
    assert (found.equal, found.intact, kvsync.status(one).replica) == (True, True, replica)
    assert plain(one) == {"k0": b"0", "k1": b"newer", "k3": b"3", "k4": b"4", "k5": b"5"}
    assert not any("conflict" in note for note in found.notes)


def test_what_was_never_synced_is_told_and_forgotten() -> None:
    one, other, clock = lost_values()
    kvsync.commit(one, [kvsync.Put("k1", b"unsynced"), kvsync.Put("k8", b"8")], environment=clock.environment)
    third: dict[str, bytes] = {}
    kvsync.sync(one, third, environment=clock.environment)
    for key in plain(one):
        del one[key]
    found = kvsync.verify(one, other, refill=True, environment=clock.environment)
    assert any("'k1', 'k8'" in note for note in found.notes)
    assert plain(one) == plain(other) == VALUES
    kvsync.sync(third, one, scan=True, environment=clock.environment)
    assert plain(one) == {**VALUES, "k1": b"unsynced", "k8": b"8"}


def test_a_new_log_that_does_not_know_of_dropped_deletes_says_so_and_learns_it_from_a_peer() -> None:
    one, other, clock = lost_values()
    away = dict(other)
    kvsync.commit(one, [kvsync.Delete("k0")], environment=clock.environment)
    for change in (kvsync.Put("k1", b"newer"), kvsync.Put("k1", b"newest")):
        clock.sleep(60)
        kvsync.sync(one, other, [change], tombstone_grace="0s", environment=clock.environment)
    assert kvsync.log(one, "k0") == []
    kvsync.commit(one, [kvsync.Put("k8", b"unsynced")], environment=clock.environment)
    del one["k8"]
    found = kvsync.verify(one, dict(other), refill=True, environment=clock.environment)
    assert any("which does not know any more that they had" in note for note in found.notes)
    kvsync.sync(one, other, scan=True, environment=clock.environment)
    kvsync.sync(one, away, scan=True, environment=clock.environment)
    assert "k0" not in one
    assert "k0" not in away


def test_a_rotten_value_is_replaced_and_kept() -> None:
    one, other, clock = lost_values()
    one["k1"] = one["k3"] = b"rotten"
    one["k2"] = other["k2"] = b"edited"
    found = kvsync.verify(one, other, refill=True, environment=clock.environment)
    assert found.equal
    assert plain(one) == {**VALUES, "k2": b"edited"}
    kept = {(value.key, value.value) for value in kvsync.lost(one)}
    assert kept == {("k1", b"rotten"), ("k3", b"rotten")}


def test_a_refill_over_the_budget_writes_nothing() -> None:
    one, other, clock = lost_values()
    one.update((key, b"edited") for key in ("k0", "k1", "k2", "k3"))
    before = dict(one)
    with pytest.raises(BudgetError) as caught:
        kvsync.verify(one, other, refill=True, environment=clock.environment)
    assert caught.value.overwritten == ["k0", "k1", "k2", "k3"]
    assert plain(one) == plain(before)
    kvsync.verify(one, other, refill=True, max_delete=4, environment=clock.environment)
    assert plain(one) == VALUES


def test_a_refill_needs_another_storage() -> None:
    with pytest.raises(kvsync.UsageError, match="target"):
        kvsync.verify({}, refill=True)


def test_an_older_value_in_place_of_a_missing_one_does_not_beat_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log says that the newest value is missing; without it, the older one looks like a change made just now."""
    monkeypatch.setattr(compaction, "INLINE_BYTES_MAX", 200)
    clock = Clock()
    one, other = Picky(lambda _, value: len(value) > 5), {"k": b"old", **VALUES}
    kvsync.sync(one, other, scan=True, environment=clock.environment)
    other["k"] = b"new and long"
    assert kvsync.sync(one, other, scan=True, environment=clock.environment).missing
    assert kvsync.verify(one, other).intact
    name = next(name for name in one if name.startswith(".kvsync/segment/") and len(one[name]) > 300)
    del one[name]
    one.refuses = lambda *_: False
    found = kvsync.verify(one, repair=True, environment=clock.environment)
    assert [finding.name for finding in found.mended] == [name.removeprefix(".kvsync/")]
    kvsync.sync(one, other, scan=True, environment=clock.environment)
    assert one["k"] == other["k"] == b"new and long"


def test_a_newer_format_is_told_and_left_alone() -> None:
    one, _, clock = lost_values()
    data = bytearray(one[".kvsync/manifest"])
    data[5] = 99
    one[".kvsync/manifest"] = with_checksum(bytes(data))
    before = dict(one)
    found = kvsync.verify(one)
    assert [finding.mend for finding in found.findings] == [Mend.UPGRADE]
    with pytest.raises(FormatError):
        kvsync.verify(one, repair=True, environment=clock.environment)
    assert plain(one) == plain(before)
    assert one[".kvsync/manifest"] == before[".kvsync/manifest"]


def with_checksum(data: bytes) -> bytes:
    import xxhash

    return data[:16] + xxhash.xxh3_64_intdigest(data[:16] + data[24:]).to_bytes(8, "little") + data[24:]


def test_an_older_manifest_is_found() -> None:
    """Somebody put the manifest back, and not the segments."""
    place = DictPlace()
    clock = Clock()
    kvsync.commit(place.target, [kvsync.Put("a", b"1")], environment=clock.environment)
    older = place.objects()["manifest"]
    many = [kvsync.Put(f"k{number}", b"%d" % number) for number in range(1000)]
    kvsync.commit(place.target, many, environment=clock.environment)
    kvsync.commit(
        place.target, [kvsync.Put(f"j{number}", b"") for number in range(1000)], environment=clock.environment
    )
    place.replace("manifest", older)
    (finding,) = [finding for finding in kvsync.verify(place.target).findings if not finding.harmless]
    assert "put back from a backup" in finding.wrong
    clock.sleep(10)
    assert kvsync.verify(place.target, repair=True, environment=clock.environment).intact
    assert len(kvsync.log(place.target)) == 2001


def test_a_lease_is_waited_for() -> None:
    one, _, clock = lost_values()
    lease = held_lease(one, clock)
    one[".kvsync/manifest"] = b"nonsense"
    with pytest.raises(LockHeldError):
        kvsync.verify(one, repair=True, wait_seconds=1, environment=clock.environment)
    lease.release(interrupted=False)
    assert kvsync.verify(one, repair=True, wait_seconds=1, environment=clock.environment).intact


def test_a_damaged_lease_locks_nobody_out_and_fences_its_holder() -> None:
    one, other, clock = lost_values()
    lease = held_lease(one, clock)
    one[".kvsync/lease"] = flipped(one[".kvsync/lease"], 60)
    with pytest.raises(IndexDamagedError, match="kvsync unlock"):
        kvsync.sync(one, other, scan=True, environment=clock.environment)
    found = kvsync.verify(one, repair=True, wait_seconds=1, environment=clock.environment)
    assert [finding.name for finding in found.mended] == ["lease"]
    kvsync.sync(one, other, scan=True, wait_seconds=1, environment=clock.environment)
    with pytest.raises(kvsync.LockLostError):
        lease.renew()


def held_lease(data: dict[str, bytes], clock: Clock) -> Lease:
    acquirer = Acquirer(MappingStorage(data), clock.environment, 60.0)
    lease = acquirer.look()
    assert isinstance(lease, Lease)
    assert LeaseRecord.decode(data[".kvsync/lease"], "one").token == acquirer.token
    return lease


def test_two_old_stamps_that_are_one_become_two() -> None:
    """Two replicas may have made changes of two keys at one moment; one replica never does."""
    one, other, _ = lost_values()
    environment = virtual_environment(START + 1000)
    kvsync.commit(one, [kvsync.Put("mine", b"1")], environment=environment)
    kvsync.commit(other, [kvsync.Put("yours", b"2")], environment=virtual_environment(START + 1000, seed=1))
    kvsync.sync(one, other, environment=environment)
    stamps = [change.stamp for change in kvsync.log(one)]
    assert len(set(stamps)) < len(stamps)
    one[".kvsync/manifest"] = flipped(one[".kvsync/manifest"], 30)
    kvsync.verify(one, repair=True, environment=environment)
    changes = kvsync.log(one)
    assert len({change.dot for change in changes}) == len(changes)
    assert {change.key for change in changes} == {*VALUES, "mine", "yours"}
    result = kvsync.sync(one, other, scan=True, environment=environment)
    assert result.conflicts == []


@pytest.mark.parametrize("name", ["manifest", "segment", "inventory"])
def test_a_repair_that_is_interrupted_anywhere_is_finished_by_the_next(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "INLINE_BYTES_MAX", 200)

    def world() -> tuple[dict[str, bytes], dict[str, bytes], Clock]:
        one, other, clock = lost_values()
        kvsync.commit(one, [kvsync.Delete("k0")], environment=clock.environment)
        damaged = next(path for path in one if path.startswith(f".kvsync/{name}"))
        one[damaged] = flipped(one[damaged], 40)
        return one, other, clock

    def repair(world: tuple[dict[str, bytes], dict[str, bytes], Clock], fault: Fault) -> None:
        storage = FaultyStorage(MappingStorage(world[0]), fault)
        kvsync.verify(storage, repair=True, wait_seconds=WAIT_SECONDS, environment=world[2].environment)

    expected = {key: value for key, value in VALUES.items() if key != "k0"}
    for fault, (one, other, clock) in crashes(world, repair, modes=["killed", "lost"]):
        found = kvsync.verify(one, repair=True, wait_seconds=WAIT_SECONDS, environment=clock.environment)
        assert found.intact, fault
        kvsync.sync(one, other, scan=True, wait_seconds=WAIT_SECONDS, environment=clock.environment)
        assert plain(one) == plain(other) == expected, fault


def test_a_refill_that_is_interrupted_anywhere_is_finished_by_the_next() -> None:
    def world() -> tuple[dict[str, bytes], dict[str, bytes], Clock]:
        one, other, clock = lost_values()
        other["k1"] = b"newer"
        one["k0"] = b"rotten"
        for key in ("k1", "k2", "k3"):
            del one[key]
        return one, other, clock

    def refill(world: tuple[dict[str, bytes], dict[str, bytes], Clock], fault: Fault) -> None:
        one, other = (FaultyStorage(MappingStorage(data), fault) for data in world[:2])
        kvsync.verify(one, other, refill=True, wait_seconds=WAIT_SECONDS, environment=world[2].environment)

    for fault, (one, other, clock) in crashes(world, refill, modes=["killed-after"]):
        kvsync.verify(one, other, refill=True, wait_seconds=WAIT_SECONDS, environment=clock.environment)
        assert plain(one) == plain(other) == {**VALUES, "k1": b"newer"}, fault
        assert {value.value for value in kvsync.lost(one)} == {b"rotten"}, fault


def test_what_nothing_lists_is_told_and_does_no_harm() -> None:
    one, _, clock = lost_values()
    name = "segment/0000000000000001-abc"
    one[f".kvsync/{name}"] = Segment.from_rows([]).encode(name)
    found = kvsync.verify(one)
    assert found.intact
    assert [(finding.name, finding.harmless) for finding in found.findings] == [(name, True)]
    kvsync.compact(one, environment=clock.environment)
    assert kvsync.verify(one).findings == []


def test_a_forged_generation_is_found_and_mended() -> None:
    """A run that met it failed with an error of the encoder."""
    one, other, clock = lost_values()
    manifest = Manifest.decode(one[".kvsync/manifest"], "one")
    one[".kvsync/manifest"] = manifest._replace(generation=2**64 - 1).encode()
    found = kvsync.verify(one, repair=True, environment=clock.environment)
    assert [finding.wrong for finding in found.mended] == [
        "is damaged: its generation is not what the index format allows"
    ]
    assert kvsync.sync(one, other, scan=True, environment=clock.environment).conflicts == []
    assert kvsync.status(one).generation < 10


def test_a_delete_that_only_the_lost_log_knew_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "INLINE_BYTES_MAX", 200)
    one, other, clock = lost_values()
    kvsync.commit(one, [kvsync.Delete("k0")], environment=clock.environment)
    for name in [name for name in one if name.startswith(".kvsync/segment/")]:
        del one[name]
    one[".kvsync/manifest"] = one[".kvsync/manifest"][:40]
    notes = kvsync.verify(one, repair=True, environment=clock.environment).notes
    assert any("what became of it is not known any more" in note and "'k0'" in note for note in notes)
    assert any("a delete that only that part knew" in note for note in notes)
    kvsync.sync(one, other, scan=True, environment=clock.environment)
    assert plain(one) == plain(other) == VALUES


def test_damaged_segments_beside_a_missing_manifest_are_copied() -> None:
    one, _, clock = lost_values()
    name = "segment/0000000000000001-abc"
    one[f".kvsync/{name}"] = b"nonsense"
    del one[".kvsync/manifest"]
    assert kvsync.verify(one, repair=True, environment=clock.environment).intact
    assert [data for path, data in one.items() if path.startswith(".kvsync/damaged/") and path.endswith(name)] == [
        b"nonsense"
    ]
    assert f".kvsync/{name}" not in one


def test_a_manifest_that_lists_what_is_no_segment_is_found() -> None:
    """A run would have removed a losing value as garbage."""
    one, _, clock = lost_values()
    manifest = Manifest.decode(one[".kvsync/manifest"], "one")
    one[".kvsync/manifest"] = manifest._replace(garbage=("lost/1",)).encode()
    found = kvsync.verify(one, repair=True, environment=clock.environment)
    assert [finding.wrong for finding in found.mended] == [
        "is damaged: its garbage is not what the index format allows"
    ]
    assert not Manifest.decode(one[".kvsync/manifest"], "one").garbage
