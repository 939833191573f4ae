"""A pooler before PostgreSQL, as pgbouncer in transaction mode: each transaction may get another session.

It looks, after each transaction, at what the session still holds of it: settings, prepared statements, cursors,
temporary tables, advisory locks. The next client would meet that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

START_SECONDS = 10.0
SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
LEFT_BEHIND = """
SELECT 'setting ' || name FROM pg_settings WHERE source = 'session' AND name NOT IN ('client_encoding')
UNION ALL SELECT 'prepared statement ' || name FROM pg_prepared_statements
UNION ALL SELECT 'cursor ' || name FROM pg_cursors WHERE name <> ''
UNION ALL SELECT 'temporary table ' || relname FROM pg_class
          WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r' AND relnamespace <> 0
UNION ALL SELECT 'advisory lock' FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
"""


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return the type of the next message, and all of it."""
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)


def _made(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


@dataclass
class _Session:
    """A session of the server, used by one transaction at a time."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    greeting: bytes = b""

    async def greet(self, database: str, user: str) -> None:
        """Log in, and keep what the server says of itself."""
        pairs = f"user\0{user}\0database\0{database}\0client_encoding\0UTF8\0\0".encode()
        self.writer.write(struct.pack("!II", len(pairs) + 8, 196608) + pairs)
        while True:
            kind, message = await _message(self.reader)
            assert kind != b"E", message
            if kind == b"S":
                self.greeting += message
            if kind == b"Z":
                return

    async def left_behind(self) -> list[str]:
        """Return what the last transaction left in this session."""
        self.writer.write(_made(b"Q", LEFT_BEHIND.encode() + b"\0"))
        found: list[str] = []
        while True:
            kind, message = await _message(self.reader)
            assert kind != b"E", message
            if kind == b"D":
                found.append(message[11:].decode())
            if kind == b"Z":
                return found


@dataclass
class _Client:
    """A client, and the session that its transaction has now."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    session: _Session | None = None
    answering: asyncio.Task[None] | None = None
    awaited: int = 0


@dataclass
class PoolerDouble:
    """Shares `session_count` sessions of a server between all clients; a context manager.

    Attributes:
        port: where it listens.
        transactions: how many it has seen end.
        leaks: what they left behind in their sessions.
    """

    server_port: int
    session_count: int = 1
    user: str = "kvsync"
    database: str = "postgres"
    port: int = 0
    transactions: int = 0
    leaks: list[str] = field(default_factory=list)
    _sessions: asyncio.Queue[_Session] = field(default_factory=asyncio.Queue)

    @property
    def url(self) -> str:
        """The database behind it."""
        return f"postgresql://{self.user}@127.0.0.1:{self.port}/{self.database}"

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(START_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(START_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_SECONDS)
        self._loop.close()

    async def _start(self) -> None:
        self._all: list[_Session] = []
        self._tasks: set[asyncio.Task[None]] = set()
        for _ in range(self.session_count):
            session = _Session(*await asyncio.open_connection("127.0.0.1", self.server_port))
            await session.greet(self.database, self.user)
            self._all.append(session)
            self._sessions.put_nowait(session)
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for session in self._all:
            session.writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        client = _Client(reader, writer)
        try:
            if await self._greet(client):
                await self._serve(client)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client left, or the pooler ends
        finally:
            self._tasks.discard(task)
            writer.transport.abort()
            if client.session is not None:
                client.session.writer.transport.abort()  # it left within a transaction: the session ends, too

    async def _greet(self, client: _Client) -> bool:
        """Let a client in with a session number of its own; return whether it goes on."""
        while True:
            size, code = struct.unpack("!II", await client.reader.readexactly(8))
            await client.reader.readexactly(size - 8)
            if code == CANCEL_REQUEST:
                return False
            if code not in {SSL_REQUEST, GSS_REQUEST}:
                break
            client.writer.write(b"N")
        key = _made(b"K", os.urandom(8))
        ready = _made(b"Z", b"I")
        client.writer.write(_made(b"R", struct.pack("!I", 0)) + self._all[0].greeting + key + ready)
        return True

    async def _serve(self, client: _Client) -> None:
        while True:
            kind, message = await _message(client.reader)
            if kind == b"X":
                return
            if client.session is None:
                client.session = await self._sessions.get()
                client.answering = asyncio.create_task(self._answer(client, client.session))
            client.awaited += kind in {b"Q", b"S"}
            client.session.writer.write(message)

    async def _answer(self, client: _Client, session: _Session) -> None:
        """Pass on what the server says until the transaction ends; then give the session to whoever is next."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, message = await _message(session.reader)
                if kind == b"Z":
                    client.awaited -= 1
                    if message[5:] == b"I" and client.awaited <= 0:
                        break
                client.writer.write(message)
            client.awaited, client.session = 0, None
            self.transactions += 1
            self.leaks += await session.left_behind()
            self._sessions.put_nowait(session)
            client.writer.write(message)
