"""Make a new log of what is left of the old one, and fits the values.

What the new manifest claims is only what is certain. So the storage becomes a new replica, which has met nobody: it
logs as its own changes what its values show, each with the stamp of the old change that made the value. A peer compares
all of it in the next run. Where the outcome is equal, nothing is copied. Where it is not, the two changes are
concurrent for all that is known: a conflict, which is told, and whose losing value is kept.

A change whose value is not there is dropped, as it cannot be told from one that somebody undid: a peer that holds the
value gives it back. A value that no change accounts for is left to the next scan, which logs it as new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvsync.audit.index import GENERATION_MAX, SEGMENT_PREFIX, generation_of
from kvsync.audit.salvage import salvaged
from kvsync.errors import IndexDamagedError
from kvsync.expiry import may_be_gone
from kvsync.index.inventory import read_inventory
from kvsync.index.manifest import Manifest, RememberedIntent
from kvsync.index.objects import PACK_PREFIX
from kvsync.native import INEXACT, Segment
from kvsync.replica.collection import stamp_of
from kvsync.replica.intents import LATE_WRITE_SECONDS
from kvsync.replica.log import Log
from kvsync.replica.peers import REPLACED
from kvsync.replica.session import StoredManifest
from kvsync.run.lock import ensure_leased, transaction
from kvsync.run.side import Side
from kvsync.scan.known import Known
from kvsync.scan.listing import compare
from kvsync.scan.pieces import Pieces
from kvsync.types import ANY, Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kvsync.audit.index import Index
    from kvsync.audit.values import Held
    from kvsync.environment import Environment
    from kvsync.lease import Lease

__all__ = ["Rebuilt", "rebuild"]

FIND_COUNT = 4096
STAMP_MAX = 2**64 - 1


class Rebuilt(NamedTuple):
    """What became of a log.

    Attributes:
        log: the new one.
        kept: how many changes it has.
        dropped: keys whose newest change was dropped, since its value is not there.
        unknown: keys with a value that no change accounts for.
        vanished: keys that the last scan saw, where nothing is, and no change is left that says why.
        whole: nothing of the old log was unreadable.
        floorless: deletes had been collected from the old log, and the new one does not say so.
    """

    log: Log
    kept: int
    dropped: list[str]
    unknown: list[str]
    vanished: list[str]
    whole: bool
    floorless: bool


def rebuild(index: Index, held: Held, lease: Lease, environment: Environment) -> Rebuilt:
    """Write a new manifest with a new log, on condition that the old manifest is still the one that was read.

    Raises:
        LockLostError: somebody else took the lease over meanwhile.
    """
    segments = salvaged(index)
    newest = Segment.merge(segments)
    kept, dropped = _fitting(segments, newest, held, environment.now_ms())
    kept += _in_place_of_missing(index, {change.key for change in kept}, held)
    log = _new_log(index, newest.stamp_max, lease, environment)
    side = Side("source", index.storage, log, lease)
    own = Segment.from_rows(list(_renamed(kept, side.origin, index.latest_ms, environment.now_ms())))
    with transaction(side):
        ensure_leased(side)
        mark = environment.mark()
        log.write(own, log.manifest.knowledge.commit(own, replica=side.origin, mark=mark))
        _remove_old(index, log)
    told = {change.key for change in kept}
    vanished = [key for key in _vanished(index, held) if key not in told and key not in dropped]
    whole = index.manifest is not None and len(index.segments) == len(index.manifest.segments)
    # A floor is about histories of which the new manifest claims nothing.
    floorless = index.manifest is not None and bool(index.manifest.collected)
    return Rebuilt(log, len(kept), dropped, sorted(held.digests.keys() - told), vanished, whole, floorless)


def _vanished(index: Index, held: Held) -> list[str]:
    """Return the keys that the last scan saw, and where nothing is now."""
    inventory = read_inventory(index.storage)
    keys = sorted(held.digests)
    try:
        gone = compare(Known(Pieces(index.storage), inventory), [(keys, [b""] * len(keys))], lambda: None).gone
    except IndexDamagedError:
        return []
    return [key for key in gone if key not in held.unreadable]


def _new_log(index: Index, stamp_max: int, lease: Lease, environment: Environment) -> Log:
    """Return the log of a new replica, later than all that is there."""
    old = index.manifest
    generations = [generation_of(name) for name in index.names]
    if old is not None and old.generation < GENERATION_MAX:
        generations.append(old.generation)
    clocks = [stamp_max] if old is None else [stamp_max, old.clock]
    until_ms = index.latest_ms + LATE_WRITE_SECONDS * 1000
    intents = () if old is None else tuple(intent for intent in old.intents if intent.until_ms <= until_ms)
    manifest = Manifest.fresh(environment.replica_id(), environment.place())._replace(
        generation=max(generations, default=0),
        clock=max((clock for clock in clocks if clock < stamp_of(index.latest_ms + 1)), default=0),
        gone={old.replica: REPLACED} if old is not None else {},
        intents=(*intents, *_open_intent(index, lease, environment)),
    )
    return Log(index.storage, environment, StoredManifest(manifest, index.version, b""))


def _open_intent(index: Index, lease: Lease, environment: Environment) -> Iterator[RememberedIntent]:
    """Yield the intent of a holder that lost its lease, whose last write may still land: the latest that is there."""
    names = [name for name in index.names if name.startswith(SEGMENT_PREFIX) and name.endswith("-0")]
    if lease.previous.may_write and names:
        until_ms = environment.now_ms() + LATE_WRITE_SECONDS * 1000
        yield RememberedIntent(max(names, key=generation_of), until_ms)


def _fitting(segments: Sequence[Segment], newest: Segment, held: Held, now_ms: int) -> tuple[list[Change], list[str]]:
    """Return the newest change of each key that accounts for what is there, and the keys where another one is newer."""
    kept: list[Change] = []
    dropped: list[str] = []
    for start in range(0, len(newest), FIND_COUNT):
        tops = list(map(Change._make, newest.rows(start, start + FIND_COUNT)))
        others = zip(*(segment.find([top.key for top in tops]) for segment in segments), strict=True)
        for top, rows in zip(tops, others, strict=True):
            found = top if _accounts_for(top, held, now_ms) else _older(top, rows, held)
            if found is not None:
                kept.append(found)
            if found is not top and not top.deletes:
                dropped.append(top.key)
    return kept, dropped


def _accounts_for(change: Change, held: Held, now_ms: int) -> bool:
    """Whether what is at a key is what its newest change says; of what cannot be read that is believed."""
    there = held.digests.get(change.key)
    if change.key in held.unreadable:
        return True
    if there is None:
        return change.deletes or may_be_gone(change.expires, now_ms)
    return not change.deletes and (there.digest, there.size) == (change.digest, change.size)


def _older(top: Change, rows: Iterable[tuple[str, int, int, int, int, bytes, int] | None], held: Held) -> Change | None:
    """Return the newest change that made the value which is there."""
    there = held.digests.get(top.key)
    if there is None:
        return None
    changes = [Change._make(row) for row in rows if row is not None]
    made = [change for change in changes if not change.deletes and change.digest == there.digest]
    return max(made, key=lambda change: change.order, default=None)


def _in_place_of_missing(index: Index, kept: set[str], held: Held) -> Iterator[Change]:
    """Yield changes of unknown age for values that are there in place of newer ones, which are known to be missing."""
    missing = index.manifest.knowledge.missing if index.manifest is not None else ()
    for entry in missing:
        key = entry.change.key
        there = held.digests.get(key)
        if key not in kept and there is not None and there.digest == entry.held:
            yield Change(key, 0, 1, INEXACT, there.size, there.digest)


def _renamed(changes: Iterable[Change], origin: int, latest_ms: int, now_ms: int) -> Iterator[Change]:
    """Yield changes as those of `origin`, each with a stamp of its own: two of old origins may have had one stamp.

    A clock was wrong that stamped one after `latest_ms`: when that was made is not known.
    """
    last = 0
    for change in sorted(changes, key=lambda change: (change.stamp, change.key)):
        is_late = change.stamp >= stamp_of(latest_ms + 1)
        stamp = stamp_of(now_ms) if is_late else change.stamp
        last = min(max(stamp, last + 1), STAMP_MAX)
        yield change._replace(origin=origin, stamp=last, flags=change.flags | (INEXACT if is_late else 0))


def _remove_old(index: Index, log: Log) -> None:
    """Remove the segments and packs whose changes are in the new log; an intent that is remembered stays."""
    used = log.object_names() | {intent.name for intent in log.manifest.intents}
    old = [name for name in index.names if name.startswith((SEGMENT_PREFIX, PACK_PREFIX)) and name not in used]
    if old:
        index.storage.remove(old, ANY)
