"""Bring lost values back from another storage: what is gone, or is not what the log says, was lost, not changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvsync.audit.holding import leased
from kvsync.audit.repair import held_by, mend, readable
from kvsync.audit.values import Logged
from kvsync.digesting import Digested, digests
from kvsync.errors import BudgetError
from kvsync.expiry import CLOCK_SKEW_MS, write_until
from kvsync.index.lost import LostValue
from kvsync.native import digest_values
from kvsync.run.look import Look
from kvsync.types import ANY, Change

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.audit.index import Index
    from kvsync.audit.values import Held
    from kvsync.environment import Environment
    from kvsync.lease import Lease
    from kvsync.options import Options
    from kvsync.storages.contract import Storage

__all__ = ["refill"]

READ_COUNT = 64
"""Values read at a time."""


class Lost(NamedTuple):
    """The changes whose value a storage does not hold any more.

    Attributes:
        gone: nothing is there.
        replaced: another value is there, and the other storage has the one that the log names.
    """

    gone: list[Change]
    replaced: list[Change]


def refill(storage: Storage, other: Storage, options: Options, environment: Environment) -> list[str]:
    """Put back what `other` has of the lost values, and forget the changes of all others; return what was done.

    What stands in place of a lost value is kept as one that lost a conflict. The next sync fills in what is forgotten.

    Raises:
        BudgetError: more values than `options.budget` allows would be overwritten; nothing was written.
        LockError: the lease cannot be had.
    """
    with leased(storage, options, environment) as lease:
        index = readable(storage)
        held = held_by(index)
        lost = _lost(index, held, other, environment)
        _check(storage, options, lost, known=len(held.digests) + len(lost.gone))
        count = sum(
            _put_back(storage, other, lost.replaced[start : start + READ_COUNT], lease)
            for start in range(0, len(lost.replaced), READ_COUNT)
        )
        notes = (
            [f"put back {count} values from {other.name}; what was there is kept, see `kvsync lost`"] if count else []
        )
        return [*notes, *mend(index, lease, environment, rebuilds=bool(lost.gone))]


def _lost(index: Index, held: Held, other: Storage, environment: Environment) -> Lost:
    """Return what is lost; a key that is known to be missing is filled in by a sync anyway."""
    logged = Logged.of(index)
    keys = [key for key in logged.unlike(held, environment.now_ms() + CLOCK_SKEW_MS) if key not in logged.missing]
    changes = [Change._make(row) for row in logged.newest.find(keys) if row is not None]
    puts = [change for change in changes if not change.deletes]
    replaced = {change.key: change for change in puts if change.key in held.digests}
    found = {key: value.digest for key, value in digests(other, list(replaced)) if isinstance(value, Digested)}
    return Lost(
        [change for change in puts if change.key not in held.digests],
        [change for key, change in replaced.items() if found.get(key) == change.digest],
    )


def _check(storage: Storage, options: Options, lost: Lost, *, known: int) -> None:
    keys = [change.key for change in lost.replaced]
    if not options.budget.allows(len(keys), known):
        message = (
            f"{len(keys)} of {known} values are not what the log says and would be overwritten, more than max_delete "
            "allows; nothing was written. If they were changed on purpose, sync instead"
        )
        raise BudgetError(message, storage=storage.name, deleted=[], overwritten=keys, known=known)


def _put_back(storage: Storage, other: Storage, changes: Sequence[Change], lease: Lease) -> int:
    """Write values of the other storage over what is there, once that is kept; return how many were written."""
    keys = [change.key for change in changes]
    seen = dict(Look(storage).at(keys))
    good: list[tuple[Change, bytes]] = []
    for change, there, value in zip(changes, storage.read(keys), other.read(keys), strict=True):
        found = seen[change.key].found
        if not (isinstance(there, bytes) and isinstance(value, bytes) and isinstance(found, Digested)):
            continue
        digest, wanted = digest_values([there, value])
        if (digest, wanted) == (found.digest, change.digest):
            lease.keep()
            kept = LostValue(change.key, change.origin, change.stamp, change.flags, digest, there)
            storage.store(kept.name, kept.encode(), ANY)
            good.append((change, value))
    lease.keep()
    written = write_until(
        storage,
        [change.key for change, _ in good],
        [value for _, value in good],
        [change.expires for change, _ in good],
        [seen[change.key].token for change, _ in good],
    )
    return len(good) - len(written.refused)
