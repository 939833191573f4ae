"""`sqlite:///` URLs."""

from __future__ import annotations

from kvsync.errors import UsageError
from kvsync.storages.options import choice, seconds
from kvsync.storages.sqlite.expiring import ExpiringSqliteStorage
from kvsync.storages.sqlite.storage import BUSY_SECONDS, SqliteStorage
from kvsync.storages.sqlite.table import Table
from kvsync.storages.sqlite.times import Unit
from kvsync.storages.url import parse_url

__all__ = ["open_url"]

BUSY_SECONDS_MAX = 1e6


def open_url(url: str) -> SqliteStorage:
    """Return the storage of a `sqlite:///file.db` URL.

    Raises:
        UsageError: the URL has a host, no file, or an unknown parameter.
    """
    parsed = parse_url(url)
    options = parsed.options("table", "key", "value", "expires", "modified", "unit", "busy_timeout")
    path = parsed.path[1:]
    if parsed.authority or not path or path == ":memory:":
        message = "a database's URL is sqlite:///relative.db or sqlite:////absolute.db"
        raise UsageError(message, storage=str(parsed))
    names = options.get("table", "kv"), options.get("key", "key"), options.get("value", "value")
    name = str(parsed)
    busy_timeout = seconds(options, "busy_timeout", default=BUSY_SECONDS, least=0, most=BUSY_SECONDS_MAX, storage=name)
    unit = Unit(choice(options, "unit", [unit.value for unit in Unit], storage=name))
    table = Table(*names, options.get("expires"), options.get("modified"), unit)
    kind = ExpiringSqliteStorage if table.expires is not None else SqliteStorage
    return kind(path, table=table, name=name, busy_timeout=busy_timeout)
