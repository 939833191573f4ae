"""What a `sqlite:///` URL says."""

from __future__ import annotations

from kvsync.errors import UsageError
from kvsync.storages.sqlite.expiring import ExpiringSqliteStorage, ExpiringTable
from kvsync.storages.sqlite.storage import SqliteStorage
from kvsync.storages.sqlite.table import Table
from kvsync.storages.url import parse_url

__all__ = ["open_url"]

TIMEOUT_SECONDS_MAX = 1e6


def open_url(url: str) -> SqliteStorage:
    """Return the storage of a `sqlite:///file.db` URL.

    Raises:
        UsageError: the URL names a host, no file, or a parameter that is not known.
    """
    parsed = parse_url(url)
    options = parsed.options("table", "key", "value", "expires", "busy_timeout")
    path = parsed.path[1:]
    if parsed.authority or not path or path == ":memory:":
        message = "a database's URL is sqlite:///relative.db or sqlite:////absolute.db"
        raise UsageError(message, storage=str(parsed))
    names = options.get("table", "kv"), options.get("key", "key"), options.get("value", "value")
    name, busy_timeout = str(parsed), _seconds(options, str(parsed))
    if "expires" not in options:
        return SqliteStorage(path, table=Table(*names), name=name, busy_timeout=busy_timeout)
    table = ExpiringTable(*names, options["expires"])
    return ExpiringSqliteStorage(path, table=table, name=name, busy_timeout=busy_timeout)


def _seconds(options: dict[str, str], storage: str) -> float:
    try:
        seconds = float(options.get("busy_timeout", "5"))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= TIMEOUT_SECONDS_MAX:
        message = "busy_timeout is a number of seconds"
        raise UsageError(message, storage=storage)
    return seconds
