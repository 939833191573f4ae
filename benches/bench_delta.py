"""From bytes to delta: both indices decoded with every check, and what each side misses.

Ours beside the pure-Python reference, beside polars (from Arrow IPC bytes of the same columns through
anti-joins both ways), and beside copying the same bytes.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

import indices
import reference
from kvsync import _core
from measure import FULL, Line, Report, Timing, in_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SIZES = (10_000, 100_000, 1_000_000) if FULL else (1_000, 100_000)
BARS_FROM = 1_000_000
BARS = {"reference": 60.0, "polars": 10.0, "copy": 3.0}
BLOCKS_BARS = {"scattered": 1.25, "tail": 0.3}
PEAK_BAR = 80.0
Vector = dict[int, int]
LAYOUTS = ("tail", "scattered")
EVERYTHING = _core.Cover(), _core.Cover()
COLUMNS = {
    "key": pl.String,
    "origin": pl.UInt64,
    "stamp": pl.UInt64,
    "flags": pl.UInt8,
    "size": pl.UInt64,
    "digest": pl.Binary,
    "expires": pl.UInt64,
}


@dataclass(frozen=True)
class Case:
    """A pair of indices and whether the vectors are trusted or everything is compared."""

    pair: indices.Pair
    known: bool

    @property
    def vectors(self) -> tuple[Vector, Vector]:
        """The vectors of both sides."""
        return (self.pair.vector_a, self.pair.vector_b) if self.known else ({}, {})


# Only the last pair is kept: a million rows of it weigh several hundred megabytes.
made: dict[tuple[int, str], indices.Pair] = {}


def pair(entries: int, layout: str) -> indices.Pair:
    """Return a pair of indices, made once for the benches that follow each other."""
    if (entries, layout) not in made:
        made.clear()
        made[entries, layout] = indices.pair(entries, layout)
    return made[entries, layout]


def ours(a: bytes, b: bytes, cover_a: _core.Cover, cover_b: _core.Cover) -> _core.Delta:
    """Decode both in one call, as the engine does, and return the delta."""
    segments = _core.Segment.decode_all([(a, indices.NAME), (b, indices.NAME)])
    return _core.delta(segments[:1], segments[1:], cover_a, cover_b)


@dataclass(frozen=True)
class InBlocks:
    """An index as a directory, and the pack that its blocks lie in."""

    directory: bytes
    pack: bytes

    @classmethod
    def build(cls, data: bytes) -> InBlocks:
        """Cut an index into blocks."""
        directory, pack = _core.Directory.build(_core.Segment.decode(data, indices.NAME), "pack")
        return cls(directory.encode(indices.NAME), pack)


def by_blocks(logs: Sequence[InBlocks], cover_a: _core.Cover, cover_b: _core.Cover) -> tuple[list[_core.Delta], int]:
    """Compare two indices in blocks; return the delta in parts, and how many bytes were read."""
    a, b = (_core.Directory.decode(log.directory, indices.NAME) for log in logs)
    cursor = _core.BlockDelta(a, b, cover_a, cover_b)
    found, read = [], sum(len(log.directory) for log in logs)
    while needs := cursor.needs():
        parts = [logs[run].pack[offset : offset + length] for run, _, offset, length in needs]
        read += sum(map(len, parts))
        cursor.feed(parts)
        found.append(cursor.take())
    return found, read


def plain(a: bytes, b: bytes, cover_a: reference.Cover, cover_b: reference.Cover) -> reference.Delta:
    """Do the same in pure Python."""
    decode = reference.decode_segment
    return reference.delta([decode(a, indices.NAME)], [decode(b, indices.NAME)], cover_a, cover_b)


def arrow(rows: reference.Segment) -> bytes:
    """Return the columns of some rows as an Arrow IPC file."""
    buffer = io.BytesIO()
    pl.DataFrame(rows, schema=COLUMNS, orient="row").write_ipc(buffer, compression="uncompressed")
    return buffer.getvalue()


def anti_joins(on: list[str], a: bytes, b: bytes) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what b and a miss, as polars finds it: read, joined both ways, nothing checked."""
    left, right = pl.read_ipc(io.BytesIO(a)), pl.read_ipc(io.BytesIO(b))
    return left.join(right, on=on, how="anti"), right.join(left, on=on, how="anti")


def filters(vector_a: Vector, vector_b: Vector, a: bytes, b: bytes) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the same by the vectors alone, as polars finds it: read, filtered, nothing checked or compared.

    It is no delta: a key that both sides changed, or an older segment's change, would need the joins as well.
    """
    left, right = pl.read_ipc(io.BytesIO(a)), pl.read_ipc(io.BytesIO(b))
    return left.filter(beyond(vector_b)), right.filter(beyond(vector_a))


def beyond(vector: Vector) -> pl.Expr:
    """Return the condition that a vector does not cover a row."""
    return pl.all_horizontal(
        (pl.col("origin") != origin) | (pl.col("stamp") > stamp) for origin, stamp in vector.items()
    )


def copy_fresh(a: bytes, b: bytes) -> tuple[bytearray, bytearray]:
    """Copy into memory that the copy has to ask for, as a program that copies these bytes does."""
    return bytearray(a), bytearray(b)


def copy_warm(views: list[tuple[memoryview, bytes]]) -> None:
    """Copy into memory that is there and was touched before."""
    for view, data in views:
        view[:] = data


def check(case: Case, found: _core.Delta, expected: reference.Delta) -> None:
    """Compare our delta with the reference's, row by row."""
    missing = len(case.pair.rows_a) // 100
    assert len(found.to_a) == len(found.to_b) == missing
    assert found.to_a.rows(0, missing) == expected.to_a
    assert found.to_b.rows(0, missing) == expected.to_b
    assert found.conflicts == expected.conflicts == []


def check_blocks(found: Sequence[_core.Delta], expected: reference.Delta) -> None:
    """Compare the delta of indices in blocks with the reference's, row by row."""
    for name, rows in {"to_a": expected.to_a, "to_b": expected.to_b}.items():
        parts = [getattr(part, name) for part in found]
        assert [row for part in parts for row in part.rows(0, len(part))] == rows


def check_polars(found: tuple[pl.DataFrame, pl.DataFrame], expected: reference.Delta) -> None:
    """Compare what polars finds with the reference's delta, row by row."""
    assert found[0].sort("key").rows() == expected.to_b
    assert found[1].sort("key").rows() == expected.to_a


@pytest.mark.parametrize("known", [True, False], ids=["vectors", "everything"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("entries", SIZES)
def test_delta(report: Report, entries: int, layout: str, *, known: bool) -> None:
    """Time one pair of indices against every rival."""
    case = Case(pair(entries, layout), known)
    a, b = case.pair.a, case.pair.b
    native = [_core.Cover(vector) for vector in case.vectors]
    python = [reference.Cover.of(vector, ()) for vector in case.vectors]
    frames = arrow(case.pair.rows_a), arrow(case.pair.rows_b)
    expected = plain(a, b, *python)
    check(case, ours(a, b, *native), expected)
    logs = [InBlocks.build(data) for data in (a, b)]
    found, read = by_blocks(logs, *native)
    check_blocks(found, expected)
    for on in JOINS.values():
        check_polars(anti_joins(on, *frames), expected)
    check_polars(filters(case.pair.vector_a, case.pair.vector_b, *frames), expected)
    del expected, found
    zstd = [_core.Segment.decode(data, indices.NAME).encode(indices.NAME, compress=True) for data in (a, b)]
    warm = [(memoryview(bytearray(data)), data) for data in (a, b)]
    works: dict[str, Callable[[], object]] = {
        "ours": partial(ours, a, b, *native),
        "in blocks": partial(by_blocks, logs, *native),
        "copy, fresh memory": partial(copy_fresh, a, b),
        "copy, warm memory": partial(copy_warm, warm),
        **{f"polars, {name}": partial(anti_joins, on, *frames) for name, on in JOINS.items()},
        "polars, filters": partial(filters, case.pair.vector_a, case.pair.vector_b, *frames),
        "ours, zstd": partial(ours, zstd[0], zstd[1], *native),
    }
    timings = in_turn(works, rounds=7)
    timings |= in_turn({"ours, again": works["ours"], "reference": partial(plain, a, b, *python)}, rounds=3)
    work = f"{entries:,} {layout}, {'vectors' if known else 'all compared'}"
    tell(report, case, entries, work, timings)
    ratio = timings["in blocks"].best / timings["ours"].best
    bar = BLOCKS_BARS[layout] if entries >= BARS_FROM else None
    report.add(Line("delta", work, "in blocks / ours", ratio, "x", bar))
    report.add(Line("delta", work, "in blocks, read", read / 1e6, "MB"))


JOINS = {"by key": ["key"], "by change": ["key", "stamp", "origin"]}
"""Equality of keys is all that these two indices need; equality of changes is what any two would."""


def tell(report: Report, case: Case, entries: int, work: str, timings: dict[str, Timing]) -> None:
    """Report the ratios of one pair of indices."""
    best = {name: timing.best for name, timing in timings.items()}
    seconds = best["ours"]
    bars = BARS if entries >= BARS_FROM else {}
    detail = {"entries": entries, "bytes": case.pair.bytes} | {
        name: {"best": timing.best, "median": timing.median} for name, timing in timings.items()
    }
    add = partial(Line, "delta", work)
    report.add(add("time", 1e3 * seconds, "ms", detail=detail))
    report.add(add("rate", case.pair.bytes / seconds / 1e9, "GB/s"))
    python = best["reference"] / best["ours, again"]
    report.add(add("reference / ours", python, "x", bars.get("reference"), at_least=True))
    polars = min(best[f"polars, {name}"] for name in JOINS) / seconds
    report.add(add("polars / ours", polars, "x", bars.get("polars"), at_least=True))
    report.add(add("polars without joins / ours", best["polars, filters"] / seconds, "x"))
    copied = seconds / best["copy, fresh memory"]
    report.add(add("ours / copy, fresh memory", copied, "x", bars.get("copy")))
    report.add(add("ours / copy, warm memory", seconds / best["copy, warm memory"], "x"))
    report.add(add("ours with zstd / ours", best["ours, zstd"] / seconds, "x"))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("entries", SIZES[-1:])
def test_peak_memory(report: Report, tmp_path: Path, entries: int, layout: str) -> None:
    """Measure how much a fresh process grows at most while it does the same work."""
    case = pair(entries, layout)
    for side, data in {"a": case.a, "b": case.b}.items():
        (tmp_path / side).write_bytes(data)
    covers = json.dumps([list(case.vector_a.items()), list(case.vector_b.items())])
    script = Path(__file__).with_name("peak.py")
    run = subprocess.run(
        [sys.executable, script, tmp_path / "a", tmp_path / "b", covers],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(run.stdout)
    assert found["missing"] == [entries // 100, entries // 100]
    for covers_known in ("vectors", "everything"):
        peak = found[covers_known]
        work = f"{entries:,} {layout}, {'vectors' if covers_known == 'vectors' else 'all compared'}"
        bar = PEAK_BAR if entries >= BARS_FROM else None
        report.add(Line("delta", work, "peak, input included", peak / case.entries, "B/entry", bar))
        report.add(Line("delta", work, "peak beyond input", (peak - case.bytes) / case.entries, "B/entry"))
