"""Plays single events in a world, and tells of each in a line."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import kvsync
from kvsync.errors import ConflictError, IndexDamagedError, KvsyncError
from kvsync.testing.faults import FaultError, Killed
from kvsync.testing.simulation.damage import damage, forget_index, remember_objects
from kvsync.testing.simulation.events import (
    BackUp,
    Clone,
    Compact,
    Damage,
    Land,
    Newcomer,
    PutBack,
    Scan,
    SetClock,
    Sync,
    Write,
)
from kvsync.testing.simulation.ghosts import NOTHING
from kvsync.testing.simulation.telling import take_down, take_down_kept
from kvsync.testing.simulation.wire import fault_of
from kvsync.testing.simulation.world import WAIT_SECONDS, BrokenPromiseError
from kvsync.types import Delete, Put

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.result import SyncResult
    from kvsync.testing.simulation.events import Crash, Event, Wrote
    from kvsync.testing.simulation.ghosts import Heads
    from kvsync.testing.simulation.wire import Wire
    from kvsync.testing.simulation.world import Place, World

__all__ = ["meet", "play"]


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
    words = ", ".join(_in_words(wrote) for wrote in event.writes)
    if not event.logged:
        _behind_its_back(world, place, event.writes)
        world.tell(event, f"{place.name}: {words} (not logged)")
        return
    before = _try(world, place, event.writes)
    changes = [_change(wrote) for wrote in event.writes]
    outcome, ending = _run(world, event, [place], event.crash, _Commit(changes))
    _settle_given(world, place, event.writes, before, [place], finished=outcome is not None)
    world.observe([place], finished=outcome is not None)
    world.tell(event, f"{place.name}: {words}{ending}")


def _behind_its_back(world: World, place: Place, writes: Sequence[Wrote]) -> None:
    with closing(place.disk.open()) as storage:
        for wrote in writes:
            value = wrote.value
            if value is not None:
                storage.write([wrote.key], [value])
            elif wrote.key in place.disk.values():
                storage.delete([wrote.key])
            else:
                continue
            _unlogged(world, place, wrote)


def _unlogged(world: World, place: Place, wrote: Wrote) -> None:
    """Note a write that kvsync does not see, over one that it may not have seen either."""
    holding = place.holding
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
    if not undone and not (wrote.deletes and wrote.key in holding.doubtful):
        world.ghosts.happened(wrote.number)


def _try(world: World, place: Place, writes: Sequence[Wrote]) -> Heads:
    """Note writes that are given to kvsync; return what the place held before."""
    before = place.holding.heads
    place.holding.heads = dict(before)
    for wrote in writes:
        world.ghosts.tries(wrote, before.get(wrote.key, NOTHING))
        place.holding.heads[wrote.key] = frozenset({wrote.number})
    return before


def _settle_given(
    world: World, place: Place, writes: Sequence[Wrote], before: Heads, places: Sequence[Place], *, finished: bool
) -> None:
    """Find out which given writes took effect: all of a run that finished, and what is there after another."""
    there = {value for one in places for value in one.disk.values().values()}
    for wrote in writes:
        was = before.get(wrote.key, NOTHING)
        deleted = wrote.deletes and wrote.key not in place.disk.values() and not world.ghosts.deleted(was)
        if finished or deleted or wrote.value in there:
            world.ghosts.happened(wrote.number)
        else:
            place.holding.heads[wrote.key] = was
        if finished:
            place.holding.reveal(wrote.key)
        elif place.holding.heads[wrote.key] != was:
            place.holding.hide(wrote.key, was)


# Runs


class _Commit:
    """A call of `kvsync.commit`."""

    def __init__(self, changes: Sequence[Put | Delete] = (), **options: Any) -> None:
        self.changes, self.options = changes, options

    def __call__(self, wires: Sequence[Wire], **options: Any) -> Any:
        return kvsync.commit(wires[0], self.changes, **self.options, **options)


def _scan(world: World, event: Scan) -> None:
    place = world.places[event.at]
    outcome, ending = _run(world, event, [place], event.crash, _Commit(scan=True, max_delete="100%"))
    world.observe([place], finished=outcome is not None, scanned=True)
    world.tell(event, f"{place.name} is scanned{ending}")


def _compact(world: World, event: Compact) -> None:
    place = world.places[event.at]
    _, ending = _run(world, event, [place], event.crash, lambda wires, **options: kvsync.compact(wires[0], **options))
    world.tell(event, f"the log of {place.name} is compacted{ending}")


def _sync(world: World, event: Sync) -> None:
    world.tell(event, meet(world, event)[1])


def meet(world: World, event: Sync) -> tuple[SyncResult | None, str]:
    """Sync two places; return the result, if the run came to its end, and what happened in words."""
    source, target = world.places[event.source], world.places[event.target]
    if source.was_damaged or target.was_damaged:
        # The index may know less than is there, and only a scan looks.
        event = replace(event, scan=True)
    before = _try(world, source, event.given)
    held = source.holding.heads, target.holding.heads

    def call(wires: Sequence[Wire], **options: Any) -> Any:
        changes = [_change(wrote) for wrote in event.given]
        scans: dict[str, Any] = {"scan": True, "max_delete": "100%"} if event.scan else {"guard": event.guard}
        one, other = wires
        drift: dict[str, Any] = {"max_drift_seconds": 1e9, "tombstone_grace": world.history.grace}
        return kvsync.sync(one, other, changes, conflict=event.conflict, **drift, **scans, **options)

    result, ending = _run(world, event, [source, target], event.crash, call)
    _settle_given(world, source, event.given, before, [source, target], finished=result is not None)
    if result is not None:
        ending = f": {take_down(world, result, *held)}"
    else:
        take_down_kept(world, [source, target])
    world.observe([source, target], finished=result is not None, scanned=event.scan)
    return result, _heading(world, event) + ending


def _heading(world: World, event: Sync) -> str:
    words: list[str] = [event.conflict] if event.conflict != "latest" else []
    words += ["scan"] if event.scan else []
    words += ["guard"] if event.guard == "check" else []
    words += [_in_words(wrote) for wrote in event.given]
    if event.backup is not None:
        side = event.target if event.backup.of_target else event.source
        words.append(f"{world.places[side].name} is backed up before operation {event.backup.operation}")
    names = f"sync {world.places[event.source].name} -> {world.places[event.target].name}"
    return names + (f" ({', '.join(words)})" if words else "")


def _run(
    world: World, event: Event, places: Sequence[Place], crash: Crash | None, call: Callable[..., Any]
) -> tuple[Any, str]:
    """Make a call over some places; return its outcome, None if it failed, and how it ended if so."""
    fault = fault_of(crash)
    if isinstance(event, Sync) and event.backup is not None:
        fault.before = _taker(world, event, places)
    environment = world.environment(places[0], event.number)
    with world.wires(places, fault) as wires:
        try:
            outcome = call(wires, wait_seconds=WAIT_SECONDS, environment=environment)
        except Killed:
            world.count("crashes")
            world.give_up(event.number, ends=crash is None or crash.ends, wires=wires)
            how = "killed" if crash is None or crash.ends else "cut off"
            return None, f"; it is {how} at operation {fault.count}"
        except FaultError:
            world.count("crashes")
            return None, f"; it fails at operation {fault.count}"
        except ConflictError as error:
            return None, f": it refuses {len(error.conflicts)} conflicts"
        except KvsyncError as error:
            return None, _refused(world, places, error)
    return (outcome if outcome is not None else True), ""


def _refused(world: World, places: Sequence[Place], error: KvsyncError) -> str:
    """Return how a run ended that found damage, after removing the damaged indexes.

    Raises:
        BrokenPromiseError: nothing was damaged.
    """
    damaged = [place for place in places if place.is_damaged]
    if not damaged:
        name = type(error).__name__
        raise BrokenPromiseError(name, f"{name}: {error}") from error
    world.count("damage found")
    for place in damaged if isinstance(error, IndexDamagedError) else ():
        forget_index(world, place)
    return f": {type(error).__name__}: {error}"


def _taker(world: World, event: Sync, places: Sequence[Place]) -> Callable[[int], None]:
    taken = event.backup
    assert taken is not None
    at, partner = places[::-1] if taken.of_target else places

    def take(operation: int) -> None:
        if operation == taken.operation:
            world.back_up(event, at, partner)

    return take


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
    world.restore(place, backup.copy, backup.holding, backup.partner)
    world.count("restores")
    whose = "its" if backup.of == event.at else f"{world.places[backup.of].name}'s"
    world.tell(event, f"{place.name} is put back to {whose} backup of line {{line of {event.backup}}}")


def _clone(world: World, event: Clone) -> None:
    place, model = world.places[event.at], world.places[event.of]
    if place.kind != model.kind:
        return
    place.is_damaged, place.was_damaged = model.is_damaged, model.was_damaged
    world.restore(place, model.disk.copy(), model.holding, {})
    world.count("clones")
    world.tell(event, f"{place.name} is replaced by a copy of {model.name}, index and all")


def _newcomer(world: World, event: Newcomer) -> None:
    place = world.places[event.at]
    place.empty()
    world.replaced(place)
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
}


def _change(wrote: Wrote) -> Put | Delete:
    value = wrote.value
    return Delete(wrote.key) if value is None else Put(wrote.key, value)


def _in_words(wrote: Wrote) -> str:
    return f"{wrote.key} is deleted ({wrote.name})" if wrote.deletes else f"{wrote.key} = {wrote.name}"
