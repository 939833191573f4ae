"""Segments in blocks: the core writes what the reference writes, and finds and merges what it finds and merges."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import index_strategies as some
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference
import reference_blocks
from kvsync import _core
from kvsync.errors import IndexDamagedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "segment/0000000000000001-0"
GOLDEN = Path(__file__).parents[1] / "golden" / "v1"
Packs: TypeAlias = dict[str, bytes]

targets = st.sampled_from([64, 200, 1000, 20_000])
read_aheads = st.sampled_from([0, 300, 1 << 20])
covers: st.SearchStrategy[tuple[some.Vector, list[reference.Span]]] = st.one_of(st.just(({}, [])), some.covers)


@st.composite
def long_segments(draw: st.DrawFn) -> reference.Segment:
    """Draw up to some hundred changes, most of them of a few kinds."""
    kinds = draw(some.small_segments.filter(bool))
    count = draw(st.integers(1, 300))
    rows = [(f"k{place:04}", *kinds[place * place % len(kinds)][1:]) for place in range(count)]
    return sorted([*kinds, *rows])


@st.composite
def patches(draw: st.DrawFn) -> reference.Segment:
    """Draw changes of few keys, most of them of a long segment."""
    rows = draw(some.small_segments)
    places = draw(st.lists(st.integers(0, 300), min_size=len(rows), max_size=len(rows), unique=True))
    return sorted([*rows, *((f"k{place:04}", *row[1:]) for place, row in zip(places, rows, strict=True))])


@dataclass(frozen=True)
class Log:
    """A segment in blocks, and the packs that it lies in."""

    directory: _core.Directory
    packs: Packs

    @classmethod
    def build(cls, rows: reference.Segment, pack: str, target: int) -> Log:
        """Cut a segment into blocks."""
        directory, data = _core.Directory.build(_core.Segment.from_rows(rows), pack, target)
        return cls(directory, {pack: data})


def feed(cursor: _core.BlockDelta | _core.BlockMerge | _core.BlockReader, logs: Sequence[Packs]) -> None:
    """Read what a cursor needs next, and feed it."""
    ranges = [logs[run][pack][offset : offset + length] for run, pack, offset, length in cursor.needs()]
    cursor.feed(ranges)


def delta_of(cursor: _core.BlockDelta, logs: Sequence[Packs]) -> reference.Delta:
    """Return all that a cursor finds."""
    found = reference.Delta()
    while True:
        found_now = cursor.take()
        for name in ("to_a", "to_b", "log_a", "log_b"):
            segment = getattr(found_now, name)
            getattr(found, name).extend(segment.rows(0, len(segment)))
        found.conflicts.extend(found_now.conflicts)
        if not cursor.needs():
            return found
        feed(cursor, logs)


@given(long_segments(), targets)
def test_blocks_pages_and_directories_have_one_encoding(rows: reference.Segment, target: int) -> None:
    log = Log.build(rows, "pack/1", target)
    expected, pack = reference_blocks.build(rows, "pack/1", target)
    assert log.packs["pack/1"] == pack
    assert log.directory.encode(NAME) == reference_blocks.encode_directory(expected, NAME)
    assert reference_blocks.decode_directory(log.directory.encode(NAME, compress=True), NAME) == expected
    assert _core.Directory.decode(reference_blocks.encode_directory(expected, NAME), NAME).encode(
        NAME
    ) == log.directory.encode(NAME)
    assert (len(log.directory), log.directory.maxima) == (len(rows), reference.maxima(rows))
    assert log.directory.sums == tuple(total.to_bytes(16, "little") for total in reference_blocks.sums_of(rows))
    blocks = (pack[part.offset :][: part.length] for part in expected.parts)
    assert expected.depth == 2 or list(chain.from_iterable(map(reference_blocks.decode_block, blocks))) == rows


@given(
    shared=long_segments(),
    edits=st.tuples(patches(), patches()),
    beside=st.tuples(st.lists(patches(), max_size=2), st.lists(patches(), max_size=2)),
    covers=st.tuples(covers, covers),
    target=targets,
    read_ahead=read_aheads,
)
def test_the_delta_is_that_of_the_reference(
    *,
    shared: reference.Segment,
    edits: tuple[reference.Segment, reference.Segment],
    beside: tuple[list[reference.Segment], list[reference.Segment]],
    covers: tuple[tuple[some.Vector, list[reference.Span]], tuple[some.Vector, list[reference.Span]]],
    target: int,
    read_ahead: int,
) -> None:
    bases = [reference.merge([shared, edit]) for edit in edits]
    logs = [Log.build(base, "pack/1", target) for base in bases]
    expected = reference.delta(
        [bases[0], *beside[0]], [bases[1], *beside[1]], *(reference.Cover.of(*cover) for cover in covers)
    )
    side_a, side_b = (list(map(_core.Segment.from_rows, side)) for side in beside)
    a, b = (log.directory for log in logs)
    cover_a, cover_b = (_core.Cover(*cover) for cover in covers)
    cursor = _core.BlockDelta(a, b, cover_a, cover_b, side_a, side_b, read_ahead)
    assert delta_of(cursor, [log.packs for log in logs]) == expected


@given(
    bases=st.lists(long_segments(), min_size=1, max_size=2),
    others=st.lists(patches(), max_size=2),
    target=targets,
    read_ahead=read_aheads,
)
def test_the_merge_is_that_of_the_reference(
    *, bases: list[reference.Segment], others: list[reference.Segment], target: int, read_ahead: int
) -> None:
    logs = [Log.build(base, f"pack/{number}", target) for number, base in enumerate(bases)]
    runs: list[_core.Directory | _core.Segment] = [
        *(log.directory for log in logs),
        *map(_core.Segment.from_rows, others),
    ]
    cursor = _core.BlockMerge(runs, "pack/new", target, read_ahead)
    written = b""
    while cursor.needs():
        feed(cursor, [log.packs for log in logs])
        written += cursor.take()
    assert cursor.pack_bytes >= len(written)
    directory, rest = cursor.finish()
    packs = {"pack/new": written + rest} | {name: data for log in logs for name, data in log.packs.items()}
    found = reference_blocks.decode_directory(directory.encode(NAME), NAME)
    expected, _ = reference_blocks.build(reference.merge([*bases, *others]), "pack/new", target)
    anywhere = [[replace(block, pack=0, offset=0) for block in blocks_of(log, packs)] for log in (found, expected)]
    assert found.depth == expected.depth
    assert expected.depth == 2 or anywhere[0] == anywhere[1]


@given(
    rows=long_segments(),
    keys=st.one_of(st.none(), st.lists(st.integers(0, 320).map("k{:04}".format), max_size=5)),
    target=targets,
    read_ahead=read_aheads,
)
def test_a_reader_finds_all_changes_or_those_of_some_keys(
    *, rows: reference.Segment, keys: list[str] | None, target: int, read_ahead: int
) -> None:
    log = Log.build(rows, "pack/1", target)
    cursor = _core.BlockReader(log.directory, keys, "usual" if keys else "thorough", read_ahead)
    found, read = [], 0
    while needs := cursor.needs():
        read += sum(length for _, _, _, length in needs)
        feed(cursor, [log.packs])
        segment = cursor.take()
        found += segment.rows(0, len(segment))
    assert found == [row for row in rows if keys is None or row[0] in keys]
    # Each key is in one block at most, and needs a page of some dozens of parts at most.
    assert keys is None or read <= len(set(keys)) * (4 * target + 40_000)
    assert keys or cursor.block_bytes in {len(log.packs["pack/1"]), 0} or log.directory.depth == 2


@given(rows=long_segments(), patch=patches(), pack_bytes=st.sampled_from([1, 700, 5000]), read_ahead=read_aheads)
def test_a_merge_begins_another_pack_once_one_is_full(
    *, rows: reference.Segment, patch: reference.Segment, pack_bytes: int, read_ahead: int
) -> None:
    log = Log.build(rows, "pack/1", 200)
    runs: list[_core.Directory | _core.Segment] = [log.directory, _core.Segment.from_rows(patch)]
    cursor = _core.BlockMerge(runs, "pack/new/000", 200, read_ahead, pack_bytes)
    packs, name = dict(log.packs), "pack/new/000"
    while not cursor.done:
        if cursor.pack_bytes >= pack_bytes:
            packs[name] = cursor.take()
            assert pack_bytes <= len(packs[name]) < pack_bytes + 1200
            name = f"pack/new/{len(packs):03}"
            cursor.begin_pack(name)
        feed(cursor, [packs])
    packs[name] = cursor.take()
    directory, rest = cursor.finish()
    packs[name] += rest
    whole = _core.BlockReader(directory, None, "thorough")
    while whole.needs():
        feed(whole, [packs])
    assert whole.block_bytes == cursor.block_bytes
    merged = whole.take()
    assert merged.rows(0, len(merged)) == reference.merge([rows, patch])


def test_a_lenient_reader_leaves_out_what_is_damaged_and_a_thorough_one_checks_sums() -> None:
    rows = [(f"{place:03}", 1, 5, 0, 3, b"\x01" * 32, 0) for place in range(100)]
    log = Log.build(rows, "pack/1", 500)
    damaged = bytearray(log.packs["pack/1"])
    damaged[len(damaged) // 2] ^= 1
    for cursor in (_core.BlockReader(log.directory), _core.BlockReader(log.directory, None, "thorough")):
        with pytest.raises(IndexDamagedError) as caught:
            feed(cursor, [{"pack/1": bytes(damaged)}])
        assert caught.value.name == "pack/1"
    lenient = _core.BlockReader(log.directory, None, "lenient")
    feed(lenient, [{"pack/1": bytes(damaged)}])
    assert 80 <= len(lenient.take()) < 100
    with pytest.raises(UsageError, match="scrutiny"):
        _core.BlockReader(log.directory, None, "none")  # type: ignore[arg-type]


def test_packs_that_are_mostly_dead_are_rewritten() -> None:
    """Each merge leaves more of the first pack dead, until nothing refers to it any more."""
    rows = [(f"{place:04}", 1, 5, 0, 3, b"\x01" * 32, 0) for place in range(400)]
    log = Log.build(rows, "pack/000", 500)
    directory, packs = log.directory, dict(log.packs)
    counts = []
    for turn in range(1, 20):
        patch = _core.Segment.from_rows([(f"{turn * 20:04}", 1, 5 + turn, 0, 3, b"\x02" * 32, 0)])
        cursor = _core.BlockMerge([directory, patch], f"pack/{turn:03}", 500)
        while cursor.needs():
            feed(cursor, [packs])
        directory, packs[f"pack/{turn:03}"] = cursor.finish()
        counts.append(len(directory.packs))
        held = sum(len(packs[name]) for name in directory.packs)
        assert held <= 2 * cursor.block_bytes + len(packs[f"pack/{turn:03}"])
    assert max(counts) > 5


def blocks_of(directory: reference_blocks.Directory, packs: Packs) -> list[reference_blocks.Part]:
    """Return the blocks of a directory, each of which lies where it says."""
    for part in directory.parts if directory.packs == list(packs) else []:
        data = packs[directory.packs[part.pack]][part.offset : part.offset + part.length]
        assert int.from_bytes(data[:8], "little") == part.checksum
    return directory.parts


def test_the_golden_directory_is_read_by_both() -> None:
    data, pack = (GOLDEN / "directory.bin").read_bytes(), (GOLDEN / "pack.bin").read_bytes()
    directory = reference_blocks.decode_directory(data, NAME)
    rows = [
        row for part in directory.parts for row in reference_blocks.decode_block(pack[part.offset :][: part.length])
    ]
    assert reference_blocks.build(rows, directory.packs[0], directory.target) == (directory, pack)
    assert _core.Directory.decode(data, NAME).encode(NAME) == data


def test_damage_is_refused_where_it_is() -> None:
    rows = [(f"{place:03}", 1, 5, 0, 3, b"\x01" * 32, 0) for place in range(100)]
    log = Log.build(rows, "pack/1", 500)
    none, empty = _core.Cover(), _core.Directory.build(_core.Segment.from_rows([]), "pack/2")[0]
    cursor = _core.BlockDelta(log.directory, empty, none, none)
    ((_, _, _, length),) = cursor.needs()
    with pytest.raises(UsageError, match="the ranges differ from the needs"):
        cursor.feed([])
    damaged = bytearray(log.packs["pack/1"])
    damaged[-1] ^= 1
    with pytest.raises(IndexDamagedError) as caught:
        cursor.feed([bytes(damaged)])
    assert 0 < caught.value.offset < length  # type: ignore[operator]
