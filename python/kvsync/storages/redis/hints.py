"""Notice changes in Redis: by the events of its keyspace, where the server publishes them.

A server publishes what `notify-keyspace-events` names: for string keys at least `Kg$xe`, for a hash `Kgh`, or `KA` for
everything. Events are not queued: what happens while the connection is broken is found by the run that follows.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from kvsync.errors import StorageError
from kvsync.storages.hints import NoHintsError
from kvsync.storages.redis.link import ServerLink
from kvsync.storages.redis.values import INDEX_ENDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvsync.storages.hints import Wake
    from kvsync.storages.redis.link import Link
    from kvsync.storages.redis.url import Location

__all__ = ["RedisHints", "pattern_of"]

POLL_SECONDS = 1.0
PING_SECONDS = 5.0
SILENT_SECONDS = 15.0
"""Without any answer for so long, the connection counts as broken."""

STOP_SECONDS = 2.0
WAIT_SECONDS = 0.5

STRINGS = frozenset("g$xe")
FIELDS = frozenset("gh")

CLUSTER = "a cluster publishes events on each of its servers"
DENIED = "the server does not tell whether it publishes events (the user may not run CONFIG GET)"
_LACKS = "the server does not publish events (set notify-keyspace-events to {}, or KA)"


def pattern_of(location: Location, database: str) -> bytes:
    r"""Return the pattern of the channels that tell of a location's values.

    >>> from kvsync.storages.redis.url import Location
    >>> pattern_of(Location(prefix="a*:"), "0")
    b'__keyspace@0__:a\\*:*'
    """
    name = location.prefix if location.hash is None else location.hash
    quoted = b"".join(b"\\" + bytes([byte]) if byte in b"*?[]^\\" else bytes([byte]) for byte in name.encode())
    end = b"*" if location.hash is None else b""
    return b"__keyspace@" + database.encode() + b"__:" + quoted + end


class RedisHints:
    """Notices changes of the values of a location.

    Args:
        link: to the server.
        location: where the values are.
        database: the database's number.
        wake: called with None for each event.

    Raises:
        NoHintsError: the server does not publish what is needed.
        StorageError: it cannot be asked.
    """

    poll_seconds = POLL_SECONDS

    def __init__(self, link: Link, location: Location, database: str, wake: Wake) -> None:
        if not isinstance(link, ServerLink):
            raise NoHintsError(CLUSTER)
        self._link = link
        self.reason = _what_is_missing(link, FIELDS if location.hash is not None else STRINGS)
        self.complete = not self.reason
        with link.texts.translated():
            self._listener = _Listener(link.client(), pattern_of(location, database), lambda: wake(None))
        self._listener.start()

    def poll(self) -> bool:
        """Return False: events come by themselves.

        Raises:
            StorageError: the connection is broken.
        """
        error = self._listener.error
        if error is not None:
            raise self._link.texts.error(error) from None
        if self._listener.silent_seconds() > SILENT_SECONDS or not self._listener.is_alive():
            message = "the server does not answer: it cannot tell what changes"
            raise StorageError(message, storage=self._link.texts.name)
        return False

    def close(self) -> None:
        """End the subscription."""
        self._listener.stop()


class _Listener(threading.Thread):
    """Waits for events, on a connection of its own.

    Raises:
        Exception: of the client library: it cannot subscribe.
    """

    def __init__(self, client: Any, pattern: bytes, wake: Callable[[], None]) -> None:
        super().__init__(name="kvsync-redis-hints", daemon=True)
        self._wake = wake
        self._ends = threading.Event()
        self._heard = time.monotonic()
        self.error: Exception | None = None
        self._channel = client.pubsub()
        self._channel.psubscribe(pattern)

    def silent_seconds(self) -> float:
        """Return for how long nothing was heard."""
        return time.monotonic() - self._heard

    def run(self) -> None:
        """Listen until `stop`, or until the connection breaks."""
        pinged = time.monotonic()
        try:
            while not self._ends.is_set():
                message = self._channel.get_message(timeout=WAIT_SECONDS)
                if message is not None:
                    self._heard = time.monotonic()
                    if message["type"] == "pmessage" and not message["channel"].endswith(INDEX_ENDS):
                        self._wake()
                elif time.monotonic() - pinged > PING_SECONDS:
                    pinged = time.monotonic()
                    self._channel.ping()
        except Exception as error:  # noqa: BLE001 - the next poll raises it
            self.error = error
        finally:
            self._channel.close()

    def stop(self) -> None:
        """End."""
        self._ends.set()
        self.join(STOP_SECONDS)


def _what_is_missing(link: Link, needed: frozenset[str]) -> str:
    """Return why not all changes are published, in words; empty if they are.

    Raises:
        NoHintsError: certainly none is.
        StorageError: the server cannot be asked.
    """
    client = link.client()
    with link.texts.translated():
        try:
            answer = client.execute_command("CONFIG GET", "notify-keyspace-events")
        except link.library.exceptions.ResponseError:
            return DENIED
    flags = _flags(answer)
    if flags is None:
        return DENIED
    flags |= set("g$lshzxetd") if "A" in flags else set()
    if "K" in flags and needed <= flags:
        return ""
    raise NoHintsError(_LACKS.format("K" + "".join(sorted(needed))))


def _flags(answer: object) -> set[str] | None:
    values = list(answer.values()) if isinstance(answer, dict) else list(answer)[1::2] if answer else []  # type: ignore[call-overload]
    if not values:
        return None
    return set(values[0].decode() if isinstance(values[0], bytes) else str(values[0]))
