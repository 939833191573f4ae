"""Requests to a NATS server, many in flight, each answered within a time limit or failed."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, NamedTuple

from kvsync.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nats.aio.client import Client
    from nats.aio.msg import Msg

__all__ = ["BrokenError", "Message", "Session", "headers_size", "status_of"]

WINDOW_COUNT = 1000
WINDOW_BYTES = 8 << 20
SLICE_SECONDS = 0.25
"""How often a waiting call checks whether the connection is still open."""


class BrokenError(StorageError):
    """The connection broke, or an answer did not come; the outcome is unknown."""


class Message(NamedTuple):
    """A message to a subject; answers may come in another order than the requests."""

    subject: str
    payload: bytes = b""
    headers: dict[str, str] | None = None


class _Flight:
    """The messages of one exchange that wait for their answers."""

    def __init__(self, on_reply: Callable[[int, Msg], bool]) -> None:
        self.on_reply = on_reply
        self.waiting: dict[int, int] = {}
        self.size = 0
        self.heard = 0
        self.goal = (0, 0)
        self.error: Exception | None = None
        self.event = asyncio.Event()

    def sent(self, index: int, size: int) -> None:
        """Note a message that was sent."""
        self.waiting[index] = size
        self.size += size

    def take(self, index: int, reply: Msg) -> None:
        """Take an answer; an exception of its handler is raised where the exchange is awaited."""
        if index not in self.waiting:
            return
        self.heard += 1
        try:
            if self.on_reply(index, reply):
                self.size -= self.waiting.pop(index)
        except Exception as error:  # noqa: BLE001 - handed on
            self.error = error
        if self.error is not None or not self.exceeds(*self.goal):
            self.event.set()

    def exceeds(self, count: int, size: int) -> bool:
        """Whether more than that is in flight."""
        return len(self.waiting) > count or (self.size > size and bool(self.waiting))


class Session:
    """One connection as long as it lasts; used on its event loop only.

    Args:
        client: connected, and does not reconnect by itself.
        timeout: seconds without any answer after which an exchange fails.
        name: the storage's name, for errors.
        scrub: removes secrets from the library's texts.
    """

    def __init__(self, client: Client, *, timeout: float, name: str, scrub: Callable[[str], str]) -> None:
        self.client = client
        self.name = name
        self._timeout = timeout
        self._scrub = scrub
        self._prefix = client.new_inbox() + "."
        self._numbers = itertools.count()
        self._flights: dict[str, _Flight] = {}
        self._denied = ""
        self._given_up = False

    async def start(self) -> None:
        """Listen for answers."""
        # Nothing is dropped here for lack of room: exchanges limit what is in flight.
        await self.client.subscribe(self._prefix + ">", cb=self._hear, pending_msgs_limit=0, pending_bytes_limit=0)

    @property
    def alive(self) -> bool:
        """Whether the connection is open, as far as is known."""
        return self.client.is_connected and not self._given_up

    @property
    def payload_bytes_max(self) -> int:
        """The size limit of a message, including headers, at the server."""
        return self.client.max_payload

    @property
    def version(self) -> tuple[int, int]:
        """The server's version, major and minor."""
        version = self.client.connected_server_version
        return version.major, version.minor

    async def request(self, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None) -> Msg:
        """Send one message and return its answer.

        Raises:
            BrokenError: there was none.
        """
        replies: list[Msg] = []

        def keep(_index: int, reply: Msg) -> bool:
            replies.append(reply)
            return True

        await self.exchange([Message(subject, payload, headers)], keep)
        return replies[0]

    async def exchange(
        self,
        messages: Iterable[Message],
        on_reply: Callable[[int, Msg], bool],
        *,
        window: Callable[[], int] = lambda: WINDOW_COUNT,
    ) -> None:
        """Send messages, a limited number in flight, and pass on each answer with the number of its message.

        `on_reply` returns whether that message has all its answers.

        Raises:
            BrokenError: the connection broke, or no answer came in time.
            StorageError: the server denies it.
        """
        flight = _Flight(on_reply)
        number = format(next(self._numbers), "x")
        if not self._flights:
            self._denied = ""  # an earlier denial of something that nobody waited for
        self._flights[number] = flight
        try:
            for index, message in enumerate(messages):
                flight.sent(index, len(message.payload))
                await self._send(message, f"{self._prefix}{number}.{index}")
                if flight.exceeds(window() - 1, WINDOW_BYTES):
                    # Wait until half of them are answered before sending more, or each answer would wake us.
                    await self._wait(flight, window() // 2, WINDOW_BYTES // 2)
            await self._wait(flight, 0, 0)
        finally:
            del self._flights[number]

    async def stream(self, message: Message, on_reply: Callable[[int, Msg], bool]) -> None:
        """Send a message whose answers come under subjects of their own, and pass them on as `exchange` does.

        Raises:
            BrokenError: the connection broke, or no answer came in time.
        """
        flight = _Flight(on_reply)
        flight.sent(0, 0)
        inbox = self.client.new_inbox()

        async def hear(reply: Msg) -> None:
            flight.take(0, reply)

        listening = await self.client.subscribe(inbox, cb=hear, pending_msgs_limit=0, pending_bytes_limit=0)
        try:
            await self._send(message, inbox)
            await self._wait(flight, 0, 0)
        finally:
            if self.alive:
                await listening.unsubscribe()

    async def tell(self, message: Message) -> None:
        """Send a message without waiting for an answer.

        Raises:
            BrokenError: the connection broke.
        """
        await self._send(message, "")

    def denied(self, text: str) -> None:
        """Note an error that the server reported by itself, for example of a missing permission."""
        self._denied = text

    def abort(self) -> None:
        """Drop what is waiting to be sent: its caller was told that it failed."""
        self._given_up = True
        writer = getattr(getattr(self.client, "_transport", None), "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    async def close(self) -> None:
        """Close the connection."""
        await self.client.close()

    def error(self, text: str) -> StorageError:
        """Return an error of this storage, without secrets."""
        return StorageError(self._scrub(text), storage=self.name)

    async def _send(self, message: Message, reply: str) -> None:
        try:
            await self.client.publish(message.subject, message.payload, reply, message.headers)
        except Exception as error:
            if self.client.is_connected and not isinstance(error, OSError):
                text = f"the message to {message.subject:.200} cannot be sent: {error}"
                raise self.error(text) from error
            raise self._broken(error) from error

    async def _hear(self, reply: Msg) -> None:
        number, _, index = reply.subject[len(self._prefix) :].partition(".")
        flight = self._flights.get(number)
        if flight is not None:
            flight.take(int(index), reply)

    async def _wait(self, flight: _Flight, count: int, size: int) -> None:
        flight.goal = (count, size)
        clock = asyncio.get_running_loop().time
        heard, since = flight.heard, clock()
        while flight.exceeds(count, size) and flight.error is None:
            flight.event.clear()
            try:
                async with asyncio.timeout(min(SLICE_SECONDS, self._timeout)):
                    await flight.event.wait()
            except TimeoutError:
                if heard != flight.heard:
                    heard, since = flight.heard, clock()
                self._check(clock() - since)
        if flight.error is not None:
            raise flight.error

    def _check(self, quiet_seconds: float) -> None:
        if self._denied:
            text = f"the server says: {self._denied}; give the user the rights that kvsync.storages.nats.storage lists"
            raise self._lost(text)
        if not self.client.is_connected:
            raise self._broken(self.client.last_error)
        if quiet_seconds >= self._timeout:
            text = f"the NATS server did not answer within {self._timeout:g} seconds: run again when it does"
            raise self._lost(text)

    def _broken(self, why: object) -> BrokenError:
        text = f"the connection to the NATS server broke ({why or 'it was closed'}): run again when it works"
        return self._lost(text)

    def _lost(self, text: str) -> BrokenError:
        self._given_up = True
        return BrokenError(self._scrub(text), storage=self.name)


def headers_size(headers: dict[str, str] | None) -> int:
    """Return the size of headers in a message."""
    if not headers:
        return 0
    return len("NATS/1.0\r\n\r\n") + sum(len(name) + len(value) + 4 for name, value in headers.items())


def status_of(reply: Msg) -> str:
    """Return the status that replaces an answer, such as "503" if nobody listens, or ""."""
    headers = reply.headers
    if not headers or reply.data or "Nats-Sequence" in headers:
        return ""
    return headers.get("Status", "")
