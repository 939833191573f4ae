"""What a manifest may claim: each field at its limit is read, and beyond it is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack
import pytest

import kvsync
from kvsync.index import bounds
from kvsync.index.manifest import Manifest
from kvsync.native import KIND_MANIFEST, Segment, checksum, seal

if TYPE_CHECKING:
    from collections.abc import Callable

LAST = 2**64 - 1
MOST = 2**48
LATEST = 2**63 - 1
BRANCH = 1 << 63
DIGEST = bytes(32)


def words(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(8, "little") for number in numbers)


def body(**fields: Any) -> dict[str, Any]:
    """Return the fields of a sound manifest of replica 7, which knows itself up to stamp 100, with others in place."""
    found: dict[str, Any] = msgpack.unpackb(Manifest.fresh(7)._replace(generation=1, nonce=bytes(16)).encode()[24:])
    return found | {"clock": 100, "chains": [[7, words(1, 100, 5)]]} | fields


def decode(fields: dict[str, Any]) -> Manifest:
    return Manifest.decode(seal(KIND_MANIFEST, msgpack.packb(fields)), "the storage")


def segment_row(name: str = "segment/0000000000000001-0", origin: int = 7, stamp: int = 100) -> list[Any]:
    segment = Segment.from_values(["a"], [b"1"], origin, stamp)
    data = segment.encode(name)
    return [name, [[origin, stamp]], 1, [], 0, len(data), checksum(data), data]


def peer(replica: int = 9, name: str = "", seen: int = 1, places: bytes = b"\x01") -> list[Any]:
    return [replica, name, seen, places, b"", 0]


def missing(origin: int = 7, stamp: int = 100, reason: str = "") -> list[Any]:
    return ["a", origin, stamp, 0, 1, DIGEST, 0, reason, b""]


SOUND: list[dict[str, Any]] = [
    {},
    {"replica": BRANCH - 1},
    {"generation": MOST},
    {"clock": LATEST},
    {"clock": LATEST, "chains": [[7, words(MOST, LATEST, LAST)], [LAST, words(1, 1, LAST)]]},
    {"exceptions": [[9, 1, 100, MOST, LATEST, LAST]]},
    {"missing": [missing(reason="x" * 4096)]},
    {"unreconciled": [missing()[:7]]},
    {"segments": [segment_row(), segment_row("segment/0000000000000001-ffffffffffffffff", stamp=1)]},
    {"peers": [peer(BRANCH - 1, "x" * 4096, LATEST)]},
    {"gone": [[1, 1], [BRANCH - 1, 2]]},
    {"collected": [[5, LATEST], [7, 100], [BRANCH, LATEST]]},
    {"collected_ms": 2**47},
    {"intents": [["segment/0000000000000001-0", 2**47]]},
    {"garbage": ["segment/0000000000000001-0"]},
    {"lease": bytes(65_536)},
]

UNSOUND: list[tuple[str, dict[str, Any]]] = [
    ("replica", {"replica": 0}),
    ("replica", {"replica": BRANCH}),
    ("replica", {"replica": LAST}),
    ("generation", {"generation": 0}),
    ("generation", {"generation": MOST + 1}),
    ("generation", {"generation": LAST}),
    ("clock", {"clock": 99}),
    ("clock", {"clock": LATEST + 1}),
    ("clock", {"exceptions": [[9, 1, 101, 1, 101, 1]]}),
    ("chains", {"clock": LAST, "chains": [[7, words(1, LATEST + 1, 5)]]}),
    ("chains", {"chains": [[7, words(MOST + 1, 100, 5)]]}),
    ("exceptions", {"exceptions": [[9, 1, 100, MOST + 1, 100, 1]]}),
    ("exceptions", {"exceptions": [[9, 1, 100, 1, LATEST + 1, 1]]}),
    ("missing", {"missing": [missing(stamp=101)]}),
    ("missing", {"missing": [missing(origin=8)]}),
    ("missing", {"missing": [missing(reason="x" * 4097)]}),
    ("unreconciled", {"unreconciled": [missing(stamp=101)[:7]]}),
    ("unreconciled", {"unreconciled": [["a", 7, 100, LAST, 1, DIGEST, 0]]}),
    ("segments", {"segments": [segment_row("manifest")]}),
    ("segments", {"segments": [segment_row("segment/../lease")]}),
    ("segments", {"segments": [segment_row("segment/0000000000000001-0\n")]}),
    ("segments", {"segments": [segment_row(), segment_row()]}),
    ("segments", {"segments": [segment_row("segment/0000000000000002-0")]}),
    ("segments", {"segments": [segment_row(stamp=101)]}),
    ("segments", {"segments": [segment_row(origin=8)]}),
    ("peers", {"peers": [peer(7)]}),
    ("peers", {"peers": [peer(BRANCH)]}),
    ("peers", {"peers": [peer(name="x" * 4097)]}),
    ("peers", {"peers": [peer(seen=LATEST + 1)]}),
    ("peers", {"peers": [peer(places=b"\x02")]}),
    ("peers", {"peers": [peer(places=b"\x01\x01")]}),
    ("gone", {"gone": [[0, 1]]}),
    ("gone", {"gone": [[BRANCH, 1]]}),
    ("gone", {"gone": [[5, 4]]}),
    ("collected", {"collected": [[7, 101]]}),
    ("collected", {"collected": [[5, LATEST + 1]]}),
    ("collected_ms", {"collected_ms": 2**47 + 1}),
    ("intents", {"intents": [["segment/0000000000000001-0", 2**47 + 1]]}),
    ("intents", {"intents": [["lost/x", 1]]}),
    ("garbage", {"garbage": ["manifest"]}),
    ("garbage", {"garbage": ["segment/0000000000000001-0/../../../x"]}),
    ("lease", {"lease": bytes(65_537)}),
]


@pytest.mark.parametrize("fields", SOUND, ids=lambda fields: ", ".join(fields) or "nothing")
def test_each_field_at_its_limit_is_read(fields: dict[str, Any]) -> None:
    manifest = decode(body(**fields))
    assert decode(msgpack.unpackb(manifest.encode()[24:])) == manifest


@pytest.mark.parametrize(("field", "fields"), UNSOUND)
def test_each_field_beyond_its_limit_is_refused_by_name(field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(kvsync.IndexDamagedError, match=f"its {field} is not what") as refused:
        decode(body(**fields))
    assert (refused.value.storage, refused.value.name) == ("the storage", "manifest")
    assert "kvsync verify" in str(refused.value)


ROWS: dict[str, Callable[[int], Any]] = {
    "chains": lambda i: [i + 10, words(1, 1, 1)],
    "exceptions": lambda i: [i + 10, 1, 1, 1, 1, 1],
    "missing": lambda i: [f"a{i}", *missing()[1:]],
    "unreconciled": lambda i: [f"a{i}", *missing()[1:7]],
    "segments": lambda i: segment_row(f"segment/0000000000000001-{i:x}"),
    "peers": lambda i: peer(i + 10),
    "gone": lambda i: [i + 10, 1],
    "collected": lambda i: [i + 10, 1],
    "intents": lambda i: [f"segment/{i:016x}-0", 1],
    "garbage": lambda i: f"segment/{i:016x}-0",
}


@pytest.mark.parametrize("field", bounds.LENGTH_MAX)
def test_more_entries_than_there_may_be_are_refused_by_name(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bounds.LENGTH_MAX, field, 4)
    rows = [ROWS[field](i) for i in range(5)]
    with pytest.raises(kvsync.IndexDamagedError, match=f"5 entries in {field}, at most 4"):
        decode(body(**{field: rows}))


@pytest.mark.parametrize("field", ["chains", "peers", "segments"])
def test_all_points_and_entries_together_are_bounded(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "POINTS_MAX", 2)
    monkeypatch.setattr(bounds, "MAXIMA_MAX", 2)
    rows = [ROWS[field](i) for i in range(3)]
    chains = {"chains": [[7, words(1, 100, 5)]]} if field != "chains" else {}
    with pytest.raises(kvsync.IndexDamagedError, match=f"3 entries in {field}, at most 2"):
        decode(body(**chains, **{field: rows}))


def test_the_newest_time_of_any_field_is_found() -> None:
    minute = 60_000 << 16
    known = {"clock": 3 * minute, "chains": [[7, words(1, 2 * minute, 5)]]}
    assert bounds.newest(decode(body(**known))) == (180_000, "clock")
    for field, rows in (
        ("exceptions", [[9, 1, 1, 1, 4 * minute, 1]]),
        ("peers", [peer(seen=4 * minute)]),
        ("collected", [[5, 4 * minute]]),
    ):
        assert bounds.newest(decode(body(**known, **{field: rows}))) == (240_000, field)
    assert bounds.newest(decode(body(**known, collected_ms=240_001))) == (240_001, "collected_ms")
    late = [["segment/0000000000000001-0", 240_002 + 600_000]]
    assert bounds.newest(decode(body(**known, intents=late))) == (240_002, "intents")


@pytest.mark.parametrize("field", ["chains", "exceptions", "peers", "gone", "collected"])
def test_nobody_fills_a_manifest_up(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bounds.LENGTH_MAX, field, 8)
    own = {"chains": [[7, words(1, 100, 5)]]} if field == "chains" else {}
    few, more = (decode(body(**{**own, field: [ROWS[field](i) for i in range(count)]})) for count in (4, 5))
    bounds.refuse_growth(few, few, "x")
    bounds.refuse_growth(more, few, "x")
    with pytest.raises(kvsync.IndexDamagedError, match=f"5 entries in {field}, at most 4"):
        bounds.refuse_growth(few, more, "x")


@pytest.mark.parametrize("field", ["exceptions", "missing", "unreconciled", "intents", "garbage"])
def test_nothing_is_written_that_nobody_would_read(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = decode(body(**{field: [ROWS[field](i) for i in range(5)]}))
    monkeypatch.setitem(bounds.LENGTH_MAX, field, 4)
    with pytest.raises(kvsync.StorageError, match=f"entries in {field}, and at most"):
        bounds.require_writable(manifest, "x")
    monkeypatch.setitem(bounds.LENGTH_MAX, field, 5)
    bounds.require_writable(manifest, "x")


def test_the_format_page_names_the_limits() -> None:
    page = (Path(__file__).parents[2] / "docs" / "index-format.md").read_text(encoding="utf-8")
    section = page.partition("### Limits")[2].partition("## Lease")[0]
    for field, most in bounds.LENGTH_MAX.items():
        assert any(f"`{field}`" in line and f"{most:,}" in line for line in section.splitlines()), field
    for most in (bounds.POINTS_MAX, bounds.MAXIMA_MAX, bounds.TEXT_MAX, bounds.VERSION_BYTES_MAX):
        assert f"{most:,}" in section
