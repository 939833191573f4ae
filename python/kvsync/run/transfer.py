"""Move values in batches: read ahead while writing, and check digests on the way."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from kvsync.digesting import BATCH_BYTES, BATCH_COUNT
from kvsync.expiry import may_be_gone, write_until
from kvsync.native import Hasher
from kvsync.storages.contract import LARGE_BYTES, TornRead, has_copy, has_expiry, has_streaming
from kvsync.threads import thread_pool
from kvsync.types import Change, Unreadable, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from kvsync.native import Given, Segment
    from kvsync.run.guard import Guard
    from kvsync.storages.contract import Storage

__all__ = ["CHANGED", "NOT_THERE", "Outcome", "Reader", "lies_with_giver", "transfer"]

NOT_THERE = "it is not there any more"
CHANGED = "it changed since it was logged"
UNREADABLE = "it cannot be read"
"""Why the value of a change could not be moved, where its giver does not hold one."""

READ_AHEAD = 2
"""Batches read while an earlier one is being written; only one where it is a single value of more than a batch."""


class Outcome:
    """What became of a transfer.

    Args:
        records_tokens: the new version tokens are asked for.

    Attributes:
        applied: how many changes were applied.
        value_bytes: the size of the values that were written.
        failed: the changes that were not, and why.
        tokens: {key: (new version token, digest), or None where it was deleted}, where they were asked for.
    """

    def __init__(self, *, records_tokens: bool) -> None:
        self.applied = 0
        self.value_bytes = 0
        self.failed: list[tuple[Change, str]] = []
        self.tokens: dict[str, tuple[bytes, bytes] | None] | None = {} if records_tokens else None

    def take(self, again: Outcome) -> None:
        """Take in what became of the failed changes, which were tried again."""
        self.applied += again.applied
        self.value_bytes += again.value_bytes
        self.failed = again.failed
        if self.tokens is not None:
            self.tokens |= again.tokens or {}


class Batch(NamedTuple):
    """Some changes and the values of their puts.

    Attributes:
        start, stop: which changes.
        keys, values: of the puts among them.
        bad: positions of the values that are not those that their changes name.
        large: one put whose value moves in parts, and is not read yet.
    """

    start: int
    stop: int
    keys: list[str]
    values: Sequence[bytes | Unreadable | None]
    bad: Sequence[int] = ()
    large: Change | None = None


def _unknown(_change: Change) -> bytes:
    return b""


class Reader(NamedTuple):
    """Takes values from a storage, or from what the caller gave in this run.

    Attributes:
        storage: where values are read.
        given: what the caller gave; such values are not read.
        version_of: returns the version token of a change's value there; empty where that is not certain.
        in_parts: large values move in parts.
    """

    storage: Storage
    given: Given | None
    version_of: Callable[[Change], bytes] = _unknown
    in_parts: bool = False

    def take(self, changes: Segment, start: int, stop: int) -> Batch:
        """Return the values of the puts among changes[start:stop], and check them here, where no write has to wait.

        What was given in this run needs no check: the digests were just taken from it.
        """
        known = self.given.puts(changes, start, stop) if self.given is not None else None
        if known is not None:
            return Batch(start, stop, *known)
        keys = changes.puts(start, stop)
        if self.in_parts and len(keys) == 1 == stop - start:
            change = Change._make(changes.rows(start, stop)[0])
            if change.size > LARGE_BYTES:
                return Batch(start, stop, keys, [], large=change)
        values = self.storage.read(keys) if keys else []
        return Batch(start, stop, keys, values, changes.mismatches(start, stop, values) if keys else ())


def transfer(
    giver: Reader,
    taker: Storage,
    changes: Segment,
    guard: Guard,
    *,
    before_write: Callable[[], None],
    on_batch: Callable[[int, int], None],
    record_tokens: bool,
    now_ms: Callable[[], int],
) -> Outcome:
    """Apply `changes` to `taker`, taking values from `giver`.

    A value that cannot be read, is not the one that its change names, or cannot be written, is reported as failed; the
    others are applied. A value that has expired is not moved: its key is emptied.

    Args:
        giver: where the values are.
        taker: where they go.
        changes: what to apply.
        guard: what may be overwritten.
        before_write: called before each batch of writes, to keep the lease.
        on_batch: called with the number of changes of each batch, and of bytes written; also with no change, but the
            bytes of a part of a large value.
        record_tokens: return the new version tokens.
        now_ms: the wall clock.

    Raises:
        LockLostError: from `before_write`; the batches before are applied.
        StorageError: a storage failed as a whole.
    """
    outcome = Outcome(records_tokens=record_tokens)
    if has_streaming(giver.storage) and has_streaming(taker) and not (changes.expiring and has_expiry(taker)):
        giver = giver._replace(in_parts=True)
    expired = _expired(giver.storage, changes, now_ms())
    live = changes.without(expired) if expired else changes
    for batch in _read(giver, live, ahead=_pays_to_read_ahead(giver, taker, live)):
        before_write()
        written = outcome.value_bytes
        if batch.large is not None:
            _apply_large(giver, taker, batch.large, guard, outcome, before_write, partial(on_batch, 0))
            written = outcome.value_bytes  # its parts were told
        else:
            _apply(taker, live, batch, guard, outcome, now_ms)
        on_batch(batch.stop - batch.start, outcome.value_bytes - written)
    for start in range(0, len(expired), BATCH_COUNT):
        before_write()
        some = expired[start : start + BATCH_COUNT]
        _empty(taker, changes, some, guard, outcome)
        on_batch(len(some), 0)
    return outcome


def _expired(giver: Storage, changes: Segment, now_ms: int) -> list[str]:
    """Return the keys of values that have expired by our clock, unless the giver keeps expiry and still has them.

    The giver's clock counts: if ours were ahead, live values would be emptied, and then be taken for deleted.
    """
    expired = changes.expired(now_ms)
    if not expired or not has_expiry(giver):
        return expired
    gone = []
    for start in range(0, len(expired), BATCH_COUNT):
        some = expired[start : start + BATCH_COUNT]
        times = zip(giver.expiries(some), changes.find(some), strict=True)
        gone += [key for key, (time, row) in zip(some, times, strict=True) if row is None or time != row[6]]
    return gone


def _pays_to_read_ahead(giver: Reader, taker: Storage, changes: Segment) -> bool:
    """Whether there is something to wait for: what was given is at hand, and so is what is in memory."""
    if giver.given is not None and len(giver.given) >= len(changes):
        return False
    ours, theirs = giver.storage.capabilities.distance, taker.capabilities.distance
    return ours != "memory" and not (ours == "mapped" and theirs == "mapped")


def _read(giver: Reader, changes: Segment, *, ahead: bool) -> Iterator[Batch]:
    spans = changes.batches(BATCH_COUNT, BATCH_BYTES)

    def read(span: tuple[int, int]) -> Batch:
        return giver.take(changes, *span)

    if not ahead or len(spans) <= 1:
        yield from map(read, spans)
        return
    with thread_pool(1, "kvsync-read") as reader:
        waiting, pending = deque(spans), deque([reader.submit(read, spans[0])])
        waiting.popleft()
        while pending:
            batch = pending.popleft().result()
            while waiting and len(pending) < (1 if _is_large(changes, waiting[0]) else READ_AHEAD):
                pending.append(reader.submit(read, waiting.popleft()))
            yield batch
            del batch  # free its memory before waiting for the next one


def _is_large(changes: Segment, span: tuple[int, int]) -> bool:
    """Whether a batch is one value of more than a batch's bytes."""
    start, stop = span
    return stop - start == 1 and Change._make(changes.rows(start, stop)[0]).size > BATCH_BYTES


def _apply(
    taker: Storage, changes: Segment, batch: Batch, guard: Guard, outcome: Outcome, now_ms: Callable[[], int]
) -> None:
    keys, values = batch.keys, batch.values
    expires = changes.expires(batch.start, batch.stop) if changes.expiring else None
    refused = {keys[i]: _why(values[i]) for i in batch.bad}
    # The giver's value may have expired since the delta was calculated, or a little early by its server's clock.
    expired = [keys[i] for i in batch.bad if values[i] is None and expires and may_be_gone(expires[i], now_ms())]
    if refused:
        kept = [i for i, key in enumerate(keys) if key not in refused]
        keys, values = [keys[i] for i in kept], [values[i] for i in kept]
        expires = [expires[i] for i in kept] if expires else None
    for key in expired:
        del refused[key]
    tokens = _write(taker, keys, values, expires, guard, refused)
    outcome.value_bytes += _bytes_of(keys, values, refused)
    _delete(taker, [*changes.deletes(batch.start, batch.stop), *expired], guard, refused)
    outcome.applied += batch.stop - batch.start - len(refused)
    if refused or outcome.tokens is not None:
        rows = [Change._make(row) for row in changes.rows(batch.start, batch.stop)]
        outcome.failed += [(row, refused[row.key]) for row in rows if row.key in refused]
        _record(outcome, rows, tokens, refused, expired)


def _bytes_of(keys: Sequence[str], values: Sequence[Any], refused: Collection[str]) -> int:
    if not refused:
        return sum(map(len, values))
    return sum(len(value) for key, value in zip(keys, values, strict=True) if key not in refused)


def _empty(taker: Storage, changes: Segment, keys: list[str], guard: Guard, outcome: Outcome) -> None:
    """Make sure that nothing is at keys whose newest value has expired."""
    refused: dict[str, str] = {}
    _delete(taker, keys, guard, refused)
    outcome.applied += len(keys) - len(refused)
    rows = [Change._make(row) for row in changes.find(keys) if row is not None]
    outcome.failed += [(row, refused[row.key]) for row in rows if row.key in refused]
    _record(outcome, rows, {}, refused, keys)


def _apply_large(
    giver: Reader,
    taker: Storage,
    change: Change,
    guard: Guard,
    outcome: Outcome,
    before_write: Callable[[], None],
    on_bytes: Callable[[int], None],
) -> None:
    """Have one value copied, or move it in parts; the taker keeps nothing of it unless it is what its change names."""
    refused: dict[str, str] = {}
    keys, expect, _ = _admitted([change.key], guard, refused)
    written: Written | None = None
    if keys:
        written = _copied(giver, taker, change, expect, before_write)
        if written is not None:
            on_bytes(change.size)
        else:
            parts = partial(_proven, change=change, before_write=before_write, on_bytes=on_bytes)
            written = _streamed(giver.storage, taker, change, expect, parts, refused)
        _note(written, refused)
    if not refused:
        outcome.applied += 1
        outcome.value_bytes += change.size
    if refused:
        outcome.failed.append((change, refused[change.key]))
    tokens = dict(zip(keys, written.tokens, strict=True)) if written and written.tokens and not refused else {}
    _record(outcome, [change], tokens, refused)


def _copied(
    giver: Reader,
    taker: Storage,
    change: Change,
    expect: Sequence[bytes | None] | None,
    before_write: Callable[[], None],
) -> Written | None:
    """Have the server copy the version that is known to be the change's value; None where that cannot be had."""
    if change.expires or not (has_copy(giver.storage) and has_copy(taker)):
        return None
    origin, version = giver.storage.origin(change.key), giver.version_of(change)
    if origin is None or not version:
        return None
    return taker.copy(change.key, origin, version, change.size, expect, meanwhile=before_write)


def _streamed(
    giver: Storage,
    taker: Storage,
    change: Change,
    expect: Sequence[bytes | None] | None,
    proven: Callable[[Iterator[bytes]], Iterator[bytes]],
    refused: dict[str, str],
) -> Written:
    assert has_streaming(giver)  # noqa: S101 - the reader says so
    assert has_streaming(taker)  # noqa: S101
    parts = giver.read_stream(change.key)
    try:
        if parts is None or isinstance(parts, Unreadable):
            refused[change.key] = _why(parts)
        else:
            return taker.write_stream(change.key, proven(parts), expect)
    except _OtherValueError:
        refused[change.key] = _why(b"")
    except TornRead as torn:
        refused[change.key] = _why(Unreadable(str(torn)))
    return Written()


class _OtherValueError(Exception):
    """What was read is not the value that its change names."""


def _proven(
    parts: Iterator[bytes], change: Change, before_write: Callable[[], None], on_bytes: Callable[[int], None]
) -> Iterator[bytes]:
    """Yield `parts`, and raise at the end unless they were the value of `change`; keep the lease meanwhile."""
    hasher, size = Hasher(), 0
    for part in parts:
        before_write()
        hasher.update(part)
        size += len(part)
        yield part
        on_bytes(len(part))
    if size != change.size or hasher.digest() != change.digest:
        raise _OtherValueError


def _write(
    taker: Storage,
    keys: list[str],
    values: Sequence[bytes | Unreadable | None],
    expires: Sequence[int] | None,
    guard: Guard,
    refused: dict[str, str],
) -> dict[str, bytes | None]:
    """Write what the guard admits; note refusals; return the new version tokens where the storage gives them."""
    keys, expect, picked = _admitted(keys, guard, refused)
    if not keys:
        return {}
    # Every value is bytes here: anything else failed its digest check.
    chosen: Sequence[bytes] = [values[i] for i in picked] if picked is not None else values  # type: ignore[assignment, misc]
    if expires and picked is not None:
        expires = [expires[i] for i in picked]
    written = write_until(taker, keys, chosen, expires, expect)
    _note(written, refused)
    return dict(zip(keys, written.tokens, strict=True)) if written.tokens is not None else {}


def _delete(taker: Storage, keys: list[str], guard: Guard, refused: dict[str, str]) -> None:
    keys, expect, _ = _admitted(keys, guard, refused, deletes=True)
    if keys:
        _note(taker.delete(keys, expect), refused)


def _admitted(
    keys: list[str], guard: Guard, refused: dict[str, str], *, deletes: bool = False
) -> tuple[list[str], Sequence[bytes | None] | None, list[int] | None]:
    """Return the keys that may be touched, their expected tokens, and their positions (None: all of them)."""
    if not keys:
        return keys, None, None
    expect, barred = guard.examine(keys, deletes=deletes)
    if not barred:
        return keys, expect, None
    refused.update(barred)
    picked = [i for i, key in enumerate(keys) if key not in barred]
    return [keys[i] for i in picked], [expect[i] for i in picked] if expect is not None else None, picked


def _note(written: Written, refused: dict[str, str]) -> None:
    refused.update({refusal.key: refusal.reason for refusal in written.refused})


def _why(value: bytes | Unreadable | None) -> str:
    if isinstance(value, Unreadable):
        return f"{UNREADABLE}: {value.reason}"
    if value is None:
        return NOT_THERE
    return CHANGED


def lies_with_giver(reason: str) -> bool:
    """Whether a change was not applied for the value that its giver had, or had not."""
    return reason.startswith((NOT_THERE, CHANGED, UNREADABLE))


def _record(
    outcome: Outcome,
    rows: list[Change],
    tokens: dict[str, bytes | None],
    refused: dict[str, str],
    emptied: Collection[str] = (),
) -> None:
    if outcome.tokens is None:
        return
    emptied = set(emptied)
    for row in rows:
        if row.key in refused:
            continue
        # Where a storage has no cheap tokens, the token is the value's digest.
        empty = row.deletes or row.key in emptied
        outcome.tokens[row.key] = None if empty else (tokens.get(row.key) or row.digest, row.digest)
