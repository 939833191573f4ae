"""Azurite, Microsoft's emulator of Azure's blobs: a program for node, so it is not part of `make test`."""

from __future__ import annotations

import base64
import hashlib
import hmac
import urllib.error
import urllib.request
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from servers.process import Server, answers, find_binary, free_ports

if TYPE_CHECKING:
    from pathlib import Path

CONTAINER = "kvsync"
VARIABLE = "KVSYNC_TEST_AZURITE"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""No secret: every emulator has this account and this key."""

API_VERSION = "2023-11-03"


class AzuriteServer(Server):
    """An emulator with one container, in memory."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (self.port,) = free_ports(1)

    @property
    def endpoint(self) -> str:
        """Where it serves; an account is part of the path there, not of the host."""
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"

    def url_of(self, prefix: str, *, container: str = CONTAINER, **options: str) -> str:
        """Return the URL of a prefix of a container, with credentials."""
        query = {"account": ACCOUNT, "account_key": KEY, "endpoint": self.endpoint, **options}
        return f"az://{container}/{prefix}?{urlencode(query)}"

    def command(self) -> list[str]:
        """Return the command line."""
        binary = find_binary(VARIABLE, "azurite-blob")
        host = ["--blobHost", "127.0.0.1", "--blobPort", str(self.port)]
        # It takes a connection for idle while it is busy with others.
        patient = ["--blobKeepAliveTimeout", "60"]
        return [
            binary,
            *host,
            *patient,
            "--silent",
            "--disableTelemetry",
            "--skipApiVersionCheck",
            "--inMemoryPersistence",
        ]

    def ready(self) -> bool:
        """Whether it listens, with the container."""
        if not answers(self.port):
            return False
        try:
            self.ask("PUT", CONTAINER, {"restype": "container"})
        except urllib.error.HTTPError as error:
            return error.code == 409
        return True

    def ask(self, method: str, path: str, query: dict[str, str], headers: dict[str, str] | None = None) -> None:
        """Make a request without a body, signed, that obstore has no call for."""
        own = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": API_VERSION, **(headers or {})}
        lines = [method, *[""] * 11, *(f"{name}:{own[name]}" for name in sorted(own))]
        lines += [f"/{ACCOUNT}/{ACCOUNT}/{path}", *(f"{name}:{query[name]}" for name in sorted(query))]
        signature = hmac.new(base64.b64decode(KEY), "\n".join(lines).encode(), hashlib.sha256).digest()
        own["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(signature).decode()}"
        url = f"{self.endpoint}/{path}?{urlencode(query)}"
        request = urllib.request.Request(url, method=method, headers=own)  # noqa: S310 - a loopback address
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310
            pass
