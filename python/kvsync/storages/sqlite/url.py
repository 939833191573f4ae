"""`sqlite:///` URLs."""

from __future__ import annotations

from kvsync.errors import UsageError
from kvsync.storages.options import seconds
from kvsync.storages.sqlite.expiring import ExpiringSqliteStorage, ExpiringTable
from kvsync.storages.sqlite.storage import BUSY_SECONDS, SqliteStorage
from kvsync.storages.sqlite.table import Table
from kvsync.storages.url import parse_url

__all__ = ["open_url"]

BUSY_SECONDS_MAX = 1e6


def open_url(url: str) -> SqliteStorage:
    """Return the storage of a `sqlite:///file.db` URL.

    Raises:
        UsageError: the URL has a host, no file, or an unknown parameter.
    """
    parsed = parse_url(url)
    options = parsed.options("table", "key", "value", "expires", "busy_timeout")
    path = parsed.path[1:]
    if parsed.authority or not path or path == ":memory:":
        message = "a database's URL is sqlite:///relative.db or sqlite:////absolute.db"
        raise UsageError(message, storage=str(parsed))
    names = options.get("table", "kv"), options.get("key", "key"), options.get("value", "value")
    name = str(parsed)
    busy_timeout = seconds(options, "busy_timeout", default=BUSY_SECONDS, least=0, most=BUSY_SECONDS_MAX, storage=name)
    if "expires" not in options:
        return SqliteStorage(path, table=Table(*names), name=name, busy_timeout=busy_timeout)
    table = ExpiringTable(*names, options["expires"])
    return ExpiringSqliteStorage(path, table=table, name=name, busy_timeout=busy_timeout)
