"""Step 5: store on each side what is about to be written there, so that a crash leaves nothing unexplained."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvsync.run.lock import ensure_leased

if TYPE_CHECKING:
    from kvsync.replica.intents import Intent
    from kvsync.run.delta import Exchange
    from kvsync.run.side import Pair

__all__ = ["Intents", "intend"]


class Intents(NamedTuple):
    """The intents of both sides; None where nothing is written, or a transaction makes one needless."""

    source: Intent | None
    target: Intent | None


def intend(pair: Pair, exchange: Exchange) -> Intents:
    """Store the intents of both sides.

    Raises:
        LockLostError: a lease was taken over; nothing was written.
    """
    stored = []
    source, target = pair.sides
    for side, giver, inbound in ((target, source, exchange.to_target), (source, target, exchange.to_source)):
        if len(inbound.log):
            ensure_leased(side)
        stored.append(side.log.intend(inbound.log, giver.log.manifest.history))
    at_target, at_source = stored
    return Intents(at_source, at_target)
