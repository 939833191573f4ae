"""Recording: how a change gets into the log, and how it gets another name there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.replica import Cell

if TYPE_CHECKING:
    from model.changes import Change
    from model.replica import Replica
    from model.world import World


def record(world: World, replica: Replica, key: str, change: Change) -> None:
    """Log a change. (Ghost: what is there, if that is its outcome, was made by this change.)"""
    replica.log[key] = change
    if replica.found(key) == change.value:
        put(world, replica, key, change)


def put(world: World, replica: Replica, key: str, change: Change) -> None:
    """Write a value. (Ghost: if it is there already, it was made by this change, too.)"""
    cell = replica.store.get(key)
    if cell is not None and cell.value == change.value:
        world.ghost.link(change.write, cell.write)
    replica.store[key] = Cell(change.value, change.write)


def log_over_missing(world: World, replica: Replica, key: str) -> None:
    """Remember a missing change that is about to be replaced by somebody who may not have known of it."""
    entry = replica.missing.pop(key, None)
    if entry is not None and "unreconciled" in world.parts:
        replica.unreconciled[entry.change.dot] = key, entry.change


def rename(world: World, replica: Replica, key: str, origin: int) -> None:
    """Log a change of a key under another origin."""
    change = replica.log[key]._replace(origin=origin)
    replica.log[key] = change
    if key in replica.missing and "missing-names" in world.parts:
        replica.missing[key] = replica.missing[key]._replace(change=change)


def rename_unreconciled(replica: Replica, change: Change, origin: int) -> None:
    """Give another origin to a change that is only remembered as unreconciled."""
    key, _ = replica.unreconciled.pop(change.dot)
    renamed = change._replace(origin=origin)
    replica.unreconciled[renamed.dot] = key, renamed
