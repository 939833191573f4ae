"""TLS connections that know soon whether the other side speaks TLS at all."""

from __future__ import annotations

from typing import Any

__all__ = ["HANDSHAKE_SECONDS_MAX", "hasten"]

HANDSHAKE_SECONDS_MAX = 5.0


def hasten(library: Any, client: Any, seconds: float) -> None:
    """Give a client's TLS handshakes `seconds` at the most.

    A plain server takes the first bytes of a handshake for a line without an end, and waits in silence for the rest.
    The client library has no limit for that but the one of a long call.
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
