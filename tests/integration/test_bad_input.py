"""Damage, nonsense and refusals: each is a clear error that names the storage, and nothing is half-written."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
import xxhash
from places import KINDS, Clock, DictPlace, Place, make, plain

import kvsync
from kvsync import Delete, Put
from kvsync.index.manifest import Manifest
from kvsync.types import ANY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SEGMENT_COUNT = 400
"""Changes that make a segment too large to live in the manifest."""


def ordered(side: int, target: Any, other: Any) -> tuple[Any, Any]:
    """Return the two with `target` at place `side`."""
    return (other, target) if side else (target, other)


def resealed(data: bytes, **head: int) -> bytes:
    """Change fields of an object's envelope and mend its checksum."""
    raw = bytearray(data)
    offsets = {"kind": 4, "version": 5, "flags": 6}
    for name, value in head.items():
        raw[offsets[name]] = value
    raw[16:24] = xxhash.xxh3_64(raw[:16] + raw[24:]).intdigest().to_bytes(8, "little")
    return bytes(raw)


class Damaged:
    """Two replicas with logs of several segments; `one` is about to be damaged."""

    def __init__(self, folder: Path, kind: str = "dict", other: str = "dict") -> None:
        self.clock = Clock()
        self.one, self.two = make(kind, folder, "one"), make(other, folder, "two")
        for i in range(3):
            changes = [Put(f"k{j}", b"%d %d" % (i, j)) for j in range(i * SEGMENT_COUNT, (i + 1) * SEGMENT_COUNT)]
            kvsync.commit(self.one.target, changes, clock=self.clock)
        kvsync.sync(self.one.target, self.two.target, [Put("a", b"1"), Put("b", b"1")], clock=self.clock)
        kvsync.commit(self.one.target, [Put("a", b"2")], clock=self.clock)
        kvsync.commit(self.two.target, [Delete("b")], clock=self.clock)

    def sync(self, *, turned: bool = False, **options: Any) -> kvsync.SyncResult:
        targets = [self.one.target, self.two.target]
        if turned:
            targets.reverse()
        return kvsync.sync(*targets, clock=self.clock, wait_seconds=0, **options)

    def values(self) -> list[dict[str, bytes]]:
        return [self.one.values(), self.two.values()]

    def segments(self) -> list[str]:
        manifest = Manifest.decode(self.one.objects()["manifest"], "one")
        return sorted(entry.name for entry in manifest.segments if entry.inline is None)

    def refused(self, error: type[Exception] = kvsync.IndexDamagedError, **options: Any) -> Exception:
        """Return the error that a run gives in both directions, having checked that no value changed."""
        before = self.values()
        for turned in (False, True):
            with pytest.raises(error) as raised:
                self.sync(turned=turned, **options)
            assert self.values() == before
        with self.one.storage() as storage:
            assert raised.value.storage == storage.name  # type: ignore[attr-defined]
        return raised.value


@pytest.fixture
def damaged(folder: Path) -> Damaged:
    return Damaged(folder)


# Damage


def test_the_manifest_with_any_byte_flipped(damaged: Damaged) -> None:
    good = damaged.one.objects()["manifest"]
    chance = random.Random(1)
    for offset in {*range(40), *chance.sample(range(len(good)), 150), len(good) - 1}:
        damaged.one.replace(
            "manifest", good[:offset] + bytes([good[offset] ^ 1 << chance.randrange(8)]) + good[offset + 1 :]
        )
        damaged.refused()
    damaged.one.replace("manifest", good)
    damaged.sync()
    assert damaged.one.values() == damaged.two.values()


def test_the_manifest_cut_off_anywhere(damaged: Damaged) -> None:
    good = damaged.one.objects()["manifest"]
    for length in {*range(30), *random.Random(2).sample(range(len(good)), 60), len(good) - 1}:
        damaged.one.replace("manifest", good[:length])
        damaged.refused()
    damaged.one.replace("manifest", good + b"\0")
    damaged.refused()


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_manifest_of_each_storage(folder: Path, kind: str) -> None:
    damaged = Damaged(folder, kind)
    good = damaged.one.objects()["manifest"]
    damaged.one.replace("manifest", good[: len(good) // 2])
    error = damaged.refused()
    assert isinstance(error, kvsync.IndexDamagedError)
    assert error.name == "manifest"
    for call in (kvsync.status, kvsync.log, kvsync.compact, lambda target: kvsync.commit(target, [Put("x", b"")])):
        with pytest.raises(kvsync.IndexDamagedError):
            call(damaged.one.target)
    assert "x" not in damaged.one.values()


@pytest.mark.parametrize("name", ["manifest", "segment"])
def test_a_damaged_object_says_what_to_do(damaged: Damaged, name: str) -> None:
    """The message was "damaged at byte 7: shorter than its envelope": damaged what, and what now?"""
    name = "manifest" if name == "manifest" else damaged.segments()[-1]
    damaged.one.replace(name, damaged.one.objects()[name][:7])
    with pytest.raises(kvsync.IndexDamagedError) as raised:
        kvsync.log(damaged.one.target)
    assert name in str(raised.value)
    assert "kvsync verify --repair" in str(raised.value)


@pytest.mark.parametrize("what", ["missing", "empty", "flipped", "cut off", "another's", "older", "longer"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_segment(folder: Path, kind: str, what: str) -> None:
    """A run that needs the segment fails, names it, and writes nothing; one that does not need it goes on."""
    damaged = Damaged(folder, kind)
    name, other = damaged.segments()[-2:]
    good = damaged.one.objects()[name]
    bad = {
        "empty": b"",
        "flipped": good[:300] + bytes([good[300] ^ 4]) + good[301:],
        "cut off": good[:-1],
        "another's": damaged.one.objects()[other],
        "longer": good + b"\0",
    }
    if what == "missing":
        with damaged.one.storage() as storage:
            storage.remove([name], kvsync.types.ANY)
    elif what == "older":
        damaged.one.replace(name, Damaged(folder / "..", "dict").one.objects()[name])
    else:
        damaged.one.replace(name, bad[what])
    fresh: dict[str, bytes] = {}
    before = damaged.one.values()
    with pytest.raises(kvsync.IndexDamagedError) as raised:
        kvsync.sync(damaged.one.target, fresh, clock=damaged.clock)
    assert raised.value.name == name
    assert name in str(raised.value)
    assert plain(fresh) == {}
    assert damaged.one.values() == before
    damaged.sync()
    assert damaged.one.values() == damaged.two.values()


@pytest.mark.parametrize("kind", KINDS)
def test_the_way_out_of_damage_works(folder: Path, kind: str) -> None:
    """What the error advises: remove the index of the damaged storage, and scan."""
    damaged = Damaged(folder, kind)
    with damaged.one.storage() as storage:
        storage.remove([damaged.segments()[-1]], kvsync.types.ANY)
    damaged.one.drop_index()
    damaged.sync(scan=True)
    assert damaged.one.values() == damaged.two.values()
    # How old the value of an unlogged key is, only a folder knows: elsewhere it gives way, and is kept.
    assert b"2" in {damaged.one.values()["a"], *damaged.one.lost().get("a", [])}
    assert len(damaged.one.values()) >= 3 * SEGMENT_COUNT + 1


@pytest.mark.parametrize("cut", [0, 7, 100])
def test_a_damaged_inventory_is_rebuilt(damaged: Damaged, cut: int) -> None:
    """What the last scan saw can be found again: the log says what was there, the storage what is there now."""
    damaged.sync(scan=True)
    good = damaged.one.objects()["inventory"]
    damaged.one.replace("inventory", good[:cut])
    damaged.one.put("a", b"changed")
    damaged.sync(scan=True)
    assert damaged.two.values()["a"] == b"changed"


def test_an_inventory_that_is_gone_is_rebuilt(damaged: Damaged) -> None:
    damaged.sync(scan=True)
    with damaged.one.storage() as storage:
        storage.remove(["inventory"], kvsync.types.ANY)
    damaged.one.put("a", b"changed")
    damaged.one.delete("k7")
    damaged.sync(scan=True)
    assert damaged.one.values() == damaged.two.values()
    assert damaged.two.values()["a"] == b"changed"
    assert "k7" not in damaged.two.values()


def test_an_older_manifest_alone(damaged: Damaged) -> None:
    """Only the manifest was restored, to an older state, and a segment of the time since is in the way of the next:
    the first run may say so, and then all is well. Nothing is lost or revived."""
    old = damaged.one.objects()["manifest"]
    damaged.sync()
    kvsync.sync(damaged.two.target, damaged.one.target, [Delete("k1"), Put("k2", b"new")], clock=damaged.clock)
    damaged.one.replace("manifest", old)
    with contextlib.suppress(kvsync.StorageError):
        damaged.sync()
    for _ in range(2):
        damaged.sync()
    assert damaged.one.values() == damaged.two.values()
    assert damaged.one.values()["k2"] == b"new"
    assert "k1" not in damaged.one.values()


def test_anothers_manifest(damaged: Damaged) -> None:
    """One side's manifest was copied over the other's: both have one id, and one of them lists segments that are not
    there."""
    damaged.one.replace("manifest", damaged.two.objects()["manifest"])
    before = damaged.values()
    try:
        damaged.sync()
    except kvsync.IndexDamagedError:
        assert damaged.values() == before
    else:
        assert damaged.one.values() == damaged.two.values()


@pytest.mark.parametrize(
    "fields",
    [
        {"replica": 0},
        {"replica": "x"},
        {"generation": 0},
        {"nonce": b"short"},
        {"vector": [[1, 1], [1, 2]]},
        {"vector": [[2, 1], [1, 2]]},
        {"clock": -1},
        {"segments": [[1]]},
        {"peers": [[1, 5]]},
        {"garbage": [7]},
        {"ahead": [[1, 5]]},
        {"missing": [["k"]]},
        {"digest": b""},
        {"name": "lease"},
    ],
)
def test_a_manifest_with_a_nonsense_field(damaged: Damaged, fields: dict[str, Any]) -> None:
    good = damaged.one.objects()["manifest"]
    body = msgpack.packb(msgpack.unpackb(good[24:]) | fields)
    damaged.one.replace("manifest", resealed(good[:8] + len(body).to_bytes(8, "little") + good[16:24] + body))
    assert "manifest" in str(damaged.refused())


def test_a_manifest_with_a_nonsense_range(damaged: Damaged) -> None:
    """The error was one of usage, without a word on the storage or the object."""
    good = damaged.one.objects()["manifest"]
    body = msgpack.packb(msgpack.unpackb(good[24:]) | {"ahead": [[1, 5, 2]]})
    damaged.one.replace("manifest", resealed(good[:8] + len(body).to_bytes(8, "little") + good[16:24] + body))
    assert "manifest" in str(damaged.refused())


@pytest.mark.parametrize(
    "row",
    [
        [".kvsync/x", 1, 2, 0, 1, bytes(32), "r", b"", False],
        ["k", 1, 2, 255, 1, bytes(32), "r", b"", False],
        ["k", 1, 2, 1, 5, b"\1" * 32, "r", b"", False],
        ["k", 1, 2, 0, 1, bytes(32), "r", b"short", False],
        ["k", 1, 2, 0, 1, bytes(32), "r", b"", 1],
    ],
)
def test_a_manifest_with_a_nonsense_missing_change(damaged: Damaged, row: list[Any]) -> None:
    """It came up much later, as a wrong call by the user, without a word on the storage."""
    good = damaged.one.objects()["manifest"]
    body = msgpack.packb(msgpack.unpackb(good[24:]) | {"missing": [row]})
    damaged.one.replace("manifest", resealed(good[:8] + len(body).to_bytes(8, "little") + good[16:24] + body))
    damaged.refused()


# Newer formats


@pytest.mark.parametrize("kind", KINDS)
def test_a_newer_manifest_is_left_alone(folder: Path, kind: str) -> None:
    damaged = Damaged(folder, kind)
    newer = resealed(damaged.one.objects()["manifest"], version=2)
    damaged.one.replace("manifest", newer)
    error = damaged.refused(kvsync.FormatError)
    assert "newer" in str(error)
    assert damaged.one.objects()["manifest"] == newer


def test_a_newer_segment_or_lease_is_left_alone(damaged: Damaged) -> None:
    name = damaged.segments()[0]
    good = damaged.one.objects()[name]
    damaged.one.replace(name, resealed(good, version=9))
    with pytest.raises(kvsync.IndexDamagedError):
        kvsync.log(damaged.one.target)
    damaged.one.replace(name, good)
    held: list[bytes] = []
    kvsync.sync(
        damaged.one.target, {}, clock=damaged.clock, on_progress=lambda _p: held.append(damaged.one.objects()["lease"])
    )
    damaged.one.replace("lease", resealed(held[0], version=2))
    damaged.refused(kvsync.FormatError)


@pytest.mark.parametrize("head", [{"kind": 4}, {"flags": 2}, {"flags": 1}, {"version": 0}])
def test_a_wrong_envelope_is_damage(damaged: Damaged, head: dict[str, int]) -> None:
    damaged.one.replace("manifest", resealed(damaged.one.objects()["manifest"], **head))
    damaged.refused()


# Storages that cannot be had


@pytest.mark.parametrize(
    "target",
    [
        "nosuch://x/y",
        "redis2://h",
        "",
        "sqlite://host/x.db",
        "sqlite:///",
        "sqlite:///x.db?tabel=x",
        "file://host/x",
        "sqlite:///x.db?table=a%22b%00",
        "a\0b",
        7,
        None,
        object(),
        b"bytes",
        ["a"],
    ],
)
@pytest.mark.parametrize("side", [0, 1])
def test_a_target_that_is_none(target: Any, side: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    other: dict[str, bytes] = {}
    with pytest.raises(kvsync.UsageError):
        one, two = ordered(side, target, other)
        kvsync.sync(one, two, [Put("k", b"1")])
    assert other == {}
    assert not list(folder.iterdir())


def test_an_unknown_scheme_names_the_known_ones_and_no_secret() -> None:
    with pytest.raises(kvsync.UsageError, match="sqlite") as raised:
        kvsync.sync("nosuch://me:hunter2@host/x?token=hunter3", {})
    assert "hunter" not in str(raised.value)


@pytest.mark.parametrize("side", [0, 1])
def test_a_file_where_the_folder_should_be(folder: Path, side: int) -> None:
    (folder / "file").write_bytes(b"mine")
    other = {"k": b"1"}
    with pytest.raises(kvsync.StorageError, match="name a folder") as raised:
        one, two = ordered(side, str(folder / "file"), other)
        kvsync.sync(one, two, scan=True)
    assert raised.value.storage == str(folder / "file")
    assert (folder / "file").read_bytes() == b"mine"
    assert other == {"k": b"1"} or other.keys() == {"k", ".kvsync/lease"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
@pytest.mark.parametrize("kind", ["folder", "sqlite"])
def test_a_storage_that_may_not_be_written(folder: Path, kind: str) -> None:
    place = make(kind, folder, "sub")
    place.put("k", b"1")
    path = folder / ("sub" if kind == "folder" else "sub.db")
    path.chmod(0o555 if kind == "folder" else 0o444)
    (folder).chmod(0o555)
    try:
        with pytest.raises(kvsync.StorageError, match="permissions"):
            kvsync.sync({"x": b"1"}, place.target, scan=True)
        assert place.values() == {"k": b"1"}
    finally:
        folder.chmod(0o755)
        path.chmod(0o755)


@pytest.mark.parametrize("side", [0, 1])
def test_a_locked_database(folder: Path, side: int) -> None:
    """Another program holds the database: the error says so, the other side is free again, and later it works."""
    place = make("sqlite", folder, "x")
    place.put("k", b"1")
    target = f"{place.target}?busy_timeout=0.05"
    other: dict[str, bytes] = {"o": b"1"}
    one, two = ordered(side, target, other)
    with closing(sqlite3.connect(folder / "x.db")) as program:
        program.execute("BEGIN EXCLUSIVE")
        with pytest.raises(kvsync.StorageError, match="busy_timeout") as raised:
            kvsync.sync(one, two, scan=True)
        assert raised.value.storage == target
        program.rollback()
    assert plain(other) == {"o": b"1"}
    kvsync.sync(one, two, scan=True, wait_seconds=0)
    assert plain(other) == place.values() == {"k": b"1", "o": b"1"}


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4000])
def test_a_file_that_is_no_database(folder: Path, content: bytes) -> None:
    (folder / "x.db").write_bytes(content)
    with pytest.raises(kvsync.StorageError) as raised:
        kvsync.sync({"k": b"1"}, f"sqlite:///{folder}/x.db", scan=True)
    assert raised.value.storage is not None
    assert (folder / "x.db").read_bytes() == content


# Options


@pytest.mark.parametrize(
    "options",
    [
        {"conflict": "newest"},
        {"conflict": None},
        {"conflict": 3},
        {"guard": "maybe"},
        {"guard": None},
        {"lease_seconds": 0},
        {"lease_seconds": -1},
        {"lease_seconds": 0.0001},
        {"max_drift_seconds": -1},
        {"lease_seconds": float("nan")},
        {"wait_seconds": -1},
        {"wait_seconds": float("nan")},
        {"max_delete": "half"},
        {"max_delete": "101%"},
        {"max_delete": -1},
        {"max_delete": "-5%"},
        {"max_delete": "%"},
        {"max_delete": 0.5},
        {"max_delete": ""},
        {"max_delete": []},
        {"max_delete": True},
    ],
)
def test_a_wrong_option(options: dict[str, Any]) -> None:
    a: dict[str, bytes] = {}
    b: dict[str, bytes] = {}
    with pytest.raises(kvsync.UsageError):
        kvsync.sync(a, b, [Put("k", b"1")], **options)
    assert a == b == {}


@pytest.mark.parametrize(
    "options",
    [
        {"conflict": []},
        {"guard": []},
        {"lease_seconds": "60"},
        {"wait_seconds": None},
        {"max_drift_seconds": "x"},
        {"changes": ["a"]},
        {"changes": Put("k", b"1")},
        {"changes": "abc"},
        {"changes": {"k": b"1"}},
        {"changes": [None]},
    ],
    ids=str,
)
def test_a_wrong_option_of_a_wrong_type(options: dict[str, Any]) -> None:
    """A wrong call is a UsageError, whatever is wrong with it, and leaves nothing behind."""
    a: dict[str, bytes] = {}
    b: dict[str, bytes] = {}
    with pytest.raises(kvsync.UsageError):
        kvsync.sync(a, b, **{"changes": [Put("k", b"1")], **options})
    assert a == b == {}


def raising(_conflict: object, _source: bytes | None, _target: bytes | None) -> bytes:
    raise ZeroDivisionError


@pytest.mark.parametrize("answer", [None, "neither", 7, bytearray(b"x"), ["source"], "SOURCE", ("source",), ""])
@pytest.mark.parametrize("scan", [False, True])
def test_a_policy_that_answers_nonsense(answer: Any, scan: bool) -> None:
    check_policy(lambda conflict, _s, _t: "source" if conflict.key == "a" else answer, kvsync.UsageError, scan=scan)


@pytest.mark.parametrize("scan", [False, True])
def test_a_policy_that_raises(scan: bool) -> None:
    check_policy(raising, ZeroDivisionError, scan=scan)


def check_policy(policy: Callable[..., Any], error: type[Exception], *, scan: bool) -> None:
    """Nothing is applied, not even what was decided before; leases are given back; and another policy goes on."""
    a, b = {"a": b"1", "k": b"1", "fine": b"1"}, {"a": b"2", "k": b"2"}
    if not scan:
        kvsync.commit(a, [Put(key) for key in a])
        kvsync.commit(b, [Put(key) for key in b])
    before = plain(a), plain(b)
    with pytest.raises(error) as raised:
        kvsync.sync(a, b, conflict=policy, scan=scan)
    if isinstance(raised.value, kvsync.UsageError):
        assert raised.value.key == "k"
    assert (plain(a), plain(b)) == before
    kvsync.sync(a, b, conflict="source", scan=scan, wait_seconds=0)
    assert plain(a) == plain(b) == before[0]


def test_an_unlisted_object_changes_nothing(damaged: Damaged) -> None:
    """A stranger's file in the index folder, and a leftover segment: neither is read, both may stay."""
    damaged.one.replace("segment/00000000000000ff-0", b"garbage")
    damaged.one.replace("whatever", b"garbage")
    damaged.sync()
    assert damaged.one.values() == damaged.two.values()
    place: Place = DictPlace()
    assert place.values() == {}


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_manifest_that_is_gone_is_damage_and_no_new_storage(folder: Path, kind: str, scan: bool) -> None:
    """Each run failed over one more segment of the old log, told the user to run again, and started a log beside it."""
    clock = Clock()
    place, peer = make(kind, folder, "place"), DictPlace()
    for turn in range(6):
        changes = [Put(f"{turn}/{i:05d}", b"x" * 40) for i in range(300)]
        kvsync.sync(place.target, peer.target, changes, environment=clock.environment)
    with place.storage() as storage:
        assert [name for name in storage.objects() if name.startswith("segment/")]
        storage.remove(["manifest"], ANY)
    before = place.values()
    with pytest.raises(kvsync.IndexDamagedError, match="manifest is missing") as raised:
        kvsync.sync(place.target, peer.target, [Put("k", b"v")], scan=scan, environment=clock.environment)
    assert raised.value.name == "manifest"
    assert place.values() == before == peer.values()
    place.drop_index()
    kvsync.sync(place.target, peer.target, scan=True, environment=clock.environment)
    assert place.values() == before == peer.values()
