"""Losing values that cannot be read when they lose a conflict: noted, and kept before anything takes their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.index.lost import LostValue, keep_lost
from kvsync.index.objects import reading
from kvsync.native import Segment
from kvsync.replica.segments import changes_of
from kvsync.run.lock import ensure_leased
from kvsync.run.values import READ_COUNT, values_of
from kvsync.types import ANY, Unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.environment import Environment
    from kvsync.run.side import Side
    from kvsync.types import Change

__all__ = ["UNKEPT_PREFIX", "keep_noted", "note"]

UNKEPT_PREFIX = "unkept/"


def note(side: Side, losers: Sequence[Change], environment: Environment) -> str:
    """Note the changes whose values lost and could not be read; return the name of the object that says so."""
    name = f"{UNKEPT_PREFIX}{environment.nonce().hex()}"
    ensure_leased(side)
    side.storage.store(name, Segment.from_rows(sorted(losers)).encode(name, compress=False), ANY)
    return name


def keep_noted(side: Side) -> None:
    """Keep the noted values that can be read now.

    Call it before missing values are filled in: what could not be read could not be replaced either, and so its newest
    value is missing.
    """
    for name in side.storage.objects():
        if name.startswith(UNKEPT_PREFIX):
            _keep(side, name)


def _keep(side: Side, name: str) -> None:
    there = side.storage.load(name)
    if there is None:
        return
    with reading(name, side.storage.name):
        losers = list(changes_of(Segment.decode(there.data, name)))
    all_read = True
    for start in range(0, len(losers), READ_COUNT):
        ensure_leased(side)
        found: list[LostValue] = []
        for change, value in values_of(side, losers[start : start + READ_COUNT]):
            if isinstance(value, Unreadable):
                all_read = False
            elif value is not None:
                found.append(LostValue.of(change, value))
        keep_lost(side.storage, found)
    if all_read:
        side.storage.remove([name], ANY)
