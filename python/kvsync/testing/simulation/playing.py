"""Plays single events in a world, and tells of each in a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kvsync
from kvsync.testing.simulation.damage import damage, remember_objects
from kvsync.testing.simulation.events import (
    BackUp,
    Clone,
    Compact,
    Damage,
    Forget,
    Land,
    Newcomer,
    PutBack,
    Scan,
    SetClock,
    Sync,
    Write,
)
from kvsync.testing.simulation.running import heading, meet, run
from kvsync.testing.simulation.writing import change_of, in_words, settle_given, try_given, write_unlogged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.testing.simulation.events import Event
    from kvsync.testing.simulation.wire import Wire
    from kvsync.testing.simulation.world import World
    from kvsync.types import Delete, Put

__all__ = ["play"]


def play(world: World, event: Event) -> None:
    """Let an event happen.

    Raises:
        BrokenPromiseError: it broke a promise.
    """
    world.pass_time(event.after)
    PLAYS[type(event)](world, event)


# Applications


def _write(world: World, event: Write) -> None:
    place = world.places[event.at]
    words = ", ".join(in_words(wrote) for wrote in event.writes)
    if not event.logged:
        write_unlogged(world, place, event.writes)
        world.tell(event, f"{place.name}: {words} (not logged)")
        return
    world.tell(event, f"{place.name}: {words}")
    before = try_given(world, place, event.writes)
    changes = [change_of(wrote) for wrote in event.writes]
    outcome, ending = run(world, event, [place], event.crash, _Commit(changes))
    settle_given(world, place, event.writes, before, [place], finished=outcome is not None)
    world.observe([place], finished=outcome is not None)
    world.tell(event, f"{place.name}: {words}{ending}")


# Runs


class _Commit:
    """A call of `kvsync.commit`."""

    def __init__(self, changes: Sequence[Put | Delete] = (), **options: Any) -> None:
        self.changes, self.options = changes, options

    def __call__(self, wires: Sequence[Wire], **options: Any) -> Any:
        return kvsync.commit(wires[0], self.changes, **self.options, **options)


def _scan(world: World, event: Scan) -> None:
    place = world.places[event.at]
    world.tell(event, f"{place.name} is scanned")
    outcome, ending = run(world, event, [place], event.crash, _Commit(scan=True, max_delete="100%"))
    world.observe([place], finished=outcome is not None, scanned=True)
    world.tell(event, f"{place.name} is scanned{ending}")


def _compact(world: World, event: Compact) -> None:
    place = world.places[event.at]
    world.tell(event, f"the log of {place.name} is compacted")
    _, ending = run(world, event, [place], event.crash, lambda wires, **options: kvsync.compact(wires[0], **options))
    world.tell(event, f"the log of {place.name} is compacted{ending}")


def _forget(world: World, event: Forget) -> None:
    place = world.places[event.at]

    def call(wires: Sequence[Wire], **options: Any) -> str:
        (wire,) = wires
        peers = [peer for peer in kvsync.peers(wire) if not peer.forgotten]
        if not peers:
            return ""
        peer = peers[int(event.which * len(peers))]
        world.tell(event, f"{place.name} is told that {peer.name} does not come back")
        kvsync.forget(wire, peer.id, **options)
        return peer.name

    outcome, ending = run(world, event, [place], event.crash, call)
    if outcome:
        world.count("forgotten")
    elif outcome is None:
        world.tell(event, world.lines.get(event.number, f"{place.name} is asked for its peers") + ending)


def _sync(world: World, event: Sync) -> None:
    world.tell(event, heading(world, event))
    world.tell(event, meet(world, event)[1])


# Disasters


def _back_up(world: World, event: BackUp) -> None:
    place = world.places[event.at]
    world.back_up(event, place)
    if any(isinstance(each, Damage) for each in world.history.events):
        remember_objects(world, place)
    world.tell(event, f"{place.name} is backed up")


def _put_back(world: World, event: PutBack) -> None:
    place, backup = world.places[event.at], world.backups.get(event.backup)
    if backup is None or place.kind != world.places[backup.of].kind:
        return
    world.restore(place, backup)
    world.count("restores")
    whose = "its" if backup.of == event.at else f"{world.places[backup.of].name}'s"
    world.tell(event, f"{place.name} is put back to {whose} backup of line {{line of {event.backup}}}")


def _clone(world: World, event: Clone) -> None:
    place, model = world.places[event.at], world.places[event.of]
    if place.kind != model.kind:
        return
    world.restore(place, world.backup(model))
    world.count("clones")
    world.tell(event, f"{place.name} is replaced by a copy of {model.name}, index and all")


def _newcomer(world: World, event: Newcomer) -> None:
    place = world.places[event.at]
    before = world.held()
    place.empty()
    for other in world.places:
        other.known.discard(place.number)
    world.replaced(place, before)
    world.count("newcomers")
    world.tell(event, f"a new, empty storage takes the place of {place.name}")


def _land(world: World, event: Land) -> None:
    place = world.land(event.run)
    if place is not None:
        world.count("late writes")
        world.tell(event, f"the write at which line {{line of {event.run}}} was cut off lands in {place.name}")


def _set_clock(world: World, event: SetClock) -> None:
    place = world.places[event.at]
    place.skew += event.seconds
    ahead = "forward" if event.seconds > 0 else "back"
    world.tell(event, f"the clock of {place.name} jumps {ahead} by {abs(event.seconds):g} seconds")


def _damage(world: World, event: Damage) -> None:
    done = damage(world, event)
    if done:
        world.count("damaged")
        world.tell(event, done)


PLAYS: dict[type[Event], Callable[[World, Any], None]] = {
    Write: _write,
    Scan: _scan,
    Compact: _compact,
    Sync: _sync,
    BackUp: _back_up,
    PutBack: _put_back,
    Clone: _clone,
    Newcomer: _newcomer,
    Land: _land,
    SetClock: _set_clock,
    Damage: _damage,
    Forget: _forget,
}
