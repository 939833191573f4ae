"""Keys and values that break storages: there and back again, unchanged to the byte."""

from __future__ import annotations

import os
import struct
import unicodedata
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
from places import Clock, DictPlace, plain

import kvsync
from kvsync import Delete, Put
from kvsync.native import Segment, digest_values, seal
from kvsync.storages import open_storage

if TYPE_CHECKING:
    from pathlib import Path

KIND_SEGMENT = 1

HARD_KEYS = [
    "",
    " ",
    "  two leading",
    "trailing ",
    "trailing.",
    ".",
    "..",
    "...",
    "../outside",
    "a/../b",
    "a/./b",
    "/",
    "//",
    "/absolute",
    "ends/",
    "double//slash",
    "C:\\Windows",
    "c:relative",
    "back\\slash",
    "new\nline",
    "tab\tbell\aescape\x1b",
    "nul\x00byte",
    "del\x7f",
    "CON",
    "nul.txt",
    "com1/aux",
    "LPT9 ",
    "~",
    "-rf",
    "*?<>|:\"'",
    "%2E",
    "100%",
    "a%value",
    "%",
    unicodedata.normalize("NFC", "é"),
    unicodedata.normalize("NFD", "é"),
    "Case",
    "case",
    "CASE",
    "ß",
    "SS",
    "\u0131",
    "İ",
    "\u200d",
    "\u202eevil",
    "\ufeff",
    "\U0001f469\u200d\U0001f52c",
    "\U0010ffff",
    "\ud7ff\ue000",
    "a",
    "a/b",
    "a/b/c",
    "a/b/c/",
    "a.b",
    ".hidden",
    ".git/config",
    "kvsync/x",
    "a.kvsync/x",
    "x" * 255,
    "x" * 256,
    "x" * 1024,
    "ü" * 512,
    "deep/" * 150 + "end",
    "key~0123456789abcdef-01234567",
]


def hard_values() -> dict[str, bytes]:
    """Return every hard key with a value of its own, some of them hard, too."""
    odd = [b"", b"\0", b"\n", b"\r\n", b"\xff\xfe", os.urandom(300), b"null", b"\x1a", b"x" * 70_000]
    return {key: odd[i % len(odd)] + (b"%d" % i if i >= len(odd) else b"") for i, key in enumerate(HARD_KEYS)}


@pytest.mark.parametrize("way", ["given", "scan"])
@pytest.mark.parametrize("middle", ["folder", "sqlite"])
def test_hard_keys_there_and_back(folder: Path, middle: str, way: str) -> None:
    """Dict to folder to SQLite to dict, or the other way round: what arrives is what was sent."""
    values = hard_values()
    assert len(values) == len(HARD_KEYS)
    first: dict[str, bytes] = {}
    last: dict[str, bytes] = {}
    targets = [str(folder / "files"), f"sqlite:///{folder}/x.db"]
    if middle == "sqlite":
        targets.reverse()
    scan = way == "scan"
    if scan:
        first.update(values)
        result = kvsync.sync(first, targets[0], scan=True)
    else:
        result = kvsync.sync(first, targets[0], [Put(key, value) for key, value in values.items()])
    assert not result.missing
    assert result.pushed == len(values)
    kvsync.sync(targets[0], targets[1], scan=scan)
    kvsync.sync(targets[1], last, scan=scan)
    assert plain(last) == plain(first) == values
    assert not any(path.name == "outside" for path in folder.iterdir())
    for one, other in ((first, targets[0]), (targets[0], targets[1]), (targets[1], last)):
        result = kvsync.sync(one, other, scan=True)
        assert (result.pushed, result.pulled) == (0, 0)
        assert kvsync.verify(one, other).equal


@pytest.mark.parametrize("target", ["folder", "sqlite"])
def test_hard_keys_are_deleted_and_changed(folder: Path, target: str) -> None:
    """Every other key is deleted, the rest changed; what is left next to them is untouched."""
    a: dict[str, bytes] = {}
    b: dict[str, bytes] = {}
    place = str(folder / "files") if target == "folder" else f"sqlite:///{folder}/x.db"
    kvsync.sync(a, place, [Put(key, value) for key, value in hard_values().items()])
    kvsync.sync(place, b)
    changes = [Delete(key) if i % 2 else Put(key, b"changed") for i, key in enumerate(HARD_KEYS)]
    result = kvsync.sync(b, place, changes)
    assert not result.missing
    kvsync.sync(place, a, scan=True, max_delete="100%")
    assert plain(a) == plain(b) == dict.fromkeys(HARD_KEYS[::2], b"changed")


def test_a_key_that_is_a_prefix_of_another_comes_later(folder: Path) -> None:
    """`a` is a file, then `a/b` wants a directory of that name; and the other way round; and one of them goes."""
    a: dict[str, bytes] = {}
    files = str(folder / "files")
    kvsync.sync(a, files, [Put("a", b"1"), Put("x/y", b"2")])
    kvsync.sync(a, files, [Put("a/b", b"3"), Put("x", b"4"), Put("x/y/z", b"5")])
    fresh: dict[str, bytes] = {}
    kvsync.sync(files, fresh, scan=True)
    assert plain(fresh) == {"a": b"1", "a/b": b"3", "x": b"4", "x/y": b"2", "x/y/z": b"5"}
    kvsync.sync(a, files, [Delete("a/b"), Delete("x")])
    kvsync.sync(files, fresh, scan=True, max_delete="100%")
    assert plain(fresh) == plain(a) == {"a": b"1", "x/y": b"2", "x/y/z": b"5"}


@pytest.mark.parametrize("target", ["folder", "sqlite", "dict"])
def test_a_value_of_64_mib(folder: Path, target: str) -> None:
    places: dict[str, Any] = {"folder": str(folder / "files"), "sqlite": f"sqlite:///{folder}/x.db", "dict": {}}
    value = os.urandom(1 << 20) * 64
    a: dict[str, bytes] = {}
    b: dict[str, bytes] = {}
    kvsync.sync(a, places[target], [Put("big", value), Put("small", b"1"), Put("empty", b"")])
    result = kvsync.sync(places[target], b)
    assert result.pushed == 3
    assert plain(b) == {"big": value, "small": b"1", "empty": b""}


def test_an_empty_value_is_not_a_missing_one(folder: Path) -> None:
    files = str(folder / "files")
    a: dict[str, bytes] = {"empty": b""}
    kvsync.sync(a, files, scan=True)
    b: dict[str, bytes] = {}
    kvsync.sync(files, b, scan=True)
    assert plain(b) == {"empty": b""}
    kvsync.sync(b, files, [Put("empty", b"1")])
    kvsync.sync(b, files, [Put("empty", b"")])
    kvsync.sync(files, a)
    assert plain(a) == {"empty": b""}


RESERVED_KEYS = [".kvsync/x", ".kvsync", ".KVSYNC/x", ".Kvsync/manifest", ".kvsync/lease", "a/.kvsync/x", ".kvsync./x"]


@pytest.mark.parametrize("key", RESERVED_KEYS)
def test_reserved_keys_are_refused(key: str) -> None:
    a: dict[str, bytes] = {}
    b: dict[str, bytes] = {}
    with pytest.raises(kvsync.UsageError):
        kvsync.sync(a, b, [Put(key)])
    for change in (Put(key, b"1"), Delete(key)):
        with pytest.raises(kvsync.UsageError, match="reserved") as refused:
            kvsync.sync(a, b, [Put("fine", b"1"), change])
        assert plain(a) == plain(b) == {}
        assert key in str(refused.value)
    with kvsync.open(a) as store, pytest.raises(kvsync.UsageError, match="reserved"):
        store[key] = b"1"


def crafted(key: str, stamp: int, value: bytes, name: str) -> bytes:
    """Write a segment by hand, with a key that no writer would log."""
    raw = key.encode()
    body = {
        "name": name,
        "count": 1,
        "origins": [77],
        "max": [stamp],
        "stamp_base": stamp,
        "stamp": b"\0",
        "origin": b"\0",
        "flags": b"\0",
        "size": bytes([len(value)]),
        "expires": b"",
        "digest": digest_values([value])[0],
        "key_size": bytes([len(raw)]),
        "key": raw,
        "note": b"",
    }
    return seal(KIND_SEGMENT, msgpack.packb(body))


def test_a_segment_written_by_hand_is_read() -> None:
    segment = Segment.decode(
        crafted("fine", 9 << 16, b"evil", "segment/0000000000000001-0"), "segment/0000000000000001-0"
    )
    assert segment.rows(0, 1) == [("fine", 77, 9 << 16, 0, 4, digest_values([b"evil"])[0], 0)]


@pytest.mark.parametrize("key", RESERVED_KEYS)
def test_reserved_keys_are_refused_from_peers(key: str) -> None:
    """A peer's log has a change of our index. It is not applied, and nothing else of that log either."""
    clock = Clock()
    peer: dict[str, bytes] = {}
    ours: dict[str, bytes] = {}
    kvsync.sync(ours, {}, [Put("mine", b"1")], clock=clock)
    kvsync.commit(peer, [Put("fine", b"1")], clock=clock)
    if not key.startswith(".kvsync/"):
        peer[key] = b"evil"
    plant(peer, crafted(key, int(clock.now * 1000) << 16, b"evil", "segment/0000000000000001-0"))
    before = dict(ours)
    for source, target in ((peer, ours), (ours, peer)):
        with pytest.raises(kvsync.KvsyncError, match="reserved"):
            kvsync.sync(source, target, clock=clock)
        assert {name: data for name, data in ours.items() if name != ".kvsync/lease"} == before


def plant(mapping: dict[str, bytes], segment: bytes) -> None:
    """Replace the only segment of a replica by another, and everything that the manifest says of it."""
    body = msgpack.unpackb(mapping[".kvsync/manifest"][24:])
    [entry] = body["segments"]
    row = msgpack.unpackb(segment[24:])
    checksum = int.from_bytes(segment[16:24], "little")
    [stamp] = row["max"]
    body["segments"] = [[entry[0], [[77, stamp]], 1, [], 0, len(segment), checksum, segment]]
    body["chains"] = sorted([*body["chains"], [77, struct.pack("<QQQ", 1, stamp, 5)]])
    body["clock"] = max(body["clock"], stamp)
    body["digest"] = None
    mapping[".kvsync/manifest"] = seal(2, msgpack.packb(body))


def test_a_planted_segment_would_be_taken() -> None:
    """The same forgery with an ordinary key works: so the test above tests the key."""
    clock = Clock()
    peer: dict[str, bytes] = {}
    ours: dict[str, bytes] = {}
    kvsync.commit(peer, [Put("fine", b"1")], clock=clock)
    peer["evil"] = b"evil"
    plant(peer, crafted("evil", int(clock.now * 1000) << 16, b"evil", "segment/0000000000000001-0"))
    kvsync.sync(peer, ours, clock=clock)
    assert plain(ours) == {"evil": b"evil"}


WRONG_TYPES: list[tuple[Any, tuple[Any, ...]]] = [
    (Put, (1, b"")),
    (Put, (None, b"")),
    (Put, (b"k", b"")),
    (Delete, (1,)),
    (Put, ("k", "text")),
    (Put, ("k", 1)),
]


@pytest.mark.parametrize(("kind", "fields"), WRONG_TYPES, ids=str)
@pytest.mark.parametrize("target", ["folder", "sqlite", "dict"])
def test_wrong_types_are_refused(folder: Path, target: str, kind: Any, fields: tuple[Any, ...]) -> None:
    places: dict[str, Any] = {"folder": str(folder / "files"), "sqlite": f"sqlite:///{folder}/x.db", "dict": {}}
    with pytest.raises(kvsync.UsageError):
        kvsync.sync(places[target], {}, [Put("fine", b"1"), kind(*fields)])
    with closing(open_storage(places[target])[0]) as storage:
        assert set(storage.objects()) <= {"lease"}


@pytest.mark.parametrize("value", [bytearray(b"x"), memoryview(b"x")])
def test_only_bytes_are_values(value: Any) -> None:
    """A bytearray can change after it was logged."""
    with pytest.raises(kvsync.UsageError, match="not bytes"):
        kvsync.sync({}, {}, [Put("k", value)])


def test_lone_surrogates_are_refused() -> None:
    a: dict[str, bytes] = {}
    with pytest.raises(kvsync.UsageError, match="surrogate"):
        kvsync.sync(a, {}, [Put("k\ud800", b"1")])
    assert plain(a) == {}


@pytest.mark.parametrize(
    ("values", "culprit"),
    [({"k": "text"}, "k"), ({"k": bytearray(b"1")}, "k"), ({7: b"1"}, "7")],
)
def test_foreign_things_in_a_mapping_are_named_and_the_rest_moves(values: dict[Any, Any], culprit: str) -> None:
    other: dict[str, bytes] = {}
    result = kvsync.sync({**values, "fine": b"1"}, other, scan=True)
    assert [unreadable.key for unreadable in result.unreadable] == [culprit]
    assert plain(other) == {"fine": b"1"}


def test_two_empty_storages_are_scanned(folder: Path) -> None:
    """The very first run found nothing on either side, as with two empty folders, and failed: nonce is 16 bytes
    long."""
    (folder / "one").mkdir()
    for one, two in (({}, {}), (str(folder / "one"), f"sqlite:///{folder}/x.db")):
        result = kvsync.sync(one, two, scan=True)
        assert (result.pushed, result.pulled) == (0, 0)
        assert kvsync.commit(one, scan=True) == 0


def test_put_of_what_is_not_there_is_refused() -> None:
    a: dict[str, bytes] = {"there": b"1"}
    with pytest.raises(kvsync.UsageError, match="none is stored") as refused:
        kvsync.sync(a, {}, [Put("there"), Put("not there")])
    assert refused.value.key == "not there"
    b: dict[str, bytes] = {}
    kvsync.sync(a, b, [Put("there")])
    assert b["there"] == b"1"


def test_a_mapping_that_was_a_place(folder: Path) -> None:
    """Files that people made are keys under their own names, also in deep folders and with spaces."""
    (folder / "notes" / "old ones").mkdir(parents=True)
    (folder / "notes" / "old ones" / "todo 1.txt").write_bytes(b"milk")
    (folder / "notes" / "link").symlink_to("/etc/hostname")
    place = DictPlace()
    kvsync.sync(str(folder), place.target, scan=True)
    assert place.values() == {"notes/old ones/todo 1.txt": b"milk"}
