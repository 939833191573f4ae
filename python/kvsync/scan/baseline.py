"""What a storage held when it was last in step with its log."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from kvsync.expiry import CLOCK_SKEW_MS
from kvsync.index.inventory import read_inventory
from kvsync.index.objects import INVENTORY
from kvsync.native import Correction, Segment
from kvsync.scan.known import Known
from kvsync.scan.pieces import Pieces
from kvsync.storages.contract import has_expiry
from kvsync.storages.expiry import token_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kvsync.native import Piece
    from kvsync.replica.log import Log
    from kvsync.scan.known import Noted

__all__ = ["Baseline", "baseline", "baseline_at"]


class Baseline(NamedTuple):
    """What a storage held when it was last in step with its log.

    Attributes:
        known: every key with its token and digest.
        expired: digests of logged values that have expired: each may still be there, and need not.
        in_step: the last scan saw just that.
        is_first: no scan has ever been noted, so a value may be there for longer than the log exists.
    """

    known: Known
    expired: Mapping[str, bytes]
    in_step: bool
    is_first: bool = False


def baseline(log: Log, now_ms: int, *, from_log: bool = False) -> Baseline:
    """Return what the storage held when it was last in step with its log.

    Args:
        log: of the storage.
        now_ms: wall clock.
        from_log: go by the log alone, since a piece of the inventory cannot be read.

    Raises:
        IndexDamagedError: a segment, or a piece of the inventory, cannot be read.
        FormatError: a newer kvsync wrote an object.
    """
    old = read_inventory(log.storage) if log.may_have(INVENTORY) else None
    is_first = old is None
    garbage: tuple[str, ...] = ()
    if old is not None and from_log:
        garbage = (*old.garbage, *(entry.name for entry in old.stored))
        old = None
    pieces = Pieces(log.storage)
    if old is not None and old.nonce == log.manifest.inventory:
        return Baseline(Known(pieces, old), {}, in_step=True)
    if old is None and not log.manifest.segments:
        return Baseline(Known(pieces, garbage=garbage), {}, in_step=False, is_first=is_first)
    patch, expired = _correction(log, Known(pieces, old), Segment.merge(log.all_segments()), _held(log), now_ms)
    return Baseline(Known(pieces, old, patch, garbage=garbage), expired, in_step=False, is_first=is_first)


def baseline_at(log: Log, keys: Sequence[str], now_ms: int) -> Baseline:
    """Return what the log says that the storage held at some keys, all of which were scanned before.

    Raises:
        IndexDamagedError: a segment cannot be read.
    """
    pieces = Pieces(log.storage)
    newest = Segment.from_rows([change for change in log.newest(keys) if change is not None])
    held = _held(log)
    held_here = {key: held[key] for key in keys if key in held}
    patch, expired = _correction(log, Known(pieces), newest, held_here, now_ms)
    return Baseline(Known(pieces, correction=patch, rest=partial(_logged, log)), expired, in_step=True)


def _logged(log: Log, keys: Sequence[str]) -> list[Noted]:
    """Return token and digest of what the log says that each key holds."""
    held = _held(log)
    noted: list[Noted] = []
    for key, change in zip(keys, log.newest(keys), strict=True):
        if key in held:
            digest = held[key]
            noted.append(None if digest is None else (b"", digest))
        else:
            gone = change is None or change.deletes
            noted.append(None if gone or change is None else (token_of(change.digest, change.expires), change.digest))
    return noted


def _held(log: Log) -> dict[str, bytes | None]:
    """Return what is held where the newest value is missing, as the manifest says."""
    return {entry.change.key: entry.held or None for entry in log.manifest.knowledge.missing}


def _correction(
    log: Log, stored: Known, newest: Segment, held: Mapping[str, bytes | None], now_ms: int
) -> tuple[Piece, dict[str, bytes]]:
    """Return what the log knows otherwise than an inventory, and what has expired: runs without a scan have moved on.

    A token stays proof only where the log still names the value that it was taken from. That of an expiring value may
    name another time than the log: those values are read again.
    """
    keeps_tokens = not has_expiry(log.storage)
    correction = Correction(stored.lengths, newest, dict(held), now_ms + CLOCK_SKEW_MS, keeps_tokens)
    feed = stored.feed()
    while not correction.done:
        feed.supply(correction)
        correction.step()
    patch, expired = correction.finish()
    return patch, dict(expired)
