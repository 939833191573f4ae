"""pgbouncer in transaction mode before a PostgreSQL server, where that program is on this machine."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import psycopg

from servers.process import Server, free_ports

if TYPE_CHECKING:
    from pathlib import Path


def pgbouncer_program() -> str | None:
    """Return the program of pgbouncer; it comes in no wheel, so it may be absent."""
    return os.environ.get("KVSYNC_PGBOUNCER") or shutil.which("pgbouncer")


class PgBouncer(Server):
    """Shares `session_count` sessions of a server between all clients.

    Attributes:
        port: where it listens.
        url: the database behind it.
    """

    def __init__(self, folder: Path, server_port: int, session_count: int = 1) -> None:
        super().__init__(folder)
        self.port = free_ports()[0]
        self.url = f"postgresql://kvsync@127.0.0.1:{self.port}/postgres"
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": "transaction",
            "default_pool_size": session_count,
            "query_wait_timeout": 60,
            "server_tls_sslmode": "disable",
        }
        lines = ["[databases]", f"* = host=127.0.0.1 port={server_port} user=kvsync", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in settings.items()]
        (folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        program = pgbouncer_program()
        assert program is not None
        # It refuses to run as root; in a user namespace of its own, root is somebody else.
        other = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []
        return [*other, program, str(self.folder / "pgbouncer.ini")]

    def ready(self) -> bool:
        try:
            psycopg.connect(self.url, autocommit=True, prepare_threshold=None).close()
        except psycopg.OperationalError:
            return False
        return True
