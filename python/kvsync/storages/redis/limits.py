"""What a Redis server may lose by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvsync.storages.redis.traits import ServerTraits

__all__ = ["limits_of"]


def limits_of(traits: ServerTraits) -> Iterator[str]:
    """Yield what to know of the servers, one sentence each.

    Raises:
        StorageError: one cannot be asked.
    """
    for policy in sorted({policy or "" for policy in traits.policies()} - {"noeviction"}):
        what = f"may evict keys (maxmemory-policy {policy})" if policy else "does not tell whether it may evict keys"
        yield f"the server {what}: an evicted key looks like a delete, which spreads"
    if traits.forgets():
        yield (
            "the server keeps nothing on disk (appendonly no, and no save): after a restart it is empty, and what was "
            "not synced is lost"
        )
