"""A TCP proxy before a server that loses answers on command.

An **exchange** is what a client sends in one go on one connection, after the server's last answer there, and what the
server answers. A pipeline of commands sent at once is one exchange; what a server says unasked is none.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

CHUNK_BYTES = 1 << 16
START_SECONDS = 10.0


@dataclass
class _Connection:
    """One client's connection, and whether it waits for an answer: to the exchange of this number.

    `arming`: how often the proxy had been armed then. What was asked before counts no more, for a client may send
    what has no answer, such as a pong.
    """

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    asked: int = 0
    arming: int = 0

    def cut(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


class DroppingProxy:
    """Forwards between clients and the server at `upstream_port`; a context manager.

    Attributes:
        port: where it listens.
        exchanges: how many it has seen since it started, over all connections.
        moved_bytes: how many bytes it has forwarded, both ways.
        dropped: whether the answer that `arm` named was dropped.
        delay_seconds: how much later everything arrives, each way.
    """

    def __init__(self, upstream_port: int, *, delay_seconds: float = 0.0) -> None:
        self.port = 0
        self.exchanges = 0
        self.moved_bytes = 0
        self.dropped = False
        self.delay_seconds = delay_seconds
        self._upstream_port = upstream_port
        self._target = 0
        self._arming = 0
        self._lock = threading.Lock()
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def arm(self, number: int = 1) -> None:
        """Drop the answer of the `number`-th exchange from now on: the server has done it, the client never hears."""
        with self._lock:
            self._target = self.exchanges + number
            self._arming += 1
            self.dropped = False

    def disarm(self) -> None:
        """Drop nothing any more."""
        with self._lock:
            self._target = 0

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(START_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_SECONDS)

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            answers, upstream = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(writer, upstream)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forward(reader, upstream, connection, asking=True))
                group.create_task(self._forward(answers, writer, connection, asking=False))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            connection.cut()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: _Connection, *, asking: bool
    ) -> None:
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sender = asyncio.create_task(self._send(late, writer))
        try:
            while data := await reader.read(CHUNK_BYTES):
                if asking:
                    self._ask(connection)
                elif self._answer(connection):
                    raise ConnectionAbortedError
                self.moved_bytes += len(data)
                late.put_nowait((self._loop.time() + self.delay_seconds, data))
            late.put_nowait((self._loop.time() + self.delay_seconds, b""))
            await sender
        finally:
            sender.cancel()

    async def _send(self, late: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await late.get()
            if due > self._loop.time():
                await asyncio.sleep(due - self._loop.time())
            if not data:
                writer.write_eof()
                return
            writer.write(data)
            await writer.drain()

    def _ask(self, connection: _Connection) -> None:
        with self._lock:
            if not connection.asked or connection.arming != self._arming:
                self.exchanges += 1
                connection.asked, connection.arming = self.exchanges, self._arming

    def _answer(self, connection: _Connection) -> bool:
        """Note an answer; return whether to drop it."""
        asked, connection.asked = connection.asked, 0
        with self._lock:
            if not asked or asked != self._target:
                return False
            self._target = 0
            self.dropped = True
            return True
