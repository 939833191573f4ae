"""Folders beside unison and rsync: few changes among many files, and the first copy.

unison finds changes on both sides and copies both ways, as kvsync does; rsync copies one way. Neither waits for the
disk: after a crash, files that they copied may be empty. kvsync makes every value durable before it logs it.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

import kvsync
from measure import FULL, Line, Report, in_turn_prepared

CHANGES = 100
SIZES = [10_000, 100_000] if FULL else [2_000]
ROUNDS = 9 if FULL else 3
FIRST_SYNCS = 3 if FULL else 1
FILES_EACH = 100
CHANGES_BARS = {10_000: 1.0, 100_000: 0.7}
FIRST_BAR = 1.0


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a folder that is removed in the end."""
    path = Path(tempfile.mkdtemp(prefix="kvsync-bench-"))
    yield path
    shutil.rmtree(path)


def program(name: str) -> str:
    """Return the path of a rival, or skip the bench."""
    return shutil.which(name) or pytest.skip(f"{name} is not installed")


def fill(folder: Path, count: int) -> None:
    """Write files of 200 to 2,000 bytes, a hundred in each directory."""
    chance = random.Random(5)
    block = chance.randbytes(1 << 16)
    for number in range(count):
        if number % FILES_EACH == 0:
            (folder / name_of(number)).parent.mkdir(parents=True)
        start = chance.randrange(len(block) - 2_000)
        (folder / name_of(number)).write_bytes(block[start : start + chance.randrange(200, 2_000)])


def name_of(number: int) -> str:
    """Return the name of a file in its folder."""
    return f"d{number // FILES_EACH:05d}/f{number:07d}"


def settle() -> None:
    """Write out what is dirty, so that nobody pays for the work of another."""
    os.sync()


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files but the index."""
    found = {}
    for path, directories, names in os.walk(folder):
        directories[:] = [name for name in directories if name != ".kvsync"]
        found.update({os.path.join(os.path.relpath(path, folder), n): Path(path, n).read_bytes() for n in names})
    return found


class Pair:
    """Two folders that are equal, of which each gets a hundred changed files before a run."""

    def __init__(self, place: Path, count: int, run: Callable[[Path, Path], object]) -> None:
        self.sides = place / "one", place / "two"
        self.count = count
        self.run = run
        self.round = 0
        self.sides[0].mkdir(parents=True)
        self.sides[1].mkdir()
        fill(self.sides[0], count)
        run(*self.sides)

    def changed(self) -> Callable[[], object]:
        """Change files on both sides, each its own, and return the run that makes the sides equal."""
        self.round += 1
        chance = random.Random(self.round)
        picked = chance.sample(range(self.count), 2 * CHANGES)
        for position, number in enumerate(picked):
            (self.sides[position % 2] / name_of(number)).write_bytes(chance.randbytes(chance.randrange(200, 2_000)))
        settle()
        return partial(self.run, *self.sides)

    def assert_equal(self) -> None:
        """Check that both sides hold the same files."""
        one, two = map(files_of, self.sides)
        assert len(one) == self.count
        assert one == two


def kvsync_run(one: Path, two: Path) -> object:
    """Sync two folders as a caller of the library does."""
    return kvsync.sync(str(one), str(two), scan=True)


def unison_run(command: str, state: Path, one: Path, two: Path) -> object:
    """Sync two folders by unison, which then looks at times and inodes first."""
    options = ["-batch", "-silent", "-auto", "-confirmbigdel=false", "-fastcheck", "true", "-log=false"]
    environment = {**os.environ, "UNISON": str(state), "HOME": str(state)}
    return subprocess.run([command, str(one), str(two), *options], env=environment, check=True)


@pytest.mark.parametrize("count", SIZES)
def test_changes(report: Report, place: Path, count: int) -> None:
    """Sync a hundred changes a side."""
    unison = partial(unison_run, program("unison"), place)
    pairs = {
        "kvsync": Pair(place / "ours", count, kvsync_run),
        "unison": Pair(place / "theirs", count, unison),
    }
    found = in_turn_prepared({name: pair.changed for name, pair in pairs.items()}, ROUNDS)
    for pair in pairs.values():
        pair.assert_equal()
    add = partial(Line, "folders", f"{count:,} files, {CHANGES} changes a side")
    ours, theirs = found["kvsync"], found["unison"]
    report.add(add("kvsync", 1e3 * ours.median, "ms"))
    report.add(add("kvsync / unison, medians", ours.median / theirs.median, "x", CHANGES_BARS.get(count)))
    report.add(add("kvsync / unison, best rounds", ours.best / theirs.best, "x"))


def test_first_sync(report: Report, place: Path) -> None:
    """Copy all files into an empty folder, once each round."""
    rsync = program("rsync")
    count = SIZES[-1]
    source = place / "source"
    source.mkdir()
    fill(source, count)

    def prepared(run: Callable[[Path], object]) -> Callable[[], object]:
        shutil.rmtree(source / ".kvsync", ignore_errors=True)
        shutil.rmtree(place / "target", ignore_errors=True)
        (place / "target").mkdir()
        settle()
        return partial(run, place / "target")

    def rsynced(target: Path, *more: str) -> object:
        return subprocess.run([rsync, "-a", *more, f"{source}/", f"{target}/"], check=True)

    runs: dict[str, Callable[[Path], object]] = {
        "kvsync": partial(kvsync_run, source),
        "rsync": rsynced,
        "rsync --fsync": lambda target: rsynced(target, "--fsync"),
    }
    found = in_turn_prepared({name: partial(prepared, run) for name, run in runs.items()}, FIRST_SYNCS)
    add = partial(Line, "folders", f"first sync of {count:,} files")
    ours = found["kvsync"]
    report.add(add("kvsync", ours.best, "s"))
    report.add(add("kvsync / rsync, best rounds", ours.best / found["rsync"].best, "x", FIRST_BAR))
    report.add(add("kvsync / rsync, medians", ours.median / found["rsync"].median, "x"))
    report.add(add("kvsync / rsync --fsync, best rounds", ours.best / found["rsync --fsync"].best, "x"))
