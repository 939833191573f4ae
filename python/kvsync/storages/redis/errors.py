"""Errors of Redis and its client, as a `StorageError` that says what to do next."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from kvsync.errors import StorageError
from kvsync.storages.wording import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ErrorTexts"]

TEXT_CHARACTERS_MAX = 300

# The client removes a known code from a text and makes it the class. Before version 7, an error in a script keeps its
# code within the text. So both are searched: the name of the class and the text.
_ADVICE = {
    ("OutOfMemoryError", "OOM command"): "the server has reached its maxmemory: raise it or free memory, and run again",
    ("ReadOnlyError", "READONLY"): "the server is a read-only replica: name its primary",
    ("NoPermissionError", "NOPERM"): "allow the user all commands on the storage's keys, and scripts (EVALSHA)",
    ("Authentication required", "NOAUTH"): "the server requires a login: put user and password into the URL",
    (
        "AuthenticationError",
        "invalid username-password",
        "invalid password",
    ): "the server refused the login: check user and password in the URL",
    ("MISCONF",): "the server cannot save to its disk: fix that and run again",
    ("NOREPLICAS",): "the server has too few replicas to accept writes: fix that and run again",
    ("BusyLoadingError", "LOADING"): "the server is still loading its data: run again in a moment",
    ("MasterDownError", "MASTERDOWN"): "the server is a replica that has lost its primary: name the primary",
    (
        "ClusterDownError",
        "CLUSTERDOWN",
        "SlotNotCovered",
    ): "the cluster lacks some of its servers: repair it and run again",
    ("DB index is out of range",): "the server has no database of that number: change it in the URL",
    ("MovedError", "ClusterCrossSlotError"): "the server is a node of a cluster: add cluster=true to the URL",
    ("Cluster mode is not enabled",): "the server is not a cluster: remove cluster=true from the URL",
    ("WRONGTYPE",): "the key that the URL names as a hash has another type: name another one",
    ("CERTIFICATE_VERIFY_FAILED",): "the server's certificate is not trusted: pass the file of its authority with ca=",
    ("WRONG_VERSION_NUMBER",): "the server does not use TLS on that port: use redis://, or the TLS port",
    ("TLS handshake",): "the server probably does not use TLS on that port: use redis://, or the TLS port",
    (
        "Timeout connecting",
    ): "the server cannot be reached in time: check the address, that it runs, and, for rediss://, that it uses TLS",
    ("cannot be connected",): "no server of the cluster can be reached: check the address, and that they run",
    ("unknown command",): "the server lacks a command that kvsync needs: use Redis 6 or later, or Valkey",
}


class ErrorTexts:
    """Turns errors of the client library into ours.

    Args:
        name: the storage's name, for messages.
        scrub: removes secrets from a text.
        library: the package `redis`.
        timeout_seconds: how long a call may take, for messages; None if it is not known.
    """

    def __init__(
        self, name: str, scrub: Callable[[str], str], library: object, timeout_seconds: float | None = None
    ) -> None:
        self.name = name
        self._scrub = scrub
        self._timeout_seconds = timeout_seconds
        exceptions = library.exceptions  # type: ignore[attr-defined]
        self._timeout: type[Exception] = exceptions.TimeoutError
        self._unreachable: type[Exception] = exceptions.ConnectionError
        self._all: tuple[type[Exception], ...] = (exceptions.RedisError, exceptions.RedisClusterException, OSError)

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what the client raises inside into a `StorageError`.

        Raises:
            StorageError: instead of the client's own.
        """
        try:
            yield
        except StorageError:
            raise
        except self._all as error:
            # Not `from error`: its text, and those of its causes, may contain secrets.
            raise self.error(error) from None

    def error(self, error: Exception) -> StorageError:
        """Return the `StorageError` for an error of the client's."""
        text = plain(self._scrub(str(error) or type(error).__name__)).rstrip(".")[:TEXT_CHARACTERS_MAX]
        return StorageError(f"{text}: {self._advice(error)}", storage=self.name)

    def is_unreachable(self, error: BaseException) -> bool:
        """Whether an error means that a server, or the connection to it, is gone."""
        return isinstance(error, self._timeout | self._unreachable | OSError)

    def _advice(self, error: Exception) -> str:
        text = f"{type(error).__name__}: {error}"
        found = next((advice for signs, advice in _ADVICE.items() if any(sign in text for sign in signs)), None)
        if found:
            return found
        if isinstance(error, self._timeout):
            after = f"within {self._timeout_seconds:g} seconds" if self._timeout_seconds else "in time"
            return f"the server did not answer {after}, so the outcome is unknown: run again, or raise timeout="
        if isinstance(error, self._unreachable | OSError):
            return "the server cannot be reached: check the address, and that it runs; then run again"
        return "fix that and run again"
