"""Values that are large, or many: moved in parts, and never all in memory."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING

import pytest

import kvsync
from kvsync import Put
from kvsync.digesting import BATCH_BYTES, Digested, digests
from kvsync.native import digest_values
from kvsync.storages.contract import LARGE_BYTES, TornRead
from kvsync.storages.folder import FolderStorage
from kvsync.storages.mapping import MappingStorage
from kvsync.testing import CountingStorage
from kvsync.types import Unreadable, Written

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from kvsync.storages.contract import Storage

LARGE = LARGE_BYTES + 12_345


@cache
def large(seed: int) -> bytes:
    return hashlib.shake_128(b"%d" % seed).digest(LARGE)


@pytest.mark.parametrize("scan", [False, True])
def test_a_large_value_moves_in_parts(folder: Path, scan: bool) -> None:
    a, b = FolderStorage(folder / "a"), CountingStorage(FolderStorage(folder / "b"))
    (folder / "a").mkdir()
    (folder / "a" / "film").write_bytes(large(1))
    (folder / "a" / "note").write_bytes(b"small")
    changes = [] if scan else [Put("film"), Put("note")]
    result = kvsync.sync(a, b, changes, scan=scan)
    assert result.pushed == 2
    assert (folder / "b" / "film").read_bytes() == large(1)
    assert b.operations["write_stream"] == 1
    assert kvsync.verify(a, b).equal
    assert kvsync.sync(a, b, scan=scan).pushed == 0
    # And back, changed on the other side.
    (folder / "b" / "film").write_bytes(large(2))
    result = kvsync.sync(a, b, scan=True)
    assert (result.pushed, result.pulled) == (0, 1)
    assert (folder / "a" / "film").read_bytes() == large(2)


def test_between_unlike_storages_a_large_value_moves_whole(folder: Path) -> None:
    mapping: dict[str, bytes] = {}
    (folder / "a").mkdir()
    (folder / "a" / "film").write_bytes(large(1))
    kvsync.sync(folder / "a", mapping, scan=True)
    assert mapping["film"] == large(1)
    mapping["film"] = large(2)
    kvsync.sync(mapping, folder / "a", scan=True)
    assert (folder / "a" / "film").read_bytes() == large(2)


class Changing(FolderStorage):
    """A folder whose file changes while it is read in parts."""

    turn = 0

    def read_stream(self, key: str) -> Iterator[bytes] | Unreadable | None:
        parts = super().read_stream(key)
        assert parts is not None
        assert not isinstance(parts, Unreadable)
        return self.changing(key, parts)

    def changing(self, key: str, parts: Iterator[bytes]) -> Iterator[bytes]:
        for number, part in enumerate(parts):
            if number == 3:
                type(self).turn += 1
                with open(os.path.join(self.path, key), "r+b") as file:
                    file.seek(LARGE - 1)
                    file.write(b"%d" % (type(self).turn % 10))
            yield part


def test_a_value_that_changes_while_it_moves_is_missing_until_it_rests(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "a" / "film").write_bytes(large(1))
    kvsync.commit(folder / "a", scan=True)
    result = kvsync.sync(Changing(folder / "a"), folder / "b")
    assert [missing.key for missing in result.missing] == ["film"]
    assert not (folder / "b" / "film").exists()
    assert not list((folder / "b" / ".kvsync" / "tmp").iterdir())
    result = kvsync.sync(folder / "a", folder / "b", scan=True)
    assert result.missing == []
    assert (folder / "b" / "film").read_bytes() == (folder / "a" / "film").read_bytes()


def test_a_scan_of_a_value_that_changes_takes_it_up_later(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "a" / "film").write_bytes(large(1))
    (folder / "a" / "note").write_bytes(b"small")
    assert kvsync.commit(Changing(folder / "a"), scan=True) == 1
    assert kvsync.commit(folder / "a", scan=True) == 1


def test_nothing_of_an_interrupted_stream_is_left(folder: Path) -> None:
    class Ends(FolderStorage):
        def write_stream(
            self, key: str, parts: Iterator[bytes], expect: Sequence[bytes | None] | None = None
        ) -> Written:
            def some() -> Iterator[bytes]:
                yield next(parts)
                raise KeyboardInterrupt

            return super().write_stream(key, some(), expect)

    (folder / "a").mkdir()
    (folder / "a" / "film").write_bytes(large(1))
    with pytest.raises(KeyboardInterrupt):
        kvsync.sync(folder / "a", Ends(folder / "b"), scan=True)
    assert not (folder / "b" / "film").exists()
    result = kvsync.sync(folder / "a", folder / "b", scan=True)
    assert result.pushed == 1
    assert (folder / "b" / "film").read_bytes() == large(1)


@pytest.mark.parametrize("streaming", [False, True])
def test_measures_are_those_of_the_values(folder: Path, streaming: bool) -> None:
    storage: Storage = FolderStorage(folder / "a") if streaming else MappingStorage({})
    values = {f"k{number:04d}": bytes([number % 251]) * (number % 97) for number in range(3000)}
    values |= {f"k{number:04d}": large(number) for number in (7, 8, 1500, 2999)}
    storage.write(list(values), list(values.values()))
    keys = [*values, "none"]
    found = list(digests(storage, keys))
    assert [key for key, _ in found] == keys
    expected = dict(zip(values, digest_values(list(values.values())), strict=True))
    assert found[-1] == ("none", None)
    assert all(one == Digested(expected[key], len(values[key])) for key, one in found[:-1])


def test_reading_what_has_unknown_sizes_begins_small() -> None:
    storage = CountingStorage(MappingStorage({f"k{number:03d}": bytes(1 << 20) for number in range(100)}))
    most = 0

    class Watched(CountingStorage):
        def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
            nonlocal most
            values = super().read(keys)
            most = max(most, sum(len(value) for value in values if isinstance(value, bytes)))
            return values

    assert len(list(digests(Watched(storage), [f"k{number:03d}" for number in range(100)]))) == 100
    assert most <= 2 * BATCH_BYTES


def test_a_torn_read_says_why(folder: Path) -> None:
    storage = Changing(folder / "a")
    FolderStorage(folder / "a").write(["film"], [large(1)])
    parts = storage.read_stream("film")
    assert parts is not None
    assert not isinstance(parts, Unreadable)
    with pytest.raises(TornRead, match="changes while it is read"):
        list(parts)


PROGRAM = """
import sys
import kvsync
source, target = sys.argv[1:]
result = kvsync.sync(source, target, scan=True)
# Not getrusage, which counts what the parent had before this program began.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(result.pushed, int(peak.split()[1]) * 1024)
"""


def resident(source: str, target: str) -> tuple[int, int]:
    """Return how many changes a run in a process of its own pushed, and its peak of resident bytes."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, source, target], check=True, capture_output=True, text=True)
    pushed, peak = done.stdout.split()
    return int(pushed), int(peak)


def test_memory_does_not_grow_with_the_values(folder: Path) -> None:
    """A bound of the design, not a speed: 600 MiB through less than 200 MiB."""
    (folder / "many").mkdir()
    for number in range(4):
        (folder / "many" / f"film{number}").write_bytes(large(number) * 12)
    for number in range(1000):
        (folder / "many" / f"note{number}").write_bytes(large(5)[: 200 << 10])
    pushed, peak = resident(str(folder / "many"), str(folder / "many copy"))
    assert pushed == 1004
    assert peak < 200 << 20
    assert (folder / "many copy" / "film2").read_bytes() == large(2) * 12
    assert (folder / "many copy" / "note7").read_bytes() == large(5)[: 200 << 10]
