"""The traits of a server: whether it may evict keys, reports when they expire, and how large a value may be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kvsync.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.storages.redis.link import Link

__all__ = ["SMALL_BYTES", "ServerTraits"]

SMALL_BYTES = 1 << 20
VALUE_BYTES_MAX = 512 << 20
"""Every server accepts the first size of a value, and the second unless configured otherwise."""


_UNKNOWN = re.compile("unknown|unsupported|not supported", re.IGNORECASE)


class ServerTraits:
    """What all servers of a link have in common, asked for when needed.

    Args:
        link: to the servers.
        key: one that may be asked about: the index's own.
        evicting: accept servers that may evict keys.

    Attributes:
        reports_expiry: whether they report when a key expires; None until they were asked.
    """

    def __init__(self, link: Link, key: bytes, *, evicting: bool) -> None:
        self.reports_expiry: bool | None = None
        self._link = link
        self._key = key
        self._evicting = evicting
        self._admitted = False
        self._bytes_max: int | None = None

    def admit(self, *, refresh: bool = False) -> None:
        """Refuse a server that may evict keys, or does not tell.

        Also find out, in the same round trip, whether servers report when a key expires, which takes Redis 7.

        Raises:
            StorageError: it may evict keys, or does not tell.
        """
        if (self._evicting or (self._admitted and not refresh)) and self.reports_expiry is not None:
            return
        replies = self._ask(("INFO", "memory"), ("PEXPIRETIME", self._key))
        if self.reports_expiry is None:
            self.reports_expiry = self._do_report([expiry for _, expiry in replies])
        if not self._evicting:
            policies = [_policy(info) for info, _ in replies]
            self._refuse_eviction(self.policies() if None in policies else policies)
        self._admitted = True

    def policies(self) -> list[str | None]:
        """Return each server's policy of eviction; None for one that does not tell it.

        Raises:
            StorageError: a server cannot be asked.
        """
        # Some users may ask one, and not the other.
        asked = self._ask(("INFO", "memory"), ("CONFIG GET", "maxmemory-policy"))
        return [_policy(info) or _policy(config) for info, config in asked]

    def forgets(self) -> bool:
        """Return whether a server tells that it writes nothing to a disk.

        Raises:
            StorageError: a server cannot be asked.
        """
        asked = self._ask(("INFO", "persistence"), ("CONFIG GET", "save"))
        return any(
            str(_texts(info).get("aof_enabled")) == "0" and _texts(config).get("save") == "" for info, config in asked
        )

    def _refuse_eviction(self, policies: Sequence[str | None]) -> None:
        """Refuse servers of which one may evict keys by its policy, or does not tell it (None).

        Raises:
            StorageError: there is one.
        """
        policy = next((policy for policy in policies if policy != "noeviction"), "noeviction")
        if policy == "noeviction":
            return
        if policy is None:
            what, way_out = "does not tell whether it may evict keys", "allow the user INFO or CONFIG GET"
        else:
            what, way_out = f"may evict keys (maxmemory-policy {policy})", "set it to noeviction"
        message = (
            f"the server {what}, and an evicted key looks like a delete: {way_out}, or accept that with evicting=allow"
        )
        raise StorageError(message, storage=self._link.texts.name)

    def value_bytes_max(self) -> int:
        """Return the size limit of a value.

        Raises:
            StorageError: a server cannot be asked.
        """
        if self._bytes_max is None:
            answers = self._ask(("CONFIG GET", "proto-max-bulk-len"))
            sizes = [int(_texts(answer).get("proto-max-bulk-len", VALUE_BYTES_MAX)) for (answer,) in answers]
            self._bytes_max = min([VALUE_BYTES_MAX, *sizes])
        return self._bytes_max

    def run_ids(self) -> set[str]:
        """Return what identifies the servers, whatever they are called; nothing of one that may not tell.

        Raises:
            StorageError: a server cannot be asked.
        """
        return {str(_texts(info).get("run_id", "")) for (info,) in self._ask(("INFO", "server"))} - {""}

    def _do_report(self, replies: list[Any]) -> bool | None:
        """Return whether all servers (or proxies) know the command and allow it; None if one has not answered."""
        exceptions = self._link.library.exceptions
        reported = [not isinstance(reply, Exception) or isinstance(reply, exceptions.AskError) for reply in replies]
        barred = [
            isinstance(reply, exceptions.NoPermissionError) or _UNKNOWN.search(str(reply)) is not None
            for reply in replies
            if isinstance(reply, Exception)
        ]
        return False if any(barred) else True if all(reported) else None

    def _ask(self, *commands: tuple[str | bytes, ...]) -> list[list[Any]]:
        """Return each server's replies, in one round trip each, including errors."""
        replies = []
        for client in self._link.primaries():
            with self._link.texts.translated():
                pipeline = client.pipeline(transaction=False)
                for words in commands:
                    pipeline.execute_command(*words)
                replies.append(pipeline.execute(raise_on_error=False))
        return replies


def _policy(answer: object) -> str | None:
    """Return the policy in an answer to INFO or CONFIG GET; None if the server may not or cannot answer."""
    texts = _texts(answer)
    return texts.get("maxmemory_policy") or texts.get("maxmemory-policy") or None


def _texts(answer: object) -> dict[str, Any]:
    """Return a server's answer as texts; nothing if it may not or cannot answer."""
    return {_text(name): _text(value) for name, value in answer.items()} if isinstance(answer, dict) else {}


def _text(value: object) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
