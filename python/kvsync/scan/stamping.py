"""Stamping: when the changes that scans found were made, as far as the storages say so.

A time that the storage tells is exact. Otherwise a change was made after the last scan and before this one, and its
stamp says the latest possible time. Both sides of a run are stamped by one look at the clock, and a key that was
changed on both at an unknown time has one stamp: neither which side was scanned first nor how much was found there
decides which change is the greater, but its content.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from kvsync.native import INEXACT, TOMBSTONE, stamp_after
from kvsync.types import Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from kvsync.replica.log import Log
    from kvsync.replica.recovery import FoundValue

__all__ = ["Unstamped", "stamped"]

NO_DIGEST = bytes(32)
STAMP_MS_SHIFT = 16


class Unstamped(NamedTuple):
    """What a scan found to be changed in one storage.

    Attributes:
        log: of the storage.
        origin: the id under which its changes are stamped.
        puts: what is there now, by key.
        modified_ms: when each of the puts was made; None where the storage does not know.
        deletes: keys where nothing is any more.
    """

    log: Log
    origin: int
    puts: Mapping[str, FoundValue]
    modified_ms: Sequence[int | None]
    deletes: Sequence[str]

    def change(self, key: str, stamp: int, flags: int) -> Change:
        """Return the change of a key."""
        entry = self.puts.get(key)
        if entry is None:
            return Change(key, self.origin, stamp, flags | TOMBSTONE, 0, NO_DIGEST)
        return Change(key, self.origin, stamp, flags, entry.size, entry.digest, entry.expires or 0)


class Times(NamedTuple):
    """The changes of one storage by what is known of their time.

    Attributes:
        old: values of unknown age in a storage without a log: they must not beat what a peer knows to be newer.
        dated: (milliseconds, key) of the changes whose time the storage tells, ascending.
        recent: made at some time since the last scan. A time in the future says no more than that.
    """

    old: Sequence[str]
    dated: Sequence[tuple[int, str]]
    recent: Sequence[str]

    @classmethod
    def of(cls, side: Unstamped, now_ms: int) -> Times:
        """Sort what a scan found."""
        times = list(zip(side.modified_ms, side.puts, strict=True))
        undated = [key for time, key in times if time is None]
        old, recent = (undated, []) if not side.log.manifest.history.chains else ([], undated)
        recent += [key for time, key in times if time is not None and time > now_ms]
        dated = sorted((time, key) for time, key in times if time is not None and time <= now_ms)
        return cls(old, dated, [*recent, *side.deletes])


def stamped(sides: Sequence[Unstamped], now_ms: int) -> list[list[Change]]:
    """Return the changes of each side, ascending by stamp, none in the future."""
    found = [(side, Times.of(side, now_ms)) for side in sides]
    places = _places(times.old for _, times in found)
    earlier = [_earlier(side, times, places) for side, times in found]
    seen = [made[-1].stamp if made else side.log.manifest.clock for side, made in zip(sides, earlier, strict=True)]
    first = stamp_after(now_ms, max(seen))
    places = _places(times.recent for _, times in found)
    return [
        [*made, *_in_places(side, times.recent, places, first)]
        for (side, times), made in zip(found, earlier, strict=True)
    ]


def _earlier(side: Unstamped, times: Times, places: Mapping[str, int]) -> list[Change]:
    """Return the changes that count as old, or whose time the storage tells."""
    clock = side.log.manifest.clock
    old = list(_in_places(side, times.old, places, stamp_after(0, clock)))
    return [*old, *_dated(side, times.dated, old[-1].stamp if old else clock)]


def _places(keys_of_sides: Iterable[Sequence[str]]) -> dict[str, int]:
    """Return the place of each key among those of all sides."""
    keys: set[str] = set().union(*keys_of_sides)
    return dict(zip(sorted(keys), count()))


def _in_places(side: Unstamped, keys: Sequence[str], places: Mapping[str, int], first: int) -> Iterator[Change]:
    """Yield inexact changes; each key has the same stamp on either side."""
    return (side.change(key, first + places[key], INEXACT) for key in sorted(keys))


def _dated(side: Unstamped, dated: Sequence[tuple[int, str]], stamp: int) -> Iterator[Change]:
    """Yield changes whose time the storage tells: exact, unless the stamp had to be a later one."""
    for time_ms, key in dated:
        stamp = stamp_after(max(time_ms, 0), stamp)
        yield side.change(key, stamp, 0 if stamp >> STAMP_MS_SHIFT == time_ms else INEXACT)
