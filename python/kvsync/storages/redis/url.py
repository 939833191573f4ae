"""`redis://` and `rediss://` URLs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from kvsync.errors import UsageError
from kvsync.storages.options import choice, seconds
from kvsync.storages.url import parse_url

if TYPE_CHECKING:
    from kvsync.storages.url import Endpoint

__all__ = ["Location", "RedisUrl"]

PORT = 6379
TIMEOUT_SECONDS = 30.0
TIMEOUT_SECONDS_MAX = 86_400.0
CONNECT_SECONDS_MAX = 10.0
OPTIONS = ("prefix", "hash", "cluster", "evicting", "foreign", "timeout", "ca", "cert", "cert_key", "verify")


@dataclass(frozen=True, slots=True)
class Location:
    """Where values are stored in a database, and what is accepted there.

    Attributes:
        prefix: begins the key of every value.
        hash: name of the hash whose fields are the values; None if values are keys of their own.
        evicting: accept a server that may evict keys.
        foreign: keys whose names are not UTF-8 belong to somebody else, and are none of ours.
    """

    prefix: str = ""
    hash: str | None = None
    evicting: bool = False
    foreign: bool = False

    def __str__(self) -> str:
        """Return the location as text, different for different locations."""
        return f"prefix={self.prefix}" if self.hash is None else f"hash={self.hash}"


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A parsed URL of the scheme `redis` or `rediss`."""

    name: str
    endpoint: Endpoint
    database: int
    cluster: bool
    location: Location
    timeout_seconds: float
    tls: dict[str, Any] | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a URL.

        Raises:
            UsageError: a part of it is invalid.
        """
        url = parse_url(text)
        options = url.options(*OPTIONS)
        name = str(url)
        cluster = choice(options, "cluster", ("false", "true"), storage=name) == "true"
        location = Location(
            options.get("prefix", ""),
            options.get("hash"),
            evicting=choice(options, "evicting", ("refuse", "allow"), storage=name) == "allow",
            foreign=choice(options, "foreign", ("fail", "skip"), storage=name) == "skip",
        )
        _check_text(location, name)
        database = _database(url.path, name)
        if cluster and database:
            message = "a cluster has only database 0"
            raise UsageError(message, storage=name)
        timeout_seconds = seconds(options, "timeout", default=TIMEOUT_SECONDS, most=TIMEOUT_SECONDS_MAX, storage=name)
        tls = _tls(options, name, secure=url.scheme == "rediss")
        return cls(name, url.endpoint(), database, cluster, location, timeout_seconds, tls)

    @property
    def host(self) -> str:
        """The host's name or address."""
        return self.endpoint.host or "localhost"

    @property
    def port(self) -> int:
        """The port's number."""
        return PORT if self.endpoint.port is None else self.endpoint.port

    @property
    def identity(self) -> str:
        """Equal for two URLs of one storage; aliases of a host differ."""
        return f"redis:{self.host.lower()}:{self.port}/{self.database}?{self.location}"

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments for the client library."""
        secure = {} if self.tls is None else {"ssl": True, **self.tls}
        return {
            "host": self.host,
            "port": self.port,
            "username": self.endpoint.user,
            "password": self.endpoint.password,
            "socket_timeout": self.timeout_seconds,
            "socket_connect_timeout": min(self.timeout_seconds, CONNECT_SECONDS_MAX),
            "socket_keepalive": True,
            "protocol": 2,
            **secure,
        }


def _check_text(location: Location, storage: str) -> None:
    if location.hash is not None and (location.prefix or not location.hash):
        message = (
            "values are either the fields of a hash with a name (hash=), or keys below a prefix (prefix=); choose one"
        )
        raise UsageError(message, storage=storage)
    try:
        f"{location.prefix}{location.hash}".encode()
    except UnicodeEncodeError as error:
        message = "prefix and hash are Unicode text"
        raise UsageError(message, storage=storage) from error


def _database(path: str, storage: str) -> int:
    number = path.removeprefix("/") or "0"
    if not (number.isascii() and number.isdecimal()):
        message = f"the path of the URL is the database's number, not {path!r:.100}"
        raise UsageError(message, storage=storage)
    return int(number)


def _tls(options: dict[str, str], storage: str, *, secure: bool) -> dict[str, Any] | None:
    given = sorted({"ca", "cert", "cert_key", "verify"} & set(options))
    if not secure:
        if given:
            message = f"{given[0]} needs TLS: use rediss://"
            raise UsageError(message, storage=storage)
        return None
    verify = choice(options, "verify", ("full", "none"), storage=storage) == "full"
    return {
        "ssl_cert_reqs": "required" if verify else "none",
        "ssl_check_hostname": verify,
        "ssl_ca_certs": options.get("ca"),
        "ssl_certfile": options.get("cert"),
        "ssl_keyfile": options.get("cert_key"),
    }
