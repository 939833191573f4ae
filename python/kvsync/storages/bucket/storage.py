"""A bucket of an object store as a storage: S3 and what speaks its language, Google Cloud Storage, Azure.

Values lie at `prefix/key` (see `bucketname` for the few keys that lie elsewhere), the index below `prefix/.kvsync/`.
Writes are conditional where they have to be. Deletes cannot be: one that expects a version looks first, so a
write between look and delete is lost (guarantee T2).

The version token of a value is its entity tag. Where a server gives none, or a weak one, it is the value's BLAKE3,
which a scan has to read for.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, TypeVar

from kvsync.errors import StorageError
from kvsync.native import digest_values
from kvsync.storages.batch import Batch
from kvsync.storages.bucket.client import Bucket, Meta, UnreadableObject, UnstorableObject
from kvsync.storages.bucket.copying import Copier
from kvsync.storages.bucket.index import INDEX, BucketIndex, is_tag
from kvsync.storages.bucket.listing import Listing
from kvsync.storages.bucket.name import NAME_BYTES_MAX, encode
from kvsync.storages.bucket.nesting import tiers
from kvsync.storages.bucket.place import CONCURRENCY, Place, careful_twin
from kvsync.storages.bucket.seen import Listed, Seen
from kvsync.storages.bucket.stream import Parts, gathered, send_parts
from kvsync.storages.bucket.workers import at_once
from kvsync.storages.contract import Capabilities, ObjectMismatch, OpaqueTokens, Support, Tier
from kvsync.types import ABSENT, ANY, Origin, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kvsync.types import Expectation, Stored, Version, Written

__all__ = ["BucketStorage", "open_url"]

T = TypeVar("T")
R = TypeVar("R")

SCAN_COUNT = 10_000
DIGESTED = b"blake3:"
"""Begins a token that is a digest, since there is no entity tag."""

_SUPPORTS = frozenset({Support.IDENTITY, Support.FOREIGN, Support.SIZES, Support.STREAMING, Support.COPY})
_TOO_LONG = f"its object's name would be longer than {NAME_BYTES_MAX} bytes"


def open_url(url: str) -> BucketStorage:
    """Return the storage of an `s3://`, `gs://` or `az://` URL; nothing is asked of the server yet.

    Raises:
        UsageError: the URL is wrong, or obstore is not installed.
    """
    place = Place.parse(url)
    store, careful = place.stores()
    return BucketStorage(
        store,
        place.prefix,
        careful=careful,
        concurrency=place.concurrency,
        advisory=place.advisory,
        name=place.name,
        identity=place.identity,
        host=place.host,
    )


class BucketStorage:
    """Objects of a bucket as a storage; several threads may use it.

    A child process that was forked after the first request cannot use it, nor any other bucket: obstore's own
    threads do not survive a fork.

    Args:
        store: an `S3Store`, `GCSStore`, `AzureStore` or `MemoryStore` of obstore.
        prefix: what every object's name begins with, without slashes at its ends.
        careful: the same store without retries; made from `store` where it is not given.
        concurrency: how many requests are under way at once.
        advisory: nobody else ever writes there, so that the server may ignore conditions.
        name: what messages call it.
        identity: equal for two handles of one storage.
        host: equal for all storages in one bucket; None where that is not known.
    """

    def __init__(
        self,
        store: Any,
        prefix: str = "",
        *,
        careful: Any = None,
        concurrency: int = CONCURRENCY,
        advisory: bool = False,
        name: str | None = None,
        identity: str | None = None,
        host: str | None = None,
    ) -> None:
        self.name = name or f"{store!r}/{prefix}"
        self.identity = identity or f"{store!r} at {id(store):#x}/{prefix}"
        self.host = host or ""
        self.capabilities = Capabilities(
            Tier.ADVISORY if advisory else Tier.CONDITIONAL,
            distance="network",
            tokens=OpaqueTokens(),
            conditions="advisory" if advisory else "claimed",
            lease_stays=True,
            supports=_SUPPORTS | {Support.HOST} if host is not None else _SUPPORTS,
        )
        self._bucket = Bucket(store, careful or careful_twin(store), f"{prefix}/" if prefix else "", self.name)
        self._listing = Listing(self._bucket, concurrency)
        self._index = BucketIndex(self._bucket, self._listing)
        self._copier = Copier(self._bucket)
        self._concurrency = concurrency
        self._room = NAME_BYTES_MAX - len(self._bucket.prefix.encode())
        self._seen: Seen | None = None
        self._listed: Listed | None = None
        self._closed = False

    def __repr__(self) -> str:
        """Return the class and the storage's name."""
        return f"BucketStorage({self.name!r})"

    @property
    def foreign(self) -> tuple[str, ...]:
        """Names of objects that the last scan passed over, since they are the names of no keys; the first hundred."""
        return self._listing.foreign

    # Values

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Return the values of `keys`, in their order; None where there is none.

        Raises:
            StorageError: a request failed.
        """
        return self._each(self._read, keys)

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Write `values[i]` at `keys[i]`, with `expect` only where the token there is `expect[i]`.

        Raises:
            StorageError: a request failed; some may be written.
        """
        self._seen = None
        batch = Batch(keys, values, expect)
        tokens: list[bytes | None] = [None] * len(keys)

        def write(i: int) -> None:
            tokens[i] = self._write(batch, keys[i], values[i], ANY if expect is None else expect[i])

        for tier in tiers([self._name(key) for key in keys]):
            self._each(write, tier)
        return batch.written(tokens)

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Delete `keys`, with `expect` only where the token there is `expect[i]` when we look.

        Raises:
            StorageError: a request failed; some may be deleted.
        """
        self._seen = None
        batch = Batch(keys, expect=expect)
        if expect is not None:
            tokens = self._each(lambda pair: self._token(*pair), list(zip(keys, expect, strict=True)))
            batch.compare(tokens, deletes=True)
            batch.drop_refused()
            batch.drop({key for key, token in zip(keys, tokens, strict=True) if token is None})
        names = {self._name(key): key for key in batch.keys}
        for name, why in self._delete([name for name in names if self._fits(name)]):
            batch.refuse(names[name], f"the server keeps it: {why}")
        return batch.written()

    def scan(self) -> Iterator[tuple[list[str], list[bytes]]]:
        """Yield every key with its entity tag, ascending by UTF-8 bytes; all are listed before the first batch.

        Raises:
            StorageError: the listing failed.
        """
        self._check_open()
        listed = self._listing.keys()
        keys = sorted(listed)
        tags = [listed[key].token for key in keys]
        self._seen = Seen(keys, array("Q", (listed[key].size for key in keys)))
        self._listed = Listed(keys, tags)
        del listed
        for start in range(0, len(keys), SCAN_COUNT):
            batch = keys[start : start + SCAN_COUNT]
            tokens = tags[start : start + SCAN_COUNT]
            if None in tokens:
                tokens = self._each(
                    lambda pair: pair[1] or self._digest(pair[0]), list(zip(batch, tokens, strict=True))
                )
            yield (
                [key for key, token in zip(batch, tokens, strict=True) if token is not None],
                [token for token in tokens if token is not None],
            )

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        """Return when each value was last modified: of one read since a scan, when that one was.

        None, too, for one that was not read as it was listed: a later value may have the listed token once more, an
        entity tag being of the contents, so the two prove nothing of each other.

        Raises:
            StorageError: a request failed.
        """
        known = dict(self._seen.read_ms) if self._seen is not None else {}
        unknown = [key for key in keys if key not in known]
        metas = self._each(self._head, unknown)
        known.update((key, meta.modified_ms if meta else None) for key, meta in zip(unknown, metas, strict=True))
        moved = self._listed.moved if self._listed is not None else set()
        return [None if key in moved else known[key] for key in keys]

    # Large values

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Return the bytes of each value, as the last scan saw it or as it is now; None where it is absent.

        Raises:
            StorageError: a request failed.
        """
        sizes = [self._seen.size(key) if self._seen is not None else None for key in keys]
        unknown = [position for position, size in enumerate(sizes) if size is None]
        for position, meta in zip(unknown, self._each(lambda i: self._head(keys[i]), unknown), strict=True):
            sizes[position] = None if meta is None else meta.size
        return sizes

    def read_stream(self, key: str) -> Iterator[bytes] | Unreadable | None:
        """Return the parts of a value, in order, or None where there is none.

        Raises:
            TornRead: from the iterator, where the value changed meanwhile, or cannot be read any further.
            StorageError: a request failed.
        """
        self._check_open()
        meta = self._head(key)
        if meta is None:
            return None
        self._note(key, meta)
        return Parts(self._bucket, self._name(key), meta)

    def write_stream(self, key: str, parts: Iterator[bytes], expect: Sequence[bytes | None] | None = None) -> Written:
        """Write a value from its parts, with `expect` only where the token there is `expect[0]`.

        A value of more than 32 MiB is not written on condition: it is looked at just before it appears. What
        `parts` raises passes through, and nothing is written.

        Raises:
            StorageError: a request failed.
        """
        self._check_open()
        self._seen = None
        if expect is not None:
            whole, parts = gathered(parts)
            if whole is not None:
                return self.write([key], [whole], expect)
        batch, name = Batch([key], expect=expect), self._name(key)

        def look() -> None:
            if expect is not None and self._token(key, expect[0]) != expect[0]:
                raise ObjectMismatch(key)

        def send() -> bytes:
            look()
            meta = send_parts(self._bucket, name, parts, look)
            return meta.token or self._token(key, None) or DIGESTED

        token = self._answered(batch, key, name, send)
        return batch.written([token])

    def origin(self, key: str) -> Origin | None:
        """Return where a value is to be copied from; None where the server is not known to copy on condition."""
        name, place = self._name(key), self._copier.place
        return Origin(place, self._bucket.prefix + name) if place is not None and self._fits(name) else None

    def copy(
        self,
        key: str,
        origin: Origin,
        version: bytes,
        size: int,
        expect: Sequence[bytes | None] | None = None,
        *,
        meanwhile: Callable[[], None],
    ) -> Written | None:
        """Have the server copy a value of the same bucket, with `expect` only where the token here is `expect[0]`.

        None where it does not, or not on condition, or where something is not as expected.

        Raises:
            StorageError: a request after the copy failed.
        """
        self._check_open()
        self._seen = None
        name = self._name(key)
        if not self._fits(name):
            return None
        return self._copier.copy(name, origin, version, size, expect, meanwhile)

    # Index objects

    def load(self, name: str) -> Stored | None:
        """Return an index object, or None.

        Raises:
            StorageError: the request failed, or the server gives no entity tags.
        """
        self._check_open()
        return self._index.load(name)

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Write an index object and return its new version.

        Raises:
            ObjectMismatch: it is certain that it is not as expected; nothing was written.
            StorageError: the request failed, or whether it succeeded is not known.
        """
        self._check_open()
        self._seen = None
        return self._index.store(name, data, expect)

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Remove index objects; with a version, look first: there is no conditional delete.

        Raises:
            ObjectMismatch: it is not as expected, or absent; nothing was removed.
            StorageError: a request failed; some may be removed.
        """
        self._check_open()
        self._seen = None
        for name in names:
            self._index.check(name, expect)
        if expect is ABSENT:
            return
        for name, why in self._delete([INDEX + name for name in names]):
            raise StorageError(f"the server keeps {name} ({why}): run again", storage=self.name, key=name)

    def objects(self) -> list[str]:
        """Return the names of all index objects, ascending.

        Raises:
            StorageError: the listing failed.
        """
        self._check_open()
        return self._index.names()

    def close(self) -> None:
        """Refuse further calls; connections belong to obstore, which ends idle ones."""
        self._closed = True
        self._seen = None

    # One key

    def _read(self, key: str) -> bytes | Unreadable | None:
        name = self._name(key)
        if not self._fits(name):
            return None
        try:
            if self._listed is None:
                return self._bucket.read(name)
            found = self._bucket.get(name)
        except UnreadableObject as error:
            return Unreadable(str(error))
        if found is None:
            return None
        self._note(key, found[1])
        return found[0]

    def _head(self, key: str) -> Meta | None:
        name = self._name(key)
        return self._bucket.head(name) if self._fits(name) else None

    def _write(self, batch: Batch, key: str, value: bytes, expect: object) -> bytes | None:
        name = self._name(key)

        def send() -> bytes:
            meta = self._bucket.put(name, value) if expect is ANY else self._write_if(key, name, value, expect)
            return meta.token or _digested(value)

        return self._answered(batch, key, name, send)

    def _answered(self, batch: Batch, key: str, name: str, send: Callable[[], bytes]) -> bytes | None:
        """Return the token of what `send` wrote, or refuse the key."""
        if not self._fits(name):
            batch.refuse(key, _TOO_LONG)
            return None
        try:
            return send()
        except ObjectMismatch:
            batch.refuse_changed(key)
        except UnstorableObject as error:
            batch.refuse(key, f"the server refused it: {error}")
        return None

    def _write_if(self, key: str, name: str, value: bytes, expect: object) -> Meta:
        if not isinstance(expect, bytes):
            return self._bucket.put_if(name, value, None)
        if expect.startswith(DIGESTED):
            # Without an entity tag there is no condition: look, then write.
            if self._digest(key) != expect:
                raise ObjectMismatch(key)
            return self._bucket.put(name, value)
        if not is_tag(expect):
            raise ObjectMismatch(key)
        if not self._bucket.service.by_version:
            return self._bucket.put_if(name, value, Meta(expect))
        there = self._bucket.head(name)
        if there is None or there.token != expect:
            raise ObjectMismatch(key)
        return self._bucket.put_if(name, value, there)

    def _token(self, key: str, like: bytes | None) -> bytes | None:
        """Return the token of what is at `key` now; it is read only where there is no entity tag."""
        if like is not None and like.startswith(DIGESTED):
            return self._digest(key)
        meta = self._head(key)
        return None if meta is None else meta.token or self._digest(key)

    def _digest(self, key: str) -> bytes | None:
        value = self._read(key)
        if isinstance(value, Unreadable):
            raise StorageError(f"a value cannot be read: {value.reason}", storage=self.name, key=key)
        return None if value is None else _digested(value)

    def _note(self, key: str, meta: Meta) -> None:
        seen, listed = self._seen, self._listed
        if seen is not None:
            seen.read_ms[key] = meta.modified_ms
        if listed is not None:
            listed.compare(key, meta.token)

    # Many at once

    def _name(self, key: str) -> str:
        return encode(key, dots=self._bucket.service.dots)

    def _fits(self, name: str) -> bool:
        return len(name) * 4 <= self._room or len(name.encode()) <= self._room

    def _delete(self, names: Sequence[str]) -> list[tuple[str, str]]:
        size = self._bucket.service.delete_count
        batches = [names[start : start + size] for start in range(0, len(names), size)]
        return [kept for some in self._each(self._bucket.delete, batches) for kept in some]

    def _each(self, call: Callable[[T], R], items: Sequence[T]) -> list[R]:
        self._check_open()
        return at_once(call, items, self._concurrency)

    def _check_open(self) -> None:
        if self._closed:
            message = "the storage is closed: open it again"
            raise StorageError(message, storage=self.name)


def _digested(value: bytes) -> bytes:
    return DIGESTED + digest_values([value])[0]
