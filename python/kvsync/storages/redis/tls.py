"""TLS connections that find out soon whether the server uses TLS."""

from __future__ import annotations

from typing import Any

__all__ = ["HANDSHAKE_SECONDS_MAX", "hasten"]

HANDSHAKE_SECONDS_MAX = 5.0


def hasten(library: Any, client: Any, seconds: float) -> None:
    """Limit the TLS handshakes of a client to `seconds`.

    A plain server takes the first bytes of a handshake for a line without an end, and waits silently for the rest. The
    client library's only limit for that is the timeout of a call.
    """
    limit = min(seconds, HANDSHAKE_SECONDS_MAX)

    class PromptConnection(library.SSLConnection):  # type: ignore[misc]
        def _wrap_socket_with_ssl(self, sock: Any) -> Any:
            sock.settimeout(limit)
            try:
                secure = super()._wrap_socket_with_ssl(sock)
            except TimeoutError:
                message = f"no answer to a TLS handshake within {limit:g} seconds"
                raise library.exceptions.ConnectionError(message) from None
            secure.settimeout(self.socket_timeout)
            return secure

    client.connection_pool.connection_class = PromptConnection
