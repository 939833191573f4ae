"""nanio: an S3 server that takes conditions and ignores them, to test that nobody relies on it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from servers.process import Server, answers, find_binary, free_ports

if TYPE_CHECKING:
    from pathlib import Path

BUCKET = "kvsync"
REGION = "us-east-1"
ACCESS_KEY = "testkey"
SECRET_KEY = "testsecret-of-nanio"


class NanioServer(Server):
    """A nanio server with one bucket."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (self.port,) = free_ports(1)

    @property
    def endpoint(self) -> str:
        """Where it serves S3."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The whole bucket's URL, with credentials."""
        return self.url_of("")

    def url_of(self, prefix: str, **options: str) -> str:
        """Return the URL of a prefix of the bucket, with credentials."""
        query = {"endpoint": self.endpoint, "access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY, **options}
        return f"s3://{BUCKET}/{prefix}?{urlencode(query)}"

    def command(self) -> list[str]:
        """Return the command line; a bucket is a folder."""
        data = self.folder / "data"
        (data / BUCKET).mkdir(parents=True, exist_ok=True)
        return [
            *(find_binary("KVSYNC_TEST_NANIO", "nanio"), "serve", "--data-dir", str(data), "--host", "127.0.0.1"),
            *("--port", str(self.port), "--region", REGION, "--no-access-log", "--log-level", "warning"),
        ]

    def environment(self) -> dict[str, str]:
        """Return the credentials that the server will take."""
        return {**os.environ, "NANIO_ACCESS_KEY": ACCESS_KEY, "NANIO_SECRET_KEY": SECRET_KEY}

    def ready(self) -> bool:
        """Whether it listens."""
        return answers(self.port)
