"""Copies that an S3 server makes within one bucket, so that a large value's bytes do not pass through here.

obstore's copy takes no conditions. But it signs one header of the caller's, and sends others unsigned with every
request of a client. So each copy uses a client of its own: the signed header names the version to copy, the unsigned
one what the target must be. A server may ignore either header, or give copies entity tags that tell nothing about their
contents. So each server is first tested with two tiny objects.
"""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TYPE_CHECKING

from kvsync.errors import StorageError
from kvsync.storages.bucket.client import UnreadableObject, UnstorableObject
from kvsync.storages.bucket.index import INDEX, is_tag
from kvsync.storages.bucket.location import without_retries
from kvsync.types import Written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from kvsync.storages.bucket.client import Bucket
    from kvsync.types import Origin

__all__ = ["COPY_BYTES_MAX", "Copier"]

COPY_BYTES_MAX = 5 << 30
"""The largest object that S3 copies in one request."""

MEANWHILE_SECONDS = 0.2
"""How often a caller that waits for a copy can do other work, such as renewing its lease."""

TRIED = (f"{INDEX}probe/copy-from", f"{INDEX}probe/copy-to")
NOBODYS_TAG = b"0" * 32

_CONTENTS = re.compile(rb"[0-9a-f]{32}(-[0-9]+)?")
"""A tag that may be an MD5 of the contents or of their parts: a copy with the same tag has the same contents."""


class Copier:
    """Copies objects within a bucket, on condition.

    Attributes:
        location: equal for stores between which one server copies; None if no server is known to copy.
    """

    def __init__(self, bucket: Bucket) -> None:
        self.location = _location_of(bucket.store) if bucket.service.scheme == "s3" else None
        self._bucket = bucket
        self._trusted: dict[bool, bool] = {}
        """By whether an object was uploaded in parts: many servers give copies of such an object another tag."""

    def copy(
        self,
        name: str,
        origin: Origin,
        version: bytes,
        size: int,
        expect: Sequence[bytes | None] | None,
        meanwhile: Callable[[], None],
    ) -> Written | None:
        """Have `version` of an object copied to `name`; return None unless that certainly happened.

        The result is verified by its tag: some failures come in a 200 answer, which obstore takes for success, and
        somebody else may have written by the time we look.

        Raises:
            StorageError: the copy could not be looked at.
        """
        tags = [version, *(tag for tag in expect or () if tag is not None)]
        if origin.location != self.location or size > COPY_BYTES_MAX or not all(map(is_tag, tags)):
            return None
        if not self._copied(origin.path, name, version, expect, meanwhile):
            return None
        meta = self._bucket.head(name)
        if meta is not None and (meta.token, meta.size) == (version, size):
            return Written((), (version,))
        self._trusted[b"-" in version] = False
        return None

    def _copied(
        self,
        path: str,
        name: str,
        version: bytes,
        expect: Sequence[bytes | None] | None,
        meanwhile: Callable[[], None],
    ) -> bool:
        """Whether a copy was made. After a failure that is not about the object, no more copies are tried."""
        if not self._trusts(version):
            return False
        errors = self._bucket.errors
        copying = _attended(self._request(path, name, version, expect), meanwhile)
        try:
            copying.result()
        except (FileNotFoundError, errors.AlreadyExistsError, errors.PreconditionError):
            return False
        except (UnreadableObject, UnstorableObject, errors.InvalidPathError):
            return False
        except StorageError:
            self._trusted = {True: False, False: False}
            return False
        return True

    def _trusts(self, version: bytes) -> bool:
        """Whether the server has been found to copy objects with such tags correctly."""
        if not _CONTENTS.fullmatch(version):
            return False
        in_parts = b"-" in version
        if in_parts not in self._trusted:
            self._trusted[in_parts] = self._passes(in_parts=in_parts)
        return self._trusted[in_parts]

    def _passes(self, *, in_parts: bool) -> bool:
        """Whether the server copies tags, and refuses other versions and targets that are not as expected."""
        bucket, (start, target) = self._bucket, TRIED
        path = bucket.prefix + start
        try:
            tag = bucket.wrote(lambda: bucket.store.put(path, b"1", use_multipart=in_parts)).token
            current = bucket.put(target, b"2").token
            if tag is None or current is None:
                return False
            wrong: list[tuple[bytes, list[bytes | None] | None]] = [
                (NOBODYS_TAG, None),
                (tag, [NOBODYS_TAG]),
                (tag, [None]),
            ]
            if not all(self._refuses(path, target, *conditions) for conditions in wrong):
                return False
            self._request(path, target, tag, [current])()
            meta = bucket.head(target)
        except (StorageError, UnstorableObject, UnreadableObject, FileNotFoundError):
            return False
        except (bucket.errors.AlreadyExistsError, bucket.errors.PreconditionError):
            return False
        finally:
            with suppress(StorageError):
                bucket.delete(TRIED)
        return meta is not None and (meta.token, meta.size) == (tag, 1)

    def _refuses(self, path: str, name: str, version: bytes, expect: Sequence[bytes | None] | None) -> bool:
        try:
            self._request(path, name, version, expect)()
        except (self._bucket.errors.AlreadyExistsError, self._bucket.errors.PreconditionError) as error:
            return "412 Precondition" in str(error)
        return False

    def _request(
        self, path: str, name: str, version: bytes, expect: Sequence[bytes | None] | None
    ) -> Callable[[], None]:
        bucket = self._bucket
        headers = _headers(expect)

        def request() -> None:
            condition = f"header: x-amz-copy-source-if-match: {_quoted(version)}"
            client = without_retries(bucket.store, {"copy_if_not_exists": condition}, headers)
            client.copy(path, bucket.prefix + name, overwrite=False)

        return lambda: bucket.sent(request)


def _headers(expect: Sequence[bytes | None] | None) -> dict[str, str]:
    """Return the headers that make a copy depend on the current object at its target."""
    if expect is None:
        return {}
    return {"if-none-match": "*"} if expect[0] is None else {"if-match": _quoted(expect[0])}


def _quoted(tag: bytes) -> str:
    return f'"{tag.decode()}"'


def _attended(call: Callable[[], None], meanwhile: Callable[[], None]) -> Future[None]:
    """Make a call that may take minutes, and return when it has ended; exceptions of `meanwhile` propagate."""
    with ThreadPoolExecutor(1, thread_name_prefix="kvsync-bucket") as threads:
        copying = threads.submit(call)
        while wait([copying], MEANWHILE_SECONDS).not_done:
            meanwhile()
    return copying


def _location_of(store: object) -> str:
    """Return a text that identifies the bucket and server of a store's paths."""
    config = getattr(store, "config", {})
    found = {name: value for name, value in os.environ.items() if name.startswith("AWS_ENDPOINT")}
    where = [config.get(name) for name in ("endpoint", "region", "bucket")]
    return repr([*where, getattr(store, "prefix", None), sorted(found.items())])
