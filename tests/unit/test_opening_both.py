"""Two servers are opened at the same time; where one cannot be, both are closed, and the error tells of both."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest

import kvsync
from kvsync.errors import StorageError
from kvsync.storages.contract import Support
from kvsync.storages.mapping import MappingStorage

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_SECONDS = 30.0


class Remote(MappingStorage):
    """A storage that connects when it is asked what does not exist."""

    def __init__(self, name: str, connect: Callable[[], object], distance: Literal["network", "disk"]) -> None:
        super().__init__({}, name=name)
        supports = self.capabilities.supports | {Support.DRY_PROBE}
        self.capabilities = replace(self.capabilities, distance=distance, supports=supports)
        self.connect = connect
        self.closed = threading.Event()

    def unmade(self) -> str:
        self.connect()
        return ""

    def dry_probe(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.closed.set()


class Servers:
    """What URLs lead to, by name."""

    def __init__(self) -> None:
        self.storages: dict[str, Remote] = {}

    def add(self, name: str, connect: Callable[[], object], distance: Literal["network", "disk"] = "network") -> None:
        self.storages[name] = Remote(name, connect, distance)

    def open(self, target: str, *, create: bool = True) -> tuple[Remote, bool]:
        return self.storages[target], True

    def all_closed(self) -> bool:
        return all(storage.closed.is_set() for storage in self.storages.values())


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    found = Servers()
    monkeypatch.setattr("kvsync.opening.open_storage", found.open)
    return found


def fails(message: str) -> Callable[[], object]:
    def connect() -> None:
        raise StorageError(message, storage=f"{message} is down")

    return connect


def test_two_servers_are_connected_to_at_the_same_time(servers: Servers) -> None:
    both = threading.Barrier(2, timeout=WAIT_SECONDS)  # broken unless both connect before either is done
    servers.add("one:", both.wait)
    servers.add("two:", both.wait)
    assert kvsync.sync("one:", "two:", [kvsync.Put("a", b"1")]).pushed == 1
    assert servers.all_closed()


def test_what_does_not_wait_takes_no_thread(servers: Servers) -> None:
    threads: list[threading.Thread] = []
    for name in ("one:", "two:"):
        servers.add(name, lambda: threads.append(threading.current_thread()), distance="disk")
    kvsync.sync("one:", "two:")
    assert set(threads) == {threading.main_thread()}


def test_an_error_tells_of_both_servers(servers: Servers) -> None:
    servers.add("one:", fails("refused"))
    servers.add("two:", fails("no such host"))
    with pytest.raises(StorageError, match=r"^refused is down: refused; and no such host is down: no such host$"):
        kvsync.sync("one:", "two:")
    assert servers.all_closed()


@pytest.mark.parametrize("failing", ["one:", "two:"])
def test_the_other_server_is_closed(servers: Servers, failing: str) -> None:
    for name in ("one:", "two:"):
        servers.add(name, fails("refused") if name == failing else lambda: None)
    with pytest.raises(StorageError, match=r"^refused is down: refused$"):
        kvsync.sync("one:", "two:")
    assert servers.all_closed()


def test_a_server_that_does_not_answer_delays_no_error(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvsync.opening.PATIENCE_SECONDS", 0.01)
    answer = threading.Event()
    servers.add("one:", fails("refused"))
    servers.add("two:", lambda: answer.wait(WAIT_SECONDS))
    with pytest.raises(StorageError, match=r"^refused is down: refused$"):
        kvsync.sync("one:", "two:")
    assert servers.all_closed()
    answer.set()


@pytest.mark.parametrize("silent", [["one:"], ["two:"], ["one:", "two:"]])
def test_an_interrupt_waits_for_no_server(servers: Servers, silent: list[str]) -> None:
    """Ctrl-C comes while either is connected to; the main thread does not stay to see the end of it."""
    answer, started, main = threading.Event(), time.monotonic(), threading.main_thread().ident
    assert main is not None
    for name in ("one:", "two:"):
        servers.add(name, (lambda: answer.wait(WAIT_SECONDS)) if name in silent else lambda: None)
    timer = threading.Timer(0.2, lambda: signal.pthread_kill(main, signal.SIGINT))
    # Whoever runs the tests in the background may have it ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            kvsync.sync("one:", "two:")
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - started < WAIT_SECONDS / 2
    assert servers.all_closed()
    answer.set()
