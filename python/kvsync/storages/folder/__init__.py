"""A folder as a storage: one file for each key."""

from kvsync.storages.folder.storage import FolderStorage
from kvsync.storages.folder.url import open_url

__all__ = ["FolderStorage", "open_url"]
