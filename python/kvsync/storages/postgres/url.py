"""`postgresql://` URLs: where to log in, how to use TLS, and which table is meant."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING

from kvsync.errors import UsageError
from kvsync.storages.options import seconds
from kvsync.storages.postgres.connections import library
from kvsync.storages.postgres.names import Names
from kvsync.storages.postgres.storage import LOCK_SECONDS, PostgresStorage
from kvsync.storages.url import parse_url

if TYPE_CHECKING:
    from collections.abc import Collection

    from kvsync.storages.url import Endpoint, Url

__all__ = ["Location", "locate", "open_url"]

NAMES = ("table", "key", "value", "expires", "modified", "unit", "schema")
OWN = (*NAMES, "lock_timeout")
# A service file may name another host than the URL; the other two change what we read.
BARRED = frozenset({"service", "client_encoding", "replication"})
LOCK_SECONDS_MIN = 0.001  # 0 means for ever to PostgreSQL
LOCK_SECONDS_MAX = 86_400.0

_DEFAULTS = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "fallback_application_name": "kvsync",
}


@dataclass(frozen=True, slots=True)
class Location:
    """A database and a table in it.

    Attributes:
        name: the URL without secrets.
        parameters: libpq's connection parameters, including secrets; not part of the repr.
        endpoint: host, port and login; hides the password in texts.
        names: of the table and its columns.
        lock_seconds: how long to wait for locks of others.
    """

    name: str
    parameters: dict[str, str] = field(repr=False)
    endpoint: Endpoint
    names: Names
    lock_seconds: float

    @property
    def identity(self) -> str:
        """Equal for all URLs that name this table by this name of the host."""
        given = self.parameters
        host = given.get("hostaddr") or given.get("host") or os.environ.get("PGHOST", "")
        if _is_near(host):
            # The folder of a socket matters unless it is the usual one; the spelling of the loopback does not.
            host = host if host.startswith(("/", "@")) else "localhost"
        port = given.get("port") or os.environ.get("PGPORT", "5432")
        database = given.get("dbname") or os.environ.get("PGDATABASE") or given.get("user", "")
        return f"postgresql:{host.lower()}:{port}/{database}?{self.names.schema or ''}.{self.names.owner}"


def open_url(url: str) -> PostgresStorage:
    """Return the storage of a `postgresql://` URL; connect on the first call.

    Raises:
        UsageError: the URL is malformed, or psycopg is not installed.
    """
    psycopg = library()
    place = locate(url, {default.keyword.decode() for default in psycopg.pq.Conninfo.get_defaults()})
    return PostgresStorage(
        lambda: psycopg.connect(**place.parameters),
        names=place.names,
        name=place.name,
        identity=place.identity,
        lock_seconds=place.lock_seconds,
        scrub=place.endpoint.scrub,
    )


def locate(text: str, known: Collection[str]) -> Location:
    """Parse a URL; `known` are the parameters that libpq knows.

    Raises:
        UsageError: it is malformed, or has an unknown parameter.
    """
    url = parse_url(text)
    options = url.options(*OWN, *sorted(set(known) - BARRED))
    own = {name: options.pop(name) for name in OWN if name in options}
    parameters, endpoint = _login(url, options)
    _verify_tls(parameters)
    for name, value in _DEFAULTS.items():
        parameters.setdefault(name, value)
    parameters["client_encoding"] = "UTF8"
    try:
        names = Names(**{name: own[name] for name in NAMES if name in own})
    except UsageError as error:
        raise UsageError(error.message, storage=str(url)) from None
    lock_seconds = seconds(
        own, "lock_timeout", default=LOCK_SECONDS, least=LOCK_SECONDS_MIN, most=LOCK_SECONDS_MAX, storage=str(url)
    )
    return Location(str(url), parameters, endpoint, names, lock_seconds)


def _login(url: Url, options: dict[str, str]) -> tuple[dict[str, str], Endpoint]:
    endpoint = url.endpoint()
    database = url.path[1:]
    if "/" in database:
        message = "a table's URL is postgresql://user:password@host:port/database?table=name"
        raise UsageError(message, storage=str(url))
    parameters = {
        "host": endpoint.host,
        "port": str(endpoint.port) if endpoint.port is not None else "",
        "user": endpoint.user or "",
        "password": endpoint.password or "",
        "dbname": database,
    }
    parameters = {name: value for name, value in parameters.items() if value}
    for name, value in options.items():
        if name in parameters:
            message = f"{name} is in the URL twice"
            raise UsageError(message, storage=str(url))
        parameters[name] = value
    return parameters, endpoint._replace(password=parameters.get("password"))


def _verify_tls(parameters: dict[str, str]) -> None:
    """Verify the server's certificate and name, unless it is on this machine or the user says otherwise.

    By default, libpq uses TLS if the server offers it, and verifies nothing.
    """
    host = parameters.get("hostaddr") or parameters.get("host") or os.environ.get("PGHOST", "")
    if all(_is_near(part) for part in host.split(",")):
        return
    if "sslmode" not in parameters and "PGSSLMODE" not in os.environ:
        parameters["sslmode"] = "verify-full"
    own_roots = os.path.exists(os.path.expanduser("~/.postgresql/root.crt"))
    if "sslrootcert" not in parameters and "PGSSLROOTCERT" not in os.environ and not own_roots:
        # To libpq, "system" is the folder that its OpenSSL was built with: in a wheel, not that of this machine.
        roots = ssl.get_default_verify_paths().cafile
        if parameters.get("sslmode", os.environ.get("PGSSLMODE")) == "verify-full":
            parameters["sslrootcert"] = roots or "system"


def _is_near(host: str) -> bool:
    """Whether a host is this machine: the folder of a socket, or a loopback address."""
    if host in {"", "localhost"} or host.startswith(("/", "@")):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
