"""How soon a watch brings what an application writes, and what a watch costs that has nothing to do.

The watch is a process of its own: `kvsync sync A B --watch`, as a user runs it. The application writes single values of
200 bytes through each storage's plain client, at random moments, and looks at the other side through its plain client
until the value is there. Both sides have 100 values before: each run scans both, so
with more of them it takes longer, in proportion to what a listing of the storage takes.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nats
import pytest
import redis
from servers.running import running

import kvsync
from kvsync import Put
from measure import FULL, Line, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servers.nats import NatsServer
    from servers.redis import RedisServer

WRITES = 1_000 if FULL else 20
VALUES = 100
VALUE_BYTES = 200
PAUSE_SECONDS = (0.02, 0.2)
IDLE_SECONDS = 300.0 if FULL else 5.0
MEDIAN_BAR_MS, LAST_BAR_MS = 100.0, 300.0
IDLE_BAR_PERCENT = 0.5

KINDS = ["folder", "sqlite", "nats", "redis"]


class Folder:
    """Files, as any program writes them."""

    server: subprocess.Popen[bytes] | None = None

    def __init__(self, place: Path, name: str) -> None:
        self._path = place / name
        self._path.mkdir()
        self.url = str(self._path)

    def write(self, key: str, value: bytes) -> None:
        (self._path / key).write_bytes(value)

    def read(self, key: str) -> bytes | None:
        try:
            return (self._path / key).read_bytes()
        except FileNotFoundError:
            return None

    def close(self) -> None:
        pass


class Sqlite:
    """A table."""

    server = None

    def __init__(self, place: Path, name: str) -> None:
        self.url = f"sqlite:///{place}/{name}.db"
        kvsync.commit(self.url, [Put("first", b"1")])
        self._connection = sqlite3.connect(f"{place}/{name}.db", isolation_level=None, timeout=30)

    def write(self, key: str, value: bytes) -> None:
        self._connection.execute(
            "INSERT INTO kv VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
        )

    def read(self, key: str) -> bytes | None:
        row = self._connection.execute("SELECT value FROM kv WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def close(self) -> None:
        self._connection.close()


class Redis:
    """String keys below a prefix, on a server that publishes events."""

    def __init__(self, place: Path, name: str) -> None:
        server: RedisServer = running("redis")
        self.server = server.process
        self._prefix = f"{place.name} {name}:"
        self.url = f"{server.url}?prefix={self._prefix}"
        self._client = redis.Redis(port=server.port)

    def write(self, key: str, value: bytes) -> None:
        self._client.set(self._prefix + key, value)

    def read(self, key: str) -> bytes | None:
        found: bytes | None = self._client.get(self._prefix + key)  # type: ignore[assignment]
        return found

    def close(self) -> None:
        self._client.close()


class Nats:
    """A bucket."""

    def __init__(self, place: Path, name: str) -> None:
        server: NatsServer = running("nats")
        self.server = server.process
        name = f"{place.name}-{name}"
        self.url = server.url(name)
        kvsync.commit(self.url, [Put("first", b"1")])
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._client = self._do(nats.connect(f"nats://127.0.0.1:{server.port}"))
        self._kv = self._do(self._client.jetstream().key_value(name))

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def write(self, key: str, value: bytes) -> None:
        self._do(self._kv.put(key, value))

    def read(self, key: str) -> bytes | None:
        try:
            found: bytes | None = self._do(self._kv.get(key)).value
        except nats.js.errors.KeyNotFoundError:
            return None
        return found

    def close(self) -> None:
        self._do(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


MAKES: dict[str, Callable[[Path, str], Any]] = {"folder": Folder, "sqlite": Sqlite, "redis": Redis, "nats": Nats}


@contextmanager
def watched(kind: str) -> Iterator[tuple[Any, Any, subprocess.Popen[str]]]:
    """Give two storages of a kind that are equal, and the process that watches them."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kvsync-bench-")))
        one, other = (MAKES[kind](place, name) for name in ("one", "other"))
        stack.callback(one.close)
        stack.callback(other.close)
        for number in range(VALUES):
            one.write(f"k{number:04}", b"%0200d" % number)
        command = [sys.executable, "-m", "kvsync", "sync", one.url, other.url, "--watch", "--json"]
        root = str(Path(kvsync.__file__).parents[1])
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root})
        assert child.stdout is not None
        child.stdout.readline()
        try:
            reader = threading.Thread(target=child.stdout.read)
            reader.start()
            time.sleep(1)
            yield one, other, child
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait()
            reader.join()
            child.stdout.close()


def arrival_ms(one: Any, other: Any, key: str, value: bytes) -> float:
    """Write a value on one side, and return how long it takes to the other one."""
    started = time.perf_counter()
    one.write(key, value)
    while other.read(key) != value:
        time.sleep(0.001)
    return (time.perf_counter() - started) * 1000


@pytest.mark.parametrize("kind", KINDS)
def test_latency(kind: str, report: Report) -> None:
    """Median below 100 ms, 99th percentile below 300 ms."""
    chance = random.Random(0)
    with watched(kind) as (one, other, _):
        found = []
        for number in range(WRITES):
            pair = (one, other) if number % 2 else (other, one)
            found.append(arrival_ms(*pair, f"k{chance.randrange(VALUES):04}", b"%0200d" % (10_000 + number)))
            time.sleep(chance.uniform(*PAUSE_SECONDS))
    found.sort()
    median, last = statistics.median(found), found[int(len(found) * 0.99) - 1]
    for name, value, bar in (("median", median, MEDIAN_BAR_MS), ("99th percentile", last, LAST_BAR_MS)):
        report.add(Line("watch", f"{kind}: a write arrives, {WRITES:,} writes", name, value, "ms", bar))


def cpu_seconds(process: int) -> float:
    """Return what a process has used of the processor."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("kind", KINDS)
def test_idle(kind: str, report: Report) -> None:
    """Below 0.5 % of a core, with the servers."""
    with watched(kind) as (one, _, child):
        time.sleep(3)
        processes = {"watch": child.pid}
        processes |= {"server": one.server.pid} if one.server is not None else {}
        before = {name: cpu_seconds(pid) for name, pid in processes.items()}
        time.sleep(IDLE_SECONDS)
        used = {name: (cpu_seconds(pid) - before[name]) / IDLE_SECONDS for name, pid in processes.items()}
    share = sum(used.values()) * 100
    report.add(
        Line("watch", f"{kind}: idle for {IDLE_SECONDS:.0f} s", "of a core", share, "%", IDLE_BAR_PERCENT, detail=used)
    )
