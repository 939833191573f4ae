"""What of a file travels with its value from one folder to another: with `meta=mode,mtime`, and only for new files."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

import kvsync
from kvsync import Put
from kvsync.errors import UsageError
from kvsync.storages import open_storage
from kvsync.storages.contract import LARGE_BYTES, Support
from kvsync.storages.folder import FolderStorage
from kvsync.storages.partial import PartialStorage
from kvsync.testing import CountingStorage, FaultyStorage, crashes, virtual_environment
from kvsync.testing.conformance import listing
from kvsync.types import Metadata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kvsync.environment import Environment
    from kvsync.storages import Target
    from kvsync.testing import Fault

LONG_AGO_NS = 981_173_106_123_456_789
BOTH = ("mode", "mtime")


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def left(tmp_path: Path) -> Path:
    (tmp_path / "left").mkdir()
    return tmp_path / "left"


@pytest.fixture
def right(tmp_path: Path) -> Path:
    (tmp_path / "right").mkdir()
    return tmp_path / "right"


def make(path: Path, value: bytes = b"#!/bin/sh\n", mode: int = 0o755, modified_ns: int = LONG_AGO_NS) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(value)
    os.chmod(path, mode)
    os.utime(path, ns=(modified_ns, modified_ns))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def time_of(path: Path) -> int:
    return os.stat(path).st_mtime_ns


def nothing_happens(source: Target, target: Target) -> None:
    for one, other in ((source, target), (target, source)):
        result = kvsync.sync(one, other, scan=True)
        assert (result.pushed, result.pulled, result.committed) == (0, 0, (0, 0)), result


@pytest.mark.parametrize("value", [b"", b"#!/bin/sh\n", b"x" * (LARGE_BYTES + 1)], ids=["empty", "small", "in parts"])
def test_a_new_file_gets_what_both_sides_ask_for(left: Path, right: Path, value: bytes) -> None:
    make(left / "bin/run", value)
    make(left / "data", value, 0o640)
    source, target = FolderStorage(left, meta=BOTH), FolderStorage(right, meta=BOTH)
    assert kvsync.sync(source, target, scan=True).pushed == 2
    assert (right / "bin/run").read_bytes() == value
    assert (mode_of(right / "bin/run"), mode_of(right / "data")) == (0o755, 0o644)
    assert time_of(right / "bin/run") == time_of(right / "data") == LONG_AGO_NS
    nothing_happens(source, target)


@pytest.mark.parametrize(
    ("ours", "theirs", "mode", "carries_time"),
    [
        (BOTH, ("mode",), 0o755, False),
        (("mtime",), BOTH, 0o644, True),
        (("mode",), ("mtime",), 0o644, False),
        ((), BOTH, 0o644, False),
        (BOTH, (), 0o644, False),
    ],
)
def test_what_only_one_side_asks_for_is_not_carried(
    left: Path, right: Path, ours: tuple[str, ...], theirs: tuple[str, ...], mode: int, *, carries_time: bool
) -> None:
    make(left / "run")
    kvsync.sync(FolderStorage(left, meta=ours), FolderStorage(right, meta=theirs), scan=True)
    assert mode_of(right / "run") == mode
    assert (time_of(right / "run") == LONG_AGO_NS) == carries_time


def test_off_costs_no_call(left: Path, right: Path) -> None:
    make(left / "run")
    source, target = CountingStorage(FolderStorage(left, meta=BOTH)), CountingStorage(FolderStorage(right))
    kvsync.sync(source, target, scan=True)
    assert target.operations["write"] == 1
    assert not {"metadata", "write_with_metadata"} & (source.operations.keys() | target.operations.keys())
    assert Support.METADATA not in FolderStorage.capabilities.supports


def test_wrappers_carry_it_as_well(left: Path, right: Path) -> None:
    make(left / "run")
    source, target = CountingStorage(FolderStorage(left, meta=BOTH)), CountingStorage(FolderStorage(right, meta=BOTH))
    kvsync.sync(source, target, scan=True)
    assert (source.operations["metadata"], target.operations["write_with_metadata"]) == (1, 1)
    assert (mode_of(right / "run"), time_of(right / "run")) == (0o755, LONG_AGO_NS)


@pytest.mark.parametrize("mask", [0o077, 0o027, 0o137, 0o777 & ~0o600])
def test_never_more_than_the_umask_allows_and_no_set_id(left: Path, right: Path, mask: int) -> None:
    make(left / "run", mode=0o6755)
    os.umask(mask)
    storage = FolderStorage(right, meta=BOTH)
    kvsync.sync(FolderStorage(left, meta=BOTH), storage, scan=True)
    assert mode_of(right / "run") == 0o777 & ~mask
    written = storage.write_with_metadata(["all"], [b"1"], [Metadata(0o7777)])
    assert written.refused == ()
    assert mode_of(right / "all") == 0o777 & ~mask


@pytest.mark.parametrize("guard", ["none", "check"])
@pytest.mark.parametrize("scan", [True, False])
def test_an_existing_file_keeps_its_mode_and_gets_the_time_of_its_change(
    left: Path, right: Path, guard: str, *, scan: bool
) -> None:
    make(left / "run", b"1", 0o644)
    source, target = FolderStorage(left, meta=BOTH), FolderStorage(right, meta=BOTH)
    kvsync.sync(source, target, scan=True)
    os.chmod(right / "run", 0o600)
    before = time_of(left)
    make(left / "run", b"22", 0o755)
    changes = () if scan else [Put("run", b"22")]
    kvsync.sync(source, target, changes=changes, scan=scan, guard=guard)  # type: ignore[arg-type]
    assert ((right / "run").read_bytes(), mode_of(right / "run")) == (b"22", 0o600)
    assert time_of(right / "run") >= before
    nothing_happens(source, target)


def test_what_the_caller_gives_travels_with_its_file(left: Path, right: Path) -> None:
    source, target = FolderStorage(left, meta=BOTH), FolderStorage(right, meta=BOTH)
    kvsync.sync(source, target, changes=[Put("a", b"1")])
    assert time_of(right / "a") == time_of(left / "a")


def test_both_directions(left: Path, right: Path) -> None:
    make(left / "a", b"1")
    make(right / "b", b"2", modified_ns=LONG_AGO_NS + 1)
    kvsync.sync(FolderStorage(left, meta=BOTH), FolderStorage(right, meta=BOTH), scan=True)
    assert (mode_of(left / "b"), time_of(left / "b")) == (0o755, LONG_AGO_NS + 1)
    assert (mode_of(right / "a"), time_of(right / "a")) == (0o755, LONG_AGO_NS)


def test_a_carried_time_decides_no_later_conflict_wrongly(left: Path, right: Path) -> None:
    """The file has an old time at the taker, but what somebody writes there later is later."""
    make(left / "a", b"1")
    source, target = FolderStorage(left, meta=BOTH), FolderStorage(right, meta=BOTH)
    kvsync.sync(source, target, scan=True)
    (left / "a").write_bytes(b"first")
    now = time_of(left / "a")
    (right / "a").write_bytes(b"second")
    os.utime(right / "a", ns=(now + 1_000_000, now + 1_000_000))
    kvsync.sync(source, target, scan=True)
    assert (left / "a").read_bytes() == (right / "a").read_bytes() == b"second"


def test_a_carried_time_is_no_change_for_a_third_storage(left: Path, right: Path) -> None:
    make(left / "a", b"1")
    target, third = FolderStorage(right, meta=BOTH), dict[str, bytes]()
    kvsync.sync(FolderStorage(left, meta=BOTH), target, scan=True)
    result = kvsync.sync(target, third, scan=True)
    assert (result.committed[0], third["a"]) == (0, b"1")


@pytest.mark.parametrize("age_ns", [0, 1_000_000_000, -3_600_000_000_000])
def test_a_time_of_this_moment_proves_nothing(right: Path, age_ns: int) -> None:
    """A carried time has the kernel's tick: a write within the same one would not move it."""
    now = 1_700_000_000_000_000_000
    storage = FolderStorage(right, meta=BOTH, clock_ns=lambda: now)
    written = storage.write_with_metadata(["a"], [b"1"], [Metadata(modified_ns=now - age_ns)], [None])
    assert written == ((), (b"",))
    assert time_of(right / "a") == now - age_ns


@pytest.mark.parametrize("conditional", [True, False])
def test_tokens_are_those_of_the_next_scan(right: Path, *, conditional: bool) -> None:
    make(right / "there", b"1")
    storage = FolderStorage(right, meta=BOTH)
    metadata = [Metadata(0o111, LONG_AGO_NS), None, Metadata(0o100, LONG_AGO_NS + 7), Metadata(modified_ns=0)]
    expect = [None, None, listing(storage)["there"], None] if conditional else None
    keys = ["new", "plain", "there", "oldest"]
    written = storage.write_with_metadata(keys, [b"1", b"2", b"3", b"4"], metadata, expect)
    assert (written.refused, written.tokens) == ((), tuple(map(listing(storage).get, keys)))
    assert (time_of(right / "new"), time_of(right / "oldest")) == (LONG_AGO_NS, 0)
    assert time_of(right / "there") > LONG_AGO_NS + 7


def test_a_file_that_appears_meanwhile_is_no_new_one(right: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = FolderStorage(right, meta=BOTH)
    stage = type(storage._files(None, None)).stage  # type: ignore[arg-type]

    def appear(*arguments: object) -> object:
        make(right / "a", b"theirs", 0o600)
        return stage(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("kvsync.storages.folder.values.ValueFiles.stage", appear)
    (refusal,) = storage.write_with_metadata(["a"], [b"1"], [Metadata(0o111, LONG_AGO_NS)], [None]).refused
    assert (refusal.changed, (right / "a").read_bytes()) == (True, b"theirs")
    os.unlink(right / "a")
    assert storage.write_with_metadata(["a"], [b"1"], [Metadata(0o111, LONG_AGO_NS)]).refused == ()
    assert ((right / "a").read_bytes(), mode_of(right / "a")) == (b"1", 0o600)
    assert time_of(right / "a") > LONG_AGO_NS + 1


def test_metadata_is_that_of_files_alone(left: Path) -> None:
    make(left / "run")
    make(left / "dir/a", mode=0o611)
    (left / "link").symlink_to("run")
    keys = ["run", "dir/a", "dir", "link", "none", "\ud800"]
    assert FolderStorage(left, meta=BOTH).metadata(keys) == [
        Metadata(0o111, LONG_AGO_NS),
        Metadata(0o011, LONG_AGO_NS),
        *[None] * 4,
    ]
    assert FolderStorage(left, meta=["mode"]).metadata(["run"]) == [Metadata(executable=0o111)]
    assert FolderStorage(left / "none", meta=BOTH).metadata(["a"]) == [None]


def test_a_folder_with_a_database_in_it_carries_nothing(left: Path, right: Path) -> None:
    make(left / "run")
    source = PartialStorage(FolderStorage(left, meta=BOTH), {"own.db": "it is somebody else's"})
    kvsync.sync(source, FolderStorage(right, meta=BOTH), scan=True)
    assert time_of(right / "run") != LONG_AGO_NS


def test_crashes_leave_files_with_their_metadata_or_none(tmp_path: Path) -> None:
    numbers = iter(range(10_000))

    def world() -> tuple[Path, Path, Environment]:
        place = tmp_path / str(next(numbers))
        for name in ("a", "dir/b", "c"):
            make(place / "left" / name, name.encode(), modified_ns=LONG_AGO_NS)
        (place / "right").mkdir()
        return place / "left", place / "right", virtual_environment()

    def run(made: tuple[Path, Path, Environment], fault: Fault) -> None:
        left, right, environment = made
        target = FaultyStorage(FolderStorage(right, meta=BOTH), fault)
        kvsync.sync(FolderStorage(left, meta=BOTH), target, scan=True, environment=environment)

    def check(right: Path, fault: Fault) -> int:
        files = [path for path in right.rglob("*") if path.is_file() and ".kvsync" not in path.parts]
        for path in files:
            assert (mode_of(path), time_of(path)) == (0o755, LONG_AGO_NS), (path, fault)
        return len(files)

    for fault, (left, right, environment) in crashes(world, run):
        check(right, fault)
        again = FolderStorage(left, meta=BOTH), FolderStorage(right, meta=BOTH)
        result = kvsync.sync(*again, scan=True, wait_seconds=200, environment=environment)
        assert (result.conflicts, check(right, fault)) == ([], 3), fault
        assert kvsync.sync(*again, scan=True, environment=environment).pushed == 0


def test_the_url_says_it(left: Path, right: Path) -> None:
    make(left / "run")
    kvsync.sync(f"file://{left}?meta=mode,mtime", f"file://{right}?meta=mtime", scan=True)
    assert (mode_of(right / "run"), time_of(right / "run")) == (0o644, LONG_AGO_NS)
    for wrong in ("mtimes", "mode,", "mode;mtime", "owner"):
        with pytest.raises(UsageError, match="meta is mode, mtime, or mode,mtime"):
            open_storage(f"file://{left}?meta={wrong}")
    with pytest.raises(UsageError, match="meta is mode, mtime, or mode,mtime"):
        FolderStorage(left, meta="mode")
    opened, _ = open_storage(f"file://{left}?meta=")
    assert Support.METADATA not in opened.capabilities.supports
