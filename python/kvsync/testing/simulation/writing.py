"""Writes of applications, through kvsync or behind its back, and what the simulator makes of them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from kvsync.testing.simulation.ghosts import NOTHING
from kvsync.types import Delete, Put

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.testing.simulation.events import Wrote
    from kvsync.testing.simulation.ghosts import Heads
    from kvsync.testing.simulation.world import Place, World

__all__ = ["change_of", "in_words", "settle_given", "try_given", "write_unlogged"]


def write_unlogged(world: World, place: Place, writes: Sequence[Wrote], partner: Place | None = None) -> None:
    """Let an application write into a storage behind kvsync's back, during a run with `partner` as it may be."""
    if not writes:
        return
    if partner is not None:
        # The run may have changed what is there.
        place.holding.heads.update(world.heads_of(place.disk.values(), place.holding.heads, partner.holding.heads))
    with closing(place.disk.open()) as storage:
        for wrote in writes:
            value = wrote.value
            if value is not None:
                storage.write([wrote.key], [value])
            elif wrote.key in place.disk.values():
                storage.delete([wrote.key])
            else:
                continue
            _note_unlogged(world, place, wrote)


def _note_unlogged(world: World, place: Place, wrote: Wrote) -> None:
    """Note a write that kvsync does not see, over one that it may not have seen either."""
    holding, held = place.holding, world.held()
    head = holding.at(wrote.key)
    world.ghosts.tries(wrote, head)
    only_here = head - world.held(but=place) if wrote.key in holding.unseen else NOTHING
    for number in only_here:
        world.ghosts.overwritten(number)
    holding.hide(wrote.key, head)
    before, known = holding.before[wrote.key], holding.unseen[wrote.key]
    # A delete of what nobody else saw leaves what was there before, or what kvsync had already taken the key for.
    undone = wrote.deletes and (world.ghosts.deleted(before) or world.ghosts.deleted(known))
    holding.heads[wrote.key] = frozenset({wrote.number})
    if undone or (wrote.deletes and wrote.key in holding.doubtful):
        world.ghosts.destroyed(held, world.held())
    else:
        world.ghosts.happened(wrote.number)


def try_given(world: World, place: Place, writes: Sequence[Wrote]) -> Heads:
    """Note writes that are given to kvsync; return what the place held before."""
    before = place.holding.heads
    place.holding.heads = dict(before)
    for wrote in writes:
        world.ghosts.tries(wrote, before.get(wrote.key, NOTHING))
        place.holding.heads[wrote.key] = frozenset({wrote.number})
    return before


def settle_given(
    world: World, place: Place, writes: Sequence[Wrote], before: Heads, places: Sequence[Place], *, finished: bool
) -> None:
    """Find out which given writes took effect: all of a run that finished, and what is there after another."""
    there = {value for one in places for value in one.disk.values().values()}
    here = place.disk.values()
    for wrote in writes:
        was = before.get(wrote.key, NOTHING)
        # Where another value is, it has won over the delete.
        is_gone = wrote.key not in here or world.ghosts.of_value.get(here[wrote.key]) not in was
        deleted = wrote.deletes and is_gone and not world.ghosts.deleted(was)
        if finished or deleted or wrote.value in there:
            world.ghosts.happened(wrote.number)
        else:
            place.holding.heads[wrote.key] = was
        if finished:
            place.holding.reveal(wrote.key)
        elif place.holding.at(wrote.key) != was:
            place.holding.hide(wrote.key, was)


def change_of(wrote: Wrote) -> Put | Delete:
    """Return what to give to kvsync."""
    value = wrote.value
    return Delete(wrote.key) if value is None else Put(wrote.key, value)


def in_words(wrote: Wrote) -> str:
    """Return a write as stories tell it."""
    return f"{wrote.key} is deleted ({wrote.name})" if wrote.deletes else f"{wrote.key} = {wrote.name}"
