"""What of an interrupted run's intent is there: found by the values, and taken in as held."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kvsync.expiry import may_be_gone
from kvsync.measuring import Measured, measured
from kvsync.storages.contract import has_expiry
from kvsync.types import Change, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.index.manifest import Manifest, Missing
    from kvsync.native import Segment
    from kvsync.storages.contract import Storage

__all__ = ["missing_after", "what_landed"]

COMPARE_COUNT = 4096
COMPARE_BYTES = 8 << 20
"""How much of an intent is compared with the storage at a time."""


def what_landed(
    storage: Storage,
    intent: Segment,
    now_ms: Callable[[], int],
    known: Callable[[Sequence[str]], list[set[bytes]]],
) -> tuple[list[Change], bool]:
    """Return the changes of an intent whose outcome is held now, and whether all values could be read.

    `known` tells for each of some keys which digests the log says may be there without the intent.
    """
    landed: list[Change] = []
    all_read = True
    for start, stop in intent.batches(COMPARE_COUNT, COMPARE_BYTES):
        rows = list(map(Change._make, intent.rows(start, stop)))
        held = dict(measured(storage, [row.key for row in rows]))
        now = now_ms()
        fitting = [row for row in rows if _is_outcome(held[row.key], row, now)]
        others = _of_others(storage, [row for row in fitting if held[row.key] is not None], known)
        landed += [row for row in fitting if row.key not in others]
        all_read = all_read and not any(isinstance(value, Unreadable) for value in held.values())
    return landed, all_read


def missing_after(manifest: Manifest, landed: Sequence[Change]) -> tuple[Missing, ...]:
    """Return what is missing once `landed` is logged: what it beat has yet to be met, for all that is known."""
    dots, keys = {change.dot for change in landed}, {change.key for change in landed}
    left = [lack for lack in manifest.missing if lack.change.dot not in dots]
    return tuple(replace(lack, held=b"", overtaken=True) if lack.change.key in keys else lack for lack in left)


def _of_others(
    storage: Storage, rows: Sequence[Change], known: Callable[[Sequence[str]], list[set[bytes]]]
) -> set[str]:
    """Return the keys of which another change made the same value: it has another time, and was there before.

    What was not there before came from the intent, and had its time changed since.
    """
    if not rows or not has_expiry(storage):
        return set()
    times = zip(rows, storage.expiries([row.key for row in rows]), strict=True)
    retimed = [row for row, time in times if time != row.expires]
    before = known([row.key for row in retimed]) if retimed else []
    return {row.key for row, digests in zip(retimed, before, strict=True) if row.digest in digests}


def _is_outcome(held: Measured | Unreadable | None, change: Change, now_ms: int) -> bool:
    """Whether what is held is what `change` made of its key."""
    if held is None:
        return change.deletes or may_be_gone(change.expires, now_ms)
    # Also once it has expired: where that is not kept, the value is still what was written.
    fits = isinstance(held, Measured) and (held.digest, held.size) == (change.digest, change.size)
    return fits and not change.deletes
