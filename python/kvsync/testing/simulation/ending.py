"""The end of a history: everybody meets until nothing moves; then every promise is checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.testing.simulation.events import Sync
from kvsync.testing.simulation.running import heading, meet
from kvsync.testing.simulation.telling import names
from kvsync.testing.simulation.world import BrokenPromiseError

if TYPE_CHECKING:
    from kvsync.result import SyncResult
    from kvsync.testing.simulation.world import World

__all__ = ["end"]

WRITES = frozenset({"write", "delete", "store", "remove"})
KEPT = "30d"
"""A `tombstone_grace` that no history outlasts."""
LONG_SECONDS = 10_000.0
"""After that no lease is held, and no write lands any more."""


def end(world: World) -> None:
    """Let all storages meet until nothing moves, and check what they hold and what was told.

    Raises:
        BrokenPromiseError: a promise is broken.
    """
    world.pass_time(LONG_SECONDS)
    missing = _settle(world)
    _check_equal(world, missing)
    _check_nothing_lost(world, missing)
    _check_quiet(world)


def _settle(world: World) -> set[str]:
    """Let all pairs meet until a round moves nothing; return the keys that are told missing to the last."""
    # The diameter is below the number of storages; decisions made on the way take as many rounds again.
    rounds = 2 * len(world.places) + 3
    for number in range(rounds):
        results = [_meet(world, edge if number % 2 else edge[::-1]) for edge in world.history.edges]
        if not any(map(_moved, results)):
            world.count("rounds", number + 1)
            return {missing.key for result in results for missing in result.missing}
    raise BrokenPromiseError("never quiet", f"values still move after all storages met {rounds} times")


def _meet(world: World, edge: tuple[int, int], *, scan: bool = True) -> SyncResult:
    world.meetings += 1
    event = Sync(1_000_000 + world.meetings, 1.0, *edge, scan=scan)
    world.pass_time(event.after)
    world.tell(event, heading(world, event))
    result, told = meet(world, event)
    world.tell(event, told)
    if result is not None and not _moved(result):
        del world.lines[event.number]
    # A run that finds damage removes the index; the next one goes on.
    if result is None:
        result, told = meet(world, event)
    if result is None:
        raise BrokenPromiseError("fails for good", told)
    return result


def _moved(result: SyncResult | None) -> bool:
    return result is None or bool(result.pushed + result.pulled + len(result.conflicts) + sum(result.committed))


def _check_equal(world: World, missing: set[str]) -> None:
    first = world.places[0]
    values = first.disk.values()
    for place in world.places[1:]:
        theirs = place.disk.values()
        for key in sorted((values.keys() | theirs.keys()) - missing):
            if values.get(key) != theirs.get(key):
                text = (
                    f"{key} is {_shown(values.get(key))} in {first.name} and {_shown(theirs.get(key))} in {place.name}"
                )
                raise BrokenPromiseError("not equal", text)


def _shown(value: bytes | None) -> str:
    return "not there" if value is None else value.decode(errors="replace")


def _check_nothing_lost(world: World, missing: set[str]) -> None:
    held = world.held()
    if world.history.grace != KEPT:
        # A delete that was collected is held by nobody, and may be beaten by a put that never knew it. What it removed
        # must not come back.
        deletes = {number for number in world.ghosts.real if world.ghosts.writes[number].deletes}
        _check_none_revived(world, deletes, missing)
        held |= deletes
    lost = world.ghosts.lost(held)
    if not lost:
        return
    number = min(lost, key=lambda number: (world.ghosts.writes[number].deletes, number))
    wrote = world.ghosts.writes[number]
    head = world.places[0].holding.heads.get(wrote.key, frozenset())
    final = names(world.ghosts, head)
    if not wrote.deletes:
        text = f"{wrote.name} of {wrote.key} is lost: {final} is there in the end, no conflict was told, nothing kept"
        raise BrokenPromiseError("lost write", text)
    came_back = bool(head & world.ghosts.past([number]))
    text = f"{wrote.name} deleted {wrote.key}, and {final} is there in the end, and nobody was told"
    raise BrokenPromiseError("revived value" if came_back else "lost delete", text)


def _check_none_revived(world: World, deletes: set[int], missing: set[str]) -> None:
    """Make sure that no value is there of which a delete that was not told removed it.

    Of a key that is told missing to the last it is known that what is there is not the newest.
    """
    untold = (deletes & world.ghosts.due) - world.ghosts.past(world.ghosts.told)
    for key, head in world.places[0].holding.heads.items():
        for number in untold:
            wrote = world.ghosts.writes[number]
            is_removed = head and not world.ghosts.deleted(head) and head <= world.ghosts.past([number])
            if wrote.key == key and is_removed and key not in missing:
                text = f"{wrote.name} deleted {key}, and {names(world.ghosts, head)} is there, and nobody was told"
                raise BrokenPromiseError("revived value", text)


def _check_quiet(world: World) -> None:
    """Make sure that runs right after write nothing, once all know that the others know.

    They meet in either order in turns: what one has answered, another one may ask it in every round of one order.
    """
    for place in world.places:
        place.was_damaged = False
    edges = world.history.edges
    for _ in world.places:
        edges = edges[::-1]
        written = [_written(_meet(world, edge, scan=False)) for edge in edges]
        if not any(written):
            return
    edge, still = next((edge, still) for edge, still in zip(edges, written, strict=True) if still)
    names = " and ".join(world.places[number].name for number in edge)
    raise BrokenPromiseError("second run writes", f"a second run over {names} still does {', '.join(sorted(still))}")


def _written(result: SyncResult) -> set[str]:
    """Return what writes a run did; what is missing is tried again by every run."""
    if result.missing:
        return set()
    operations = [(method, times) for side in result.operations.values() for method, times in side.items()]
    return {method for method, times in operations if times and method in WRITES}
