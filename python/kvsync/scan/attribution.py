"""Attribution: why a storage holds what it holds. An interrupted run did it, or expiry, or somebody made a change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.expiry import may_be_gone
from kvsync.replica.recovery import applied, remembered_intents
from kvsync.replica.segments import changes_of
from kvsync.scan.reading import look_up
from kvsync.storages.contract import has_expiry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kvsync.native import FoundValues
    from kvsync.replica.history import VectorException
    from kvsync.replica.log import Log
    from kvsync.replica.recovery import FoundValue
    from kvsync.types import Change

__all__ = ["expired", "late_writes", "ttl_changed"]


def ttl_changed(log: Log, unchanged: Sequence[tuple[str, FoundValue]]) -> dict[str, bool]:
    """Return the keys whose value is as logged and expires at another time, and whether that is sooner."""
    if not unchanged or not has_expiry(log.storage):
        return {}
    # When the value that is held in place of a missing one expires is not logged.
    missing = {entry.change.key for entry in log.manifest.knowledge.missing}
    logged = log.newest([key for key, _ in unchanged])
    return {
        key: bool(entry.expires) and not 0 < change.expires < (entry.expires or 0)
        for (key, entry), change in zip(unchanged, logged, strict=True)
        if change is not None and change.expires != entry.expires and key not in missing
    }


def expired(log: Log, absent: Sequence[str], now_ms: int) -> set[str]:
    """Return the absent keys whose values the storage removed itself, since they had expired."""
    if not absent or not has_expiry(log.storage):
        return set()
    # What is held in place of a missing value may have expired, too. Its newest value is on its way anyway.
    keys = {entry.change.key for entry in log.manifest.knowledge.missing}
    logged = zip(absent, log.newest(absent), strict=True)
    return keys | {key for key, change in logged if change is not None and may_be_gone(change.expires, now_ms)}


def late_writes(
    log: Log, puts: FoundValues, deletes: Sequence[str], now_ms: int
) -> tuple[list[Change], list[VectorException]]:
    """Return the changes of interrupted runs that account for what was found: what they meant to write or to fill in.

    Those that were not known yet become exceptions.

    A run that lost its lease meant to replace what its key held then. Once a newer change of the key is logged, that is
    replaced already, and what the run meant to write accounts for nothing: somebody has made the same change again.
    Nor does a change that the version vector claims, though it was never logged: this replica has made later ones, and
    whoever knows those would never ask for it. What is there then is a local change, and gets a stamp of its own.
    """
    gone = set(deletes)

    def found(changes: Iterable[Change], by_ms: int) -> list[Change]:
        """Return those of some changes that were found applied."""
        rows = list(changes)
        there = look_up(log.storage, puts, [change.key for change in rows])
        rows = [change for change in rows if change.key in there or change.key in gone]
        return [change for change in rows if applied(there.get(change.key), change, by_ms)]

    missing = (entry.change for entry in log.manifest.knowledge.missing)
    done = {change.key: change for change in found(missing, now_ms)}
    exceptions: dict[str, list[VectorException]] = {}
    history = log.manifest.history
    for intent, lost_ms in remembered_intents(log):
        rows = found(changes_of(intent.segment), lost_ms)
        for row, newest in zip(rows, log.newest([row.key for row in rows]), strict=True):
            logged, spans = intent.logged([row], history)
            for change in logged:
                is_known = history.cover.covers(*change.dot)
                is_beaten = newest is not None and change.order <= newest.order
                if not is_known and not is_beaten:
                    done[change.key] = change
                    exceptions[change.key] = spans
    return list(done.values()), [span for spans in exceptions.values() for span in spans]
