"""A folder as a storage: one file for each key."""

from kvsync.storages.folder.storage import FolderStorage, open_url

__all__ = ["FolderStorage", "open_url"]
