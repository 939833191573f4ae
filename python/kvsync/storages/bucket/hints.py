"""Notice the runs of others over a bucket: by one HEAD of the manifest, which each run that moves something writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvsync.storages.bucket.index import BucketIndex

__all__ = ["ManifestTag"]

POLL_SECONDS = 5.0
MANIFEST = "manifest"


class ManifestTag:
    """Compares the entity tag of the manifest with that of our own last run."""

    poll_seconds = POLL_SECONDS
    complete = False
    reason = "a bucket tells of other runs of kvsync alone, not of what other programs write"

    def __init__(self, index: BucketIndex) -> None:
        self._index = index
        self._seen = index.seen.get(MANIFEST)

    def poll(self) -> bool:
        """Return whether another run has written the manifest since the last call.

        Raises:
            StorageError: the request failed.
        """
        version = self._index.version(MANIFEST)
        changed = version not in {self._seen, self._index.seen.get(MANIFEST)}
        self._seen = version
        return changed

    def close(self) -> None:
        """Do nothing: the storage has the connections."""
