"""What a run told its caller, taken down: losers of conflicts, and whether their values were kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import kvsync
from kvsync.testing.simulation.ghosts import NOTHING
from kvsync.testing.simulation.world import BrokenPromiseError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.result import SyncResult
    from kvsync.testing.simulation.ghosts import Ghosts, Heads
    from kvsync.testing.simulation.world import Place, World
    from kvsync.types import Change, Conflict

    Sides: TypeAlias = tuple[Heads, Heads]

__all__ = ["Telling", "take_down", "take_down_kept"]


class Telling(NamedTuple):
    """What is special about a run that tells of conflicts.

    Attributes:
        rewritten: keys that applications wrote during the run.
        overturns: it also tells of what was made knowing what wins: it is a mirror.
        keeps_source: the source is only read, so nothing is lost there.
    """

    rewritten: set[str]
    overturns: bool = False
    keeps_source: bool = False


def take_down(world: World, result: SyncResult, held: Sides, known: Sides, told_by: Telling) -> str:
    """Note what a run told; return it in words.

    `held` is what source and target held before, `known` what their indexes said was there. What was at the keys that
    were rewritten by applications during the run need not be kept: it was replaced by somebody who saw it.

    Raises:
        BrokenPromiseError: a losing value was not kept.
    """
    words = [f"{result.pushed} pushed, {result.pulled} pulled"]
    words += [_conflict(world, conflict, held, known, told_by) for conflict in result.conflicts]
    for missing in result.missing:
        world.count("told missing")
        words.append(f"{missing.key} is missing in the {missing.side}")
    for life in result.lives:
        world.count("told forgotten" if life.forgotten else "told restored")
        words.append(f"the {life.side} {'had been forgotten' if life.forgotten else 'was restored or copied'}")
    for doubt in result.maybe_deleted:
        for key in doubt.keys:
            world.count("told maybe deleted")
            world.ghosts.told |= {number for heads in (*held, *known) for number in heads.get(key, NOTHING)}
        words.append(f"{', '.join(doubt.keys)} of the {doubt.side} may have been deleted")
    return "; ".join(words)


def take_down_kept(world: World, places: Sequence[Place], held: Sides = ({}, {})) -> None:
    """Note what is kept in the storages of a run that did not live to tell; `held` is what they held before.

    A losing delete has nothing to be kept: what either side had deleted counts as told.
    """
    for place in places:
        for lost in kvsync.lost(place.disk.open()):
            world.ghosts.told.add(world.ghosts.of_digest[lost.digest])
    for heads in (*held, *(place.holding.heads for place in places)):
        for head in heads.values():
            world.ghosts.told |= {number for number in head if world.ghosts.writes[number].deletes}


def _conflict(world: World, conflict: Conflict, held: Sides, known: Sides, told_by: Telling) -> str:
    world.count("conflicts")
    ghosts = world.ghosts
    sides = {
        "source": _written(ghosts, conflict.source, known[0].get(conflict.key, NOTHING)),
        "target": _written(ghosts, conflict.target, known[1].get(conflict.key, NOTHING)),
    }
    is_decision = told_by.overturns or conflict.source.decided or conflict.target.decided
    if not is_decision and ghosts.are_related(sides["source"], sides["target"]):
        world.count("false conflicts")
    losers = [side for side in sides if side != conflict.winner]
    for side in losers:
        ghosts.told |= sides[side]
        if conflict.key not in told_by.rewritten and not (side == "source" and told_by.keeps_source):
            _check_kept(ghosts, conflict, sides[side], held[side == "target"].get(conflict.key, NOTHING))
    won = names(ghosts, sides[conflict.winner]) if conflict.winner in sides else "a new value"
    lost = ", ".join(names(ghosts, sides[side]) for side in losers)
    return f"conflict at {conflict.key}: {won} wins, {lost} loses"


def _written(ghosts: Ghosts, change: Change, held: frozenset[int]) -> frozenset[int]:
    """Return the writes that a logged change stands for."""
    if not change.deletes:
        return frozenset({ghosts.of_digest[change.digest]})
    deletes = frozenset(number for number in held if ghosts.writes[number].deletes)
    return deletes or frozenset(number for number in ghosts.made_from(held) if ghosts.writes[number].deletes)


def _check_kept(ghosts: Ghosts, conflict: Conflict, loser: frozenset[int], held: frozenset[int]) -> None:
    lost_values = [number for number in loser & held if not ghosts.writes[number].deletes]
    if lost_values and not (conflict.lost_as or conflict.kept_as):
        text = f"{names(ghosts, frozenset(lost_values))} lost a conflict at {conflict.key}, and was not kept"
        raise BrokenPromiseError("losing value not kept", text)


def names(ghosts: Ghosts, numbers: frozenset[int]) -> str:
    """Return writes in words."""
    return "/".join(ghosts.writes[number].name for number in sorted(numbers)) or "nothing"
