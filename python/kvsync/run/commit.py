"""Step 2: commit local changes, those that scans found and those that the caller gives.

An intent first, then the values, then the log. A crash leaves an unlogged value, never a logged value that is absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from kvsync.digesting import BATCH_BYTES, BATCH_COUNT, Digested, read_batches
from kvsync.errors import RefusedError, UsageError
from kvsync.expiry import expires_ms, unexpiring, write_until
from kvsync.native import Given, Segment, stamp_after
from kvsync.replica.history import History, VectorException
from kvsync.replica.segments import changes_of
from kvsync.run.lock import ensure_leased, transaction
from kvsync.storages.contract import has_expiry, has_transaction
from kvsync.storages.journal import has_journal
from kvsync.threads import thread_pool
from kvsync.types import Change, Delete, Put

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from kvsync.environment import Environment
    from kvsync.replica.intents import Intent
    from kvsync.run.side import Side
    from kvsync.scan import Scan
    from kvsync.types import Refusal

__all__ = ["checked", "commit_found", "commit_given", "log_local", "record_written"]


def checked(changes: Iterable[Put | Delete]) -> Sequence[Put | Delete]:
    """Return `changes` as a sequence of changes.

    Raises:
        UsageError: they are something else.
    """
    if isinstance(changes, str | bytes | Mapping | Put | Delete) or not isinstance(changes, Iterable):
        message = f"changes must be a sequence of Put and Delete, not {type(changes).__name__}"
        raise UsageError(message)
    sequence = changes if isinstance(changes, list | tuple) else list(changes)
    if not set(map(type, sequence)) <= {Put, Delete}:
        stranger = next(change for change in sequence if type(change) not in {Put, Delete})
        message = f"changes must be Put or Delete, not {type(stranger).__name__}"
        raise UsageError(message)
    return sequence


# What a scan found


def commit_found(side: Side, other: Side | None = None) -> Side:
    """Log what a scan found, if there was one and it found something; forget what the journal had noted of it.

    The `other` side has logged what both share.
    """
    found = side.scan
    if found is None:
        return side
    if not (len(found.local) or found.applied):
        if found.position and side.lease is not None:
            with transaction(side):
                ensure_leased(side)
                _settle(side, found)
        return side
    segment = Segment.merge([found.local, Segment.from_rows(found.applied)]) if found.applied else found.local
    exceptions = [*found.exceptions, *_shared(found, other)]
    with transaction(side):
        ensure_leased(side)
        log_local(side, segment, applied=found.applied, exceptions=exceptions)
        _settle(side, found)
    return side._replace(committed=side.committed + len(found.local))


def _shared(found: Scan, other: Side | None) -> Iterator[VectorException]:
    """Yield the changes of the other side that a scan found here as well, and that the other side has logged."""
    if found.shared is None:
        return
    assert other is not None  # noqa: S101 - only a run of two sides shares changes
    first, last = found.shared
    point = other.log.manifest.history.point_at(other.origin, last)
    assert point is not None  # noqa: S101 - it has logged them
    yield VectorException(other.origin, first, last, point)


def _settle(side: Side, found: Scan) -> None:
    """Have the storage forget what its journal had noted, which is logged now."""
    if found.position and side.lease is not None and has_journal(side.storage):
        side.storage.settle(found.position, found.scope)


def log_local(
    side: Side,
    segment: Segment,
    *,
    applied: Sequence[Change] = (),
    exceptions: Sequence[VectorException] = (),
    restamped: bool = False,
    intent: Intent | None = None,
    release_token: bytes = b"",
) -> None:
    """Log changes that were made here, together with those of interrupted runs that were found applied.

    Those that are only `restamped` replace nothing.
    """
    mark = side.log.environment.mark()
    known = side.log.manifest.knowledge
    if restamped:
        knowledge = known.restamp(segment, replica=side.origin, mark=mark)
    else:
        knowledge = known.commit(segment, applied, exceptions, replica=side.origin, mark=mark)
    side.log.write(segment, knowledge, intent=intent, lease=release_token)
    if release_token and side.lease is not None:
        side.lease.mark_released()


# What the caller gives


@dataclass(frozen=True)
class Taken:
    """What the caller gives: changes with values, and those whose values are stored already, with their versions."""

    given: Given
    stored: Sequence[Segment] = ()
    read_versions: Mapping[str, tuple[bytes, bytes]] = field(default_factory=dict)

    @cached_property
    def segment(self) -> Segment:
        """All of it; the first to ask takes the digests."""
        return Segment.merge([self.given.segment, *self.stored])


def commit_given(
    side: Side,
    changes: Sequence[Put | Delete],
    environment: Environment,
    *,
    last: bool = False,
    read_again: bool = True,
) -> Side:
    """Write the caller's values, then log them.

    Where this is the `last` that is done with the side, logging them releases its lease, if a manifest can: what is
    given is pushed from memory. Not where values are stored already, and are `read_again` to be pushed.

    Raises:
        UsageError: a change is malformed, or names a value as stored that is not there.
        RefusedError: a value cannot be written; the others are written and logged.
    """
    if not changes:
        return side
    taken = _take(side, changes, stamp_after(environment.now_ms(), side.log.manifest.clock))
    pending: dict[str, bytes | None] = {}
    if side.lease is None:
        pending = {change.key: change.value for change in changes if change.deletes or change.value is not None}
        log_local(side, taken.segment)
    else:
        releases = last and not (taken.stored and read_again)
        _write_and_log(side, taken, environment, releases=releases)
    return side._replace(
        given=taken.given,
        read_versions=taken.read_versions,
        pending=pending,
        committed=side.committed + len(taken.segment),
        unexpiring=unexpiring(taken.segment, side.storage, environment.now_ms()),
    )


def _write_and_log(side: Side, taken: Taken, environment: Environment, *, releases: bool) -> None:
    """Write the caller's values and log what was written; `releases`: the lease is released with that.

    Raises:
        RefusedError: a value cannot be written; the others are written and logged.
    """
    with transaction(side):
        intent, refusals, written = _write_given(side, taken, environment)
        logged = taken.segment.without([refusal.key for refusal in refusals]) if refusals else taken.segment
        ensure_leased(side)
        if len(logged):
            releases = releases and not refusals and side.scan is None
            token = side.lease.release_token if releases and side.lease is not None else b""
            log_local(side, logged, intent=intent, release_token=token)
            record_written(side, logged, written, logged.expired(environment.now_ms()))
        else:
            side.log.delete_intent(intent)
    if refusals:
        raise RefusedError(storage=side.storage.name, refused=refusals, others=len(logged))


def record_written(side: Side, segment: Segment, written: Mapping[str, bytes | None], emptied: Collection[str]) -> None:
    """Tell the inventory what this run put there after the scan: whatever else is found there is a local change.

    Args:
        side: where.
        segment: what was logged.
        written: {key: new version token, or None where the storage told none} of the values that this run wrote.
        emptied: keys where nothing is, since the time of their values had come.
    """
    if side.scan is None:
        return
    if side.scan.is_tracked:
        side.scan.nonce = b""
        return
    emptied = set(emptied)
    known = side.scan.current
    entries: dict[str, tuple[bytes, bytes] | None] = {}
    for row in changes_of(segment):
        if row.deletes or row.key in emptied:
            entries[row.key] = None
        elif row.key in written:
            by_digest = row.digest if side.storage.capabilities.tokens == "blake3" else b""
            entries[row.key] = written[row.key] or by_digest, row.digest
        elif known.digests([row.key]) != [row.digest]:
            entries[row.key] = b"", row.digest  # stored by the caller after the scan: to be looked at once more
    side.scan.record(entries)


def _take(side: Side, changes: Sequence[Put | Delete], first: int) -> Taken:
    keys, values = [change.key for change in changes], [change.value for change in changes]
    if None not in values or all(change.deletes or change.value is not None for change in changes):
        return Taken(Given(keys, values, side.origin, first, _times(changes)))
    return _take_stored(side, changes, first)


def _times(changes: Sequence[Put | Delete]) -> list[int] | None:
    """Return when values expire, in wall-clock milliseconds (0: never); None where none of them does."""
    if [change.expires for change in changes].count(None) == len(changes):
        return None
    return [expires_ms(change) for change in changes]


def _take_stored(side: Side, changes: Sequence[Put | Delete], first: int) -> Taken:
    """Return what is given, reading the values that are stored already without keeping them.

    Raises:
        UsageError: one that is named as stored is not there.
    """
    newest = list({change.key: change for change in changes}.values())
    known = [change for change in newest if change.deletes or change.value is not None]
    stored = [change.key for change in newest if not change.deletes and change.value is None]
    times = {change.key: expires_ms(change) for change in newest if change.expires is not None}
    known_times = [times.get(change.key, 0) for change in known] if times else None
    given = Given([change.key for change in known], [change.value for change in known], side.origin, first, known_times)
    first += len(known)
    segments: list[Segment] = []
    versions: dict[str, tuple[bytes, bytes]] = {}
    # Before the values are read: once one has expired, the storage would say that it never does.
    until_of = _times_stored(side, stored, times)
    for keys, values in read_batches(side.storage, stored):
        ensure_leased(side)
        until = [until_of[key] for key in keys] if until_of is not None else None
        if isinstance(values, Digested):
            expires = until[0] if until else 0
            change = Change(keys[0], side.origin, first, 0, values.size, values.digest, expires)
            segments.append(Segment.from_rows([change]))
            versions[change.key] = values.digest, values.version
        else:
            present = [value for value in values if isinstance(value, bytes)]
            if len(present) < len(keys):
                raise _not_stored(side, keys, values)
            segments.append(Segment.from_values(keys, present, side.origin, first, 0, until))
        first += len(keys)
    return Taken(given, segments, versions)


def _times_stored(side: Side, keys: Sequence[str], given: Mapping[str, int]) -> dict[str, int] | None:
    """Return when stored values expire: as the storage says, or else as the caller does."""
    storage = side.storage
    if not has_expiry(storage):
        return {key: given.get(key, 0) for key in keys} if given else None
    times: dict[str, int] = {}
    for start in range(0, len(keys), BATCH_COUNT):
        some = keys[start : start + BATCH_COUNT]
        ensure_leased(side)
        times.update(zip(some, storage.expiries(some), strict=True))
    return times


def _not_stored(side: Side, keys: Sequence[str], values: Sequence[object]) -> UsageError:
    key = next(key for key, value in zip(keys, values, strict=True) if not isinstance(value, bytes))
    message = f"Put({key!r}) has no value and none is stored; give the value, or Delete the key"
    return UsageError(message, storage=side.storage.name, key=key)


def _write_given(
    side: Side, taken: Taken, environment: Environment
) -> tuple[Intent | None, list[Refusal], dict[str, bytes | None]]:
    """Write the caller's values, after the intent to do so; return that, what was refused, and new version tokens."""
    ensure_leased(side)
    if not has_transaction(side.storage):
        intent = side.log.intend(taken.segment, History())
        return intent, *_write_values(side, taken.given, environment)
    if len(taken.given) <= BATCH_COUNT:
        return None, *_write_values(side, taken.given, environment)
    # Nobody sees the values before they are logged, so their digests can be taken meanwhile.
    with thread_pool(1, "kvsync-digest") as digesting:
        digesting.submit(lambda: side.log.prepare(taken.segment))
        return None, *_write_values(side, taken.given, environment)


def _write_values(side: Side, given: Given, environment: Environment) -> tuple[list[Refusal], dict[str, bytes | None]]:
    """Write the caller's values, batch by batch; return what the storage refused, and new version tokens."""
    refusals: list[Refusal] = []
    tokens: dict[str, bytes | None] = {}
    for start, stop in given.batches(BATCH_COUNT, BATCH_BYTES):
        keys, values, times, deletes = given.part(start, stop)
        if times is not None:
            now_ms = environment.now_ms()
            rows = [row for row in zip(keys, values, times, strict=True) if not 0 < row[2] <= now_ms]
            live = {key for key, _, _ in rows}
            deletes += [key for key in keys if key not in live]
            keys, values, times = [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]
        ensure_leased(side)
        if keys:
            written = write_until(side.storage, keys, values, times)
            refusals += written.refused
            if side.scan is not None:
                tokens.update(zip(keys, written.tokens or [None] * len(keys), strict=True))
        if deletes:
            refusals += side.storage.delete(deletes).refused
    return refusals, tokens
