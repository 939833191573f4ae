"""The values of a bucket: one object each, read and written one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.native import digest_values
from kvsync.storages.bucket.client import DeniedError, Meta, UnreadableObject, UnstorableObject
from kvsync.storages.bucket.index import is_tag
from kvsync.storages.bucket.name import NAME_BYTES_MAX, encode
from kvsync.storages.bucket.stream import Parts, send_parts
from kvsync.storages.contract import ObjectMismatch
from kvsync.types import ANY, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvsync.storages.batch import Batch
    from kvsync.storages.bucket.client import Bucket
    from kvsync.storages.bucket.listing import Listing
    from kvsync.storages.bucket.listing_cache import ListingCache

__all__ = ["ObjectValues"]

UNKNOWN = b""
"""The token of an object of which the server tells nothing: no value has it."""

REFUSES_CURRENT = (
    "it has the expected entity tag, and yet the condition is not met; some servers do that where versioning is "
    "suspended: enable versioning again, or name another bucket"
)

DIGESTED = b"blake3:"
"""Begins a token that is a digest, for an object without an entity tag."""


class ObjectValues:
    """Reads and writes the object of one key; several threads may use it."""

    def __init__(self, bucket: Bucket, listing: Listing, cache: ListingCache) -> None:
        self._bucket = bucket
        self._listing = listing
        self._cache = cache
        self._room = NAME_BYTES_MAX - len(bucket.prefix.encode())

    def name_of(self, key: str) -> str:
        """Return the name of a key's object, without the storage's prefix."""
        return encode(key, dots=self._bucket.service.dots)

    def fits(self, name: str) -> bool:
        """Return whether an object can have this name below the prefix."""
        return len(name) * 4 <= self._room or len(name.encode()) <= self._room

    def head(self, key: str) -> Meta | Unreadable | None:
        """Return what the server says of a value, or None."""
        name = self.name_of(key)
        try:
            return self._bucket.head(name) if self.fits(name) else None
        except DeniedError as error:
            return Unreadable(error.message)

    def known(self, key: str) -> Meta:
        """Return what the server says of a value; nothing if it is absent, or the server does not tell."""
        meta = self.head(key)
        return meta if isinstance(meta, Meta) else Meta(None)

    def read(self, key: str) -> bytes | Unreadable | None:
        """Return a value, or None."""
        name = self.name_of(key)
        if not self.fits(name):
            return None
        try:
            if not self._cache.filled:
                return self._bucket.read(name)
            found = self._bucket.get(name)
        except (UnreadableObject, UnstorableObject) as error:
            return Unreadable(str(error))
        except DeniedError as error:
            return Unreadable(error.message)
        if found is None:
            if self._cache.lists(key):
                self._listing.explain_absence(name)
            return None
        self._cache.note_read(key, found[1].token, found[1].modified_ms)
        return found[0]

    def read_parts(self, key: str) -> Parts | Unreadable | None:
        """Return the parts of a value, or None."""
        meta = self.head(key)
        if not isinstance(meta, Meta):
            return meta
        self._cache.note_read(key, meta.token, meta.modified_ms)
        return Parts(self._bucket, self.name_of(key), meta)

    def write(self, batch: Batch, key: str, value: bytes, expect: object) -> bytes | None:
        """Write a value, on condition of its token unless `expect` is `ANY`; return the new token or refuse the key."""
        name = self.name_of(key)

        def send() -> bytes:
            meta = self._bucket.put(name, value) if expect is ANY else self._write_if(key, name, value, expect)
            return meta.token or _digested(value)

        return self._sent(batch, key, name, send)

    def write_parts(self, batch: Batch, key: str, parts: Iterator[bytes], expect: object) -> bytes | None:
        """Write a value from its parts; look at the condition first, and again just before the value appears."""
        name = self.name_of(key)

        def look() -> None:
            if expect is not ANY and self.token(key, expect) != expect:
                raise ObjectMismatch(key)

        def send() -> bytes:
            look()
            meta = send_parts(self._bucket, name, parts, look)
            return meta.token or self.token(key, None) or DIGESTED

        return self._sent(batch, key, name, send)

    def token(self, key: str, like: object) -> bytes | None:
        """Return the current token of a value, of the kind of `like`; read it only if it has no entity tag."""
        if isinstance(like, bytes) and like.startswith(DIGESTED):
            return self.digest(key)
        meta = self.head(key)
        if not isinstance(meta, Meta):
            return None if meta is None else UNKNOWN
        return meta.token or self.digest(key)

    def digest(self, key: str) -> bytes | None:
        """Return the token that is made of a value itself, or None."""
        value = self.read(key)
        if isinstance(value, Unreadable):
            return UNKNOWN
        return None if value is None else _digested(value)

    def _sent(self, batch: Batch, key: str, name: str, send: Callable[[], bytes]) -> bytes | None:
        """Return the token of what `send` wrote, or refuse the key."""
        if not self.fits(name):
            batch.refuse(key, f"its object's name would be longer than {NAME_BYTES_MAX} bytes")
            return None
        try:
            return send()
        except ObjectMismatch:
            batch.refuse_changed(key)
        except UnstorableObject as error:
            batch.refuse(key, f"the server refused it: {error}")
        except DeniedError as error:
            batch.refuse(key, f"the server refused it: {error.message}")
        return None

    def _write_if(self, key: str, name: str, value: bytes, expect: object) -> Meta:
        if not isinstance(expect, bytes):
            return self._bucket.put_if(name, value, None)
        if expect.startswith(DIGESTED):
            # Without an entity tag there is no condition: look, then write.
            if self.digest(key) != expect:
                raise ObjectMismatch(key)
            return self._bucket.put(name, value)
        if not is_tag(expect):
            raise ObjectMismatch(key)
        if not self._bucket.service.by_version:
            return self._replace(key, name, value, expect)
        current = self._bucket.head(name)
        if current is None or current.token != expect:
            raise ObjectMismatch(key)
        return self._bucket.put_if(name, value, current)

    def _replace(self, key: str, name: str, value: bytes, tag: bytes) -> Meta:
        try:
            return self._bucket.put_if(name, value, Meta(tag))
        except ObjectMismatch:
            if self.known(key).token == tag:
                raise UnstorableObject(REFUSES_CURRENT) from None
            raise


def _digested(value: bytes) -> bytes:
    return DIGESTED + digest_values([value])[0]
