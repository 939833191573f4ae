"""A database of an LMDB environment as a storage."""

from kvsync.storages.lmdb.storage import LmdbStorage
from kvsync.storages.lmdb.url import open_url, parse_size

__all__ = ["LmdbStorage", "open_url", "parse_size"]
