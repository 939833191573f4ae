"""Changes, conflicts, times and ids as fields of JSON objects."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kvsync.replica.peers import id_text
from kvsync.storages.url import redact

if TYPE_CHECKING:
    from kvsync.index.lost import LostValue
    from kvsync.inspection import KnownPeer
    from kvsync.result import MissingKey, UnreadableKey
    from kvsync.types import Change, Conflict

__all__ = [
    "change_fields",
    "conflict_fields",
    "expiry_text",
    "id_text",
    "key_fields",
    "lost_fields",
    "order_text",
    "peer_fields",
    "stamp_fields",
    "stamp_time",
    "time_text",
]

STAMP_MS_SHIFT = 16
KNOWN_SECONDS_MIN = 86_400
"""A stamp of the first day of 1970 tells no time: it was given to a value of unknown age."""


def time_text(seconds: float) -> str | None:
    """Return wall-clock seconds as an ISO time in UTC, or None if the calendar ends before it.

    >>> time_text(1_700_000_000.25)
    '2023-11-14T22:13:20.250Z'
    """
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stamp_time(stamp: int) -> str | None:
    """Return the time in a stamp, or None if it is not known.

    >>> stamp_time(1_700_000_000_250 << 16), stamp_time(7)
    ('2023-11-14T22:13:20.250Z', None)
    """
    seconds = (stamp >> STAMP_MS_SHIFT) / 1000
    return time_text(seconds) if seconds >= KNOWN_SECONDS_MIN else None


def stamp_fields(stamp: int) -> dict[str, object]:
    """Return a stamp as a time and as the digits of a number, since many readers of JSON round a number over 2^53."""
    return {"time": stamp_time(stamp), "stamp": str(stamp)}


def change_fields(change: Change) -> dict[str, object]:
    """Return the fields of a change."""
    return {
        "key": change.key,
        "op": "delete" if change.deletes else "put",
        **stamp_fields(change.stamp),
        "origin": id_text(change.origin),
        "size": change.size,
        "digest": None if change.deletes else change.digest.hex(),
        "decided": change.decided,
        "exact": not change.inexact,
        "expires": change.expires / 1000 if change.expires else None,
    }


def expiry_text(change: Change) -> str:
    """Return when the value of a change expires, as text to follow its size; empty if it never does.

    >>> from kvsync.types import Change
    >>> expiry_text(Change("session", 7, 255, 0, 1, bytes(32), 1_700_000_000_250))
    ', expires 2023-11-14T22:13:20.250Z'
    """
    if not change.expires:
        return ""
    return f", expires {time_text(change.expires / 1000) or 'beyond year 9999'}"


def order_text(conflict: Conflict, policy: str) -> str:
    """Return a note to follow the outcome of a conflict, if its policy goes by time and times are not exact."""
    goes_by_time = policy in {"latest", "keep-both"}
    return "" if conflict.certain or not goes_by_time else " (it is not certain which change is the later one)"


def key_fields(entry: MissingKey | UnreadableKey) -> dict[str, object]:
    """Return the fields of a key that a run leaves behind."""
    return {"key": entry.key, "side": entry.side, "reason": redact(entry.reason)}


def peer_fields(peer: KnownPeer) -> dict[str, object]:
    """Return the fields of a peer."""
    return {
        "id": peer.id,
        "name": redact(peer.name),
        "seen": time_text(peer.seen),
        "forgotten": peer.forgotten,
        "holds_back": peer.holds_back,
        "alone": peer.alone,
    }


def lost_fields(value: LostValue) -> dict[str, object]:
    """Return the fields of a value that lost a conflict, without the value itself."""
    return {
        "id": value.id,
        "key": value.key,
        **stamp_fields(value.stamp),
        "origin": id_text(value.origin),
        "size": len(value.value),
        "digest": value.digest.hex(),
    }


def conflict_fields(conflict: Conflict) -> dict[str, object]:
    """Return the fields of a conflict."""
    return {
        "key": conflict.key,
        "winner": conflict.winner,
        "certain": conflict.certain,
        "kept_as": conflict.kept_as,
        "lost_as": list(conflict.lost_as),
        "source": change_fields(conflict.source),
        "target": change_fields(conflict.target),
    }
