"""A storage that was restored from a backup, with its index: what both sides change afterwards is a conflict."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

import pytest
from places import FolderPlace, make

import kvsync

if TYPE_CHECKING:
    from pathlib import Path

    from places import Place


@pytest.mark.parametrize("kind", ["dict", "folder", "sqlite"])
@pytest.mark.parametrize("policy", ["source", "target"])
@pytest.mark.parametrize("existed", [False, True])
def test_a_key_that_both_change_after_a_restore_is_a_conflict(
    folder: Path, kind: str, policy: Literal["source", "target"], *, existed: bool
) -> None:
    """Both logs are compared in full then, and the later change took the place of the other one without a word."""
    place: Place = make(kind, folder, "one")
    peer: dict[str, bytes] = {"other": b"1"}
    if existed:
        peer["k"] = b"0"
    kvsync.sync(place.target, peer, scan=True, create="both")
    backup = place.copy(folder / "backup")
    place.put("k", b"before the restore")
    place.put("more", b"1")
    kvsync.sync(place.target, peer, scan=True)
    backup.put("k", b"source")
    peer["k"] = b"target"
    result = kvsync.sync(backup.target, peer, scan=True, conflict=policy)
    assert [(conflict.key, conflict.winner) for conflict in result.conflicts] == [("k", policy)]
    assert backup.values() == {"other": b"1", "k": policy.encode(), "more": b"1"}
    assert peer["k"] == policy.encode()
    kept = [value.value for side in (backup.target, peer) for value in kvsync.lost(side)]
    assert kept == [{"source": b"target", "target": b"source"}[policy]]
    again = kvsync.sync(backup.target, peer, scan=True)
    assert (again.pushed, again.pulled, again.committed, again.conflicts) == (0, 0, (0, 0), [])


@pytest.mark.parametrize("kind", ["dict", "folder", "sqlite"])
def test_values_that_are_put_back_without_the_index_are_changes(folder: Path, kind: str) -> None:
    """Files bear the times of the backup then, which are those of older changes."""
    place: Place = make(kind, folder, "one")
    peer = {f"k{number}": b"%d" % number for number in range(9)}
    kvsync.sync(place.target, peer, scan=True, create="both")
    backup = place.values()
    times = {key: (folder / "one" / key).stat() for key in backup} if isinstance(place, FolderPlace) else {}
    place.put("k1", b"spoilt")
    place.put("new", b"1")
    place.delete("k2")
    kvsync.sync(place.target, peer, scan=True)
    for key, value in backup.items():
        place.put(key, value)
    for key, status in times.items():
        os.utime(folder / "one" / key, ns=(status.st_atime_ns, status.st_mtime_ns))
    result = kvsync.sync(place.target, peer, scan=True)
    assert (result.lives, result.conflicts, result.committed) == ([], [], (2, 0))
    assert {key: value for key, value in peer.items() if not key.startswith(".kvsync/")} == {**backup, "new": b"1"}
