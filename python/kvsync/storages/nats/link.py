"""Connections to NATS servers for callers in threads: all on one event loop, reopened after they break.

One loop, in a daemon thread, serves all NATS storages of a process: two would compete for the interpreter, and copying
from one bucket to another would take twice the time. It ends with the last storage. In a forked child process, the
next call starts a new one.

The client library reconnects by itself, and then sends what was waiting: a conditional write could be executed long
after its caller was told that it failed. So that is off. When a connection breaks, the calls in progress fail, and the
next call opens another connection.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from kvsync.errors import StorageError
from kvsync.storages.nats.session import BrokenError, Session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

__all__ = ["Link"]

T = TypeVar("T")

STOP_SECONDS = 2.0
LOOK_SECONDS = 1.0


class _Loop:
    """An event loop in a daemon thread, for all links of the process."""

    def __init__(self) -> None:
        self.users = 0
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, name="kvsync-nats", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self.loop.run_forever()
        self.loop.close()


class _Shared:
    """The loop of the process, while anybody uses it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.current: _Loop | None = None

    def take(self) -> _Loop:
        """Return the loop; start it if necessary."""
        with self.lock:
            if self.current is None:
                self.current = _Loop()
            self.current.users += 1
            return self.current

    def give(self, one: _Loop) -> None:
        """Stop using a loop; the last user ends it."""
        with self.lock:
            one.users -= 1
            if not one.users:
                self.current = None
                one.loop.call_soon_threadsafe(one.loop.stop)


class _Line:
    """What one link has on the loop: its session, and the calls in progress."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.session: Session | None = None
        self.opening = asyncio.Lock()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.closed = False
        self.shared = _shared.take()

    def stop(self) -> None:
        """Close the connection, cancel the calls in progress, and leave the loop."""
        if self.pid != os.getpid():
            return
        done = asyncio.run_coroutine_threadsafe(self._finish(), self.shared.loop)
        if threading.current_thread() is self.shared.thread:
            return  # garbage-collected on the loop's own thread, which goes on by itself
        with contextlib.suppress(TimeoutError, concurrent.futures.CancelledError):
            done.result(STOP_SECONDS * 2)
        if not self.shared.users:
            self.shared.thread.join(STOP_SECONDS)

    async def drop(self, session: Session | None) -> None:
        """Close a session, and drop what is waiting to be sent."""
        if session is not None:
            if self.session is session:
                self.session = None
            session.abort()
            with contextlib.suppress(Exception):
                await asyncio.wait_for(session.close(), STOP_SECONDS)

    async def _finish(self) -> None:
        self.closed = True
        try:
            for task in self.tasks:
                task.cancel()
            if self.tasks:
                await asyncio.wait(self.tasks, timeout=STOP_SECONDS)
            session, self.session = self.session, None
            if session is not None:
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(session.close(), STOP_SECONDS)
        finally:
            _shared.give(self.shared)


class Link:
    """Runs coroutines over one session, from any thread.

    Args:
        connect: opens a session.
        name: the storage's name, for errors.
    """

    def __init__(self, connect: Callable[[], Awaitable[Session]], name: str) -> None:
        self._connect = connect
        self._name = name
        self._lock = threading.Lock()
        self._line: _Line | None = None
        self._finalizer: weakref.finalize[[], Link] | None = None
        self._closed = False
        _links.add(self)

    def call(self, work: Callable[[Session], Coroutine[Any, Any, T]]) -> T:
        """Run `work` with a connected session, and return its result.

        Raises:
            StorageError: the server cannot be reached or does not answer, or the link is closed.
        """
        line = self._on_line()
        coroutine = self._work(line, work)
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, line.shared.loop)
        except RuntimeError:  # another thread has just closed it
            coroutine.close()
            raise self._closed_error() from None
        try:
            return self._result(future, line)
        except concurrent.futures.CancelledError:
            raise self._closed_error() from None
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Close the connection and end the thread; closing twice is allowed."""
        with self._lock:
            self._closed = True
            self._line, finalizer, self._finalizer = None, self._finalizer, None
        if finalizer is not None:
            finalizer()

    def abandon(self) -> None:
        """Leave loop and connection to the parent process; for a child after a fork."""
        self._lock = threading.Lock()
        if self._line is not None:
            _abandoned.append(self._line)  # never collected: its sockets belong to the parent
            if self._finalizer is not None:
                self._finalizer.detach()
        self._line = self._finalizer = None

    def _result(self, future: concurrent.futures.Future[T], line: _Line) -> T:
        while True:
            try:
                return future.result(LOOK_SECONDS)
            except TimeoutError:
                if future.done():
                    raise
                if not line.shared.thread.is_alive():  # it ended before this call got to run
                    raise self._closed_error() from None

    def _on_line(self) -> _Line:
        with self._lock:
            if self._closed:
                raise self._closed_error()
            if self._line is None:
                self._line = _Line()
                self._finalizer = weakref.finalize(self, self._line.stop)
            return self._line

    async def _work(self, line: _Line, work: Callable[[Session], Coroutine[Any, Any, T]]) -> T:
        if line.closed:
            raise self._closed_error()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - we are in one
        line.tasks.add(task)
        try:
            async with line.opening:
                session = line.session
                if session is None or not session.alive:
                    await line.drop(session)
                    line.session = session = await self._connect()
            try:
                return await work(session)
            except (BrokenError, asyncio.CancelledError):
                # Cancelled: the caller was interrupted, so nothing that is still waiting may be sent.
                await line.drop(session)
                raise
        finally:
            line.tasks.discard(task)

    def _closed_error(self) -> StorageError:
        message = "the storage is closed: open it again"
        return StorageError(message, storage=self._name)


_shared = _Shared()
_links: weakref.WeakSet[Link] = weakref.WeakSet()
_abandoned: list[object] = []


def _after_fork() -> None:
    _abandoned.append(_shared.current)
    _shared.lock, _shared.current = threading.Lock(), None
    for link in list(_links):
        link.abandon()


os.register_at_fork(after_in_child=_after_fork)
