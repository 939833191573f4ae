"""A table of a SQLite database as a storage."""

from kvsync.storages.sqlite.storage import SqliteStorage, open_url

__all__ = ["SqliteStorage", "open_url"]
