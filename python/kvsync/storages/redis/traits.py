"""What a server is like: whether it may evict keys, and how large a value it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvsync.errors import StorageError

if TYPE_CHECKING:
    from kvsync.storages.redis.link import Link

__all__ = ["SMALL_BYTES", "ServerTraits"]

SMALL_BYTES = 1 << 20
VALUE_BYTES_MAX = 512 << 20
"""Every server takes the first in a value, and the second unless told otherwise."""


class ServerTraits:
    """What all servers of a link have in common, asked when it matters.

    Args:
        link: the way to the servers.
        evicting: servers that may evict keys are put up with.
    """

    def __init__(self, link: Link, *, evicting: bool) -> None:
        self._link = link
        self._evicting = evicting
        self._admitted = False
        self._bytes_max: int | None = None

    def admit(self, *, again: bool = False) -> None:
        """Refuse a server that may evict keys; one that does not say is let pass.

        Raises:
            StorageError: it may.
        """
        if self._evicting or (self._admitted and not again):
            return
        for answer in self._ask("INFO", "memory"):
            policy = answer.get("maxmemory_policy", "noeviction")
            if policy != "noeviction":
                message = (
                    f"the server may evict keys (maxmemory-policy {policy}), and an evicted key looks like a delete: "
                    "set it to noeviction, or put up with it by evicting=allow"
                )
                raise StorageError(message, storage=self._link.texts.name)
        self._admitted = True

    def value_bytes_max(self) -> int:
        """Return how many bytes a value may have.

        Raises:
            StorageError: a server cannot be asked.
        """
        if self._bytes_max is None:
            answers = self._ask("CONFIG GET", "proto-max-bulk-len")
            sizes = [int(answer.get("proto-max-bulk-len", VALUE_BYTES_MAX)) for answer in answers]
            self._bytes_max = min([VALUE_BYTES_MAX, *sizes])
        return self._bytes_max

    def _ask(self, *words: str) -> list[dict[str, Any]]:
        """Return each server's answer; without those that may not or cannot say."""
        answers = []
        for client in self._link.primaries():
            with self._link.texts.translated():
                try:
                    answer = client.execute_command(*words)
                except self._link.library.exceptions.ResponseError:
                    continue
            answers.append({_text(name): _text(value) for name, value in answer.items()})
        return answers


def _text(value: object) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
