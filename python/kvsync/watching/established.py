"""A storage that a watch has met before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.errors import StorageError
from kvsync.index.objects import MANIFEST
from kvsync.storages.wrapper import WrappedStorage

if TYPE_CHECKING:
    from kvsync.storages.contract import Storage
    from kvsync.types import Expectation, Stored, Version

__all__ = ["EstablishedStorage"]


class EstablishedStorage(WrappedStorage):
    """Refuses to take a storage whose index is gone for a new one, once it had one.

    A folder whose disk is not mounted any more is empty: a run would copy everything into the empty directory. Nobody
    looks at what a watch does at night.

    Attributes:
        manifest: the version of the manifest as it was last read or written here; None if there was none.
    """

    def __init__(self, inner: Storage, *, is_met: bool) -> None:
        super().__init__(inner)
        self.manifest: Version | None = None
        self.is_met = is_met

    def load(self, name: str) -> Stored | None:
        """Load.

        Raises:
            StorageError: it is the manifest, and gone.
        """
        stored = super().load(name)
        if name == MANIFEST:
            if stored is None and self.is_met:
                message = (
                    "its index is gone since the last run: it was emptied, or is not mounted; bring it back, or start "
                    "the watch again to take it for a new storage"
                )
                raise StorageError(message, storage=self.name)
            self.manifest = None if stored is None else stored.version
        return stored

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Store."""
        version = super().store(name, data, expect)
        if name == MANIFEST:
            self.manifest = version
        return version
