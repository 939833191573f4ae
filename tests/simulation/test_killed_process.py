"""A real process, killed for good at every operation of a run over a folder and a SQLite file."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kvsync
from kvsync import Delete, Put
from kvsync.environment import Environment
from kvsync.process import this_process
from kvsync.storages import open_storage

CHILD = Path(__file__).with_name("killed_child.py")
OPERATIONS_MAX = 300


def build(root: Path) -> None:
    folder, database = str(root / "folder"), f"sqlite:///{root / 'data.db'}"
    kvsync.sync(folder, database, changes=[Put(f"dir/k{i}", b"old%d" % i) for i in range(5)])
    kvsync.commit(folder, [Put("dir/k0", b"mine"), Delete("dir/k1"), Put("new/a", b"1")])
    kvsync.commit(database, [Put("dir/k0", b"theirs"), Delete("dir/k2"), Put("new/b", b"2")])


def values(url: str) -> dict[str, object]:
    storage, _ = open_storage(url)
    try:
        keys = [key for batch, _ in storage.scan() for key in batch]
        return dict(zip(keys, storage.read(keys), strict=True))
    finally:
        storage.close()


def places(root: Path) -> tuple[str, str]:
    return str(root / "folder"), f"sqlite:///{root / 'data.db'}"


@pytest.mark.parametrize("order", ["folder first", "database first"])
def test_a_process_killed_at_any_operation_leaves_work_that_the_next_one_finishes(tmp_path: Path, order: str) -> None:
    origin = tmp_path / "origin"
    build(origin)
    pair = places if order == "folder first" else lambda root: places(root)[::-1]
    calm = tmp_path / "calm"
    shutil.copytree(origin, calm)
    kvsync.sync(*pair(calm), conflict="source")
    expected = values(places(calm)[0])
    killed_at = []
    # Where the system does not tell processes apart, a dead one is waited for.
    told = bool(this_process().machine)
    later = Environment() if told else Environment(clock=lambda: time.time() + 600)
    for first in range(1, OPERATIONS_MAX, 8):
        # One interpreter tries eight operations, each in a forked child that dies without a word.
        roots = [tmp_path / f"{order[0]}{at}" for at in range(first, first + 8)]
        for root in roots:
            shutil.copytree(origin, root)
        tries = [f"{at}|{'|'.join(pair(root))}" for at, root in enumerate(roots, first)]
        done = subprocess.run([sys.executable, str(CHILD), *tries], check=True, capture_output=True, text=True)
        fates = done.stdout.split()
        for at, (fate, root) in enumerate(zip(fates, roots, strict=True), first):
            if fate == "killed":
                killed_at.append(at)
            # It ended on this machine, so nobody has to wait for it.
            kvsync.sync(*pair(root), conflict="source", environment=later, wait_seconds=0)
            kvsync.sync(*pair(root), environment=later, wait_seconds=0)
            for url in places(root):
                assert values(url) == expected, f"killed at {at}"
            assert kvsync.verify(*places(root)).unlogged == {open_storage(url)[0].name: [] for url in places(root)}
            shutil.rmtree(root)
        if "finished" in fates:
            break
    assert killed_at == list(range(1, len(killed_at) + 1))
    assert len(killed_at) > 20
