"""The base of a log in blocks: it says what the whole segment says, less of it is read, and nothing is left behind."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import obstore
import pytest
from obstore.store import MemoryStore

import kvsync
from kvsync import Delete, Put
from kvsync.errors import IndexDamagedError
from kvsync.native import Cover, Directory, Segment, checksum, delta, newest_digest
from kvsync.replica.base import SIZES, Base, compare
from kvsync.replica.log import Log
from kvsync.replica.session import StoredManifest, session
from kvsync.storages.bucket import BucketStorage
from kvsync.storages.mapping import MappingStorage
from kvsync.testing import CountingStorage, Fault, FaultyStorage, Killed, virtual_environment
from kvsync.testing.simulation.pieces import small_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kvsync.native import Delta
    from kvsync.replica.knowledge import Knowledge

INDEX = ".kvsync/"
ORIGINS = (3, 5, 7)
KEYS = [f"k{number:03}" for number in range(150)]
ENVIRONMENT = virtual_environment()
"""One for all logs: what it draws are names, which never come twice."""


@pytest.fixture(autouse=True)
def _small_blocks() -> Iterator[None]:
    with small_blocks():
        yield


@dataclass
class History:
    """Two storages to which the same changes are logged, and more to one of them; all other logs know these alike."""

    chance: random.Random
    stamps: Iterator[int]

    @classmethod
    def of(cls, seed: int) -> History:
        return cls(random.Random(seed), count(1_000_000))

    def changes(self, most: int) -> Segment:
        """Return some changes of any origin, newer than all before."""
        rows = []
        for key in self.chance.sample(KEYS, self.chance.randint(1, most)):
            deletes = self.chance.random() < 0.2
            digest = bytes(32) if deletes else self.chance.choice([b"\1", b"\2"]) * 32
            size = 0 if deletes else 3
            rows.append((key, self.chance.choice(ORIGINS), next(self.stamps), int(deletes), size, digest, 0))
        return Segment.from_rows(rows)


def logged(data: dict[str, bytes], segment: Segment) -> Log:
    """Log changes as a run that gets them from another storage; return the log."""
    log = Log.read(MappingStorage(data), ENVIRONMENT)
    log.write(segment, knowing(log, segment))
    return log


def knowing(log: Log, segment: Segment) -> Knowledge:
    """Return what a log knows with some more changes."""
    knowledge = log.manifest.knowledge
    for origin, stamp in segment.maxima.items():
        own = Segment.from_rows([row for row in segment.rows(0, len(segment)) if row[1] == origin])
        knowledge = knowledge.commit(own, replica=origin, mark=stamp)
    return knowledge


def parts(found: Delta) -> list[list[object]]:
    segments = (found.to_a, found.to_b, found.log_a, found.log_b)
    return [*(list[object](segment.rows(0, len(segment))) for segment in segments), list(found.conflicts)]


def pair(seed: int) -> tuple[dict[str, bytes], dict[str, bytes], History]:
    """Return two logs with a common history, and changes that only one of them has."""
    history = History.of(seed)
    one: dict[str, bytes] = {}
    for _ in range(history.chance.randint(1, 9)):
        logged(one, history.changes(120))
    other = dict(one)
    for data in (one, other):
        for _ in range(history.chance.randint(0, 3)):
            logged(data, history.changes(history.chance.choice([2, 80])))
    return one, other, history


def read(data: dict[str, bytes]) -> Log:
    session.clear()
    return Log.read(MappingStorage(data), ENVIRONMENT)


@pytest.mark.parametrize("seed", range(25))
def test_what_differs_is_what_differs_without_blocks(seed: int) -> None:
    one, other, history = pair(seed)
    vectors = [dict(read(data).manifest.cover.vector) for data in (one, other)]
    for _ in range(8):
        # A vector claims no more than is logged: it may be that of the other side, or of earlier.
        covers = [Cover(history.chance.choice([{}, vectors[0], vectors[1]])) for _ in range(2)]
        found = compare(read(one).all_layers(), read(other).all_layers(), *covers)
        whole = [read(data).all_segments() for data in (one, other)]
        assert parts(found) == parts(delta(whole[0], whole[1], *covers))
        nothing = read({}).all_layers()
        alone = compare(read(one).all_layers(), nothing, covers[0], Cover())
        assert parts(alone) == parts(delta(whole[0], [], covers[0], Cover()))
        assert parts(compare(nothing, read(one).all_layers(), Cover(), covers[0]))[0] == parts(alone)[1]


@pytest.mark.parametrize("seed", range(25))
def test_the_log_is_the_log_without_blocks(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = []
    for least in (SIZES.base, 1 << 40):
        monkeypatch.setattr(SIZES, "base", least)
        history, data = History.of(seed), dict[str, bytes]()
        for _ in range(12):
            log = logged(data, history.changes(100))
        log = read(data)
        newest = log.newest([*KEYS, "absent"])
        held = log.known_digests(KEYS)
        logs.append((newest, held, newest_digest(log.all_segments()), log.manifest.cover.vector))
        is_in_blocks = log.all_layers().base is not None
        assert is_in_blocks == (least < 1 << 40)
        assert kvsync.verify(data).intact
    assert logs[0] == logs[1]


def test_a_base_is_kept_in_blocks_once_it_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SIZES, "base", 60)
    history, data = History.of(1), dict[str, bytes]()
    logged(data, history.changes(59))
    assert not any("pack/" in name for name in data)
    logged(
        data, Segment.from_rows([(f"n{number}", 3, next(history.stamps), 0, 1, b"1" * 32, 0) for number in range(60)])
    )
    # The older ones are few beside it, so all became the base.
    assert len(read(data).manifest.segments) == 1
    assert any("pack/" in name for name in data)


def test_looking_for_a_key_reads_the_blocks_that_may_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SIZES, "pack", 1 << 20)
    data: dict[str, bytes] = {}
    rows = [(f"k{number:06}", 3, 1000 + number, 0, 1, b"1" * 32, 0) for number in range(20_000)]
    logged(data, Segment.from_rows(rows))
    session.clear()
    storage = CountingStorage(MappingStorage(data))
    log = Log.read(storage, ENVIRONMENT)
    manifest_bytes = storage.object_bytes["load"]
    newest = log.newest(["k000000", "k010000", "absent", "k019999"])
    assert [change and change.stamp for change in newest] == [1000, 11_000, None, 20_999]
    # Twenty thousand blocks in six hundred pages: two levels, of which a few parts are read.
    assert log.all_layers().base.directory.depth == 2  # type: ignore[union-attr]
    assert storage.object_bytes["load_ranges"] < 60_000
    assert storage.object_bytes["load"] - manifest_bytes < 100_000 < sum(map(len, data.values()))
    assert len(log.all_segments()[0]) == 20_000


def objects(data: dict[str, bytes]) -> set[str]:
    return {name.removeprefix(INDEX) for name in data if name.startswith((f"{INDEX}pack/", f"{INDEX}segment/"))}


def needed(data: dict[str, bytes]) -> set[str]:
    log = read(data)
    return log.object_names() | set(log.manifest.garbage)


@pytest.mark.parametrize("seed", range(5))
def test_what_no_directory_names_any_more_is_garbage_and_goes(seed: int) -> None:
    history, data = History.of(seed), dict[str, bytes]()
    for _ in range(40):
        logged(data, history.changes(history.chance.choice([1, 1, 150])))
        assert objects(data) == needed(data)
        assert len(read(data).manifest.garbage) < 100
    kvsync.compact(data)
    assert objects(data) == needed(data) == read(data).object_names()
    assert len(read(data).manifest.segments) == 1
    assert kvsync.verify(data).intact


@pytest.mark.parametrize("mode", ["killed", "killed-after", "error"])
def test_a_crash_at_any_operation_of_a_merge_is_harmless(mode: str) -> None:
    """Between a pack, the directory that names it, and the manifest that lists that."""
    history, before = History.of(8), dict[str, bytes]()
    logged(before, history.changes(50))
    newer = next(changes for changes in iter(lambda: history.changes(150), None) if len(changes) > 100)
    after = dict(before)
    logged(after, newer)
    states = [read(data).newest(KEYS) for data in (before, after)]
    stored = 0
    for at in count(1):
        data = dict(before)
        session.clear()
        log = Log.read(MappingStorage(data), ENVIRONMENT)
        log.storage = FaultyStorage(log.storage, Fault(at, mode))  # type: ignore[arg-type]
        manifest = data[f"{INDEX}manifest"]
        log = Log(log.storage, log.environment, StoredManifest(log.manifest, manifest, manifest))
        with suppress(Killed, kvsync.KvsyncError):
            log.write(newer, knowing(log, newer))
            break
        assert read(data).newest(KEYS) in states
        stored += len(objects(data) - needed(data))
        kvsync.compact(data)
        assert objects(data) == read(data).object_names()
        assert kvsync.verify(data).intact
        assert read(data).newest(KEYS) in states
    assert stored > 3


def base_of(data: dict[str, bytes]) -> Base:
    base = read(data).all_layers().base
    assert base is not None
    return base


def damage_pack(data: dict[str, bytes]) -> str:
    """Flip a byte in the middle of a block; return the name of the pack."""
    pack = base_of(data).directory.packs[0]
    whole = data[INDEX + pack]
    data[INDEX + pack] = whole[:50] + bytes([whole[50] ^ 1]) + whole[51:]
    return pack


def remove_pack(data: dict[str, bytes]) -> str:
    pack = base_of(data).directory.packs[0]
    del data[INDEX + pack]
    return pack


def cut_pack(data: dict[str, bytes]) -> str:
    pack = base_of(data).directory.packs[0]
    data[INDEX + pack] = data[INDEX + pack][:-1]
    return pack


def wrong_sums(data: dict[str, bytes]) -> str:
    """Describe a block of any pack as equal to one that it is not: readers do not see that."""
    log = read(data)
    (entry,) = log.manifest.segments
    name, whole = entry.name, data[INDEX + entry.name]
    directory = Directory.decode(whole, name)
    sums = directory.sums[0]
    assert directory.depth == 1
    # The table has a column of sums; its checksum and that of the envelope are made right.
    at = next(at for at in range(len(whole)) if _is_damaged_by(whole, at, name, sums))
    forged = _resealed(whole, at)
    data[INDEX + name] = forged
    forged_entry = entry._replace(checksum=checksum(forged))
    log.manifest = log.manifest._replace(segments=(forged_entry,))
    log.write(Segment.from_rows([]), log.manifest.knowledge)
    return ""


def _resealed(whole: bytes, at: int) -> bytes:
    import xxhash

    start = whole.index(b"\xa5table") + 6
    head = {0xC4: 2, 0xC5: 3, 0xC6: 5}[whole[start]]
    table = bytearray(whole[start + head :])
    table[at - start - head] ^= 1
    table[:8] = xxhash.xxh3_64_intdigest(bytes(table[8:])).to_bytes(8, "little")
    body = whole[24 : start + head] + bytes(table)
    return whole[:16] + xxhash.xxh3_64_intdigest(whole[:16] + body).to_bytes(8, "little") + body


def _is_damaged_by(whole: bytes, at: int, name: str, sums: bytes) -> bool:
    start = whole.index(b"\xa5table") + 40
    if at < start:
        return False
    with suppress(IndexDamagedError, OverflowError):
        return Directory.decode(_resealed(whole, at), name).sums[0] != sums
    return False


@pytest.mark.parametrize("harm", [damage_pack, remove_pack, cut_pack, wrong_sums])
def test_verify_finds_damage_in_packs_and_a_repair_keeps_intact_blocks(
    harm: Callable[[dict[str, bytes]], str],
) -> None:
    values = {key: key.encode() for key in KEYS}
    one, other = dict(values), dict[str, bytes]()
    kvsync.sync(one, other, scan=True)
    name = harm(one)
    (found,) = [finding.name for finding in kvsync.verify(one).findings if not finding.harmless]
    assert found == name or (not name and found.startswith("pack/"))
    stamps = {change.key: change.stamp for change in kvsync.log(other)}
    repaired = kvsync.verify(one, repair=True)
    assert repaired.intact
    assert [finding.name for finding in repaired.mended] == [found]
    kept = {change.key for change in kvsync.log(one) if change.stamp == stamps[change.key]}
    assert len(kept) >= len(KEYS) - 30
    assert (harm is wrong_sums) == (len(kept) == len(KEYS))
    result = kvsync.sync(one, other, scan=True)
    assert (result.pushed, result.pulled, result.conflicts) == (0, 0, [])
    assert {key: value for key, value in one.items() if not key.startswith(INDEX)} == values
    assert kvsync.verify(one, other).intact


def test_a_run_that_meets_a_damaged_block_names_the_pack_and_writes_nothing() -> None:
    one, other = {key: key.encode() for key in KEYS}, dict[str, bytes]()
    kvsync.sync(one, {}, scan=True)
    pack = damage_pack(one)
    with pytest.raises(IndexDamagedError, match="verify --repair") as caught:
        kvsync.sync(one, other)
    assert caught.value.name == pack
    assert not any(not name.startswith(INDEX) for name in other)


@pytest.mark.parametrize("pack", ["../../secret", "lease", "manifest", "pack/1", "pack/" + "0" * 33])
def test_a_directory_names_packs_alone(pack: str) -> None:
    name = "segment/0000000000000001-0"
    directory, _ = Directory.build(Segment.from_rows([("a", 3, 1, 0, 1, b"1" * 32, 0)]), pack)
    with pytest.raises(IndexDamagedError, match="names a pack that is none"):
        Base.decode(MappingStorage({}), name, directory.encode(name))


def test_two_logs_that_know_the_same_read_no_block() -> None:
    one: dict[str, bytes] = {}
    history = History.of(3)
    logged(one, history.changes(150))
    other = dict(one)
    logs: Sequence[Log] = [Log.read(CountingStorage(MappingStorage(data)), ENVIRONMENT) for data in (one, other)]
    session.clear()
    found = compare(logs[0].all_layers(), logs[1].all_layers(), Cover(), Cover())
    assert parts(found) == [[], [], [], [], []]
    assert [log.storage.object_operations["load_ranges"] for log in logs] == [0, 0]  # type: ignore[attr-defined]


def test_a_run_that_may_forget_a_branch_keeps_its_lease_until_it_has() -> None:
    """What is given beats the last change that names a branch: then the source has one more manifest to write."""
    one = MemoryStore()
    kvsync.commit(BucketStorage(one), [Put("a", b"1")])
    other = copied(one)
    kvsync.commit(BucketStorage(other), [Put("a", b"2")])
    kvsync.commit(BucketStorage(one), [Put("b", b"1")])
    kvsync.sync(BucketStorage(one), BucketStorage(other), tombstone_grace=0.0)
    kvsync.commit(BucketStorage(other), [Delete("b")])
    kvsync.sync(BucketStorage(other), BucketStorage(one), [Put("a", b"3")], tombstone_grace=0.0)
    kvsync.sync(BucketStorage(one), BucketStorage(other), [Put("a", b"4")], tombstone_grace=0.0)
    values = [obstore.get(store, "a").bytes().to_bytes() for store in (one, other)]
    assert values == [b"4", b"4"]


def copied(store: MemoryStore) -> MemoryStore:
    """Return a copy of a bucket but for its lease, which would seem to be held."""
    copy = MemoryStore()
    for entry in obstore.list(store).collect():
        if entry["path"] != ".kvsync/lease":
            obstore.put(copy, entry["path"], obstore.get(store, entry["path"]).bytes().to_bytes())
    return copy
