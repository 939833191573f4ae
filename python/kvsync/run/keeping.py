"""Put back a value that lost a conflict, as a change that the next run moves; or discard such values."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from kvsync.errors import IndexDamagedError, StorageError, UsageError
from kvsync.index.lost import LostValue, drop_lost, keep_lost, kept_lost
from kvsync.native import digest_values, stamp_after
from kvsync.run.commit import commit_given
from kvsync.run.lock import Settled, ensure_leased, lock
from kvsync.run.release import Applied, finalise
from kvsync.types import Change, Put, Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kvsync.environment import Environment
    from kvsync.options import Options
    from kvsync.run.side import Side
    from kvsync.storages.contract import Storage

__all__ = ["discard", "find", "kept", "restore"]


def kept(storage: Storage, key: str | None = None, from_id: str | None = None) -> Iterator[LostValue]:
    """Yield the values that are kept in a storage, of all keys or one, oldest first.

    With `from_id`, only those whose ids begin with it.

    Raises:
        IndexDamagedError: an object fails its checks; the values of the others were yielded before.
    """
    for value in kept_lost(storage):
        if (key is None or value.key == key) and value.id.startswith(from_id or ""):
            yield value


def find(storage: Storage, key: str, from_id: str | None) -> LostValue:
    """Return the newest of the values that are kept for `key`, or the only one whose id begins with `from_id`.

    Raises:
        UsageError: there is none, or there are several of that id.
        IndexDamagedError: there is none but perhaps one that fails its checks.
    """
    values: list[LostValue] = []
    try:
        for value in kept(storage, key, from_id):
            values.append(value)  # noqa: PERF402 - what was found counts, whatever comes after it
    except IndexDamagedError:
        if not values:
            raise
    return _chosen(values, key, from_id, storage=storage.name)


def _chosen(values: Sequence[LostValue], key: str, from_id: str | None, *, storage: str) -> LostValue:
    of_id = "" if from_id is None else f" with an id that begins with {from_id!r}"
    if not values:
        message = f"no value of {key!r} that lost a conflict is kept here{of_id}"
        raise UsageError(message, storage=storage, key=key)
    if from_id is not None and len(values) > 1:
        message = f"{len(values)} values of {key!r} are kept{of_id}; give more of it"
        raise UsageError(message, storage=storage, key=key)
    return max(values, key=lambda value: value.id)


def restore(storage: Storage, key: str, from_id: str | None, options: Options, environment: Environment) -> LostValue:
    """Write a kept value and log it; the value that it replaces is kept, too."""
    with lock((storage,), options, environment) as sides:
        assert not isinstance(sides, Settled)  # noqa: S101 - only a run that may find both sides equal gets that
        (side,) = sides
        value = find(storage, key, from_id)
        _keep_current(side, value, environment)
        side = commit_given(side, [Put(key, value.value)], environment, last=True, read_again=False)
        finalise(Applied.nothing(side), environment)
    return value


def discard(storage: Storage, values: Iterable[LostValue], options: Options, environment: Environment) -> int:
    """Remove kept values for good; return how many of them were there."""
    wanted = {value.id for value in values}
    with lock((storage,), options, environment) as sides:
        assert not isinstance(sides, Settled)  # noqa: S101 - only a run that may find both sides equal gets that
        (side,) = sides
        return len(drop_lost(storage, wanted, partial(ensure_leased, side)))


def _keep_current(side: Side, value: LostValue, environment: Environment) -> None:
    """Keep what is at the key now, so that restoring can be undone.

    Raises:
        StorageError: what is there cannot be read.
    """
    (current,) = side.storage.read([value.key])
    if isinstance(current, Unreadable):
        message = f"cannot restore {value.key!r}, since what is there now cannot be read: {current.reason}"
        raise StorageError(message, storage=side.storage.name, key=value.key)
    if current is None or current == value.value:
        return
    ensure_leased(side)
    lost = LostValue.of(_change_of(side, value.key, current, environment), current)
    copies = _copies(side.storage, lost)
    if lost.id not in copies:
        keep_lost(side.storage, [lost])
    # Restoring to and fro would keep the same two values again and again.
    if older := copies - {lost.id}:
        drop_lost(side.storage, older, partial(ensure_leased, side))


def _copies(storage: Storage, lost: LostValue) -> set[str]:
    """Return the ids under which a value is kept for its key."""
    found: set[str] = set()
    with suppress(IndexDamagedError):  # what is damaged stays, and is told where somebody asks for it
        found.update(one.id for one in kept(storage, lost.key) if one.digest == lost.digest)
    return found


def _change_of(side: Side, key: str, current: bytes, environment: Environment) -> Change:
    """Return the logged change that set a value; where it is not logged yet, the one that it would become."""
    (digest,) = digest_values([current])
    (logged,) = side.log.newest([key])
    if logged is not None and logged.digest == digest:
        return logged
    stamp = stamp_after(environment.now_ms(), side.log.manifest.clock)
    return Change(key, side.origin, stamp, 0, len(current), digest)
