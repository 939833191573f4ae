"""The location of a bucket: the URLs of three services, and the obstore clients for them.

`s3://bucket/prefix?endpoint=&region=&access_key_id=&secret_access_key=&session_token=`,
`gs://bucket/prefix?service_account=&endpoint=`, `az://container/prefix?account=&account_key=&sas_key=&endpoint=`, each
with `concurrency=` and `lease=advisory`. Missing parameters are taken from the environment, as obstore reads it:
`AWS_*`, `GOOGLE_*`, `AZURE_*`, or the machine's own role. Plain http is used only if the URL's `endpoint` says so.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kvsync.errors import UsageError
from kvsync.storages.bucket.name import NAME_BYTES_MAX, is_safe
from kvsync.storages.extras import client
from kvsync.storages.url import parse_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kvsync.storages.url import Url

__all__ = ["CONCURRENCY", "Location", "Service", "are_one_bucket", "service_of", "without_retries"]

CONCURRENCY = 16
CONCURRENCY_MAX = 1024

RETRY = {"max_retries": 3}
"""For reads, and writes that may be repeated."""

NO_RETRY = {"max_retries": 0}
"""For conditional writes: a repeated one would conflict with its own first attempt."""

CLIENT_OPTIONS = {"connect_timeout": "5s", "timeout": "300s"}


@dataclass(frozen=True, slots=True)
class Service:
    """The properties of one kind of store.

    Attributes:
        scheme: of its URLs.
        store: the class in obstore.
        options: maps parameters of the URL to those of that class.
        delete_count: how many objects one request deletes. Azure allows 256; its emulator fails on several such
            requests.
        by_version: conditions name a version (a generation) instead of an entity tag.
        dots: a component of a name may end with a dot; otherwise the server drops the dot.
        has_ranges: it lists in ascending order of names, from any name on, and obstore leaves that to it. Azure says
            nothing of its order, and obstore may list all and drop what was not wanted.
    """

    scheme: str
    store: str
    options: Mapping[str, str]
    delete_count: int = 1
    by_version: bool = False
    dots: bool = True
    has_ranges: bool = False


_SERVICES = {
    "s3": Service(
        "s3",
        "S3Store",
        {
            "endpoint": "endpoint",
            "region": "region",
            "access_key_id": "access_key_id",
            "secret_access_key": "secret_access_key",
            "session_token": "session_token",
        },
        delete_count=1000,
        has_ranges=True,
    ),
    "gs": Service(
        "gs",
        "GCSStore",
        {"service_account": "service_account", "endpoint": "base_url"},
        by_version=True,
        has_ranges=True,
    ),
    "az": Service(
        "az",
        "AzureStore",
        {"account": "account_name", "account_key": "account_key", "sas_key": "sas_key", "endpoint": "endpoint"},
        delete_count=8,
        dots=False,
    ),
    "memory": Service("memory", "MemoryStore", {}, has_ranges=True),
}


def service_of(store: object) -> Service:
    """Return the service that an obstore store uses.

    Raises:
        UsageError: the store is of none of the known classes.
    """
    for service in _SERVICES.values():
        if service.store == type(store).__name__:
            return service
    known = ", ".join(service.store for service in _SERVICES.values())
    message = f"a bucket's store is one of obstore's {known}, not a {type(store).__name__}"
    raise UsageError(message)


def without_retries(
    store: Any, settings: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> Any:
    """Return a copy of `store` that sends each request once; a store in memory is returned as it is.

    `settings` are added to its own, and `headers` to every request.
    """
    if service_of(store).scheme == "memory":
        return store
    options = store.client_options
    if headers:
        options = {**(options or {}), "default_headers": {**(options or {}).get("default_headers", {}), **headers}}
    arguments: dict[str, Any] = {"config": {**store.config, **(settings or {})}, "client_options": options}
    given = {"prefix": store.prefix, "credential_provider": store.credential_provider}
    arguments.update({name: value for name, value in given.items() if value is not None})
    return type(store)(**arguments, retry_config=NO_RETRY)


@dataclass(frozen=True, slots=True)
class Location:
    """A bucket and a prefix in it, from a URL.

    Attributes:
        service: what kind of store it is in.
        bucket: its name; Azure calls it a container.
        prefix: what every name begins with, without slashes at its ends; may be empty.
        concurrency: how many requests are in progress at the same time.
        advisory: the user says that nobody else ever writes there, so conditions need not hold.
        settings: the other parameters, by obstore's names; not part of the repr.
        name: the URL without secrets.
    """

    service: Service
    bucket: str
    prefix: str
    concurrency: int
    advisory: bool
    settings: dict[str, str] = field(repr=False)
    name: str

    @classmethod
    def parse(cls, url: str) -> Location:
        """Parse a URL.

        Raises:
            UsageError: it has no bucket, an impossible prefix, or an unknown parameter.
        """
        parsed = parse_url(url)
        service = _SERVICES[parsed.scheme]
        given = parsed.options("concurrency", "lease", *service.options)
        options = {name: value for name, value in given.items() if value}
        concurrency = _concurrency(options.pop("concurrency", str(CONCURRENCY)), str(parsed))
        advisory = _advisory(options.pop("lease", None), str(parsed))
        if "endpoint" in options:
            options["endpoint"] = _endpoint(options["endpoint"], str(parsed))
        settings = {service.options[name]: value for name, value in options.items()}
        return cls(service, _bucket(parsed), _prefix(parsed), concurrency, advisory, settings, str(parsed))

    @property
    def identity(self) -> str:
        """Equal for two URLs of one location."""
        return f"{self.host}/{self.prefix}"

    @property
    def host(self) -> str:
        """Equal for two URLs of one bucket."""
        where = self.settings.get("endpoint") or self.settings.get("base_url") or self.settings.get("account_name", "")
        return f"{self.service.scheme}:{where.lower()}/{self.bucket}"

    def store(self) -> Any:
        """Return a store, with retries.

        Raises:
            UsageError: obstore is not installed, or refuses the settings.
        """
        module = client("obstore.store", self.service.scheme)
        options: dict[str, object] = dict(CLIENT_OPTIONS)
        if self.settings.get("endpoint", self.settings.get("base_url", "")).startswith("http://"):
            options["allow_http"] = True
        errors = client("obstore.exceptions", self.service.scheme)
        try:
            make = getattr(module, self.service.store)
            return make(self.bucket, client_options=options, retry_config=RETRY, **self.settings)
        except (errors.BaseError, ValueError, TypeError) as error:
            text = str(error).partition("\n")[0]
            for value in self.settings.values():
                text = text.replace(value, "***")
            message = f"the client refused its settings: check the URL's parameters and the environment ({text:.300})"
            raise UsageError(message, storage=self.name) from None


def are_one_bucket(one: str, other: str) -> bool:
    """Whether two `Location.host` name one bucket, perhaps by two names of its server; looks these names up.

    >>> are_one_bucket("s3:http://localhost:8333/app", "s3:http://127.0.0.1:8333/app")
    True
    """
    (kind, _, where), (other_kind, _, other_where) = one.partition(":"), other.partition(":")
    (endpoint, _, bucket), (other_endpoint, _, other_bucket) = where.rpartition("/"), other_where.rpartition("/")
    if not one or (kind, bucket) != (other_kind, other_bucket):
        return False
    return endpoint == other_endpoint or not _addresses(endpoint).isdisjoint(_addresses(other_endpoint))


def _addresses(endpoint: str) -> set[tuple[str, int]]:
    """Return the addresses and the port of an endpoint's server; none if there is no endpoint, or no such host."""
    parts = urlsplit(endpoint)
    if not parts.hostname:
        return set()
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {(str(address[0]), port) for *_, address in found}


def _bucket(parsed: Url) -> str:
    if not parsed.authority or not is_safe(parsed.authority) or "@" in parsed.authority or ":" in parsed.authority:
        message = f"the URL of a bucket is {parsed.scheme}://bucket/prefix; pass credentials in the environment"
        raise UsageError(message, storage=str(parsed))
    return parsed.authority


def _prefix(parsed: Url) -> str:
    prefix = parsed.path.strip("/")
    safe = is_safe(prefix, dots=_SERVICES[parsed.scheme].dots)
    if prefix and (not safe or len(prefix.encode()) > NAME_BYTES_MAX // 2):
        message = f"no object's name can begin with {prefix!r:.200}: choose another prefix"
        raise UsageError(message, storage=str(parsed))
    return prefix


def _concurrency(text: str, storage: str) -> int:
    number = int(text) if text.isdecimal() and text.isascii() and len(text) <= len(str(CONCURRENCY_MAX)) else 0
    if not 1 <= number <= CONCURRENCY_MAX:
        message = f"concurrency is a number of requests from 1 to {CONCURRENCY_MAX}"
        raise UsageError(message, storage=storage)
    return number


def _advisory(text: str | None, storage: str) -> bool:
    if text not in {None, "advisory"}:
        message = "`lease` is `advisory`, or is left out"
        raise UsageError(message, storage=storage)
    return text is not None


def _endpoint(text: str, storage: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or "@" in text or parts.query or parts.fragment:
        message = "an endpoint is http://host:port or https://host, without user, password or parameters"
        raise UsageError(message, storage=storage.partition("?")[0]) from None
    return text.rstrip("/")
