"""A program that overwrites a few files all the time, beside runs that scan and overwrite them, too: nothing is lost.

As a script, with the number of overwrites: `python tests/integration/test_hot_files.py 5000`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import kvsync
from kvsync.storages.folder import FolderStorage, exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvsync import Conflict

KEYS = [f"hot/{number}" for number in range(12)]


def union(_: Conflict, source: bytes | None, target: bytes | None) -> bytes:
    """Merge two values, each a set of lines."""
    return b"".join(sorted({*(source or b"").splitlines(keepends=True), *(target or b"").splitlines(keepends=True)}))


def by_rename(path: Path, line: bytes) -> None:
    """Replace a file as careful programs do."""
    path.with_name(".new").write_bytes(path.read_bytes() + line)
    os.rename(path.with_name(".new"), path)


def in_place(path: Path, line: bytes) -> None:
    """Append to a file as loggers do."""
    with open(path, "ab", buffering=0) as file:
        file.write(line)


WRITERS: dict[str, Callable[[Path, bytes], None]] = {"by rename": by_rename, "in place": in_place}


def write_all(root: Path, write: Callable[[Path, bytes], None], count: int) -> None:
    for number in range(count):
        write(root / KEYS[number % len(KEYS)], b"ours %d\n" % number)
        time.sleep(0.0005)


def lost(root: Path, write: Callable[[Path, bytes], None], count: int) -> tuple[int, int, int]:
    """Return how many of `count` lines are gone in the end, how many runs there were, and how many writes they tried.

    The peer changes the same keys between runs, so that every run has something to write where the program writes.
    """
    peer: dict[str, bytes] = {}
    for key in KEYS:
        (root / key).parent.mkdir(exist_ok=True)
        (root / key).write_bytes(b"")
    kvsync.sync(str(root), peer, scan=True)
    writer = threading.Thread(target=write_all, args=(root, write, count))
    writer.start()
    runs = tried = 0
    while writer.is_alive() or runs < 3:
        for key in KEYS:
            peer[key] = union(None, peer[key], b"theirs %d\n" % runs)  # type: ignore[arg-type]
        result = kvsync.sync(str(root), peer, scan=True, conflict=union, max_delete="100%")
        tried += result.pulled + len(result.missing)
        runs += 1
    writer.join()
    for _ in range(2):
        kvsync.sync(str(root), peer, scan=True, conflict=union, max_delete="100%")
    kept = [path.read_bytes() for path in (root / ".kvsync/displaced").glob("*")]
    # A value that a decision of an earlier run has beaten is kept, too.
    kept += [value.value for storage in (str(root), peer) for value in kvsync.lost(storage)]
    there = {line for data in [*((root / key).read_bytes() for key in KEYS), *kept] for line in data.splitlines()}
    return sum(b"ours %d" % number not in there for number in range(count)), runs, tried


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave out `fsync`, and change threads often: what is tested is order, not how fast a disk flushes."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("writer", WRITERS)
def test_no_overwrite_is_lost(folder: Path, writer: str) -> None:
    """Of 5,002 overwrites beside scanning runs, 8 were lost: to look and to replace were two steps."""
    missing, runs, tried = lost(folder, WRITERS[writer], 400)
    assert missing == 0
    assert runs > 2
    assert tried > 0


@pytest.mark.usefixtures("quick")
def test_a_file_system_without_exchange_has_the_window_that_is_documented(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This proves that the test above can fail: between look and rename, a write is lost."""
    monkeypatch.setattr(exchange, "_renameat", lambda: (None, int))
    storage = FolderStorage(folder)
    storage.write(["a"], [b"1"])
    ((_, (token,)),) = list(storage.scan())
    real = os.rename

    def late(source: str, target: str, **where: int) -> None:
        if target == "a":
            (folder / "a").write_bytes(b"theirs")
        real(source, target, **where)

    monkeypatch.setattr(os, "rename", late)
    assert storage.write(["a"], [b"2"], [token]).refused == ()
    assert storage.read(["a"]) == [b"2"]


if __name__ == "__main__":
    for name, function in WRITERS.items():
        with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as directory:
            print(name, "(lost, runs, writes tried):", lost(Path(directory), function, int(sys.argv[1])))  # noqa: T201
