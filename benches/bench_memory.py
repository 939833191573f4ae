"""How much memory a sync takes, however much it moves.

Measured in a process of its own: the peak of what is resident (`VmHWM`), interpreter and libraries included. LMDB maps
its file into memory, and what was read of it stays resident while the system has room: pages of the system's cache, not
of ours. So there the bar is on memory that is no file's (`RssAnon`, looked at every 5 ms), and the whole is shown.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from servers.running import running

from kvsync.storages import open_storage
from kvsync.storages.contract import has_streaming
from measure import FULL, Line, Report

TOTAL_BYTES = (2 << 30) if FULL else (64 << 20)
SMALL_BYTES = 100 << 10
LARGE_BYTES = 32 << 20
LARGE_COUNT = 8 if FULL else 1
HUGE_BYTES = (1 << 30) if FULL else (64 << 20)
PART_BYTES = 8 << 20
RESIDENT_BAR_MIB = 200

PAIRS = [("folder", "folder"), ("lmdb", "s3")]

numbers = count()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that is removed in the end."""
    path = Path(tempfile.mkdtemp(prefix="kvsync-bench-"))
    yield path
    shutil.rmtree(path)


def url(kind: str, folder: Path) -> str:
    """Return the URL of a new, empty storage."""
    if kind == "s3":
        return str(running("s3").url_of(f"memory{next(numbers)}"))
    place = folder / f"{kind}{next(numbers)}"
    place.mkdir()
    return f"{'file' if kind == 'folder' else kind}:///{place}".replace("file:////", "file:///")


def parts(size: int, seed: int) -> Iterator[bytes]:
    """Yield the bytes of a value, no two parts alike."""
    chance = random.Random(seed)
    block = chance.randbytes(PART_BYTES)
    for start in range(0, size, PART_BYTES):
        yield (start.to_bytes(8, "little") + block[8:])[: size - start]


def fill(place: str, sizes: list[int]) -> list[str]:
    """Write values of these sizes and return their keys."""
    storage, _ = open_storage(place)
    chance = random.Random(11)
    block = chance.randbytes(SMALL_BYTES)
    keys = [f"value/{i:08d}" for i in range(len(sizes))]
    small: dict[str, bytes] = {}
    for key, size in zip(keys, sizes, strict=True):
        if size > SMALL_BYTES and has_streaming(storage):
            storage.write_stream(key, parts(size, len(key)))
        elif size > SMALL_BYTES:
            storage.write([key], [b"".join(parts(size, len(key)))])
        else:
            small[key] = key.encode() + block[len(key) :]
        if len(small) == 160 or (small and key == keys[-1]):
            storage.write(list(small), list(small.values()))
            small = {}
    storage.close()
    return keys


def equal(one: str, two: str, keys: list[str]) -> bool:
    """Tell whether two storages hold the same values, one value at a time."""
    (a, _), (b, _) = open_storage(one), open_storage(two)
    same = all(a.read([key]) == b.read([key]) for key in keys)
    a.close()
    b.close()
    return same


def moved(report: Report, work: str, source: str, target: str, sizes: list[int]) -> None:
    """Sync all values and report the peak."""
    keys = fill(source, sizes)
    command = [sys.executable, str(Path(__file__).parent / "moving.py"), source, target]
    done = subprocess.run(command, input=json.dumps(keys), text=True, stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)
    assert equal(source, target, keys if sum(sizes) <= TOTAL_BYTES else keys[:: max(len(keys) // 500, 1)])
    maps = source.startswith("lmdb")
    bars = {"peak": None if maps else RESIDENT_BAR_MIB, "own": RESIDENT_BAR_MIB if maps else None, "before": None}
    names = {"peak": "peak resident", "own": "peak without mapped files", "before": "resident before"}
    for name, bar in bars.items():
        report.add(Line("memory", work, names[name], found[name] / 2**20, "MiB", bar, detail=found))


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_many_values(report: Report, folder: Path, pair: tuple[str, str]) -> None:
    """Move 2 GiB of values of 100 KiB, and some of 32 MiB."""
    small = (TOTAL_BYTES - LARGE_COUNT * LARGE_BYTES) // SMALL_BYTES
    sizes = [SMALL_BYTES] * small + [LARGE_BYTES] * LARGE_COUNT
    work = f"{pair[0]} to {pair[1]}, {TOTAL_BYTES >> 20:,} MiB"
    moved(report, work, url(pair[0], folder), url(pair[1], folder), sizes)


@pytest.mark.parametrize("copied", [False, True], ids=["two buckets", "one bucket"])
def test_one_huge_value(report: Report, folder: Path, *, copied: bool) -> None:
    """Move one value of 1 GiB between buckets, or between prefixes of one, where the server copies it."""
    server = running("s3")
    target = url("s3", folder) if copied else str(server.url_of("memory", bucket=server.new_bucket()))
    work = f"s3 to s3{', one bucket' if copied else ''}, one value of {HUGE_BYTES >> 20:,} MiB"
    moved(report, work, url("s3", folder), target, [HUGE_BYTES])
