"""Step 7: finalise both sides, save the scans, and release the leases.

Finalising a side is one write of its manifest: it lists what was applied, moves to what both sides know now, names the
inventory that is in step with it, and releases the lease where a manifest can. Such a side is finalised here, after
both directions, since its lease guards it until then; every other side as soon as it has what it gets.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from kvsync.moved import Moved
from kvsync.native import Segment
from kvsync.run.lock import ensure_leased

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.environment import Environment
    from kvsync.replica.intents import Intent
    from kvsync.replica.knowledge import Knowledge
    from kvsync.run.side import Side

__all__ = ["Applied", "finalise", "release"]


class Applied(NamedTuple):
    """What one side got.

    Attributes:
        side: which one.
        applied: the changes that were applied.
        log: what it has to log.
        knowledge: what it knows and holds then.
        intent: what was to be applied, if it was written down.
        wrote: a value was written or deleted, or may have been.
        moved: there is something to log, or something else is known or held now.
        finalised: that is done within `push`, not in step 7.
        is_level: the other side knows the same then: no direction was left out.
    """

    side: Side
    applied: Moved
    log: Segment
    knowledge: Knowledge
    intent: Intent | None
    wrote: bool
    moved: bool
    finalised: bool = False
    is_level: bool = False

    @classmethod
    def nothing(cls, side: Side) -> Applied:
        """Return that a side got nothing."""
        return cls(side, Moved(), Segment.from_rows([]), side.log.manifest.knowledge, None, wrote=False, moved=False)


def finalise(applied: Applied, environment: Environment, *, acknowledge: bool = False) -> None:
    """Log what was applied, move to what is known now, and release the lease with that where it can be.

    Nothing is written where nothing has changed.

    Args:
        applied: what the side got.
        environment: randomness.
        acknowledge: write that even where nothing else has changed, if the lease is released by it, so that it takes no
            request of its own; or if it does not say yet what the other side knows.

    Raises:
        LockLostError: the lease was taken over; nothing was written.
    """
    side = applied.side
    manifest = side.log.manifest
    due = applied.moved or (acknowledge and (_release_token(side) != b"" or _is_news(side)))
    if not due and side.scan is None:
        return
    ensure_leased(side)
    inventory = _inventory(applied, environment)
    if not due and inventory == manifest.inventory:
        return
    token = _release_token(side)  # only now: a lease that has just been renewed has another version
    side.log.write(
        applied.log,
        applied.knowledge,
        intent=applied.intent,
        is_level=applied.is_level,
        has_taken=side.takes,
        inventory=inventory,
        lease=token,
    )
    if token and side.lease is not None:
        side.lease.mark_released()


def _is_news(side: Side) -> bool:
    """Whether a side has not written in this run what the other one knows; it must not forget that it gave."""
    return side.log.peer is not None and not side.log.has_named_peer


def _release_token(side: Side) -> bytes:
    return side.lease.release_token if side.lease is not None else b""


def _inventory(applied: Applied, environment: Environment) -> bytes:
    """Return the nonce of the inventory that is in step with the next manifest, saving it if it is new."""
    side = applied.side
    if side.scan is not None:
        return side.scan.save(environment, partial(ensure_leased, side))
    return b"" if applied.wrote else side.log.manifest.inventory


def release(applied: Sequence[Applied], environment: Environment) -> None:
    """Finalise the sides that are not yet, the target first, and release the leases.

    A side that cannot be finalised does not keep the other from it.

    Raises:
        LockLostError: a lease was taken over; the next run finishes that side.
        StorageError: a storage failed; the next run finishes that side.
    """
    errors: list[Exception] = []
    acknowledge = any(one.moved for one in applied)
    for one in applied:
        if not one.finalised:
            try:
                finalise(one, environment, acknowledge=acknowledge)
            except Exception as error:  # noqa: BLE001 - raised below, once the other side is finalised
                errors.append(error)
    if errors:
        raise errors[0]
    for one in applied:
        if one.side.lease is not None:
            one.side.lease.release(interrupted=False)
