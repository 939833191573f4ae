"""A table of a SQLite database as a storage."""

from kvsync.storages.sqlite.expiring import ExpiringSqliteStorage
from kvsync.storages.sqlite.storage import SqliteStorage
from kvsync.storages.sqlite.url import open_url

__all__ = ["ExpiringSqliteStorage", "SqliteStorage", "open_url"]
