"""What the simulator knows and the engine never sees: where each write came from, and what became of it.

A *head* is what a storage holds at a key: the write whose value is there, or the deletes that emptied it. The *past* of
a write is the heads that its application saw, and their pasts. A write is *due* until the last disk that holds it or
something that was made from it is destroyed: it may not vanish untold.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from kvsync.native import digest_values

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from kvsync.testing.simulation.events import Wrote

__all__ = ["NOTHING", "Ghosts", "Heads", "Holding"]

Heads: TypeAlias = "dict[str, frozenset[int]]"
NOTHING: frozenset[int] = frozenset()
"""The head of a key that never was written."""


@dataclass
class Holding:
    """What a storage holds, and what kvsync knows of that.

    Attributes:
        heads: what is there, by key.
        unseen: of keys that were written behind kvsync's back, what its index says instead.
        before: of the same keys, what was there before the first such write.
        doubtful: keys that a run which failed may have changed: a delete there may pass for what that run did.
    """

    heads: Heads = field(default_factory=dict)
    unseen: Heads = field(default_factory=dict)
    before: Heads = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)

    def copy(self) -> Holding:
        """Return a copy, for a backup or a clone."""
        return Holding(dict(self.heads), dict(self.unseen), dict(self.before), set(self.doubtful))

    def at(self, key: str) -> frozenset[int]:
        """Return the head of a key."""
        return self.heads.get(key, NOTHING)

    def hide(self, key: str, before: frozenset[int]) -> None:
        """Note that kvsync does not know of what is at a key now."""
        self.unseen.setdefault(key, before)
        self.before.setdefault(key, before)

    def reveal(self, key: str) -> None:
        """Note that kvsync knows what is at a key."""
        self.unseen.pop(key, None)
        self.before.pop(key, None)

    def left_out(self, keys: Collection[str]) -> Holding:
        """Return what kvsync does not know of some keys."""
        unseen, before = ({key: heads[key] for key in keys if key in heads} for heads in (self.unseen, self.before))
        return Holding({}, unseen, before, self.doubtful & set(keys))

    def hide_again(self, other: Holding) -> None:
        """Note that kvsync still does not know of some keys."""
        self.unseen |= other.unseen
        self.before |= other.before
        self.doubtful |= other.doubtful

    def reveal_all(self) -> None:
        """Note that a scan has finished."""
        self.unseen, self.before, self.doubtful = {}, {}, set()


@dataclass
class Ghosts:
    """The writes of a history.

    Attributes:
        writes: all that happened or were tried, by number.
        parents: what each of them saw at its key.
        merged: deletes that became one with others, by number: whoever sees one of them has seen all.
        real: those that happened, and were not undone before anybody could see them.
        spread: deletes that a run has spread, whether or not they were `real`.
        due: those that may not vanish untold.
        told: those that a run reported as the loser of a conflict, or kept.
    """

    writes: dict[int, Wrote] = field(default_factory=dict)
    parents: dict[int, frozenset[int]] = field(default_factory=dict)
    merged: dict[int, frozenset[int]] = field(default_factory=dict)
    due: set[int] = field(default_factory=set)
    told: set[int] = field(default_factory=set)
    real: set[int] = field(default_factory=set)
    spread: set[int] = field(default_factory=set)
    of_value: dict[bytes, int] = field(default_factory=dict)
    of_digest: dict[bytes, int] = field(default_factory=dict)

    def tries(self, wrote: Wrote, seen: frozenset[int]) -> None:
        """Note a write that is about to happen, and what its application sees at its key."""
        self.writes[wrote.number] = wrote
        self.parents[wrote.number] = seen
        value = wrote.value
        if value is not None:
            self.of_value[value] = wrote.number
            self.of_digest[digest_values([value])[0]] = wrote.number

    def happened(self, number: int) -> None:
        """Note that a write took effect."""
        self.due.add(number)
        self.real.add(number)

    def known(self, holding: Holding) -> Heads:
        """Return what an index says is there; where nothing is, a delete that a failed run may have logged."""
        unseen = {
            key: head for key, head in holding.unseen.items() if self.deleted(head) or not self.deleted(holding.at(key))
        }
        return {**holding.heads, **unseen}

    def overwritten(self, number: int) -> None:
        """Note that an application replaced its own write before anybody else could see it."""
        self.due.discard(number)

    def past(self, numbers: Iterable[int], *, merged: bool = True) -> set[int]:
        """Return these writes and all that they were made from, with what was `merged` into those."""
        seen: set[int] = set()
        todo = list(numbers)
        while todo:
            number = todo.pop()
            if number not in seen:
                seen.add(number)
                todo += self.parents[number]
                todo += self.merged.get(number, NOTHING) if merged else NOTHING
        return seen

    def made_from(self, head: frozenset[int]) -> set[int]:
        """Return the writes that were made from just this head."""
        return {number for number, parents in self.parents.items() if head and parents == head}

    def destroyed(self, before: set[int], held: set[int]) -> None:
        """Excuse what only a destroyed disk held; what a backup brought back is due again.

        Disks hold what is `held`; they held what they held `before`. What had vanished until then is not excused. A
        delete that nobody could see holds nothing of what it removed.
        """
        happened = held & self.real
        self.due -= self.past(before & (self.real | self.spread)) - self.past(happened | self.told)
        self.due |= happened

    def lost(self, held: set[int]) -> set[int]:
        """Return what has vanished untold."""
        return self.due - self.past(held | self.told)

    def are_related(self, one: frozenset[int], other: frozenset[int]) -> bool:
        """Whether the application that made one head saw the other."""
        past = partial(self.past, merged=False)
        return bool(one and other) and (one <= past(other) or other <= past(one))

    def heads_of(
        self,
        values: Mapping[str, bytes],
        before: Heads,
        partner: Heads,
        *,
        finished: bool = False,
        one_way: bool = False,
        since: Collection[int] = (),
    ) -> Heads:
        """Return the heads of a storage that holds these values, from its own and its partner's before a run.

        A value tells its write. Nothing does not tell its deletes: they are those that were there before, or those of
        the partner. Where neither held anything, a run that `finished` has merged their deletes. Writes made `since`
        then are not there. One that goes `one_way` tells the partner of nothing.

        Raises:
            KeyError: nobody ever wrote that value.
        """
        heads: Heads = {key: frozenset({self.of_value[value]}) for key, value in values.items()}
        for key in before.keys() | partner.keys():
            if key not in heads:
                own, other = before.get(key, NOTHING), partner.get(key, NOTHING)
                if self.deleted(own):
                    both = own | other
                    heads[key] = (both if one_way else self._merged(both)) if finished and self.deleted(other) else own
                else:
                    heads[key] = other if self.deleted(other) and other else self._deletes(key, since)
                    if finished:  # it has removed a value here
                        self.spread |= heads[key]
        return heads

    def learn_unseen(self, holding: Holding, partner: Heads, *, one_way: bool = False) -> None:
        """Note what a run that did not look for unlogged writes made of their keys, in what kvsync knows there.

        Who wrote where nothing was has seen all deletes that say so, whoever made them.
        """
        for key, head in holding.unseen.items():
            other = partner.get(key, NOTHING)
            if self.deleted(head) and self.deleted(other):
                holding.unseen[key] = head | other if one_way else self._merged(head | other)
                for number in holding.at(key):
                    self._merge(number, other)
            elif head <= self.past(other):
                holding.unseen[key] = other

    def _merged(self, deletes: frozenset[int]) -> frozenset[int]:
        """Note that deletes of one key became one: whoever sees any of them has seen all.

        One that another one comes after is no part of that: who sees the earlier one has not seen the later.
        """
        deletes = frozenset(n for n in deletes if n not in self.past(deletes - {n}, merged=False))
        for number in deletes if len(deletes) > 1 else ():
            self._merge(number, deletes)
        return deletes

    def _merge(self, number: int, deletes: frozenset[int]) -> None:
        self.merged[number] = self.merged.get(number, NOTHING) | deletes

    def deleted(self, head: frozenset[int]) -> bool:
        """Whether nothing is there: all writes of a head are deletes."""
        return all(self.writes[number].deletes for number in head)

    def _deletes(self, key: str, since: Collection[int]) -> frozenset[int]:
        """Return all deletes of a key that may be why nothing is there: a guess, where neither side says which.

        They are those that are due, and those of which nobody knows whether a run saw them.
        """
        unsure = self.writes.keys() - self.real
        deletes = (self.due | unsure) - self.told - set(since)
        return frozenset(n for n in deletes if self.writes[n].deletes and self.writes[n].key == key)
