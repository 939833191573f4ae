"""Redis or Valkey, one server or a cluster, as a storage."""

from kvsync.storages.redis.storage import RedisStorage, open_url

__all__ = ["RedisStorage", "open_url"]
