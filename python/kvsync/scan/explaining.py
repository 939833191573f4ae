"""Why a storage holds what it holds: by runs that were interrupted, by expiry, or by a change of somebody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.expiry import may_be_gone
from kvsync.native import TOMBSTONE, stamp_after
from kvsync.storages.contract import has_expiry
from kvsync.types import Change

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.environment import Environment
    from kvsync.replica import Replica
    from kvsync.scan.reading import FoundValue

__all__ = ["lapsed", "late_writes", "retimed", "stamped"]

NO_DIGEST = bytes(32)


def retimed(replica: Replica, unchanged: Sequence[tuple[str, FoundValue]]) -> dict[str, bool]:
    """Return the keys whose value is the one that is known, and whose time another one; and whether that is sooner."""
    if not unchanged or not has_expiry(replica.storage):
        return {}
    # Of what is held in place of a missing value, no time is known.
    lacking = {lack.change.key for lack in replica.manifest.lacking}
    logged = replica.newest([key for key, _ in unchanged])
    return {
        key: bool(entry.expires) and not 0 < change.expires < (entry.expires or 0)
        for (key, entry), change in zip(unchanged, logged, strict=True)
        if change is not None and change.expires != entry.expires and key not in lacking
    }


def lapsed(replica: Replica, absent: Sequence[str], now_ms: int) -> set[str]:
    """Return the absent keys whose values the storage took away itself, since they had expired."""
    if not absent or not has_expiry(replica.storage):
        return set()
    # What is held in place of a missing value may have had a time, too. Its newest value is on its way anyway.
    lapsed = {lack.change.key for lack in replica.manifest.lacking}
    logged = zip(absent, replica.newest(absent), strict=True)
    return lapsed | {key for key, change in logged if change is not None and may_be_gone(change.expires, now_ms)}


def late_writes(
    replica: Replica, puts: dict[str, FoundValue], deletes: Sequence[str], now_ms: int
) -> tuple[list[Change], list[tuple[Change, bytes]]]:
    """Explain what was found by what runs were about to write, and by what is known to be missing.

    Return the changes that landed: late writes of runs that had lost their lease, and missing values that a run
    brought before it was interrupted. And the newest changes that a late write put an older value over: nobody made
    that older value now, so it is no local change, and the newest value is missing.
    """
    gone = set(deletes)
    lacking = [lack.change for lack in replica.manifest.lacking]
    landed = {change.key: change for change in lacking if _fits(change, puts, gone, now_ms)}
    stale: dict[str, tuple[Change, bytes]] = {}
    candidates = [*puts, *deletes]
    intents = replica.intents()
    newest = replica.newest(candidates) if intents else []
    for intent, lost_ms in intents:
        for row, logged in zip(intent.find(candidates), newest, strict=True):
            if row is None:
                continue
            change = Change._make(row)
            fits = _fits(change, puts, gone, lost_ms)
            if fits and (logged is None or change.order > logged.order):
                landed[change.key] = change
            elif fits and logged is not None:
                stale[change.key] = (logged, puts[change.key].digest if change.key in puts else b"")
    return list(landed.values()), [entry for key, entry in stale.items() if key not in landed]


def _fits(change: Change, puts: dict[str, FoundValue], gone: set[str], now_ms: int) -> bool:
    """Whether what was found at a key is what `change` made of it: nothing, too, if it had expired by `now_ms`."""
    if change.key in gone:
        return change.deletes or may_be_gone(change.expires, now_ms)
    entry = puts.get(change.key)
    return entry is not None and entry.digest == change.digest and entry.expires in {None, change.expires}


def stamped(
    replica: Replica, environment: Environment, puts: dict[str, FoundValue], deletes: Sequence[str]
) -> list[Change]:
    """Stamp local changes in the order in which the storage says they were made, none in the future."""
    now_ms = environment.now_ms()
    keys = list(puts)
    times = replica.storage.modified_ms(keys) if keys else []
    # A value of unknown age that no log knows counts as old: it must not beat what a peer knows to be newer.
    unknown_ms = now_ms if replica.manifest.segments else 0
    made = [(unknown_ms if t is None else min(t, now_ms), key) for t, key in zip(times, keys, strict=True)]
    made += [(now_ms, key) for key in deletes]
    stamp = replica.manifest.clock
    origin = replica.manifest.replica
    changes = []
    for time_ms, key in sorted(made):
        stamp = stamp_after(max(time_ms, 0), stamp)
        if key in puts:
            entry = puts[key]
            changes.append(Change(key, origin, stamp, 0, entry.size, entry.digest, entry.expires or 0))
        else:
            changes.append(Change(key, origin, stamp, TOMBSTONE, 0, NO_DIGEST))
    return changes
