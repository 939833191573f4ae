"""Step 5: store on each side what is about to be written there, so that a crash leaves nothing unexplained."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvsync.run.lock import ensure_leased

if TYPE_CHECKING:
    from kvsync.replica.log import Intent
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
    for side, inbound in ((pair.target, exchange.to_target), (pair.source, exchange.to_source)):
        if len(inbound.log):
            ensure_leased(side)
        stored.append(side.log.intend(inbound.log))
    target, source = stored
    return Intents(source, target)
