"""Fields of JSON objects: those of the package, and those that only commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.cli.names import shown
from kvsync.environment import time_text
from kvsync.fields import change_fields, conflict_fields, key_fields, stamp_fields, stamp_time
from kvsync.replica.peers import id_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kvsync.index.lost import LostValue
    from kvsync.inspection import KnownPeer
    from kvsync.types import Change, Conflict

__all__ = [
    "change_fields",
    "conflict_fields",
    "expiry_text",
    "id_text",
    "key_fields",
    "lost_fields",
    "name_fields",
    "name_of",
    "order_text",
    "peer_fields",
    "stamp_fields",
    "stamp_time",
    "time_text",
]


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


def name_of(replica: int, names: Mapping[int, str]) -> str:
    """Return a replica as people call it: by the name of its storage, with its id if another one is called so, too.

    >>> names = {1: "notes", 2: "cache", 3: "cache"}
    >>> name_of(1, names), name_of(2, names), name_of(4, names)
    ('notes', 'cache (0000000000000002)', '0000000000000004')
    """
    name = names.get(replica)
    if not name:
        return id_text(replica)
    is_only = list(names.values()).count(name) == 1
    return shown(name) if is_only else f"{shown(name)} ({id_text(replica)})"


def name_fields(names: Mapping[int, str]) -> dict[str, str]:
    """Return {id: name} of replicas."""
    return {id_text(replica): shown(name) for replica, name in names.items()}


def peer_fields(peer: KnownPeer) -> dict[str, object]:
    """Return the fields of a peer."""
    return {
        "id": peer.id,
        "name": shown(peer.name),
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
