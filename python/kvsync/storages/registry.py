"""Storages by URL scheme: our own, and those of other packages.

An adapter is one module or folder, one line in `ADAPTERS` below, and one subclass of
`kvsync.testing.conformance.StorageConformance`. Other packages register an entry point in the group
`kvsync.storages`: its name is the scheme, its value a callable that takes the URL and returns a `Storage`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, cast

from kvsync.errors import UsageError
from kvsync.storages.url import redact

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.metadata import EntryPoints

    from kvsync.storages.contract import Storage

__all__ = ["ADAPTERS", "Adapter", "Factory", "adapters", "factory", "schemes"]

Factory: TypeAlias = "Callable[[str], Storage]"
"""Takes a URL, returns its storage."""

ENTRY_POINTS = "kvsync.storages"


class Adapter(NamedTuple):
    """A scheme that can be opened.

    Attributes:
        form: what its URLs look like.
        factory: its `Factory`, as `module:name`.
        client: the package that it needs, or None.
        extra: the extra that installs the package.
    """

    form: str
    factory: str
    client: str | None = None
    extra: str | None = None

    @property
    def installed(self) -> bool:
        """Whether the package that it needs is installed."""
        from importlib.util import find_spec  # noqa: PLC0415 - most runs do not ask

        return self.client is None or find_spec(self.client) is not None


_BUCKET = "kvsync.storages.bucket:open_url"
_POSTGRES = "kvsync.storages.postgres:open_url"
_REDIS = "kvsync.storages.redis:open_url"

ADAPTERS = {
    "az": Adapter("az://container/prefix?account=", _BUCKET, "obstore", "az"),
    "file": Adapter("file:///folder?links=&meta=&empty_dirs=, or a plain path", "kvsync.storages.folder:open_url"),
    "gs": Adapter("gs://bucket/prefix", _BUCKET, "obstore", "gs"),
    "lmdb": Adapter("lmdb:///folder", "kvsync.storages.lmdb:open_url", "lmdb", "lmdb"),
    "memory": Adapter("memory:name", "kvsync.storages.mapping:open_url"),
    "nats": Adapter("nats://host/bucket", "kvsync.storages.nats:open_url", "nats", "nats"),
    "postgres": Adapter("postgres://host/database", _POSTGRES, "psycopg", "postgresql"),
    "postgresql": Adapter("postgresql://host/database?table=&key=&value=&expires=", _POSTGRES, "psycopg", "postgresql"),
    "redis": Adapter("redis://host/0?prefix=, or ?hash=", _REDIS, "redis", "redis"),
    "rediss": Adapter("rediss://host/0", _REDIS, "redis", "redis"),
    "s3": Adapter("s3://bucket/prefix?endpoint=", _BUCKET, "obstore", "s3"),
    "sqlite": Adapter("sqlite:///file.db?table=&key=&value=&expires=", "kvsync.storages.sqlite:open_url"),
}


def adapters() -> dict[str, Adapter]:
    """Return every scheme that can be opened with its adapter, ascending."""
    others = {point.name: Adapter(f"{point.name}://", point.value) for point in _others()}
    return dict(sorted({**others, **ADAPTERS}.items()))


def _others() -> EntryPoints:
    """Return the storages of other packages; to look through all packages takes long, and loads much."""
    from importlib.metadata import entry_points  # noqa: PLC0415

    return entry_points(group=ENTRY_POINTS)


def schemes() -> list[str]:
    """Return every URL scheme that can be opened, ascending."""
    return list(adapters())


def factory(scheme: str, text: str) -> Factory:
    """Return the factory for a scheme; `text` is the URL, for messages.

    Raises:
        UsageError: the scheme is unknown.
    """
    if scheme in ADAPTERS:
        module, _, name = ADAPTERS[scheme].factory.partition(":")
        return cast("Factory", getattr(import_module(module), name))
    for point in _others():
        if point.name == scheme:
            return cast("Factory", point.load())
    message = f"unknown scheme {scheme!r} in {redact(text)!r}; known are {', '.join(schemes())}"
    raise UsageError(message)
