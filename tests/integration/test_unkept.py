"""A value that loses a conflict while it cannot be read: nothing takes its place before it is kept."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

import kvsync
from kvsync import Put
from kvsync.run.unkept import UNKEPT_PREFIX
from kvsync.storages import open_storage

if TYPE_CHECKING:
    from pathlib import Path


def unkept(target: str) -> list[str]:
    """Return what notes losing values in a storage."""
    storage, _ = open_storage(target)
    try:
        return [name for name in storage.objects() if name.startswith(UNKEPT_PREFIX)]
    finally:
        storage.close()


def in_conflict(target: str) -> dict[str, bytes]:
    """Make a storage and its peer equal, and then have both change `k`; return the peer."""
    peer: dict[str, bytes] = {}
    kvsync.sync(peer, target, [Put("k", b"old"), Put("other", b"1")], scan=True)
    kvsync.commit(target, [Put("k", b"mine")])
    peer["k"] = b"theirs"
    return peer


def test_a_file_whose_place_a_link_took_is_kept_when_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    peer = in_conflict(str(folder))
    (folder / "k").rename(tmp_path / "away")
    (folder / "k").symlink_to(tmp_path / "away")
    for _ in range(2):
        result = kvsync.sync(peer, folder, scan=True, conflict="source")
        assert [entry.key for entry in result.unreadable] == [entry.key for entry in result.missing] == ["k"]
        assert kvsync.lost(folder) == []
        assert len(unkept(str(folder))) == 1
    (folder / "k").unlink()
    (tmp_path / "away").rename(folder / "k")
    kvsync.sync(peer, folder, scan=True, conflict="source")
    assert (folder / "k").read_bytes() == peer["k"] == b"theirs"
    assert [(lost.key, lost.value) for lost in kvsync.lost(folder)] == [("k", b"mine")]
    assert unkept(str(folder)) == []


@pytest.mark.parametrize("value", [b"mine", b"changed meanwhile"], ids=["the same", "another"])
def test_a_row_that_held_null_is_kept_when_it_has_its_value_again(tmp_path: Path, value: bytes) -> None:
    table = f"sqlite:///{tmp_path / 'a.db'}"
    with closing(sqlite3.connect(tmp_path / "a.db")) as database:
        database.execute("CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB)")
        peer = in_conflict(table)
        with database:
            database.execute("UPDATE kv SET value = NULL WHERE key = 'k'")
        result = kvsync.sync(peer, table, scan=True, conflict="source")
        assert [conflict.lost_as for conflict in result.conflicts] == [tuple(unkept(table))]
        with database:
            database.execute("UPDATE kv SET value = ? WHERE key = 'k'", (value,))
    result = kvsync.sync(peer, table, scan=True, conflict="source")
    assert peer["k"] == b"theirs"
    assert [lost.value for lost in kvsync.lost(table)] == [value]
