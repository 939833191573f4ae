"""The index of a storage in a bucket: objects below `.kvsync/`, changed by compare-and-swap."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kvsync.errors import StorageError
from kvsync.storages.bucket.client import Meta, UnreadableObject, UnstorableObject
from kvsync.storages.contract import RESERVED, ObjectMismatch
from kvsync.types import ABSENT, ANY, Stored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.storages.bucket.client import Bucket
    from kvsync.storages.bucket.listing import Listing
    from kvsync.types import Expectation, Version

__all__ = ["BucketIndex", "is_tag"]

INDEX = RESERVED + "/"

_TAG = re.compile(rb"[\x20\x21\x23-\x7e]+")


def is_tag(token: bytes) -> bool:
    """Whether a token can be an entity tag, and so can be sent in a request."""
    return _TAG.fullmatch(token) is not None


class BucketIndex:
    """Index objects; the version of one is its entity tag, followed by its generation if the server has generations.

    Attributes:
        seen: the version of each object as it was last read or written here; None if it was absent.
    """

    def __init__(self, bucket: Bucket, listing: Listing) -> None:
        self._bucket = bucket
        self._listing = listing
        self.seen: dict[str, Version | None] = {}

    def load(self, name: str) -> Stored | None:
        """Return an index object, or None.

        Raises:
            StorageError: the request failed, or the server gives no entity tags.
        """
        try:
            found = self._bucket.get(INDEX + name)
        except UnreadableObject as error:
            raise self._failed(name, f"cannot be read ({error}): restore it from the archive") from None
        self.seen[name] = None if found is None else self._version(name, found[1])
        return None if found is None else Stored(found[0], self._version(name, found[1]))

    def load_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes] | None:
        """Return ranges of an index object, or None.

        Raises:
            StorageError: the request failed.
        """
        try:
            found = self._bucket.get_ranges(INDEX + name, ranges)
        except (UnreadableObject, StorageError):
            found = None
        if found is not None and list(map(len, found)) == [length for _, length in ranges]:
            return found
        # It is shorter than whoever asks thinks, absent, or cannot be read.
        whole = self.load(name)
        return None if whole is None else [whole.data[offset : offset + length] for offset, length in ranges]

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Write an index object and return its new version.

        Raises:
            ObjectMismatch: it certainly does not have the expected version; nothing was written.
            StorageError: the request failed, or its outcome is unknown.
        """
        try:
            if expect is ANY:
                meta = self._bucket.put(INDEX + name, data)
            else:
                wanted = self._meta(name, expect) if isinstance(expect, bytes) else None
                meta = self._bucket.put_if(INDEX + name, data, wanted)
        except UnstorableObject as error:
            raise self._failed(name, f"was refused: {error}") from None
        if meta.token is not None:
            self.seen[name] = self._version(name, meta)
            return self._version(name, meta)
        current = self.load(name)  # some servers return the tag only when asked for it
        if current is None or current.data != data:
            raise self._failed(name, "was written by somebody else at the same time: run again")
        return current.version

    def check(self, name: str, expect: Expectation) -> None:
        """Check the version of an index object.

        Raises:
            ObjectMismatch: it is not the expected one.
            StorageError: the request failed.
        """
        if expect is ANY:
            return
        if (self.version(name) or ABSENT) != expect:
            raise ObjectMismatch(name)

    def version(self, name: str) -> Version | None:
        """Return the version of an index object without reading it, or None.

        Raises:
            StorageError: the request failed.
        """
        meta = self._bucket.head(INDEX + name)
        return None if meta is None else self._version(name, meta)

    def names(self) -> list[str]:
        """Return the names of all index objects, ascending.

        Raises:
            StorageError: the listing failed.
        """
        return [name[len(INDEX) :] for name in self._listing.names(RESERVED)]

    def _version(self, name: str, meta: Meta) -> Version:
        if meta.token is None or (self._bucket.service.by_version and not meta.version):
            raise self._failed(name, "has no strong ETag here, so nothing can protect it: use another server")
        if self._bucket.service.by_version and meta.version:
            return meta.token + b"\n" + meta.version.encode()
        return meta.token

    def _meta(self, name: str, version: Version) -> Meta:
        token, _, generation = version.partition(b"\n")
        if not is_tag(token) or generation.isdigit() != self._bucket.service.by_version:
            raise ObjectMismatch(name)
        return Meta(token, generation.decode() if generation else None)

    def _failed(self, name: str, what: str) -> StorageError:
        return StorageError(f"{INDEX}{name} {what}", storage=self._bucket.name, key=INDEX + name)
