"""Complete listings of a bucket, without the objects of other programs.

obstore parses names as paths. It drops a slash at the end, so that the folder marker `a/` looks like an object `a`, and
its whole listing fails at a name such as `a//b`. So empty objects are requested by name. If a listing of S3 fails, or a
listed object is not found, the server is asked once more, by a request of our own that obstore only signs.
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET

from kvsync.errors import StorageError
from kvsync.storages.bucket.client import DeniedError, Meta, tag_of
from kvsync.storages.bucket.name import decode
from kvsync.storages.bucket.signing import signed_url
from kvsync.storages.bucket.workers import map_concurrently
from kvsync.storages.contract import RESERVED
from kvsync.storages.skips import Skips

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvsync.storages.bucket.client import Bucket

__all__ = ["Listed", "Listing"]

PAGE_COUNT = 1000
TIMEOUT_SECONDS = 60
NO_KEY = "no key has an object of this name, which clients confuse with others: rename it"
ATTEMPTS = 4
PAUSE_SECONDS = 0.2


class Listed(NamedTuple):
    """What a listing says about an object: its entity tag (None if absent or weak) and its size."""

    token: bytes | None
    size: int


class Page(NamedTuple):
    """A page of objects by name, and the token of the next page."""

    objects: list[tuple[str, Listed]]
    following: str | None


class Listing:
    """Lists the objects below a bucket's prefix.

    Attributes:
        skips: objects in the last listing whose names are not those of any key.
    """

    def __init__(self, bucket: Bucket, concurrency: int) -> None:
        self.skips = Skips()
        self._bucket = bucket
        self._concurrency = concurrency

    def keys(self) -> dict[str, Listed]:
        """Return every key with its listing entry, in no order.

        Raises:
            StorageError: the listing failed.
        """
        found: dict[str, Listed] = {}
        self.skips = Skips()
        for name, entry in self.names("").items():
            # Our own index, or that of a storage within this one, which is synced by itself.
            if f"/{RESERVED}/" in f"/{name}":
                continue
            key = decode(name, dots=self._bucket.service.dots)
            if key is None:
                self._skip(name, entry)
            else:
                found[key] = entry
        return found

    def explain_absence(self, name: str) -> None:
        """Note why a listed object is not found: its name may end in a slash, which the client drops.

        Raises:
            StorageError: the listing failed.
        """
        if self._bucket.service.scheme == "s3":
            path = f"{self._bucket.prefix}{name}/"
            entry = dict(_page(self._bucket, path, None).objects).get(path)
            if entry is not None:
                self._skip(f"{name}/", entry)

    def _skip(self, name: str, entry: Listed) -> None:
        """Note an object that belongs to no key; an empty one may be the marker of a folder, and has no value."""
        if name.endswith("/") and not entry.size:
            self.skips.add(name, "it is the marker of a folder")
        else:
            self.skips.add(name, NO_KEY, harmless=False)

    def names(self, folder: str) -> dict[str, Listed]:
        """Return the name of every object below `folder`, or below the whole prefix if that is empty.

        Raises:
            StorageError: the listing failed.
        """
        begin = (self._bucket.prefix + folder).rstrip("/")
        try:
            listed = self._bucket.sent(lambda: self._listed(begin))
        except FileNotFoundError as error:
            raise self._bucket.failed(error) from None
        except self._bucket.errors.InvalidPathError as error:
            if self._bucket.service.scheme != "s3":
                message = (
                    f"an object's name cannot be listed ({self._bucket.plain(error)}): rename or remove it with the "
                    "provider's own tool, or use a prefix without it"
                )
                raise StorageError(message, storage=self._bucket.name) from None
            listed = dict(_asked(self._bucket, f"{begin}/" if begin else ""))
        skip = len(self._bucket.prefix)
        return {path[skip:]: entry for path, entry in listed.items() if path.startswith(self._bucket.prefix)}

    def _listed(self, begin: str) -> dict[str, Listed]:
        found: dict[str, Listed] = {}
        empty: list[str] = []
        for page in self._bucket.store.list(begin or None, chunk_size=PAGE_COUNT):
            for answer in page:
                if answer["size"]:
                    # If a name comes twice, it is `a` and then `a/` without its slash.
                    found.setdefault(answer["path"], Listed(tag_of(answer), answer["size"]))
                else:
                    empty.append(answer["path"])
        skip = len(self._bucket.prefix)
        doubtful = [path for path in empty if path not in found and path.startswith(self._bucket.prefix)]
        metas = map_concurrently(lambda path: self._head(path[skip:]), doubtful, self._concurrency)
        for path, meta in zip(doubtful, metas, strict=True):
            if meta is not None:
                found[path] = Listed(meta.token, 0)
            elif f"/{RESERVED}/" not in f"/{path[skip:]}":
                self._skip(f"{path[skip:]}/", Listed(None, 0))
        return found

    def _head(self, name: str) -> Meta | None:
        try:
            return self._bucket.head(name)
        except DeniedError:
            return Meta(None)  # a look at the value will tell


# ListObjectsV2, requested by ourselves


def _asked(bucket: Bucket, begin: str) -> Iterator[tuple[str, Listed]]:
    following: str | None = None
    while True:
        page = _page(bucket, begin, following)
        yield from page.objects
        if page.following is None:
            return
        following = page.following


def _page(bucket: Bucket, begin: str, following: str | None) -> Page:
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


def _parsed(document: bytes) -> Page:
    root = ET.fromstring(document)  # noqa: S314 - expat limits what entities expand to
    space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
    if root.tag != f"{space}ListBucketResult":
        message = f"the answer is not a listing but {root.tag!r:.100}"
        raise ValueError(message)
    encoded = root.findtext(f"{space}EncodingType") == "url"
    objects = []
    for entry in root.iter(f"{space}Contents"):
        name = entry.findtext(f"{space}Key")
        if name is None:
            message = "an object without a name"
            raise ValueError(message)
        listed = Listed(tag_of({"e_tag": entry.findtext(f"{space}ETag")}), int(entry.findtext(f"{space}Size", "0")))
        objects.append((unquote_plus(name, errors="strict") if encoded else name, listed))
    if root.findtext(f"{space}IsTruncated") != "true":
        return Page(objects, None)
    following = root.findtext(f"{space}NextContinuationToken")
    if not following:
        message = "a truncated listing without a continuation token"
        raise ValueError(message)
    return Page(objects, following)
