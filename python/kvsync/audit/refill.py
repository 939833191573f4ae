"""Bring lost values back from another storage: what is gone, or is not what the log says, was lost, not changed.

Where the other storage holds just the value that the log names, it is written back, and nothing has to be logged. A
value that is gone, and that the other storage has gone on from, becomes *missing*: the next sync fills it in. If the
other storage never knew it, the log forgets it by a rebuild: whoever has the value gives it back, and until then the
key holds what the others have.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from kvsync.audit.findings import Mend
from kvsync.audit.holding import leased
from kvsync.audit.repair import first_of, held_by, mend, readable
from kvsync.audit.values import Logged
from kvsync.digesting import Digested, digests
from kvsync.errors import BudgetError, IndexDamagedError
from kvsync.expiry import CLOCK_SKEW_MS
from kvsync.index.lost import LostValue, keep_lost
from kvsync.native import Cover, Segment, digest_values
from kvsync.replica.knowledge import Missing
from kvsync.replica.log import Log
from kvsync.run.carrying import carrying
from kvsync.run.look import Look
from kvsync.run.transfer import Reader, transfer
from kvsync.types import Change

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kvsync.audit.index import Index
    from kvsync.audit.values import Held
    from kvsync.environment import Environment
    from kvsync.lease import Lease
    from kvsync.options import Options
    from kvsync.storages.contract import Storage
    from kvsync.types import Unreadable

__all__ = ["refill"]

WHY_MISSING = "the value was lost here"
CHANGES = "it changes at the moment, or cannot be read"


class Lost(NamedTuple):
    """The changes whose value a storage does not hold any more, by key.

    Attributes:
        gone: nothing is there.
        replaced: another value is there, and the other storage has the one that the log names.
    """

    gone: dict[str, Change]
    replaced: dict[str, Change]


def refill(storage: Storage, other: Storage, options: Options, environment: Environment) -> list[str]:
    """Put back what `other` has of the lost values, and leave all else to the next sync; return what was done.

    What stands in place of a lost value is kept as one that lost a conflict.

    Raises:
        BudgetError: more values than `options.budget` allows would be overwritten; nothing was written.
        LockError: the lease cannot be had.
    """
    with leased(storage, options, environment) as lease:
        index = readable(storage, options.latest_ms(environment.now_ms()), lease)
        held = held_by(index, lease)
        lost = _lost(index, held, other, environment)
        _check(storage, options, lost, known=len(held.digests) + len(lost.gone))
        changes = [*lost.gone.values(), *lost.replaced.values()]
        written = _put_back(storage, other, changes, lease, environment) if changes else set()
        left = [change for key, change in lost.gone.items() if key not in written]
        known = _cover_of(other, environment)
        rebuilds = bool(left) and not all(known.covers(*change.dot) for change in left)
        notes = mend(index, lease, environment, rebuilds=rebuilds)
        if left and not rebuilds and not index.mends(Mend.REBUILD):
            _mark_missing(storage, left, lease, environment)
    return [*_told(written, lost, other), *notes]


def _lost(index: Index, held: Held, other: Storage, environment: Environment) -> Lost:
    """Return what is lost; a key that is known to be missing is filled in by a sync anyway."""
    logged = Logged.of(index)
    keys = [key for key in logged.unlike(held, environment.now_ms() + CLOCK_SKEW_MS) if key not in logged.missing]
    changes = [Change._make(row) for row in logged.newest.find(keys) if row is not None]
    now_ms = environment.now_ms()
    puts = {change.key: change for change in changes if not change.deletes and not change.expired(now_ms)}
    replaced = [key for key in puts if key in held.digests]
    found = {key: value.digest for key, value in digests(other, replaced) if isinstance(value, Digested)}
    return Lost(
        {key: change for key, change in puts.items() if key not in held.digests},
        {key: puts[key] for key in replaced if found.get(key) == puts[key].digest},
    )


def _check(storage: Storage, options: Options, lost: Lost, *, known: int) -> None:
    keys = list(lost.replaced)
    if not options.budget.allows(len(keys), known):
        message = (
            f"{len(keys)} of {known} values are not what the log says and would be overwritten, more than max_delete "
            "allows; nothing was written. If they were changed on purpose, sync instead"
        )
        raise BudgetError(message, storage=storage.name, deleted=[], overwritten=keys, known=known)


def _cover_of(storage: Storage, environment: Environment) -> Cover:
    """Return what a storage knows: nothing where its index cannot be read."""
    with suppress(IndexDamagedError):
        return Log.read(storage, environment, dry=True).manifest.cover
    return Cover()


def _put_back(
    storage: Storage, other: Storage, changes: Sequence[Change], lease: Lease, environment: Environment
) -> set[str]:
    """Move the values that the log names from the other storage; return the keys of those that it has."""
    outcome = transfer(
        Reader(other, None),
        carrying(other, storage),
        Segment.from_rows(changes),
        _KeepFirst(storage, {change.key: change for change in changes}),
        before_write=lease.keep,
        on_batch=lambda _count, _bytes: None,
        record_tokens=False,
        now_ms=environment.now_ms,
    )
    return {change.key for change in changes} - {change.key for change, _ in outcome.failed}


class _KeepFirst:
    """A guard that keeps what is there as a losing value, and lets nothing but that be overwritten."""

    def __init__(self, storage: Storage, changes: Mapping[str, Change]) -> None:
        self._storage = storage
        self._changes = changes
        self._look = Look(storage)

    def examine(self, keys: Sequence[str], *, deletes: bool = False) -> tuple[Sequence[bytes | None], dict[str, str]]:
        """Expect what is there now; leave alone what cannot be kept, and all that would be deleted."""
        seen = dict(self._look.at(keys))
        barred = [key for key in keys if deletes or not self._is_kept(key, seen[key].found)]
        return [seen[key].token for key in keys], dict.fromkeys(barred, CHANGES)

    def _is_kept(self, key: str, found: Digested | Unreadable | None) -> bool:
        if not isinstance(found, Digested):
            return found is None
        (there,) = self._storage.read([key])
        if not isinstance(there, bytes) or digest_values([there]) != [found.digest]:
            return False
        change = self._changes[key]
        kept = LostValue(key, change.origin, change.stamp, change.flags, found.digest, there)
        keep_lost(self._storage, [kept])
        return True


def _mark_missing(storage: Storage, changes: Sequence[Change], lease: Lease, environment: Environment) -> None:
    """Note that values are known and not held, so that no scan takes them for deleted."""
    log = Log.read(storage, environment)
    missing = [*log.manifest.knowledge.missing, *(Missing(change, WHY_MISSING) for change in changes)]
    missing.sort(key=lambda entry: entry.change.key)
    lease.keep()
    nothing = Segment.from_rows([])
    log.write(nothing, log.manifest.knowledge._replace(missing=tuple(missing)))


def _told(written: set[str], lost: Lost, other: Storage) -> Iterator[str]:
    """Yield which values were put back, and which of them were something else before."""
    if written:
        yield f"put back {len(written)} values from {other.name}: {first_of(sorted(written))}"
    if kept := sorted(written & lost.replaced.keys()):
        yield f"these keys had another value, which is kept, see `kvsync lost`: {first_of(kept)}"
