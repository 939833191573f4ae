"""The link to a Redis server: commands in batches, in one round trip, and never sent twice.

A client that repeats a conditional write after a lost answer reports its own success as a failed condition. So the
client library's own retries are off. The next call replaces a broken connection.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from itertools import islice, tee
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from kvsync.errors import StorageError, UsageError
from kvsync.storages.extras import client as import_client
from kvsync.storages.redis.errors import ErrorTexts
from kvsync.storages.redis.packer import CommandPacker
from kvsync.storages.redis.tls import hasten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from kvsync.storages.redis.scripts import Script
    from kvsync.storages.redis.url import RedisUrl

__all__ = [
    "Command",
    "Link",
    "ServerLink",
    "check_given",
    "never_again",
    "run_scripts",
    "run_scripts_ahead",
    "succeeded",
    "walk",
]

AHEAD_COUNT = 2
"""So many batches are under way beyond the one whose replies are read."""

Calls: TypeAlias = "Sequence[tuple[Sequence[bytes], Sequence[bytes | int | str]]]"
"""Keys and other arguments of calls of a script."""


class Command(NamedTuple):
    """A command, and one of its keys, which determines the server."""

    key: bytes
    words: tuple[Any, ...]


class Link(Protocol):
    """The link to one server, or to all servers of a cluster; several threads may use it."""

    texts: ErrorTexts
    library: Any

    def groups(self, keys: Sequence[bytes]) -> list[list[int]]:
        """Return positions in `keys`, grouped so that one command may name the keys of a group."""
        ...

    def batch(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands and return their replies, including errors that a server replied.

        Raises:
            StorageError: a connection failed; the outcome is unknown.
        """
        ...

    def ahead(self, batches: Iterable[Sequence[Command]]) -> Iterator[list[Any]]:
        """Yield the replies to each batch of commands, as `batch` does; the next ones may have been sent before.

        Raises:
            StorageError: a connection failed; the outcome of all that was sent is unknown.
        """
        ...

    def client(self) -> Any:
        """Return the client library's own client, for reads."""
        ...

    def primaries(self) -> list[Any]:
        """Return a client for each server that holds values."""
        ...

    def topology(self) -> object:
        """Return which server holds what; equal as long as nothing moves.

        Raises:
            StorageError: something is moving.
        """
        ...

    def close(self) -> None:
        """Close the connections that were opened here."""
        ...


def never_again(library: Any) -> Any:
    """Return the client library's object that means: no retries."""
    return library.retry.Retry(library.backoff.NoBackoff(), 0)


def check_given(client: Any, retry: Any, arguments: dict[str, Any]) -> None:
    """Check a client that the caller made.

    Raises:
        UsageError: it repeats commands by itself, or decodes values.
    """
    if retry is not None and retry.get_retries() != 0:
        message = (
            f"this {type(client).__name__} repeats commands by itself, which makes conditional writes unreliable: "
            "create it with retry=Retry(NoBackoff(), 0)"
        )
        raise UsageError(message)
    if arguments.get("decode_responses"):
        message = f"this {type(client).__name__} decodes values: create it without decode_responses"
        raise UsageError(message)


class Opened:
    """A client that is created on first use, and again in a child process.

    Args:
        make: creates the client; None if the caller passed one.
        given: the caller's client, which is never closed here.
    """

    def __init__(self, make: Callable[[], Any] | None, given: Any, name: str) -> None:
        self._make = make
        self._client = given
        self._name = name
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._closed = False

    @property
    def is_own(self) -> bool:
        """Whether the client was created here."""
        return self._make is not None

    def get(self) -> Any:
        """Return the client.

        Raises:
            StorageError: the storage is closed.
        """
        if self._closed:
            message = "the storage is closed: open it again"
            raise StorageError(message, storage=self._name)
        if self._process != os.getpid():
            self._after_fork()
        if self._client is None:
            with self._lock:
                if self._client is None and self._make is not None:
                    self._client = self._make()
        return self._client

    def close(self) -> None:
        """Close the client that was created here; closing twice is allowed."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None and self._make is not None and self._process == os.getpid():
            client.close()

    def _after_fork(self) -> None:
        # The connections belong to the parent, so they are neither used nor closed here. A thread of the parent may
        # have
        # held the lock. A client of the caller's handles forks itself.
        self._lock = threading.Lock()
        self._process = os.getpid()
        if self._make is not None:
            self._client = None


class ServerLink:
    """The link to a single server."""

    def __init__(self, library: Any, texts: ErrorTexts, make: Callable[[], Any] | None, given: Any = None) -> None:
        self.library = library
        self.texts = texts
        self._opened = Opened(make, given, texts.name)

    @classmethod
    def of_url(cls, url: RedisUrl) -> ServerLink:
        """Return the link to the server in a URL; send nothing yet.

        Raises:
            UsageError: the client library is missing.
        """
        library = import_client("redis", "redis")
        texts = ErrorTexts(url.name, url.endpoint.scrub, library, url.timeout_seconds)

        def make() -> Any:
            client = library.Redis(db=url.database, retry=never_again(library), **url.arguments())
            client.connection_pool.connection_kwargs["command_packer"] = CommandPacker()
            if url.tls is not None:
                hasten(library, client, url.timeout_seconds)
            return client

        return cls(library, texts, make)

    def groups(self, keys: Sequence[bytes]) -> list[list[int]]:
        """Return all positions as one group."""
        return [list(range(len(keys)))] if keys else []

    def batch(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands and return their replies, including errors.

        Raises:
            StorageError: the connection failed.
        """
        with self.texts.translated():
            client = self._opened.get()
            if len(commands) == 1:
                return [_reply(client, commands[0].words, self.library.exceptions.ResponseError)]
            pipeline = client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command.words)
            return list(pipeline.execute(raise_on_error=False))

    def ahead(self, batches: Iterable[Sequence[Command]]) -> Iterator[list[Any]]:
        """Yield the replies to each batch of commands; so many are under way that the server need not wait.

        A client of the caller's may have one connection, which others need meanwhile: it sends one after another.

        Raises:
            StorageError: the connection failed.
        """
        if not self._opened.is_own:
            yield from map(self.batch, batches)
            return
        with self.texts.translated():
            pool = self._opened.get().connection_pool
            connection = pool.get_connection()
        rest, due = iter(batches), deque[int]()
        try:
            while True:
                with self.texts.translated():
                    for batch in islice(rest, AHEAD_COUNT + 1 - len(due)):
                        words = [command.words for command in batch]
                        connection.send_packed_command(connection.pack_commands(words), check_health=False)
                        due.append(len(words))
                    if not due:
                        return
                    replies = [_read(connection, self.library.exceptions.ResponseError) for _ in range(due[0])]
                due.popleft()
                yield replies
        finally:
            if due:  # what comes next on this connection is no reply to what is sent next
                connection.disconnect()
            pool.release(connection)

    def client(self) -> Any:
        """Return the client library's own client, for reads."""
        return self._opened.get()

    def primaries(self) -> list[Any]:
        """Return the one client."""
        return [self._opened.get()]

    def topology(self) -> object:
        """Return None: one server holds everything."""
        return None

    def close(self) -> None:
        """Close the connections that were opened here."""
        self._opened.close()


def _reply(client: Any, words: tuple[Any, ...], response_error: type[Exception]) -> Any:
    try:
        return client.execute_command(*words)
    except response_error as error:
        return error


def _read(connection: Any, response_error: type[Exception]) -> Any:
    try:
        return connection.read_response()
    except response_error as error:
        return error


def succeeded(link: Link, replies: list[Any]) -> list[Any]:
    """Return replies after checking that none is an error.

    Raises:
        StorageError: one of them is an error.
    """
    for reply in replies:
        if isinstance(reply, Exception):
            raise link.texts.error(reply) from None
    return replies


def run_scripts(link: Link, script: Script, calls: Calls) -> list[Any]:
    """Run a script once for each of `calls` (its keys and its other arguments), and return the results.

    Raises:
        StorageError: a server refused or failed.
    """
    return _completed(link, script, calls, link.batch(_commands("EVALSHA", script.sha, calls)))


def run_scripts_ahead(link: Link, script: Script, batches: Iterable[Calls]) -> Iterator[list[Any]]:
    """Run a script for each batch of calls, as `run_scripts` does; the next ones may have been sent before.

    Raises:
        StorageError: a server refused or failed.
    """
    sent, answered = tee(batches)
    replies = link.ahead(_commands("EVALSHA", script.sha, calls) for calls in sent)
    for calls, found in zip(answered, replies, strict=True):
        yield _completed(link, script, calls, found)


def _commands(name: str, what: str, calls: Calls) -> list[Command]:
    return [Command(keys[0], (name, what, len(keys), *keys, *arguments)) for keys, arguments in calls]


def _completed(link: Link, script: Script, calls: Calls, replies: list[Any]) -> list[Any]:
    """Return the replies, those of the server that does not remember the script after sending it the text."""
    unknown = [i for i, reply in enumerate(replies) if isinstance(reply, link.library.exceptions.NoScriptError)]
    if unknown:  # these were not executed
        again = link.batch(_commands("EVAL", script.text, [calls[i] for i in unknown]))
        for i, reply in zip(unknown, again, strict=True):
            replies[i] = reply
    return succeeded(link, replies)


def walk(link: Link, words: Callable[[int], tuple[Any, ...]], clients: Sequence[Any]) -> Iterator[list[bytes]]:
    """Yield what a SCAN command finds, page by page, on each of `clients`; `words` returns the command for a cursor.

    Whatever exists during the whole walk is found, perhaps more than once.

    Raises:
        StorageError: a server refused or failed.
    """
    for client in clients:
        cursor = -1
        while cursor != 0:
            with link.texts.translated():
                cursor, page = client.execute_command(*words(max(cursor, 0)))
            yield page
