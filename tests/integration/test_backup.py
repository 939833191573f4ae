"""A storage that was restored from a backup, with its index: what both sides change afterwards is a conflict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest
from places import make

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
