"""A NATS JetStream key-value bucket as a storage."""

from kvsync.storages.nats.storage import NatsServer, NatsStorage, open_url

__all__ = ["NatsServer", "NatsStorage", "open_url"]
