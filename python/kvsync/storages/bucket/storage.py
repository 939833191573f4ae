"""A bucket as a storage: S3 and compatible services, Google Cloud Storage, Azure.

Values are stored at `prefix/key` (see `kvsync.storages.bucket.name` for the few keys stored elsewhere), the index below
`prefix/.kvsync/`. Writes are conditional where they have to be. Deletes cannot be: a delete that expects a version
looks first, so a write between that look and the delete is lost (guarantee T2).

The version token of a value is its entity tag. If a server gives none, or a weak one, it is the value's BLAKE3, and a
scan has to read the value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from kvsync.errors import StorageError
from kvsync.storages.batch import Batch
from kvsync.storages.bucket.client import Bucket, md5_of
from kvsync.storages.bucket.copying import Copier
from kvsync.storages.bucket.index import INDEX, BucketIndex
from kvsync.storages.bucket.lifecycle import lifecycle_limits
from kvsync.storages.bucket.listing import Listing
from kvsync.storages.bucket.listing_cache import ListingCache
from kvsync.storages.bucket.location import CONCURRENCY, Location, are_one_bucket
from kvsync.storages.bucket.prefix_order import prefix_levels
from kvsync.storages.bucket.stream import gather
from kvsync.storages.bucket.values import ObjectValues
from kvsync.storages.bucket.workers import map_concurrently
from kvsync.storages.contract import Capabilities, OpaqueTokens, Support, Tier
from kvsync.types import ABSENT, ANY, Origin, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kvsync.storages.bucket.hints import ManifestTag
    from kvsync.storages.contract import Pages, Storage
    from kvsync.storages.hints import Wake
    from kvsync.types import Expectation, Skipped, Stored, Version, Written

__all__ = ["BucketStorage", "open_url"]

T = TypeVar("T")
R = TypeVar("R")

SCAN_COUNT = 10_000
_SUPPORTS = frozenset(
    {
        Support.TOKENS,
        Support.IDENTITY,
        Support.NESTING,
        Support.SKIPPED,
        Support.SIZES,
        Support.STREAMING,
        Support.RANGES,
        Support.HINTS,
    }
)


def open_url(url: str) -> BucketStorage:
    """Return the storage of an `s3://`, `gs://` or `az://` URL; send no request yet.

    Raises:
        UsageError: the URL is wrong, or obstore is not installed.
    """
    location = Location.parse(url)
    return BucketStorage(
        location.store(),
        location.prefix,
        concurrency=location.concurrency,
        advisory=location.advisory,
        name=location.name,
        identity=location.identity,
        host=location.host,
    )


class BucketStorage:
    """Objects of a bucket as a storage; several threads may use it.

    A child process that was forked after the first request can use neither it nor any other bucket: obstore's own
    threads do not survive a fork.

    Args:
        store: an `S3Store`, `GCSStore`, `AzureStore` or `MemoryStore` of obstore.
        prefix: what every object's name begins with, without slashes at its ends.
        unretried: the same store without retries; made from `store` by default.
        concurrency: how many requests are in progress at the same time.
        advisory: nobody else ever writes there, so the server may ignore conditions.
        name: what messages call it.
        identity: equal for two handles of one storage.
        host: equal for all storages in one bucket; None if that is not known.
    """

    def __init__(
        self,
        store: Any,
        prefix: str = "",
        *,
        unretried: Any = None,
        concurrency: int = CONCURRENCY,
        advisory: bool = False,
        name: str | None = None,
        identity: str | None = None,
        host: str | None = None,
    ) -> None:
        self.name = name or f"{store!r}/{prefix}"
        self.identity = identity or f"{store!r} at {id(store):#x}/{prefix}"
        self.host = host or ""
        self.prefix = prefix
        self._bucket = Bucket(store, unretried, f"{prefix}/" if prefix else "", self.name)
        self._listing = Listing(self._bucket, concurrency)
        self._cache = ListingCache()
        self._values = ObjectValues(self._bucket, self._listing, self._cache)
        self._index = BucketIndex(self._bucket, self._listing)
        self._copier = Copier(self._bucket)
        self.capabilities = Capabilities(
            Tier.ADVISORY if advisory else Tier.CONDITIONAL,
            distance="network",
            tokens=OpaqueTokens(md5_of=md5_of),
            conditions="advisory" if advisory else "claimed",
            lease_stays=True,
            supports=_SUPPORTS
            | ({Support.COPY} if self._copier.location is not None else set())
            | ({Support.HOST} if host is not None else set())
            | ({Support.LIMITS} if self._bucket.service.scheme == "s3" else set())
            | ({Support.SPLITS} if self._bucket.service.has_ranges and concurrency > 1 else set()),
        )
        self._concurrency = concurrency
        self._closed = False

    def __repr__(self) -> str:
        """Return the class and the storage's name."""
        return f"BucketStorage({self.name!r})"

    def contains(self, other: Storage) -> bool:
        """Return whether the prefix of `other` is in this one, in the same bucket, whatever the server is called."""
        if not isinstance(other, BucketStorage):
            return False
        outer = f"{self.prefix}/" if self.prefix else ""
        if not f"{other.prefix}/".startswith(outer):
            return False
        places = {storage.identity.removesuffix(storage.prefix) for storage in (self, other)}
        return len(places) == 1 or are_one_bucket(self.host, other.host)

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Objects that the last scan skipped because their names are not those of any key."""
        return self._listing.skips.all

    def limits(self) -> list[str]:
        """Return what the bucket does to objects by itself.

        Raises:
            StorageError: it cannot be asked.
        """
        return list(lifecycle_limits(self._bucket))

    def hints(self, _wake: Wake) -> ManifestTag:
        """Notice runs of others, by the tag of the manifest; buckets do not tell of anything else."""
        from kvsync.storages.bucket.hints import ManifestTag  # noqa: PLC0415 - most runs need none

        return ManifestTag(self._index)

    # Values

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Return the values of `keys`, in their order; None for a key that is absent.

        Raises:
            StorageError: a request failed.
        """
        return self._each(self._values.read, keys)

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Write `values[i]` at `keys[i]`, with `expect` only where the current token is `expect[i]`.

        Raises:
            StorageError: a request failed; some may be written.
        """
        self._cache.forget_sizes()
        batch = Batch(keys, values, expect)
        tokens: list[bytes | None] = [None] * len(keys)

        def write(i: int) -> None:
            tokens[i] = self._values.write(batch, keys[i], values[i], ANY if expect is None else expect[i])

        for level in prefix_levels([self._values.name_of(key) for key in keys]):
            self._each(write, level)
        return batch.written(tokens)

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Delete `keys`, with `expect` only where a look just before finds the token `expect[i]`.

        Raises:
            StorageError: a request failed; some may be deleted.
        """
        self._cache.forget_sizes()
        batch = Batch(keys, expect=expect)
        if expect is not None:
            tokens = self._each(lambda pair: self._values.token(*pair), list(zip(keys, expect, strict=True)))
            batch.compare(tokens, deletes=True)
            batch.drop_refused()
            batch.drop({key for key, token in zip(keys, tokens, strict=True) if token is None})
        names = {self._values.name_of(key): key for key in batch.keys}
        for name, why in self._delete([name for name in names if self._values.fits(name)]):
            batch.refuse(names[name], f"the server does not delete it: {why}")
        return batch.written()

    def scan(self, splits: Sequence[str] = ()) -> Pages:
        """Yield every key with its entity tag, in UTF-8 byte order; list all of them before the first batch.

        Between `splits` the bucket is listed by `concurrency` requests at a time.

        Raises:
            StorageError: the listing failed.
        """
        self._check_open()
        keys, tags, sizes = self._listing.keys(sorted(map(self._values.name_of, splits)))
        self._cache.fill(keys, tags, sizes)
        for start in range(0, len(keys), SCAN_COUNT):
            batch = keys[start : start + SCAN_COUNT]
            tokens = self._proven(batch, tags[start : start + SCAN_COUNT])
            if None in tokens:
                batch = [key for key, token in zip(batch, tokens, strict=True) if token is not None]
            yield batch, [token for token in tokens if token is not None]

    def _proven(self, keys: Sequence[str], tags: list[bytes | None]) -> list[bytes | None]:
        """Return entity tags, and tokens that are made of the values where there are none; None where none is left."""
        if None not in tags:
            return tags
        return self._each(lambda pair: pair[1] or self._values.digest(pair[0]), list(zip(keys, tags, strict=True)))

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        """Return when each value was last modified; for a value read since the last scan, as of that read.

        Return None for a value that was not read as it was listed. An entity tag depends on the contents, so a later
        value may have the listed token again: the value that was read and the listed token prove nothing about each
        other.

        Raises:
            StorageError: a request failed.
        """
        known = dict(self._cache.read_ms)
        unknown = [key for key in keys if key not in known]
        metas = self._each(self._values.known, unknown)
        known.update((key, meta.modified_ms) for key, meta in zip(unknown, metas, strict=True))
        return [None if key in self._cache.changed else known[key] for key in keys]

    # Large values

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Return the size of each value, as last listed or as it is now; None if it is absent.

        Raises:
            StorageError: a request failed.
        """
        sizes = [self._cache.size(key) for key in keys]
        unknown = [position for position, size in enumerate(sizes) if size is None]
        for position, meta in zip(unknown, self._each(lambda i: self._values.known(keys[i]), unknown), strict=True):
            sizes[position] = meta.size
        return sizes

    def tokens(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the current entity tag of each value; None if it is absent.

        Raises:
            StorageError: a request failed.
        """
        return self._each(lambda key: self._values.token(key, None), keys)

    def read_stream(self, key: str) -> Iterator[bytes] | Unreadable | None:
        """Return the parts of a value, in order, or None.

        Raises:
            TornRead: from the iterator: the value changed meanwhile, or its rest cannot be read.
            StorageError: a request failed.
        """
        self._check_open()
        return self._values.read_parts(key)

    def write_stream(self, key: str, parts: Iterator[bytes], expect: Sequence[bytes | None] | None = None) -> Written:
        """Write a value from its parts, with `expect` only where the current token is `expect[0]`.

        A value of more than 32 MiB is not written conditionally: its token is checked just before it appears. If
        `parts` raises, the exception propagates and nothing is written.

        Raises:
            StorageError: a request failed.
        """
        self._check_open()
        self._cache.forget_sizes()
        if expect is not None:
            whole, parts = gather(parts)
            if whole is not None:
                return self.write([key], [whole], expect)
        batch = Batch([key], expect=expect)
        return batch.written([self._values.write_parts(batch, key, parts, ANY if expect is None else expect[0])])

    def origin(self, key: str) -> Origin | None:
        """Return where to copy a value from; None if the server is not known to copy conditionally."""
        name, location = self._values.name_of(key), self._copier.location
        return Origin(location, self._bucket.prefix + name) if location and self._values.fits(name) else None

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
        """Have the server copy a value of the same bucket, with `expect` only where the current token is `expect[0]`.

        Return None if it does not copy, or not conditionally, or something is not as expected.

        Raises:
            StorageError: a request after the copy failed.
        """
        self._check_open()
        self._cache.forget_sizes()
        name = self._values.name_of(key)
        if not self._values.fits(name):
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

    def load_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes] | None:
        """Return ranges of an index object, or None; see `SupportsRanges`.

        Raises:
            StorageError: the request failed.
        """
        self._check_open()
        return self._index.load_ranges(name, ranges)

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Write an index object and return its new version.

        Raises:
            ObjectMismatch: it certainly does not have the expected version; nothing was written.
            StorageError: the request failed, or its outcome is unknown.
        """
        self._check_open()
        self._cache.forget_sizes()
        return self._index.store(name, data, expect)

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Remove index objects; with a version, look first: there is no conditional delete.

        Raises:
            ObjectMismatch: it is absent or does not have the expected version; nothing was removed.
            StorageError: a request failed; some may be removed.
        """
        self._check_open()
        self._cache.forget_sizes()
        for name in names:
            self._index.check(name, expect)
        if expect is ABSENT:
            return
        for name, why in self._delete([INDEX + name for name in names]):
            raise StorageError(f"the server does not delete {name} ({why}): run again", storage=self.name, key=name)

    def objects(self) -> list[str]:
        """Return the names of all index objects, ascending.

        Raises:
            StorageError: the listing failed.
        """
        self._check_open()
        return self._index.names()

    def close(self) -> None:
        """Refuse further calls; obstore closes idle connections itself."""
        self._closed = True
        self._cache = ListingCache()

    # Many requests

    def _delete(self, names: Sequence[str]) -> list[tuple[str, str]]:
        size = self._bucket.service.delete_count
        batches = [names[start : start + size] for start in range(0, len(names), size)]
        return [kept for some in self._each(self._bucket.delete, batches) for kept in some]

    def _each(self, call: Callable[[T], R], items: Sequence[T]) -> list[R]:
        self._check_open()
        return map_concurrently(call, items, self._concurrency)

    def _check_open(self) -> None:
        if self._closed:
            message = "the storage is closed: open it again"
            raise StorageError(message, storage=self.name)
