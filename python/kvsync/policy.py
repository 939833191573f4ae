"""Conflict policies: pure functions from two concurrent changes to a verdict.

A policy sees only true conflicts: both sides changed the key concurrently, to different outcomes, and neither change
is itself a decision. A decision competes by order alone, and is never decided again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from kvsync.errors import ConflictError, UsageError
from kvsync.native import DECISION

if TYPE_CHECKING:
    from kvsync.types import Change, Conflict, Label

__all__ = ["POLICIES", "Merge", "Policy", "PolicyName", "Verdict", "conflict_copy", "judge", "resolve_policy"]

PolicyName: TypeAlias = Literal["latest", "source", "target", "keep-both", "fail"]
Merge: TypeAlias = Callable[["Conflict", bytes | None, bytes | None], bytes | str]
"""Takes the conflict and both values (None: deleted); returns bytes, "source", "target" or "delete"."""

Policy: TypeAlias = PolicyName | Merge
"""Decides conflicts: by a name, or a callable."""

COPY_NAME: Final = r"~[0-9a-f]{16}-[0-9a-f]{8}(\.[A-Za-z0-9]{1,16})?\Z"
EXTENSION: Final = r"(?<=[^/])\.[A-Za-z0-9]{1,16}\Z"
"""The last part of a file name after a dot, unless the name begins with that dot."""


class Verdict(NamedTuple):
    """What a policy decided for a key.

    `side` is the side whose change wins. None means neither: the outcome is `value`, or a delete if that is None.
    `copy` is the side whose value is kept under another key.
    """

    side: Label | None
    value: bytes | None = None
    copy: Label | None = None


WINS: Final[dict[Label, Verdict]] = {"source": Verdict("source"), "target": Verdict("target")}
"""The plain verdicts, made once: there may be as many as there are keys."""


def newer(source: Change, target: Change) -> Label:
    """Return the side of the change that is greater in the total order."""
    if source.stamp != target.stamp:  # what the order begins with
        return "source" if source.stamp > target.stamp else "target"
    return "source" if source.order > target.order else "target"


def later(source: Change, target: Change) -> Label:
    """Return the side of the later change, as far as times are known.

    A delete whose time is not exact loses against a value: it may be the older one, and a value that comes back does
    less harm than one that is lost. Otherwise the later possible one counts as the later.
    """
    if source.flags != target.flags:
        if source.deletes and source.inexact and not target.deletes:
            return "target"
        if target.deletes and target.inexact and not source.deletes:
            return "source"
    return newer(source, target)


def latest(source: Change, target: Change) -> Verdict:
    """Let the later change win."""
    return WINS[later(source, target)]


def keep_both(source: Change, target: Change) -> Verdict:
    """Let the later change win, and keep the other value under a key derived from its change."""
    winner = later(source, target)
    loser = target if winner == "source" else source
    if loser.deletes or re.search(COPY_NAME, loser.key):
        # A delete has no value to keep, and a copy is not copied again.
        return Verdict(winner)
    return Verdict(winner, copy="target" if winner == "source" else "source")


POLICIES: Final[dict[str, Callable[[Change, Change], Verdict]]] = {
    "latest": latest,
    "source": lambda _source, _target: WINS["source"],
    "target": lambda _source, _target: WINS["target"],
    "keep-both": keep_both,
    "fail": latest,
}


def resolve_policy(policy: object) -> Policy:
    """Return `policy` if it is valid.

    Raises:
        UsageError: it is neither a known name nor callable.
    """
    if callable(policy) or (isinstance(policy, str) and policy in POLICIES):
        return policy  # type: ignore[return-value]
    message = f"unknown conflict policy {policy!r}; choose one of {', '.join(POLICIES)}, or pass a callable"
    raise UsageError(message)


def judge(policy: Policy, conflict: Conflict, values: Callable[[], tuple[bytes | None, bytes | None]]) -> Verdict:
    """Decide one conflict; `values` reads both values, and is only called for a callable policy.

    Raises:
        UsageError: a callable returned something that is not a verdict.
    """
    source, target = conflict.source, conflict.target
    if (source.flags | target.flags) & DECISION:
        return WINS[newer(source, target)]
    if not callable(policy):
        return POLICIES[policy](source, target)
    answer = policy(conflict, *values())
    if isinstance(answer, bytes):
        return Verdict(None, answer)
    if answer == "delete":
        return Verdict(None, None)
    if answer == "source":
        return Verdict("source")
    if answer == "target":
        return Verdict("target")
    message = f"a conflict policy must return bytes, 'source', 'target' or 'delete', not {answer!r}"
    raise UsageError(message, key=conflict.key)


def refuse(conflicts: list[Conflict]) -> None:
    """Apply the policy "fail": raise an error if any conflict is undecided.

    Raises:
        ConflictError: no earlier decision settles these conflicts.
    """
    undecided = [c for c in conflicts if not (c.source.decided or c.target.decided)]
    if undecided:
        names = ", ".join(repr(c.key) for c in undecided[:5]) + (", …" if len(undecided) > 5 else "")  # noqa: PLR2004
        count = f"{len(undecided)} conflict{'' if len(undecided) == 1 else 's'}"
        message = f"{count}, so nothing was applied: {names}; choose another conflict policy than 'fail'"
        raise ConflictError(message, conflicts=undecided)


def conflict_copy(loser: Change) -> str:
    """Return the key under which a losing value is kept, the same on every replica.

    A file name keeps its last extension at its end: what follows the last dot, up to 16 ASCII letters and digits. A
    name that begins with its only dot has none.

    >>> from kvsync.types import Change
    >>> conflict_copy(Change("notes.txt", 7, 255, 0, 1, bytes.fromhex("c0ffee00") + bytes(28)))
    'notes~00000000000000ff-c0ffee00.txt'
    """
    extension = re.search(EXTENSION, loser.key)
    end = extension.start() if extension else len(loser.key)
    return f"{loser.key[:end]}~{loser.stamp:016x}-{loser.digest[:4].hex()}{loser.key[end:]}"
