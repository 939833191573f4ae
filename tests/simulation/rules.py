"""Rules of lives (docs/lives.md), each left out of the engine: what a simulator must find."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kvsync.environment import Environment
from kvsync.replica.history import History
from kvsync.replica.knowledge import Knowledge
from kvsync.replica.lives import Standing
from kvsync.run import floor, lock

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvsync.index.manifest import Manifest
    from kvsync.replica.history import Rename
    from kvsync.replica.points import Point
    from kvsync.testing.simulation import Hazard

__all__ = ["RULES", "Rule"]

SOUND_BRANCHED = Standing.branched
SOUND_HISTORY_BRANCHED = History.branched
SOUND_IDENTIFIED = Standing.identified
SOUND_UNMATCHED = floor._unmatched

UNDONE: tuple[Hazard, ...] = ("restores", "clones")
COLLECTED: tuple[Hazard, ...] = ("unlogged", "crashes", "restores", "clones", "collection", "forgotten")
MISSING: tuple[Hazard, ...] = ("unlogged", "crashes", "restores", "clones", "late")


class Rule(NamedTuple):
    """A rule that is left out.

    Attributes:
        place, attribute: what is replaced.
        fault: by what.
        hazards: those that the histories have.
        seed: of a history that breaks a promise then.
    """

    place: object
    attribute: str
    fault: Callable[..., Any]
    hazards: tuple[Hazard, ...]
    seed: int


def as_before(*manifests: Manifest) -> tuple[Standing, ...]:
    return tuple(Standing(manifest.replica, manifest.history, manifest.collected) for manifest in manifests)


def under_the_old_name(self: Standing, origin: int, other: Standing) -> Standing:
    return SOUND_BRANCHED(self, origin, other)._replace(renames=self.renames)


def without_going_back(self: History, origin: int, proven: Point | None) -> tuple[History, Rename]:
    history, rename = SOUND_HISTORY_BRANCHED(self, origin, proven)
    return History({**history.chains, origin: self.chains[origin]}, history.exceptions), rename


def whoever_else_has_it(self: Standing, other: Standing, *, is_gone: bool) -> Standing:
    return SOUND_IDENTIFIED(self, other, is_gone=False)


def not_deleted(*arguments: Any) -> Any:
    return SOUND_UNMATCHED(*arguments)._replace(deleted=[])


RULES: dict[str, Rule] = {
    "Points have marks.": Rule(Environment, "mark", lambda _self: 7, UNDONE, 49),
    "Histories are compared.": Rule(lock, "compare", as_before, UNDONE, 6),
    "Proof.": Rule(Standing, "branched", lambda self, *_: self, UNDONE, 49),
    "Branch.": Rule(Standing, "branched", under_the_old_name, UNDONE, 49),
    "Cap.": Rule(History, "branched", without_going_back, UNDONE, 549),
    "Fresh id.": Rule(Standing, "identified", lambda self, _other, *, is_gone: self, UNDONE, 6),
    "Two storages with one id": Rule(Standing, "identified", whoever_else_has_it, (*UNDONE, "forgotten"), 8),
    "Floor.": Rule(floor, "floor_above", lambda *_: 0, COLLECTED, 12),
    "Covered and absent is deleted.": Rule(floor, "_unmatched", not_deleted, COLLECTED, 12),
    "Replaced unknown is remembered.": Rule(Knowledge, "unreconciled_after", lambda *_: [], MISSING, 35),
}
