"""The words in which the stories are told: places, backups of them, runs an hour apart, and what a run tells."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from places import Clock, DictPlace, FolderPlace, Place, SqlitePlace, make

import kvsync
from kvsync.cli import main

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["HOUR", "Story", "command", "conflicts", "kept", "missing", "moved", "told", "unreadable"]

HOUR = 3600.0


class Story:
    """Places that people use, and the time that passes: an hour before each run.

    Attributes:
        folder: where folders and databases are.
        clock: the time of all runs, and of the files that places write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self._copies = 0

    def place(self, name: str, values: dict[str, bytes] | None = None, kind: str = "dict") -> Place:
        """Return a new place that holds `values`, and that kvsync has not seen."""
        place = make(kind, self.folder, name, self.clock)
        for key, value in (values or {}).items():
            place.put(key, value)
        return place

    def sync(self, source: Place, target: Place, **options: Any) -> kvsync.SyncResult:
        """Sync two places by a scan, an hour later."""
        self.clock.sleep(HOUR)
        options = {"scan": True, "create": "both", "wait_seconds": 0, **options}
        return kvsync.sync(source.target, target.target, environment=self.clock.environment, **options)

    def round(self, *places: Place) -> list[kvsync.SyncResult]:
        """Sync the first place with each of the others, twice, so that all know what each of them had."""
        return [self.sync(places[0], other) for _ in range(2) for other in places[1:]]

    def backup(self, place: Place) -> Place:
        """Return a copy of every byte of a place, index included."""
        self._copies += 1
        return place.copy(self.folder / f"copy{self._copies}")

    def restore(self, place: Place, backup: Place) -> None:
        """Put a backup back in its place."""
        if isinstance(place, DictPlace):
            place.target.clear()
            place.target.update(backup.target)
        elif isinstance(place, FolderPlace) and isinstance(backup, FolderPlace):
            shutil.rmtree(place.path)
            shutil.copytree(backup.path, place.path)
        elif isinstance(place, SqlitePlace) and isinstance(backup, SqlitePlace):
            shutil.copyfile(backup.path, place.path)


def moved(result: kvsync.SyncResult) -> tuple[int, int]:
    """Return how many changes a run pushed and pulled."""
    return result.pushed, result.pulled


def conflicts(*results: kvsync.SyncResult) -> list[tuple[str, str | None]]:
    """Return the key and the winner of each conflict that runs told."""
    return sorted((conflict.key, conflict.winner) for result in results for conflict in result.conflicts)


def missing(result: kvsync.SyncResult) -> list[tuple[str, str]]:
    """Return the key and the side of each value that a run could not move."""
    return sorted((key, side) for key, side, _ in result.missing)


def unreadable(result: kvsync.SyncResult) -> list[tuple[str, str]]:
    """Return the key and the side of each value that a run could not read."""
    return sorted((key, side) for key, side, _ in result.unreadable)


def told(result: kvsync.SyncResult) -> tuple[int, int, int, int, int]:
    """Return how many changes a run pushed, pulled, decided as conflicts, left missing and could not read."""
    return (*moved(result), len(result.conflicts), len(result.missing), len(result.unreadable))


def kept(*places: Place) -> list[tuple[str, bytes]]:
    """Return the key and the bytes of each value that lost a conflict and is kept in one of the places."""
    return sorted((lost.key, lost.value) for place in places for lost in kvsync.lost(place.target))


def command(*arguments: object) -> int:
    """Run the command, and return its exit code."""
    return main([str(argument) for argument in arguments])
