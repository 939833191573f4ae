"""Bugs of old, planted again: a simulator that does not find them proves nothing.

Each replaces one rule of the protocol by what a hasty reader would write; the histories must notice.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import history
from kvsync import KvsyncError, engine, lease, policy, resolution
from kvsync.index.recent import load_manifest
from kvsync.lease import contender
from kvsync.lease.contender import Contender, Taken
from kvsync.native import Segment, stamp_after
from kvsync.replica import Replica
from kvsync.scan import InventoryGuard
from kvsync.side import Side
from kvsync.transfer import Look

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.index.manifest import Missing
    from kvsync.native import Cover
    from kvsync.types import Change

SEEDS = 800
SOUND_APPLY = engine.Run._apply


def forget_what_landed(self: Replica, name: str, _intent: Segment, *, remember: bool) -> None:
    garbage = (*self.manifest.garbage, name)
    self._write(self.manifest._replace(garbage=garbage), self.manifest.cover)


def only_uncovered_segments(self: Replica, known: Cover) -> list[Segment]:
    newer = known.vector
    entries = self.manifest.segments
    return self.segments([e for e in entries if any(stamp > newer.get(origin, -1) for origin, stamp in e.maxima)])


def vector_before_values(
    self: Any, giver: Any, taker: Any, incoming: Any, cover: Cover, direction: str, then: Any
) -> int:
    taker.replica.finalise(incoming.log, cover, taker.replica.manifest.missing)
    nothing_left = dataclasses.replace(incoming, log=Segment.from_rows([]))
    return SOUND_APPLY(self, giver, taker, nothing_left, cover, direction, then)


def always_clean(self: lease.Lease, version: bytes, *, interrupted: bool) -> None:
    self.storage.remove(["lease"], version)


def decided_again(rule: Any, conflict: Any, values: Any) -> Any:
    plain = {
        side: getattr(conflict, side)._replace(flags=getattr(conflict, side).flags & 1) for side in ("source", "target")
    }
    return policy.judge(rule, dataclasses.replace(conflict, **plain), values)


def known_though_moved(self: Contender) -> lease.Lease | Taken | None:
    left = lease.recall(self.storage)
    taken = self._take_over()
    if left is not None and isinstance(taken, lease.Lease):
        taken.known = left.manifest
    return taken


PLANTS: dict[str, tuple[object, str, Callable[..., Any], tuple[Any, ...]]] = {
    "what a crashed run got in is not adopted": (Replica, "_adopt", forget_what_landed, history.POLICIES),
    "no intent is written": (Replica, "intend", lambda _self, _segment: None, history.POLICIES),
    "covered segments in between are not read": (Replica, "stretch", only_uncovered_segments, ("latest",)),
    "the vector moves before the values": (engine.Run, "_apply", vector_before_values, ("latest",)),
    "a decision is stamped by the local clock alone": (
        resolution,
        "stamp_after",
        lambda now_ms, _seen: stamp_after(now_ms, 0),
        history.POLICIES,
    ),
    "an interrupted run leaves no mark": (lease.Lease, "_release", always_clean, history.POLICIES),
    "manifests that were left equal are not read": (
        engine.Run,
        "_agree_when_read",
        lambda self: self._agree(*self._seen),
        ("latest",),
    ),
    "a manifest is known though somebody had its lease": (Contender, "_take_again", known_though_moved, ("latest",)),
    "a lease ended with any manifest": (
        contender,
        "ended_by",
        lambda storage, _there: load_manifest(storage),
        history.POLICIES,
    ),
    "a lease ends with a manifest that is not the last": (
        engine.Run,
        "_nothing_else_to_come",
        lambda _self: True,
        history.POLICIES,
    ),
    "a decision is decided again": (resolution, "judge", decided_again, ("source", "target")),
}


SOUND_LACKING = Replica.lacking


def nothing_held(self: Replica, failed: Sequence[tuple[Change, str]]) -> list[Missing]:
    return [dataclasses.replace(lack, held=b"") for lack in SOUND_LACKING(self, failed)]


def leave_nothing_alone(_self: object, _keys: Sequence[str]) -> tuple[None, dict[str, str]]:
    return None, {}


WATCHED: dict[str, tuple[object, str, Callable[..., Any], Callable[..., Any]]] = {
    "a run that scans writes without conditions": (
        InventoryGuard,
        "examine",
        leave_nothing_alone,
        history.edited,
    ),
    "a run that looks first leaves nothing alone": (Look, "examine", leave_nothing_alone, history.edited),
    "what a scan found is not logged": (Side, "commit_scan", lambda _self: None, history.edited),
    "a missing entry does not say what is held": (Replica, "lacking", nothing_held, history.edited),
    "what a crashed run got in is not adopted": (Replica, "_adopt", forget_what_landed, history.play),
}
"""Bugs by which a value is overwritten that nobody knew, each with the histories that meet it."""


@pytest.mark.parametrize("name", PLANTS)
def test_the_histories_find_a_planted_bug(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, attribute, bug, policies = PLANTS[name]
    played = history.ring if bug is decided_again else partial(history.play, crashes=0.7)
    monkeypatch.setattr(place, attribute, bug)
    # Any alarm will do, but it must be one: a plant that no longer fits the code raises something else.
    with pytest.raises((AssertionError, KvsyncError)):
        # Even seeds are those with crashes.
        for seed in range(0, 2 * SEEDS, 2):
            played(seed, policies)


@pytest.mark.parametrize("name", WATCHED)
def test_the_histories_find_a_value_overwritten_unknown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, attribute, bug, played = WATCHED[name]
    monkeypatch.setattr(place, attribute, bug)
    assert any("overwritten unknown" in alarm(played, seed) for seed in range(SEEDS))


def test_the_histories_find_losing_values_that_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolution.Verdicts, "keep_lost", lambda _self, _source, _target: None)
    assert any("lost without a trace" in alarm(history.edited, seed) for seed in range(SEEDS))


def alarm(played: Callable[..., Any], seed: int) -> str:
    """Return what a history complains of, or nothing."""
    try:
        played(seed, history.POLICIES)
    except AssertionError as error:
        return str(error)
    return ""
