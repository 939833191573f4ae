"""Conflicts, from policy to log: what is decided is committed where its value is, before anything is pushed.

A decision that is not simply the greatest stamp becomes a change of its own, flagged, with a fresh stamp of the side
that holds the chosen value. From there on a run only ever pushes the greatest stamp.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, NamedTuple

from kvsync.expiry import write_until
from kvsync.index.lost import LostValue, keep_lost
from kvsync.native import DECISION, INEXACT, TOMBSTONE, Segment, digest_values, stamp_after
from kvsync.policy import Verdict, conflict_copy, judge, newer, refuse
from kvsync.replica.history import History
from kvsync.replica.lives import made_here
from kvsync.replica.points import is_branch
from kvsync.run.commit import log_local, record_written
from kvsync.run.guard import guard_of
from kvsync.run.lock import ensure_leased, transaction
from kvsync.run.unkept import note
from kvsync.run.values import READ_COUNT, values_of
from kvsync.storages.contract import has_expiry
from kvsync.types import Change, Conflict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kvsync.environment import Environment
    from kvsync.options import Options
    from kvsync.policy import Policy
    from kvsync.run.clashes import Overwritten
    from kvsync.run.guard import Guard
    from kvsync.run.side import Label, Pair, Side

__all__ = ["Verdicts", "decide", "keep_expiries"]

NO_DIGEST = bytes(32)


class Decision(NamedTuple):
    """A key's new outcome: the value's digest and size, and the value itself where no side holds it yet."""

    key: str
    flags: int
    size: int
    digest: bytes
    expires: int = 0
    value: bytes | None = None
    writes: bool = False
    is_copy: bool = False

    @classmethod
    def of_value(cls, key: str, value: bytes | None, expires: int = 0) -> Decision:
        """Return the decision for a value (None: a delete) that has to be written."""
        if value is None:
            return cls(key, DECISION | TOMBSTONE, 0, NO_DIGEST, writes=True)
        return cls(key, DECISION, len(value), digest_values([value])[0], expires, value, writes=True)

    @classmethod
    def of_change(cls, change: Change) -> Decision:
        """Return the decision for what one side holds already; it is made at an exact time, by this run."""
        return cls(change.key, change.flags & ~INEXACT | DECISION, change.size, change.digest, change.expires)

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
        overturned: keys whose change in the target a mirror overturns.
        seen_to: losing changes whose values were kept before verdicts changed since values were refused.
    """

    decided: list[tuple[Conflict, Verdict]] = field(default_factory=list)
    at: dict[str, list[Decision]] = field(default_factory=lambda: {"source": [], "target": []})
    lost: dict[str, tuple[str, ...]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    overturned: dict[str, None] = field(default_factory=dict)
    seen_to: set[Change] = field(default_factory=set)

    @property
    def are_empty(self) -> bool:
        """Whether there was nothing to decide."""
        return not (self.decided or any(self.at.values()))

    def commit(self, pair: Pair, options: Options, environment: Environment) -> bool:
        """Log the decisions, each on its own side; return whether there were any."""
        for side, other in ((pair.source, pair.target), (pair.target, pair.source)):
            decisions = sorted(self.at[side.label], key=lambda decision: decision.key)
            # Past both clocks, so that it beats both changes that it decides between.
            stamp = max(side.log.manifest.clock, other.log.manifest.clock)
            rows = []
            for decision in decisions:
                stamp = stamp_after(environment.now_ms(), stamp)
                rows.append(decision.logged(side.origin, stamp))
            self.refused |= _commit_decisions(side, rows, decisions, options, environment)
        if self.refused:
            self.seen_to = {*self._losing("source"), *self._losing("target")}
            self.decided = [(conflict, self._upheld(conflict, verdict)) for conflict, verdict in self.decided]
        return any(self.at.values())

    def report(self) -> list[Conflict]:
        """Return the conflicts with what became of them."""
        lost_as = self.lost.get
        return [
            Conflict(
                key,
                source,
                target,
                winner or "value",
                conflict_copy(source if copied == "source" else target) if copied else None,
                lost_as(key, ()),
            )
            for (key, source, target, *_), (winner, _, copied) in self.decided
        ]

    def keep_lost(self, sides: Sequence[Side], environment: Environment) -> None:
        """Store every losing value, not yet stored, in the storage that holds it, before it is overwritten.

        One that cannot be read now is noted, to be stored as soon as it can.
        """
        for side in sides:
            losers = self._losers(side)
            if losers and side.lease is not None:
                # One transaction where the storage has them: thousands of commits would take seconds.
                with transaction(side):
                    self._keep(side, losers, environment)

    def _losing(self, label: Label) -> list[Change]:
        """Return the changes of a side that lose."""
        own = attrgetter(label)
        return [own(conflict) for conflict, (winner, _, copied) in self.decided if winner != label != copied]

    def _losers(self, side: Side) -> list[Change]:
        """Return the changes of a side whose values lose; in place of one that is missing there, what is held there."""
        held = {entry.change.dot: entry.held for entry in side.log.manifest.knowledge.missing if entry.held}
        return [
            change._replace(digest=held[change.dot], flags=0) if change.dot in held else change
            for change in self._losing(side.label)
            if change not in self.seen_to and (change.dot in held or not change.deletes)
        ]

    def _keep(self, side: Side, losers: Sequence[Change], environment: Environment) -> None:
        unread: list[Change] = []
        for start in range(0, len(losers), READ_COUNT):
            ensure_leased(side)
            found: list[LostValue] = []
            for change, value in values_of(side, losers[start : start + READ_COUNT]):
                if isinstance(value, bytes):
                    found.append(LostValue.of(change, value))
                elif value is not None:
                    unread.append(change)
            for name, values in keep_lost(side.storage, found):
                self._note_name(name, values)
        if unread:
            self._note_name(note(side, unread, environment), unread)

    def _note_name(self, name: str, lost: Sequence[LostValue | Change]) -> None:
        """Note that an object keeps what is `lost`."""
        names = (name,)
        for each in lost:
            self.lost[each.key] = self.lost.get(each.key, ()) + names

    def _upheld(self, conflict: Conflict, verdict: Verdict) -> Verdict:
        """Return the verdict as it stands once refused values are taken back."""
        if verdict.side is None and conflict.key in self.refused:
            return Verdict(newer(conflict.source, conflict.target))
        if verdict.copy is not None and conflict_copy(_change(conflict, verdict.copy)) in self.refused:
            return verdict._replace(copy=None)
        return verdict


# Deciding


def decide(
    conflicts: Sequence[Conflict], overwritten: Sequence[Overwritten], policy: Policy, pair: Pair, now_ms: int
) -> Verdicts:
    """Ask the policy about each conflict; nothing is written. What is `overwritten` is decided already.

    Two sides that claim to know the same and do not are `in_doubt`: then every outcome becomes a decision, so that it
    reaches those who know as much.

    Raises:
        ConflictError: the policy is "fail" and something is left to decide.
        UsageError: a callable policy gave no verdict.
    """
    verdicts = Verdicts()
    # A side that does not hold the value that its log names cannot be given a decision for it.
    missing = {entry.change.key for side in pair.sides for entry in side.log.manifest.knowledge.missing}
    left_out = _left_out(conflicts, pair)
    if policy == "fail":
        refuse([conflict for conflict in conflicts if conflict.key not in left_out])
    for start in range(0, len(conflicts), READ_COUNT):
        batch = conflicts[start : start + READ_COUNT]
        held = _held(batch, pair, now_ms) if callable(policy) or policy == "keep-both" else {}
        for conflict in batch:
            if conflict.key in missing:
                held[conflict.key] = None
            overruled = policy in {"source", "target"} and _means_somebody_else(conflict, policy, pair)
            applied = "latest" if overruled or conflict.key in left_out else policy
            _enter(verdicts, conflict, applied, held, home=pair.home.label, anew=pair.in_doubt)
    _leave_known_copies(verdicts, pair)
    verdicts.decided += [(each.conflict, Verdict(each.winner)) for each in overwritten]
    return verdicts


def _left_out(conflicts: Sequence[Conflict], pair: Pair) -> set[str]:
    """Return the keys that a filter leaves out: no value is read, merged or copied there, so the later change wins."""
    keys_filter = pair.source.keys_filter
    return set() if keys_filter is None else keys_filter.excluded([conflict.key for conflict in conflicts])


def _leave_known_copies(verdicts: Verdicts, pair: Pair) -> None:
    """Make no copy that either side has logged: an earlier run made it, and somebody may have edited it since."""
    home = pair.home.label
    keys = [decision.key for decision in verdicts.at[home] if decision.is_copy]
    if not keys:
        return
    logged = zip(keys, *(side.log.newest(keys) for side in pair.sides), strict=True)
    known = {key for key, *changes in logged if any(change is not None for change in changes)}
    verdicts.at[home] = [decision for decision in verdicts.at[home] if not (decision.is_copy and decision.key in known)]


def keep_expiries(verdicts: Verdicts, pairs: Sequence[tuple[Change, Change]], pair: Pair, now_ms: int) -> None:
    """Let a value's expiry stand against a side that has the same value, and cannot know when values expire.

    Its own change says that the value never expires, which is all that it can say. Were it the greater, a first run
    with a storage that keeps no expiry would take the expiry off all values that both have.
    """
    expiring = [(source, target) for source, target in pairs if source.expires or target.expires]
    for one, other in expiring:
        for unsure, sure, side, peer in (
            (one, other, pair.source, pair.target),
            (other, one, pair.target, pair.source),
        ):
            cannot_know = not unsure.expires and not has_expiry(side.storage)
            own = unsure.origin == side.origin
            stands = sure.expires and not sure.expired(now_ms) and unsure.order > sure.order
            if unsure.outcome == sure.outcome and cannot_know and own and stands and not (one.decided or other.decided):
                verdicts.at[peer.label].append(Decision.of_change(sure))


def _enter(
    verdicts: Verdicts,
    conflict: Conflict,
    policy: Policy,
    held: Mapping[str, tuple[bytes | None, bytes | None] | None],
    *,
    home: Label,
    anew: bool,
) -> None:
    values = held.get(conflict.key, (None, None))
    if values is None:
        # A value is missing, or was changed since it was logged: plain order, until its next change.
        verdict = Verdict(newer(conflict.source, conflict.target))
    else:
        verdict = judge(policy, conflict, lambda: values)
    if verdict.side is None:
        verdict = _as_side(conflict, verdict)
    if verdict.side is None:
        verdicts.at[home].append(Decision.of_value(conflict.key, verdict.value))
    elif anew or verdict.side != newer(conflict.source, conflict.target):
        verdicts.at[verdict.side].append(Decision.of_change(_change(conflict, verdict.side)))
    if verdict.copy is not None and values is not None:
        kept = values[0] if verdict.copy == "source" else values[1]
        loser = _change(conflict, verdict.copy)
        copy = Decision.of_value(conflict_copy(loser), kept, loser.expires)._replace(is_copy=True)
        verdicts.at[home].append(copy)
    verdicts.decided.append((conflict, verdict))


def _means_somebody_else(conflict: Conflict, policy: Policy, pair: Pair) -> bool:
    """Whether the side that "source" or "target" names did not make its change: others may have replaced a branch's.

    What that side made itself stands, by whatever name: a peer that claims to know more of its history than there is
    makes a branch of it.
    """
    if not (is_branch(conflict.source.origin) or is_branch(conflict.target.origin)):
        return False
    if policy == "source":
        return not made_here(pair.source.log.manifest, conflict.source.origin)
    return not made_here(pair.target.log.manifest, conflict.target.origin)


def _as_side(conflict: Conflict, verdict: Verdict) -> Verdict:
    """Return the side that holds a callable's outcome already, where one does."""
    outcome = Decision.of_value(conflict.key, verdict.value)
    wanted = (bool(outcome.flags & TOMBSTONE), outcome.digest)
    sides: tuple[Literal["source", "target"], ...] = ("source", "target")
    holders = [side for side in sides if wanted == (_change(conflict, side).deletes, _change(conflict, side).digest)]
    if not holders:
        return verdict
    best = newer(conflict.source, conflict.target)
    return Verdict(best if best in holders else holders[0])


def _held(batch: Sequence[Conflict], pair: Pair, now_ms: int) -> dict[str, tuple[bytes | None, bytes | None] | None]:
    """Return both values of each conflict, or None for a key whose value is not what its side logged.

    One that has expired is not, even where the storage still has it: a side that keeps expiry would decide the same.
    """
    at_source = _readable(pair.source, [conflict.source for conflict in batch])
    at_target = _readable(pair.target, [conflict.target for conflict in batch])
    held: dict[str, tuple[bytes | None, bytes | None] | None] = {}
    for conflict in batch:
        values = at_source[conflict.source], at_target[conflict.target]
        logged = (conflict.source.deletes, conflict.target.deletes)
        moved = any((value is None) != deletes for value, deletes in zip(values, logged, strict=True))
        moved = moved or conflict.source.expired(now_ms) or conflict.target.expired(now_ms)
        held[conflict.key] = None if moved else values
    return held


def _readable(side: Side, changes: Sequence[Change]) -> dict[Change, bytes | None]:
    return {change: value if isinstance(value, bytes) else None for change, value in values_of(side, changes)}


# Committing


def _commit_decisions(
    side: Side, rows: Sequence[Change], decisions: Sequence[Decision], options: Options, environment: Environment
) -> set[str]:
    """Log decisions whose outcome this side holds, after writing the values that neither side holds.

    Return the keys whose value could not be written: they are not decided, and left to plain order.
    """
    if not rows:
        return set()
    segment = Segment.from_rows(rows)
    writes = [decision for decision in decisions if decision.writes]
    refused: set[str] = set()
    written: dict[str, bytes | None] = {}
    with transaction(side):
        ensure_leased(side)
        intent = side.log.intend(segment, History()) if writes else None
        if writes and side.lease is not None:
            refused, written = _write_decided(side, writes, options)
            segment = segment.without(sorted(refused))
            ensure_leased(side)
        if len(segment):
            log_local(side, segment, intent=intent)
            _record(side, segment, {decision.key for decision in writes}, written, environment.now_ms())
        else:
            side.log.delete_intent(intent)
    return refused


def _record(side: Side, segment: Segment, decided: set[str], written: Mapping[str, bytes | None], now_ms: int) -> None:
    """Tell the inventory what was written just now; the scan has seen whether the rest is there."""
    emptied = segment.expired(now_ms) if has_expiry(side.storage) else ()
    unwritten = [row[0] for row in segment.rows(0, len(segment)) if row[0] not in decided]
    record_written(side, segment.without(unwritten), written, emptied)


def _write_decided(
    side: Side, decisions: Sequence[Decision], options: Options
) -> tuple[set[str], dict[str, bytes | None]]:
    """Write decided values where nobody else wrote meanwhile; return the keys not written, and new version tokens."""
    puts = {decision.key: decision for decision in decisions if decision.value is not None}
    deletes = [decision.key for decision in decisions if decision.value is None]
    guard = guard_of(side, options)
    refused: set[str] = set()
    tokens: dict[str, bytes | None] = {}
    keys, expect = _admitted(guard, list(puts), refused)
    if keys:
        values = [puts[key].value or b"" for key in keys]
        written = write_until(side.storage, keys, values, [puts[key].expires for key in keys], expect)
        refused.update(refusal.key for refusal in written.refused)
        tokens = dict(zip(keys, written.tokens or [None] * len(keys), strict=True))
    keys, expect = _admitted(guard, deletes, refused, deletes=True)
    if keys:
        refused.update(refusal.key for refusal in side.storage.delete(keys, expect).refused)
    return refused, tokens


def _admitted(
    guard: Guard, keys: Sequence[str], refused: set[str], *, deletes: bool = False
) -> tuple[Sequence[str], list[bytes | None] | None]:
    """Return the keys that may be touched, and what to expect there; note the others as refused."""
    expect, barred = guard.examine(keys, deletes=deletes)
    refused.update(barred)
    admitted = [position for position, key in enumerate(keys) if key not in barred]
    return [keys[i] for i in admitted], [expect[i] for i in admitted] if expect is not None else None


def _change(conflict: Conflict, side: str | None) -> Change:
    return conflict.source if side == "source" else conflict.target
