"""A program that overwrites a few keys all the time, beside runs that scan and overwrite them, too: nothing is lost."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from places import make
from variants import amount

import kvsync
from kvsync.native import digest_values
from kvsync.storages import open_storage
from kvsync.storages.contract import has_tokens

if TYPE_CHECKING:
    from pathlib import Path

    from places import Target

    from kvsync import Conflict
    from kvsync.storages.contract import Storage

COUNT = amount(150, 5000)
KEYS = [f"hot/{number}" for number in range(12)]
KINDS = ["dict", "sqlite", "redis", "postgres", "s3", "lmdb", "nats"]
"""All but folders, in which programs write without conditions."""


def union(_: Conflict, source: bytes | None, target: bytes | None) -> bytes:
    """Merge two values, each a set of lines."""
    return b"".join(sorted({*(source or b"").splitlines(keepends=True), *(target or b"").splitlines(keepends=True)}))


def append(storage: Storage, key: str, line: bytes) -> None:
    """Add a line to a value as a careful program does: on condition of what it read."""
    while True:
        token = storage.tokens([key])[0] if has_tokens(storage) else None
        value = storage.read([key])[0]
        assert isinstance(value, bytes)
        expected = token if has_tokens(storage) else digest_values([value])[0]
        if not storage.write([key], [value + line], [expected]).refused:
            return


def write_all(target: Target) -> None:
    with closing(open_storage(target)[0]) as storage:
        for number in range(COUNT):
            append(storage, KEYS[number % len(KEYS)], b"ours %d\n" % number)
            time.sleep(0.0005)


@pytest.mark.parametrize("kind", KINDS)
def test_no_overwrite_is_lost(folder: Path, kind: str) -> None:
    """The peer changes the same keys between runs, so that each run has something to write where the program does."""
    place = make(kind, folder, "place")
    peer: dict[str, bytes] = {}
    for key in KEYS:
        place.put(key, b"")
    kvsync.sync(place.target, peer, scan=True)
    writer = threading.Thread(target=write_all, args=(place.target,))
    writer.start()
    runs = tried = 0
    while writer.is_alive() or runs < 4:
        for key in KEYS:
            peer[key] += b"theirs %d\n" % runs
        pair = (place.target, peer) if runs % 2 else (peer, place.target)
        result = kvsync.sync(*pair, scan=True, conflict=union, max_delete="100%")
        tried += result.pushed + result.pulled + len(result.missing)
        runs += 1
    writer.join()
    for _ in range(2):
        kvsync.sync(place.target, peer, scan=True, conflict=union, max_delete="100%")
    assert tried > runs
    values = place.values()
    assert values == {key: peer[key] for key in KEYS}
    kept = [value.value for storage in (place.target, peer) for value in kvsync.lost(storage)]
    there = {line for data in [*values.values(), *kept] for line in data.splitlines()}
    ours, theirs = ({b"%s %d" % (who, n) for n in range(count)} for who, count in ((b"ours", COUNT), (b"theirs", runs)))
    assert not (ours | theirs) - there
