"""The address of a NATS server, the login, and connecting."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kvsync.errors import StorageError
from kvsync.storages.extras import client
from kvsync.storages.nats.session import Session
from kvsync.storages.url import redact
from kvsync.storages.wording import plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.aio.client import Client

__all__ = ["PORT", "NatsServer"]

PORT = 4222
CLOSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class NatsServer:
    """A server and a login; its text shows no secrets.

    Attributes:
        address: `host:port`, an IPv6 address in brackets.
        user: with `password`; or a `token`, or the path of a `credentials` file, or nothing.
        tls: require an encrypted connection with a certificate that this machine trusts.
        timeout: seconds without an answer after which a call fails.
        options: more arguments for the client library's `connect`.
    """

    address: str
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    credentials: str = field(default="", repr=False)
    tls: bool = False
    timeout: float = 10.0
    options: dict[str, Any] = field(default_factory=dict, repr=False)

    def scrub(self, text: str) -> str:
        """Remove secrets from a text, for example of the client library."""
        for secret in (self.password, self.token):
            text = text.replace(secret, "***") if secret else text
        return redact(text)

    async def connect(self, name: str) -> Session:
        """Return a session for the storage `name`.

        Raises:
            StorageError: the server cannot be reached.
        """
        connection: Client = client("nats.aio.client", "nats").Client()
        errors: list[str] = []
        session: Session | None = None

        async def report(error: Exception) -> None:
            text = self.scrub(str(error) or type(error).__name__)
            errors.append(text)
            if session is not None and "permissions violation" in text.lower():
                session.denied(text)

        try:
            async with asyncio.timeout(self.timeout):
                await connection.connect(error_cb=report, **self._arguments(connection, name))
                self._insist_on_tls(connection)
                session = Session(connection, timeout=self.timeout, name=name, scrub=self.scrub)
                await session.start()
        except BaseException as error:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(connection.close(), CLOSE_SECONDS)
            if not isinstance(error, Exception):
                raise
            raise StorageError(self.scrub(self._advice(error, errors)), storage=name) from error
        return session

    def _arguments(self, connection: Client, name: str) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "servers": [f"nats://{self.address}"],
            "name": f"kvsync {name}",
            "allow_reconnect": False,
            "connect_timeout": self.timeout,
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": 0,
        }
        if self.tls:
            arguments["tls"] = ssl.create_default_context()
        # Called when they are about to be sent: never over an unencrypted connection if it has to be encrypted.
        if self.password or self.user:
            arguments |= {"user": self.user, "password": self._secret(connection, self.password)}
        if self.token:
            arguments["token"] = self._secret(connection, self.token)
        if self.credentials:
            arguments["user_credentials"] = self.credentials
        return arguments | self.options

    def _secret(self, connection: Client, secret: str) -> Callable[[], str]:
        def give() -> str:
            self._insist_on_tls(connection)
            return secret

        return give

    def _insist_on_tls(self, connection: Client) -> None:
        # The library falls back to plain text if the server does not ask for more.
        if self.tls and not connection._server_info.get("tls_required"):  # noqa: SLF001 - nothing public tells
            raise ssl.SSLError("the server does not encrypt")

    def _advice(self, error: Exception, reported: list[str]) -> str:
        text = plain("; ".join(dict.fromkeys([*reported, str(error) or type(error).__name__])))
        lowered = text.lower()
        if "authorization" in lowered or "authentication" in lowered:
            return f"the NATS server refused the login ({text}): check user and password, token, or credentials"
        if isinstance(error, ssl.SSLError) or "ssl" in lowered or "tls" in lowered or "certificate" in lowered:
            return f"no encrypted connection to {self.address} ({text}): check ?tls=true and the server's certificate"
        if isinstance(error, ImportError):
            return f"a login with credentials needs another package ({text}): pip install 'nats-py[nkeys]'"
        if isinstance(error, FileNotFoundError):
            return f"a file is missing ({text}): check the path of the credentials"
        if isinstance(error, TimeoutError):
            text = f"no answer within {self.timeout:g} seconds"
        return f"no NATS server can be reached at {self.address} ({text}): start it, or fix the URL"
