"""Runs of kvsync in a world: with faults, with backups taken and values written in the middle of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import kvsync
from kvsync.errors import ConflictError, IndexDamagedError, KvsyncError
from kvsync.storages.read_only import READS
from kvsync.storages.wrapper import WrappedStorage
from kvsync.testing.faults import FaultError, Killed
from kvsync.testing.simulation.damage import forget_index
from kvsync.testing.simulation.events import Sync
from kvsync.testing.simulation.ghosts import NOTHING
from kvsync.testing.simulation.machines import WAIT_SECONDS
from kvsync.testing.simulation.telling import Telling, take_down, take_down_kept
from kvsync.testing.simulation.wire import fault_of
from kvsync.testing.simulation.world import BrokenPromiseError
from kvsync.testing.simulation.writing import change_of, in_words, settle_given, try_given, write_unlogged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.result import MissingKey, SyncResult
    from kvsync.testing.simulation.events import Crash, Event
    from kvsync.testing.simulation.ghosts import Heads
    from kvsync.testing.simulation.wire import Wire
    from kvsync.testing.simulation.world import Place, World

__all__ = ["heading", "meet", "run"]

P = ParamSpec("P")
T = TypeVar("T")


def meet(world: World, event: Sync) -> tuple[SyncResult | None, str]:
    """Sync two places; return the result, if the run came to its end, and what happened in words."""
    source, target = world.places[event.source], world.places[event.target]
    if source.was_damaged or target.was_damaged:
        # The index may know less than is there, and only a scan looks.
        event = replace(event, scan=True)
    before = try_given(world, source, event.given)
    held = dict(source.holding.heads), dict(target.holding.heads)
    known = held if event.scan else (world.ghosts.known(source.holding), world.ghosts.known(target.holding))
    known[0].update((wrote.key, frozenset({wrote.number})) for wrote in event.given)

    def call(wires: Sequence[Wire], **options: Any) -> Any:
        changes = [change_of(wrote) for wrote in event.given]
        scans: dict[str, Any] = {"scan": True} if event.scan else {"guard": event.guard}
        if event.scan or event.direction == "mirror":
            scans["max_delete"] = "100%"
        limits: dict[str, Any] = {"max_drift_seconds": 1e9, "tombstone_grace": world.history.grace}
        one: Any
        one, other = wires
        directed: dict[str, Any] = {
            "direction": event.direction,
            "conflict": event.conflict,
            "read_only_source": event.read_only,
        }
        world.count("filtered runs", bool(event.exclude))
        one = _OnlyRead(one) if event.read_only else one
        return kvsync.sync(one, other, changes, exclude=event.exclude, **directed, **limits, **scans, **options)

    values = source.disk.values(), target.disk.values()
    result, ending = run(world, event, [source, target], event.crash, call)
    _check_direction(world, event, values, result)
    if result is not None and result.maybe_deleted and source.knows(target):
        world.count("told maybe deleted among peers")
    settle_given(world, source, event.given, before, [source, target], finished=result is not None)
    if result is not None:
        if not event.read_only and all(operations["store"] for operations in result.operations.values()):
            # Where nothing moves, nothing is written, not even that the other one was there.
            source.meet(target)
        run_of = Telling({each.wrote.key for each in event.meanwhile}, event.direction == "mirror", event.read_only)
        ending = f": {take_down(world, result, held, known, run_of)}"
    else:
        take_down_kept(world, [source, target], held)
    unseen = [place.holding.left_out(event.exclude) for place in (source, target)]
    missing = result.missing if result is not None else []
    taken = _without(known[0], missing, "target"), _without(known[1], missing, "source")
    _observe(world, event, taken, finished=result is not None)
    for place, holding in zip((source, target), unseen, strict=True):
        # A filtered run has not looked there.
        place.holding.hide_again(holding)
    _note_left_out(world, event, known)
    _hide_meanwhile(world, event, known, {entry.key for entry in missing})
    return result, heading(world, event) + ending


def _without(known: Heads, missing: Sequence[MissingKey], side: str) -> Heads:
    """Return what one side knew, without the keys of which the other `side` got nothing."""
    keys = {entry.key for entry in missing if entry.side == side}
    return {key: head for key, head in known.items() if key not in keys}


def _observe(world: World, event: Sync, known: tuple[Heads, Heads], *, finished: bool) -> None:
    """Look at what both sides hold after a run, and count its kind."""
    source, target = world.places[event.source], world.places[event.target]
    if finished and event.direction != "both":
        world.count(f"{'read-only ' if event.read_only else ''}{event.direction} runs")
    met = list(map(dict, _met(event, known)))
    # The index of a source that is only read learns nothing.
    places = [target] if event.read_only else [source, target]
    one_way = event.direction != "both"
    world.observe(places, met[: len(places)], finished=finished, scanned=event.scan, one_way=one_way)


def _note_left_out(world: World, event: Sync, known: tuple[Heads, Heads]) -> None:
    """Note that a delete which a filter leaves out is known to the other side, although the value is still there.

    Whoever writes there, or learns of the key from there, has seen it; and who deletes the value does what it says. Of
    such a delete it is not known here who knows it, so it is not asked whether it was told.
    """
    sides = world.places[event.source].holding, world.places[event.target].holding
    for key in event.exclude:
        for heads, other in zip(known, sides[::-1], strict=True):
            head = heads.get(key, NOTHING)
            if head and world.ghosts.deleted(head):
                world.ghosts.told |= world.ghosts.past(head)
                other.doubtful.add(key)


def _hide_meanwhile(world: World, event: Sync, known: tuple[Heads, Heads], missing: set[str]) -> None:
    """Note that nobody knows whether a run saw what was written during it.

    Where the other side holds nothing, the run may have told it of a delete, unless a value is told `missing`.
    """
    sides = world.places[event.source].holding, world.places[event.target].holding
    for each in event.meanwhile:
        number, key = each.wrote.number, each.wrote.key
        if number in world.ghosts.parents:
            holding, other = sides[each.of_target], sides[not each.of_target]
            holding.doubtful.add(key)
            if number in holding.at(key):
                holding.hide(key, world.ghosts.parents[number])
                world.ghosts.learn_unseen(holding, known[not each.of_target])
                if each.wrote.deletes and key not in missing and world.ghosts.deleted(other.at(key)):
                    other.heads[key] = other.at(key) | {number}


class _OnlyRead(WrappedStorage):
    """A storage that fails at whatever writes, and knows no index."""

    def around(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if method not in READS and method != "load":
            raise BrokenPromiseError("wrote to a read-only source", f"{method} of {self.name}, which may only be read")
        return call(*args, **kwargs)


def _check_direction(
    world: World, event: Sync, before: tuple[dict[str, bytes], dict[str, bytes]], result: SyncResult | None
) -> None:
    """Make sure that a one-way run writes nothing to the side that it takes from, and that a mirror makes an image.

    Raises:
        BrokenPromiseError: it did, or does not.
    """
    sides = [world.places[number].disk.values() for number in (event.source, event.target)]
    written = {wrote.key for wrote in (*event.given, *(each.wrote for each in event.meanwhile))}
    for label, was, values in zip(("source", "target"), before, sides, strict=True):
        gives = event.direction == "pull" if label == "target" else event.direction in {"push", "mirror"}
        changed = {key for key in was.keys() | values.keys() if was.get(key) != values.get(key)} - written
        if gives and changed:
            text = f"a {event.direction} changed {', '.join(sorted(changed))} in the {label}"
            raise BrokenPromiseError("wrote against its direction", text)
    if event.direction == "mirror" and event.scan and result is not None:
        source, target = sides
        left = {key for key, *_ in (*result.missing, *result.unreadable)} | written | set(result.withheld)
        left |= set(event.exclude)
        differing = {key for key in source.keys() | target.keys() if source.get(key) != target.get(key)} - left
        if differing:
            text = f"{', '.join(sorted(differing))} differ after a mirror that told of nothing"
            raise BrokenPromiseError("no image", text)


def _met(event: Sync, known: tuple[Heads, Heads]) -> tuple[Heads, Heads]:
    """Return what each side may have got from the other in a run: nothing, where that was not its direction."""
    source, target = known
    return {} if event.direction == "pull" else source, {} if event.direction in {"push", "mirror"} else target


def heading(world: World, event: Sync) -> str:
    """Return what is to happen in a run, in words."""
    words: list[str] = [event.direction] if event.direction != "both" else []
    words += ["read-only source"] if event.read_only else []
    words += [f"without {', '.join(event.exclude)}"] if event.exclude else []
    words += [event.conflict] if event.conflict != "latest" else []
    words += ["scan"] if event.scan else []
    words += ["guard"] if event.guard == "check" else []
    words += [in_words(wrote) for wrote in event.given]
    for each in event.meanwhile:
        side = event.target if each.of_target else event.source
        words.append(
            f"before operation {each.operation}, {world.places[side].name}: {in_words(each.wrote)} (not logged)"
        )
    if event.backup is not None:
        side = event.target if event.backup.of_target else event.source
        words.append(f"{world.places[side].name} is backed up before operation {event.backup.operation}")
    names = f"sync {world.places[event.source].name} -> {world.places[event.target].name}"
    return names + (f" ({', '.join(words)})" if words else "")


def run(
    world: World, event: Event, places: Sequence[Place], crash: Crash | None, call: Callable[..., Any]
) -> tuple[Any, str]:
    """Make a call over some places; return its outcome, None if it failed, and how it ended if so."""
    fault = fault_of(crash)
    if isinstance(event, Sync) and (event.backup or event.meanwhile):
        fault.before = _meddler(world, event, places)
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


def _meddler(world: World, event: Sync, places: Sequence[Place]) -> Callable[[int], None]:
    """Return what happens before each operation of a run: a backup is taken, an application writes."""

    def meddle(operation: int) -> None:
        for of_target in (False, True):
            at, partner = places[::-1] if of_target else places
            if event.backup is not None and event.backup[:2] == (operation, of_target):
                world.back_up(event, at, partner)
            if at.disk.is_writable:
                writes = [each.wrote for each in event.meanwhile if each[:2] == (operation, of_target)]
                write_unlogged(world, at, writes, partner)

    return meddle
