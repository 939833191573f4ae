"""Accept what is there in place of a value that is missing for ever, as a change that the next run moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.digesting import digests
from kvsync.errors import StorageError, UsageError
from kvsync.native import TOMBSTONE, Segment, stamp_after
from kvsync.run.lock import Settled, ensure_leased, lock, transaction
from kvsync.run.push import LEFT_OUT
from kvsync.storages.contract import has_expiry
from kvsync.types import Change, Unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.environment import Environment
    from kvsync.options import Options
    from kvsync.replica.knowledge import Knowledge
    from kvsync.run.side import Side
    from kvsync.storages.contract import Storage

__all__ = ["accept"]

NO_DIGEST = bytes(32)


def accept(storage: Storage, keys: Sequence[str] | None, options: Options, environment: Environment) -> list[Change]:
    """Log what is at keys whose newest value is missing, all of them if `keys` is None, as changes made now.

    Raises:
        UsageError: nothing is missing at one of the keys.
        StorageError: what is at one of them cannot be read.
    """
    with lock((storage,), options, environment) as sides:
        assert not isinstance(sides, Settled)  # noqa: S101 - only a run that may find both sides equal gets that
        (side,) = sides
        changes = _found(side, _open(side.log.manifest.knowledge, keys, storage.name), environment)
        if changes:
            _log(side, Segment.from_rows(changes))
    return changes


def _open(knowledge: Knowledge, keys: Sequence[str] | None, storage: str) -> list[str]:
    """Return the keys to accept, ascending: those where a value is missing, or was replaced unseen.

    What is missing only since a filter leaves it out is accepted by its key alone: other storages have it.
    """
    lacking = {entry.change.key for entry in knowledge.missing} | {change.key for change in knowledge.unreconciled}
    if keys is None:
        return sorted(lacking - {entry.change.key for entry in knowledge.missing if entry.reason == LEFT_OUT})
    if isinstance(keys, str):
        message = f"keys must be a sequence of keys, not {keys!r}"
        raise UsageError(message)
    for key in keys:
        if key not in lacking:
            message = f"nothing is missing at {key!r} here"
            raise UsageError(message, storage=storage, key=key)
    return sorted(set(keys))


def _found(side: Side, keys: Sequence[str], environment: Environment) -> list[Change]:
    """Return what is at the keys as changes of the side's own, each with a fresh stamp."""
    storage = side.storage
    # Before the values are read: once one has expired, the storage would say that it never does.
    times = dict(zip(keys, storage.expiries(keys), strict=True)) if has_expiry(storage) and keys else {}
    stamp = side.log.manifest.clock
    changes = []
    for key, found in digests(storage, keys):
        ensure_leased(side)
        if isinstance(found, Unreadable):
            message = f"cannot accept what is at {key!r}, since it cannot be read: {found.reason}"
            raise StorageError(message, storage=storage.name, key=key)
        stamp = stamp_after(environment.now_ms(), stamp)
        if found is None:
            changes.append(Change(key, side.origin, stamp, TOMBSTONE, 0, NO_DIGEST))
        else:
            changes.append(Change(key, side.origin, stamp, 0, found.size, found.digest, times.get(key, 0)))
    return changes


def _log(side: Side, segment: Segment) -> None:
    mark = side.log.environment.mark()
    with transaction(side):
        ensure_leased(side)
        knowledge = side.log.manifest.knowledge.accept(segment, replica=side.origin, mark=mark)
        side.log.write(segment, knowledge)
