"""A bucket of an object store (S3, GCS, Azure) as a storage."""

from kvsync.storages.bucket.storage import BucketStorage, open_url

__all__ = ["BucketStorage", "open_url"]
