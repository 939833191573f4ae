"""Complete listings of a bucket, without the objects of other programs.

obstore parses names as paths. It drops a slash at the end, so that the folder marker `a/` looks like an object `a`, and
its whole listing fails at a name such as `a//b`. So empty objects are requested by name. If a listing of S3 fails, or a
listed object is not found, the server is asked once more, by a request of our own that obstore only signs.

A large bucket is listed in ranges, as far as the server lists in the order that S3 has (`ranges.py`).
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from operator import itemgetter
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET

from kvsync.errors import StorageError
from kvsync.storages.bucket.client import DeniedError, Meta, tag_of
from kvsync.storages.bucket.name import are_keys, decode
from kvsync.storages.bucket.ranges import Page, Ranges
from kvsync.storages.bucket.signing import signed_url
from kvsync.storages.bucket.workers import map_concurrently
from kvsync.storages.contract import RESERVED
from kvsync.storages.skips import Skips

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kvsync.storages.bucket.client import Bucket

__all__ = ["Listing"]

PAGE_COUNT = 1000
TIMEOUT_SECONDS = 60
NO_KEY = "no key has an object of this name, which clients confuse with others: rename it"
ATTEMPTS = 4
PAUSE_SECONDS = 0.2


class Listing:
    """Lists the objects below a bucket's prefix.

    Attributes:
        skips: objects in the last listing whose names are not those of any key.
    """

    def __init__(self, bucket: Bucket, concurrency: int) -> None:
        self.skips = Skips()
        self._bucket = bucket
        self._concurrency = concurrency
        self._in_ranges = bucket.service.has_ranges

    def keys(self, splits: Sequence[str] = ()) -> Page:
        """Return all keys, ascending, with tokens and sizes; list side by side between the names `splits`.

        Raises:
            StorageError: the listing failed.
        """
        self.skips = Skips()
        found = self._objects("", splits)
        dots = self._bucket.service.dots
        keys: list[str | None] = []
        for start in range(0, len(found.names), PAGE_COUNT):
            names = found.names[start : start + PAGE_COUNT]
            if are_keys(names, dots=dots):
                keys += names
            else:
                keys += map(self._key, names, found.sizes[start : start + PAGE_COUNT])
        if keys == found.names:
            return found
        rows = zip(keys, found.tokens, found.sizes, strict=True)
        return _page_of(sorted(((key, token, size) for key, token, size in rows if key is not None), key=itemgetter(0)))

    def _key(self, name: str, size: int) -> str | None:
        """Return the key whose value an object holds, or None; note why it holds none."""
        # Our own index, or that of a storage within this one, which is synced by itself.
        if f"/{RESERVED}/" in f"/{name}":
            return None
        key = decode(name, dots=self._bucket.service.dots)
        if key is None:
            self._skip(name, size)
        return key

    def explain_absence(self, name: str) -> None:
        """Note why a listed object is not found: its name may end in a slash, which the client drops.

        Raises:
            StorageError: the listing failed.
        """
        if self._bucket.service.scheme == "s3":
            path = f"{self._bucket.prefix}{name}/"
            found, _ = _page(self._bucket, path, None)
            if path in found.names:
                self._skip(f"{name}/", found.sizes[found.names.index(path)])

    def _skip(self, name: str, size: int) -> None:
        """Note an object that belongs to no key; an empty one may be the marker of a folder, and has no value."""
        if name.endswith("/") and not size:
            self.skips.add(name, "it is the marker of a folder")
        else:
            self.skips.add(name, NO_KEY, harmless=False)

    def names(self, folder: str) -> list[str]:
        """Return the name of every object below `folder`, ascending.

        Raises:
            StorageError: the listing failed.
        """
        return self._objects(folder, ()).names

    def _objects(self, folder: str, splits: Sequence[str]) -> Page:
        """Return every object below `folder`, or below the whole prefix if that is empty, ascending by name.

        Args:
            folder: without the prefix.
            splits: some names, ascending, about as far from one another; none of them has to be there.

        Raises:
            StorageError: the listing failed.
        """
        begin = (self._bucket.prefix + folder).rstrip("/")
        try:
            listed = self._bucket.sent(lambda: self._listed(begin, splits))
        except FileNotFoundError as error:
            raise self._bucket.failed(error) from None
        except self._bucket.errors.InvalidPathError as error:
            if self._bucket.service.scheme != "s3":
                message = (
                    f"an object's name cannot be listed ({self._bucket.plain(error)}): rename or remove it with the "
                    "provider's own tool, or use a prefix without it"
                )
                raise StorageError(message, storage=self._bucket.name) from None
            asked = Page.of(_asked(self._bucket, f"{begin}/" if begin else ""))
            listed = _page_of(sorted(zip(*asked, strict=True), key=itemgetter(0)))
        prefix = self._bucket.prefix
        if not all(name.startswith(prefix) for name in listed.names):  # the marker of the prefix itself
            listed = _page_of(row for row in zip(*listed, strict=True) if row[0].startswith(prefix))
        return listed._replace(names=[name[len(prefix) :] for name in listed.names])

    def _listed(self, begin: str, splits: Sequence[str]) -> Page:
        """Return every object below `begin`, ascending by name."""
        found = Page.of(self._pages(begin, splits))
        if 0 not in found.sizes and found.ascends():
            return found
        # If a name comes twice, it is `a` and then `a/` without its slash.
        rows: dict[str, tuple[bytes | None, int]] = {}
        empty: dict[str, None] = {}
        for path, token, size in zip(*found, strict=True):
            if size:
                rows.setdefault(path, (token, size))
            else:
                empty[path] = None
        skip = len(self._bucket.prefix)
        doubtful = [path for path in empty if path not in rows and path.startswith(self._bucket.prefix)]
        metas = map_concurrently(lambda path: self._head(path[skip:]), doubtful, self._concurrency)
        for path, meta in zip(doubtful, metas, strict=True):
            if meta is not None:
                rows[path] = (meta.token, 0)
            elif f"/{RESERVED}/" not in f"/{path[skip:]}":
                self._skip(f"{path[skip:]}/", 0)
        return _page_of((path, *rows[path]) for path in sorted(rows))

    def _pages(self, begin: str, splits: Sequence[str]) -> Iterable[Page]:
        """Return all objects below `begin`; empty ones may come twice."""
        # So many ranges that each has a request of its own under way.
        count = min(self._concurrency, len(splits) + 1)
        if self._in_ranges and count > 1:
            some = [splits[len(splits) * number // count] for number in range(1, count)]
            names = [self._bucket.prefix + name for name in some]
            try:
                return Ranges(lambda after: self._after(begin, after), names).listed()
            except Exception:  # noqa: BLE001 - if it is not the server's order, a single listing will fail, too
                self._in_ranges = False
        return self._after(begin, None)

    def _after(self, begin: str, name: str | None) -> Iterator[Page]:
        """List the objects below `begin` that come after a name, or all of them."""
        for page in self._bucket.store.list(begin or None, offset=name, chunk_size=PAGE_COUNT):
            names = [answer["path"] for answer in page]
            yield Page(names, list(map(tag_of, page)), [answer["size"] for answer in page])

    def _head(self, name: str) -> Meta | None:
        try:
            return self._bucket.head(name)
        except DeniedError:
            return Meta(None)  # a look at the value will tell


def _page_of(rows: Iterable[tuple[str, bytes | None, int]]) -> Page:
    columns = list(map(list, zip(*rows, strict=True)))
    return Page(*columns) if columns else Page([], [], [])


# ListObjectsV2, requested by ourselves


def _asked(bucket: Bucket, begin: str) -> Iterator[Page]:
    following: str | None = None
    while True:
        page, following = _page(bucket, begin, following)
        yield page
        if following is None:
            return


def _page(bucket: Bucket, begin: str, following: str | None) -> tuple[Page, str | None]:
    """Return a page of objects, and the token of the next page."""
    url = bucket.sent(lambda: signed_url(bucket, _query(begin, following)))
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_SECONDS * 2**attempt)
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - obstore made the URL
                return _parsed(answer.read())
        except urllib.error.HTTPError as error:
            failure: Exception = error
            if error.code < 500:  # noqa: PLR2004 - the request itself is wrong
                break
        except (OSError, ET.ParseError, LookupError, ValueError) as error:
            failure = error
    message = f"the bucket could not be listed, check the credentials and run again ({bucket.plain(failure)})"
    raise StorageError(message, storage=bucket.name) from None


def _query(begin: str, following: str | None) -> dict[str, str]:
    query = {"list-type": "2", "encoding-type": "url", "max-keys": str(PAGE_COUNT), "prefix": begin}
    return query if following is None else {**query, "continuation-token": following}


def _parsed(document: bytes) -> tuple[Page, str | None]:
    root = ET.fromstring(document)  # noqa: S314 - expat limits what entities expand to
    space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
    if root.tag != f"{space}ListBucketResult":
        message = f"the answer is not a listing but {root.tag!r:.100}"
        raise ValueError(message)
    encoded = root.findtext(f"{space}EncodingType") == "url"
    page = Page([], [], [])
    for entry in root.iter(f"{space}Contents"):
        name = entry.findtext(f"{space}Key")
        if name is None:
            message = "an object without a name"
            raise ValueError(message)
        page.names.append(unquote_plus(name, errors="strict") if encoded else name)
        page.tokens.append(tag_of({"e_tag": entry.findtext(f"{space}ETag")}))
        page.sizes.append(int(entry.findtext(f"{space}Size", "0")))
    if root.findtext(f"{space}IsTruncated") != "true":
        return page, None
    following = root.findtext(f"{space}NextContinuationToken")
    if not following:
        message = "a truncated listing without a continuation token"
        raise ValueError(message)
    return page, following
