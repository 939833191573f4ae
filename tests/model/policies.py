"""Policies: who wins a conflict."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from model.changes import Change, is_branch

if TYPE_CHECKING:
    from model.world import World

POLICIES = ("latest", "source", "target", "keep-both", "fail")


class Verdict(NamedTuple):
    """Which side wins, and whether the loser's value gets a key of its own."""

    side: int
    copies: bool = False


class Refused(Exception):
    """The policy `fail` met a conflict that nobody has decided yet."""


def judge(
    world: World, policy: str, key: str, changes: tuple[Change, Change], greater: int, *, lacking: bool
) -> Verdict:
    """Decide a conflict; `lacking`: a side does not hold its value, and cannot be given a decision for it."""
    if any(change.decided for change in changes):
        return Verdict(greater)
    if policy == "fail":
        raise Refused
    if lacking:
        return Verdict(greater)
    if policy in {"source", "target"}:
        return _of_side(world, policy, changes, greater)
    winner = _later(changes, greater)
    copies = policy == "keep-both" and bool(changes[1 - winner].value) and "~" not in key
    return Verdict(winner, copies=copies)


def _of_side(world: World, policy: str, changes: tuple[Change, Change], greater: int) -> Verdict:
    """Let one side win, unless a branch is in it: which of its changes are the later ones, the policy cannot mean."""
    if any(is_branch(change.origin) for change in changes) and "branch-policy" in world.parts:
        world.counts["policy overruled"] += 1
        return Verdict(greater)
    return Verdict(0 if policy == "source" else 1)


def _later(changes: tuple[Change, Change], greater: int) -> int:
    """Return the later change; a delete of unknown time loses against a value, since it may be the older one."""
    for i, (change, other) in enumerate((changes, reversed(changes))):
        if change.inexact and not change.value and other.value:
            return 1 - i
    return greater
