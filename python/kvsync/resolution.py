"""Conflicts, from policy to log: what is decided is committed where its value is, before anything is pushed.

A decision that is not simply the greatest stamp becomes a change of its own, flagged, with a fresh stamp of the
side that holds the chosen value. From there on a run only ever pushes the greatest stamp.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from kvsync.index.lost import LostValue
from kvsync.native import DECISION, TOMBSTONE, digest_values, stamp_after
from kvsync.policy import Verdict, conflict_copy, judge, newer, refuse
from kvsync.storages.contract import has_expiry
from kvsync.types import ANY, Change, Conflict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvsync.native import Delta
    from kvsync.policy import Policy
    from kvsync.side import Side

__all__ = ["Verdicts", "conflicts_of", "decide", "greatest", "keep_times", "overtaken"]

READ_COUNT = 64
"""Conflicting values read at a time."""

NO_DIGEST = bytes(32)


@dataclass(frozen=True, slots=True)
class _Decision:
    """A key's new outcome: the value's digest and size, and the value itself where no side holds it yet."""

    key: str
    flags: int
    size: int
    digest: bytes
    expires: int = 0
    value: bytes | None = None
    writes: bool = False

    @classmethod
    def of_value(cls, key: str, value: bytes | None, expires: int = 0) -> _Decision:
        if value is None:
            return cls(key, DECISION | TOMBSTONE, 0, NO_DIGEST, writes=True)
        return cls(key, DECISION, len(value), digest_values([value])[0], expires, value, writes=True)

    @classmethod
    def of_change(cls, change: Change) -> _Decision:
        return cls(change.key, change.flags | DECISION, change.size, change.digest, change.expires)

    def logged(self, origin: int, stamp: int) -> Change:
        """Return the change that this decision becomes."""
        return Change(self.key, origin, stamp, self.flags, self.size, self.digest, self.expires)


@dataclass(slots=True)
class Verdicts:
    """All conflicts of a run, decided.

    Attributes:
        decided: each conflict with its verdict.
        at: decisions to log, by the side that holds, or is given, the outcome.
        lost: where losing values were kept, by key.
        refused: keys whose decided value could not be written.
    """

    decided: list[tuple[Conflict, Verdict]] = field(default_factory=list)
    at: dict[str, list[_Decision]] = field(default_factory=lambda: {"source": [], "target": []})
    lost: dict[str, list[str]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)

    def commit(self, source: Side, target: Side) -> bool:
        """Log the decisions, each side its own; return whether there were any."""
        for side, other in ((source, target), (target, source)):
            decisions = sorted(self.at[side.label], key=lambda decision: decision.key)
            # Past both clocks, so that it beats both changes that it decides between.
            stamp = max(side.replica.manifest.clock, other.replica.manifest.clock)
            rows = []
            for decision in decisions:
                stamp = stamp_after(side.environment.now_ms(), stamp)
                rows.append(decision.logged(side.replica.manifest.replica, stamp))
            values = [(decision.key, decision.value, decision.expires) for decision in decisions if decision.writes]
            self.refused |= side.decide(rows, values)
        self.decided = [(conflict, self._upheld(conflict, verdict)) for conflict, verdict in self.decided]
        return any(self.at.values())

    def report(self) -> list[Conflict]:
        """Return the conflicts with what became of them."""
        return [
            replace(
                conflict,
                winner=verdict.side or "value",
                kept_as=conflict_copy(_change(conflict, verdict.copy)) if verdict.copy else None,
                lost_as=tuple(self.lost.get(conflict.key, ())),
            )
            for conflict, verdict in self.decided
        ]

    def keep_lost(self, source: Side, target: Side) -> None:
        """Store every losing value, not yet stored, in the storage that holds it, before it is overwritten."""
        for side in (source, target):
            losers = [
                _change(conflict, side.label)
                for conflict, verdict in self.decided
                if side.label not in (verdict.side, verdict.copy)
            ]
            for change, value in _values(side, [change for change in losers if not change.deletes]):
                if value is not None and side.lease is not None:
                    self._keep(side, LostValue.of(change, value))

    def _keep(self, side: Side, lost: LostValue) -> None:
        names = self.lost.setdefault(lost.key, [])
        if lost.name not in names:
            side.before_write()
            side.storage.store(lost.name, lost.encode(), ANY)
            names.append(lost.name)

    def _upheld(self, conflict: Conflict, verdict: Verdict) -> Verdict:
        """Return the verdict as it stands once refused values are taken back."""
        if verdict.side is None and conflict.key in self.refused:
            return Verdict(newer(conflict.source, conflict.target))
        if verdict.copy is not None and conflict_copy(_change(conflict, verdict.copy)) in self.refused:
            return verdict._replace(copy=None)
        return verdict


def conflicts_of(found: Delta, now_ms: int) -> list[Conflict]:
    """Return the true conflicts of a delta, ascending by key.

    Where both changes leave nothing by now, deleted or expired, there is nothing to decide: the greater is logged. Nor
    where both leave the same value for another time: the greater is applied.
    """
    return [
        Conflict(source.key, source, target)
        for source, target in _pairs(found)
        if source.outcome != target.outcome
        and not (_leaves_nothing(source, now_ms) and _leaves_nothing(target, now_ms))
    ]


def keep_times(verdicts: Verdicts, found: Delta, source: Side, target: Side, now_ms: int) -> None:
    """Let a value's time stand against a side that has the same value, and cannot know of times.

    Its own change says that the value stays for ever, which is all that it can say. Were it the greater, a first run
    with a storage that keeps no expiry would take the times off all values that both have.
    """
    for one, other in _pairs(found):
        for unsure, sure, side, peer in ((one, other, source, target), (other, one, target, source)):
            cannot_know = not unsure.expires and not has_expiry(side.storage)
            own = unsure.origin == side.replica.manifest.replica
            stands = sure.expires and not sure.expired(now_ms) and unsure.order > sure.order
            if unsure.outcome == sure.outcome and cannot_know and own and stands and not (one.decided or other.decided):
                verdicts.at[peer.label].append(_Decision.of_change(sure))


def overtaken(source: Side, target: Side) -> list[Conflict]:
    """Return conflicts that no vector shows: a side's change was made without knowing of one that the other has met."""
    conflicts = []
    for side, peer in ((source, target), (target, source)):
        theirs, own = peer.replica.manifest, side.replica.manifest
        lacks = [lack.change for lack in own.missing if lack.overtaken and theirs.has_met(lack.change)]
        if not lacks:
            continue
        side.answered.update(lack.dot for lack in lacks)
        keys = [lack.key for lack in lacks]
        for lacked, mine, other in zip(lacks, side.replica.newest(keys), peer.replica.newest(keys), strict=True):
            # Where the other side's newest is a later one, somebody has brought the two together.
            if mine is None or other is None or other.dot != lacked.dot or mine.outcome == other.outcome:
                continue
            conflicts.append(Conflict(lacked.key, *((mine, other) if side is source else (other, mine))))
    return conflicts


def greatest(found: Delta) -> tuple[list[Change], list[Change]]:
    """Return the greatest change of each conflicting key, by the side that lacks it: (to source, to target)."""
    to_source, to_target = [], []
    for source, target in _pairs(found):
        if newer(source, target) == "source":
            to_target.append(source)
        else:
            to_source.append(target)
    return to_source, to_target


def decide(conflicts: Sequence[Conflict], policy: Policy, source: Side, target: Side) -> Verdicts:
    """Ask the policy about each conflict; nothing is written.

    Raises:
        ConflictError: the policy is "fail" and something is left to decide.
        UsageError: a callable policy gave no verdict.
    """
    verdicts = Verdicts()
    # Who does not hold the value that its log names cannot be given a decision for it.
    lacking = {lack.change.key for side in (source, target) for lack in side.replica.manifest.lacking}
    if policy == "fail":
        refuse(list(conflicts))
    for start in range(0, len(conflicts), READ_COUNT):
        batch = conflicts[start : start + READ_COUNT]
        held = _held(batch, source, target) if callable(policy) or policy == "keep-both" else {}
        for conflict in batch:
            if conflict.key in lacking:
                held[conflict.key] = None
            _enter(verdicts, conflict, policy, held)
    return verdicts


def _enter(
    verdicts: Verdicts, conflict: Conflict, policy: Policy, held: dict[str, tuple[bytes | None, bytes | None] | None]
) -> None:
    values = held.get(conflict.key, (None, None))
    if values is None:
        # A value is missing, or moved on since it was logged: plain order, until its next change.
        verdict = Verdict(newer(conflict.source, conflict.target))
    else:
        verdict = judge(policy, conflict, lambda: values)
    if verdict.side is None:
        verdict = _as_side(conflict, verdict)
    if verdict.side is None:
        verdicts.at["source"].append(_Decision.of_value(conflict.key, verdict.value))
    elif verdict.side != newer(conflict.source, conflict.target):
        verdicts.at[verdict.side].append(_Decision.of_change(_change(conflict, verdict.side)))
    if verdict.copy is not None and values is not None:
        kept = values[0] if verdict.copy == "source" else values[1]
        loser = _change(conflict, verdict.copy)
        verdicts.at["source"].append(_Decision.of_value(conflict_copy(loser), kept, loser.expires))
    verdicts.decided.append((conflict, verdict))


def _leaves_nothing(change: Change, now_ms: int) -> bool:
    return change.deletes or change.expired(now_ms)


def _as_side(conflict: Conflict, verdict: Verdict) -> Verdict:
    """Return the side that holds a callable's outcome already, where one does."""
    outcome = _Decision.of_value(conflict.key, verdict.value)
    wanted = (bool(outcome.flags & TOMBSTONE), outcome.digest)
    sides: tuple[Literal["source", "target"], ...] = ("source", "target")
    holders = [side for side in sides if wanted == (_change(conflict, side).deletes, _change(conflict, side).digest)]
    if not holders:
        return verdict
    best = newer(conflict.source, conflict.target)
    return Verdict(best if best in holders else holders[0])


def _change(conflict: Conflict, side: str | None) -> Change:
    return conflict.source if side == "source" else conflict.target


def _held(batch: Sequence[Conflict], source: Side, target: Side) -> dict[str, tuple[bytes | None, bytes | None] | None]:
    """Return both values of each conflict, or None for a key whose value is not what its side logged.

    One that has expired is not, even where it still lies: whoever keeps the time would decide the same.
    """
    now_ms = source.environment.now_ms()
    at_source = dict(_values(source, [conflict.source for conflict in batch]))
    at_target = dict(_values(target, [conflict.target for conflict in batch]))
    held: dict[str, tuple[bytes | None, bytes | None] | None] = {}
    for conflict in batch:
        pair = at_source[conflict.source], at_target[conflict.target]
        logged = (conflict.source.deletes, conflict.target.deletes)
        moved = any((value is None) != deletes for value, deletes in zip(pair, logged, strict=True))
        moved = moved or conflict.source.expired(now_ms) or conflict.target.expired(now_ms)
        held[conflict.key] = None if moved else pair
    return held


def _values(side: Side, changes: Sequence[Change]) -> Iterator[tuple[Change, bytes | None]]:
    """Yield each change with the value that it names, or None where that is not what is stored."""
    for start in range(0, len(changes), READ_COUNT):
        batch = changes[start : start + READ_COUNT]
        for change, value in zip(batch, side.read_pending([change.key for change in batch]), strict=True):
            fits = isinstance(value, bytes) and digest_values([value])[0] == change.digest
            yield change, value if fits and isinstance(value, bytes) else None


def _pairs(found: Delta) -> Iterator[tuple[Change, Change]]:
    for source, target in found.conflicts:
        yield Change._make(source), Change._make(target)
