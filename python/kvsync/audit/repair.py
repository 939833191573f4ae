"""Repair the index of a storage: set aside what is damaged, and make a new log where the old one is not whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.audit.findings import Mend
from kvsync.audit.holding import leased
from kvsync.audit.index import DAMAGED_PREFIX, look
from kvsync.audit.rebuild import rebuild
from kvsync.audit.values import Held, Logged
from kvsync.errors import FormatError
from kvsync.index.objects import MANIFEST
from kvsync.replica.log import Log
from kvsync.replica.recovery import recover
from kvsync.types import ANY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvsync.audit.index import Index
    from kvsync.audit.rebuild import Rebuilt
    from kvsync.environment import Environment
    from kvsync.lease import Lease
    from kvsync.options import Options
    from kvsync.storages.contract import Storage

__all__ = ["first_of", "held_by", "mend", "readable", "repair"]

SHOWN_COUNT = 5


def repair(storage: Storage, options: Options, environment: Environment) -> list[str]:
    """Mend what is wrong with an index, under its lease; return what was done, one sentence each.

    Raises:
        FormatError: a newer kvsync wrote an object.
        LockError: the lease cannot be had.
    """
    latest_ms = options.latest_ms(environment.now_ms())
    if not look(storage, latest_ms).mends(Mend.SET_ASIDE, Mend.RELEASE, Mend.REBUILD, Mend.UPGRADE):
        return []
    with leased(storage, options, environment) as lease:
        return mend(readable(storage, latest_ms, lease), lease, environment)


def readable(storage: Storage, latest_ms: int, lease: Lease) -> Index:
    """Read an index whose lease is held.

    Raises:
        FormatError: a newer kvsync wrote an object.
    """
    index = look(storage, latest_ms, lease)
    for finding in index.mends(Mend.UPGRADE):
        raise FormatError(str(finding), storage=storage.name, name=finding.name)
    return index


def mend(index: Index, lease: Lease, environment: Environment, *, rebuilds: bool = False) -> list[str]:
    """Mend an index whose lease is held, and return what was done; with `rebuilds`, make a new log in any case."""
    rebuilds = rebuilds or bool(index.mends(Mend.REBUILD))
    broken = [finding.name for finding in index.mends(Mend.SET_ASIDE, Mend.REBUILD)]
    copied = _copy_aside(index, [*broken, MANIFEST] if rebuilds else broken, lease, environment)
    damaged = [name for name in copied if name != MANIFEST]
    notes: list[str] = []
    if rebuilds:
        notes += _told(rebuild(index, held_by(index, lease), lease, environment))
    lease.keep()
    if damaged:
        index.storage.remove(damaged, ANY)
    if not rebuilds:
        recover(Log.read(index.storage, environment), lease.previous)
    lease.mark_settled()
    if copied:
        notes.append(f"copied below .kvsync/{DAMAGED_PREFIX}, where nothing reads them: {first_of(copied)}")
    return notes


def held_by(index: Index, lease: Lease) -> Held:
    """Read all values, also those that a listing leaves out."""
    held = Held.of(index.storage, lease.keep)
    held.look_for(Logged.of(index).puts().keys() - held.digests.keys(), lease.keep)
    return held


def _copy_aside(index: Index, names: Sequence[str], lease: Lease, environment: Environment) -> list[str]:
    """Copy objects to where nothing reads them; return the names of those that were there."""
    place = f"{DAMAGED_PREFIX}{environment.now_ms():012x}/"
    copied: list[str] = []
    for name in dict.fromkeys(names):
        there = index.storage.load(name)
        if there is not None:
            lease.keep()
            index.storage.store(place + name, there.data, ANY)
            copied.append(name)
    return copied


def _told(rebuilt: Rebuilt) -> Iterator[str]:
    """Yield what a new log means, one sentence each."""
    yield (
        f"made a new log with {rebuilt.kept} of the changes that were left; the next sync with each storage compares "
        "all keys, and what both changed since they last met is a conflict"
    )
    if not rebuilt.whole:
        yield (
            "part of the old log may be gone, and a delete that only that part knew is not known any more: other "
            "storages may bring the value back"
        )
    if rebuilt.floorless:
        yield (
            "old deletes had gone from the log, which does not know any more that they had: a storage that was away "
            "meanwhile brings their values back, without a word"
        )
    for keys, what in (
        (rebuilt.dropped, "these keys do not hold what their newest change says, so that is forgotten here"),
        (rebuilt.vanished, "these keys had a value, and what became of it is not known any more"),
    ):
        if keys:
            yield f"{what}, and a storage that has it gives it back: {first_of(keys)}"
    if rebuilt.unknown:
        values = first_of(rebuilt.unknown)
        yield f"no change is left that tells when these values were made; the next scan logs them: {values}"


def first_of(names: Sequence[str]) -> str:
    """Return the first of some keys or names, and how many more there are."""
    shown = ", ".join(map(repr, names[:SHOWN_COUNT]))
    return shown if len(names) <= SHOWN_COUNT else f"{shown} and {len(names) - SHOWN_COUNT} more"
