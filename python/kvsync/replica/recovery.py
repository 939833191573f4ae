"""Recovery: find which changes of a crashed run were applied, and adopt them.

Before its first write a run stores an intent: the changes that it is about to apply. Whoever finds one left behind
looks at the values. Where a value is what the intent says, its change is logged now, as an exception to the version
vector. Nothing is ever applied again: the rest is planned afresh.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvsync.digesting import Digested, digests
from kvsync.expiry import may_be_gone
from kvsync.index.objects import MANIFEST, damaged, segment_name
from kvsync.lease import Previous
from kvsync.replica.intents import LATE_WRITE_SECONDS
from kvsync.storages.contract import has_expiry
from kvsync.types import Change, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kvsync.lease import PreviousHolder
    from kvsync.native import Segment
    from kvsync.replica.intents import FoundIntent
    from kvsync.replica.log import Log
    from kvsync.storages.contract import Storage

__all__ = ["FoundValue", "applied", "recover", "remembered_intents", "require_no_remains"]

COMPARE_COUNT = 4096
COMPARE_BYTES = 8 << 20
"""How much of an intent is compared with the storage at a time."""


class FoundValue(NamedTuple):
    """A value that was found at a key.

    Attributes:
        digest: BLAKE3 of the value.
        size: bytes of the value.
        expires: wall-clock milliseconds at which it expires, 0 for never; None where that is not known.
        token: its version token; empty where that is not known.
    """

    digest: bytes
    size: int
    expires: int | None = None
    token: bytes = b""


def applied(found: FoundValue | None, change: Change, now_ms: int) -> bool:
    """Whether what was found at a key (None: nothing) is what `change` made of it.

    Nothing is also what an expired value leaves. A value may outlast its time where the storage does not keep it.
    """
    if found is None:
        return change.deletes or may_be_gone(change.expires, now_ms)
    if change.deletes or (found.digest, found.size) != (change.digest, change.size):
        return False
    return found.expires is None or found.expires == change.expires


def _untold(_done: int, _total: int) -> None:
    pass


def recover(log: Log, previous: PreviousHolder, on_batch: Callable[[int, int], None] = _untold) -> None:
    """Deal with what the previous holder of the lease left behind.

    After each batch of its intent, `on_batch` is called with the number of changes that were looked at, and of all.

    The stamps of its intent go into our clock, and what it had applied is adopted. A holder that did not release its
    lease is fenced by a write of the manifest, and its intent is remembered, since its last write may still land.

    Raises:
        LockLostError: somebody else took the lease over meanwhile.
        IndexDamagedError: the intent fails its checks.
    """
    if previous.how is Previous.RELEASED:
        return
    name = log.next_intent_name()
    intent = log.load_intent(name)
    if intent is None:
        if previous.how is Previous.LOST:
            log.fence(name if previous.may_write else "")
        return
    done, all_read = find_applied(log, intent.segment, on_batch)
    # What cannot be read now may have been applied, too: a scan that can read it must not take it for a new change.
    remember = (previous.may_write or not all_read) and len(done) < len(intent.segment)
    log.adopt(name, intent, done, remember=remember)


def remembered_intents(log: Log) -> list[tuple[FoundIntent, int]]:
    """Return the intents of holders that lost their lease and may still write, each with when they lost it.

    The time is in wall-clock milliseconds.
    """
    now_ms = log.environment.now_ms()
    current = [intent for intent in log.manifest.intents if intent.until_ms > now_ms]
    loaded = [(log.load_intent(intent.name), intent.until_ms) for intent in current]
    return [(intent, until_ms - LATE_WRITE_SECONDS * 1000) for intent, until_ms in loaded if intent is not None]


def require_no_remains(log: Log) -> None:
    """Make sure that a storage without a manifest is a new one; nothing is asked where there is a manifest.

    A first run that crashed may have left objects of generation 1. Only a manifest can have listed later ones.

    Raises:
        IndexDamagedError: its manifest is gone.
    """
    if log.manifest.generation:
        return
    names = log.storage.objects()
    log.names = frozenset(names)
    listed = [name for name in names if name.startswith("segment/") and name >= segment_name(2)]
    if listed:
        what = f"is missing, though the log that it listed is there ({listed[-1]})"
        raise damaged(log.storage.name, MANIFEST, what)


def find_applied(
    log: Log, intent: Segment, on_batch: Callable[[int, int], None] = _untold
) -> tuple[list[Change], bool]:
    """Return the changes of an intent that were applied, and whether all values could be read."""
    done: list[Change] = []
    all_read = True
    for start, stop in intent.batches(COMPARE_COUNT, COMPARE_BYTES):
        rows = list(map(Change._make, intent.rows(start, stop)))
        found = dict(digests(log.storage, [row.key for row in rows]))
        all_read = all_read and not any(isinstance(value, Unreadable) for value in found.values())
        done += _applied(log, rows, found)
        on_batch(stop, len(intent))
    return done, all_read


def _applied(log: Log, rows: Sequence[Change], found: Mapping[str, Digested | Unreadable | None]) -> list[Change]:
    now_ms = log.environment.now_ms()
    values = {
        key: FoundValue(value.digest, value.size) if isinstance(value, Digested) else None
        for key, value in found.items()
    }
    done = [row for row in rows if not isinstance(found[row.key], Unreadable) and applied(values[row.key], row, now_ms)]
    present = [row for row in done if values[row.key] is not None]
    others = _of_other_changes(log, present) if has_expiry(log.storage) else set()
    return [row for row in done if row.key not in others]


def _of_other_changes(log: Log, rows: Sequence[Change]) -> set[str]:
    """Return the keys where another change made the same value: with another time, and before this run.

    A value that was not there before comes from this run; somebody has changed its time since.
    """
    storage: Storage = log.storage
    if not rows or not has_expiry(storage):
        return set()
    times = zip(rows, storage.expiries([row.key for row in rows]), strict=True)
    ttl_changed = [row for row, time in times if time != row.expires]
    before = log.known_digests([row.key for row in ttl_changed]) if ttl_changed else []
    return {row.key for row, known in zip(ttl_changed, before, strict=True) if row.digest in known}
