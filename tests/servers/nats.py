"""A NATS server with JetStream."""

from __future__ import annotations

import asyncio
import inspect
import re
from typing import TYPE_CHECKING, Any

import nats

from servers.process import Server, answers, find_binary, free_ports

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nats.js.kv import KeyValue


class NatsServer(Server):
    """One server with JetStream; with `user` and `password`, or `token`, it wants a login.

    `more` is added to the command line.
    """

    def __init__(
        self, folder: Path, *, user: str = "", password: str = "", token: str = "", more: tuple[str, ...] = ()
    ) -> None:
        super().__init__(folder)
        (self.port,) = free_ports()
        self.user = user
        self.password = password
        self.token = token
        self.more = more

    def command(self) -> list[str]:
        binary = find_binary("KVSYNC_NATS_SERVER", "nats-server")
        command = [binary, "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.folder / "data")]
        if self.user:
            command += ["--user", self.user, "--pass", self.password]
        if self.token:
            command += ["--auth", self.token]
        return [*command, *self.more]

    def ready(self) -> bool:
        log = (self.folder / "server.log").read_text(errors="replace")
        return bool(re.search(r"Server is ready\s*$", log, re.MULTILINE)) and answers(self.port)

    def start(self) -> None:
        (self.folder / "server.log").unlink(missing_ok=True)  # or the readiness of the last start is seen
        super().start()

    def url(self, bucket: str, query: str = "") -> str:
        """Return the URL of a bucket."""
        login = f"{self.user}:{self.password}@" if self.user else f"{self.token}@" if self.token else ""
        return f"nats://{login}127.0.0.1:{self.port}/{bucket}{query}"

    def make(self, bucket: str, **config: Any) -> None:
        """Make a bucket as another program would."""
        self.ask(lambda kv: kv, bucket, config)

    def ask(self, work: Callable[[KeyValue], Any], bucket: str, config: dict[str, Any] | None = None) -> Any:
        """Do something with a bucket through the plain client library; an awaitable result is awaited."""

        async def run() -> Any:
            login = {"user": self.user, "password": self.password} if self.user else {"token": self.token or None}
            connection = await nats.connect(f"nats://127.0.0.1:{self.port}", **login)
            try:
                stream = connection.jetstream()
                if config is not None:
                    kv = await stream.create_key_value(bucket=bucket, **config)
                else:
                    kv = await stream.key_value(bucket)
                result = work(kv)
                return await result if inspect.isawaitable(result) else result
            finally:
                await connection.close()

        return asyncio.run(run())
