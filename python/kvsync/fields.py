"""Changes, conflicts, times and ids as plain values, for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.environment import time_text
from kvsync.replica.peers import id_text
from kvsync.storages.url import redact

if TYPE_CHECKING:
    from kvsync.types import Change, Conflict

__all__ = ["change_fields", "conflict_fields", "key_fields", "moved_fields", "stamp_fields", "stamp_time"]

STAMP_MS_SHIFT = 16
KNOWN_SECONDS_MIN = 86_400
"""A stamp of the first day of 1970 tells no time: it was given to a value of unknown age."""


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


def moved_fields(change: Change) -> dict[str, object]:
    """Return the fields of a change that was moved: no more than what happened to its key."""
    return {"key": change.key, "op": "delete" if change.deletes else "put", "size": change.size}


def key_fields(entry: tuple[str, str, str]) -> dict[str, object]:
    """Return the fields of a key that a run leaves behind: key, side and reason."""
    key, side, reason = entry
    return {"key": key, "side": side, "reason": redact(reason)}


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
