"""One server of each kind for the whole test process, started when a test first asks for it."""

from __future__ import annotations

import shutil
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from servers.process import Server

__all__ = ["running", "stop_all"]

_CLASSES = {
    "redis": "servers.redis:RedisServer",
    "postgres": "servers.postgres:PostgresServer",
    "s3": "servers.seaweed:SeaweedServer",
    "nats": "servers.nats:NatsServer",
    "nanio": "servers.nanio:NanioServer",
    "gcs": "servers.gcs:GcsServer",
    "azure": "servers.azurite:AzuriteServer",
}
_running: dict[str, tuple[Server, Path]] = {}


def running(kind: str) -> Any:
    """Return the server of a kind."""
    if kind not in _running:
        module, _, name = _CLASSES[kind].partition(":")
        folder = Path(tempfile.mkdtemp(prefix=f"kvsync-{kind}-"))
        server: Server = getattr(import_module(module), name)(folder)
        server.start()
        _running[kind] = (server, folder)
    return _running[kind][0]


def stop_all() -> None:
    """End all servers, and remove their data."""
    while _running:
        _, (server, folder) = _running.popitem()
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
