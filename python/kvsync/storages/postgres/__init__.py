"""A table of a PostgreSQL database as a storage."""

from kvsync.storages.postgres.storage import PostgresStorage
from kvsync.storages.postgres.url import open_url

__all__ = ["PostgresStorage", "open_url"]
