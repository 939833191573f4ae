"""A TLS end before a server that speaks none."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from typing import TYPE_CHECKING, Any, Self

from servers.process import MissingServerError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


class TlsEnd:
    """Takes TLS connections on loopback and hands on what they say; a context manager that begins and ends it.

    Args:
        folder: gets a certificate for localhost, `ca.pem`, and its key.
        server_port: where the server listens.

    Attributes:
        port: where this end listens.

    Raises:
        MissingServerError: the program openssl, which makes the certificate, is missing.
    """

    def __init__(self, folder: Path, server_port: int) -> None:
        self._server_port = server_port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _make_certificate(folder)
        self._context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError):
                near = self._context.wrap_socket(raw, server_side=True)
                threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: ssl.SSLSocket) -> None:
        with near, socket.create_connection(("127.0.0.1", self._server_port)) as far:
            back = threading.Thread(target=_copy, args=(far, near), daemon=True)
            back.start()
            _copy(near, far)
            back.join()


def _make_certificate(folder: Path) -> None:
    if shutil.which("openssl") is None:
        message = "the program openssl is not on PATH"
        raise MissingServerError(message)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "key.pem", "-out", folder / "ca.pem"],
        check=True, capture_output=True,
    )  # fmt: skip


def _copy(here: Any, there: Any) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := here.recv(65536):
            there.sendall(data)
    for each in (here, there):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
