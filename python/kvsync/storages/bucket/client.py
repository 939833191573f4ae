"""Requests to one bucket through obstore, with answers and errors in our own words.

A conditional write has one of three outcomes: done, `ObjectMismatch` (only if that is certain) or unknown
(`StorageError`). Each is sent once, by a client that does not retry.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from kvsync.errors import StorageError
from kvsync.storages.bucket.location import service_of, without_retries
from kvsync.storages.contract import ObjectMismatch
from kvsync.storages.extras import client
from kvsync.storages.url import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kvsync.storages.bucket.location import Service

__all__ = ["Bucket", "DeniedError", "Meta", "UnreadableObject", "UnstorableObject", "md5_of", "tag_of"]

T = TypeVar("T")

CONFLICT_ATTEMPTS = 5
CONFLICT_PAUSE_SECONDS = 0.05
"""How often a conditional write is sent again after an answer that means "try again", and how long to wait first."""

SLOW_PAUSE_SECONDS = 0.5
"""How long to wait after a 429: Google takes one write a second to an object, and a run writes its lease more often."""

TEXT_MAX = 400
_DEBUG = "\n\nDebug source"

_SECRET_SETTING = re.compile(r"key|secret|token|sas|password")
_SECRET_VARIABLE = re.compile(r"(?:AWS|AZURE|GOOGLE)_.*(?:KEY|SECRET|TOKEN|SAS|PASSWORD)")
_REFUSED = re.compile(
    r"<Code>(?:KeyTooLongError|InvalidRequest|InvalidArgument|InvalidURI|InvalidUri|InvalidObjectName|InvalidBlobName"
    r"|InvalidResourceName|EntityTooLarge|RequestBodyTooLarge|XMinioInvalidObjectName)</Code>"
)
_ARCHIVED = re.compile(r"InvalidObjectState|BlobArchived")
_DENIED = re.compile(r"AccessDenied|KMS\.|status code: (?:403 Forbidden|400 Bad Request)")
"""What may be meant for one object alone: its own rights, or a key of the customer's that encrypts it."""
_LOGIN = re.compile(
    r"InvalidAccessKeyId|SignatureDoesNotMatch|AuthenticationFailed|AuthorizationHeader|ExpiredToken|InvalidToken"
    r"|TokenRefreshRequired|RequestTimeTooSkewed|IllegalLocationConstraint"
)
_HELD = re.compile(r"LeaseIdMissing|lease on the blob|BlobImmutableDueTo|immutable due to")
_NO_BUCKET = re.compile(
    r"NoSuchBucket|ContainerNotFound|The specified (?:bucket|container) does not exist", re.IGNORECASE
)
_ADVICE = (
    (_NO_BUCKET, "the bucket does not exist: create it, or name another one"),
    (_HELD, "another program's lease or a retention policy protects an object: run again when it has ended"),
    (re.compile(r"169\.254\.169\.254"), "no credentials were found: set them in the environment or in the URL"),
    (
        re.compile(r"PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint|301 Moved"),
        "the bucket is in another region: add region= to the URL",
    ),
    (
        re.compile(r"40[13] [FU]|ExpiredToken|InvalidToken|RequestTimeTooSkewed"),
        "access was denied: check the credentials, their permissions in this bucket, and this machine's clock",
    ),
    (re.compile(r"429 |SlowDown|503 "), "the server asks for fewer requests: run again later, or lower `concurrency`"),
    (
        re.compile(r"error sending request|timed out|timeout|connection", re.IGNORECASE),
        "the server cannot be reached: check the endpoint and the network, then run again",
    ),
)

_MD5 = re.compile(rb"[0-9a-f]{32}")
_TOO_MANY = re.compile(r"status code: 429\b")

_first_process: list[int] = []
"""The process that made the first request. obstore's threads live there; a request in a fork of it never ends."""


class UnstorableObject(Exception):  # noqa: N818 - an answer: the caller refuses this one key
    """The server refuses this object; others may be fine."""


class UnreadableObject(Exception):  # noqa: N818 - an answer: the caller reports this one key
    """The server has the object but does not return it now."""


class DeniedError(StorageError):
    """The server refuses a request, perhaps because of this one object."""


class _TooManyRequestsError(StorageError):
    """The server wants fewer requests and did not execute this one."""


def tag_of(answer: Mapping[str, Any]) -> bytes | None:
    """Return the entity tag in an answer of obstore, without quotation marks; None if it is absent or weak."""
    tag: str | None = answer["e_tag"]
    return None if not tag or tag.startswith("W/") else tag.strip('"').encode() or None


def md5_of(token: bytes) -> bytes | None:
    """Return the MD5 that an entity tag may be, as it is for an object that was uploaded as a whole and in plain.

    Where it is something else of this form, as with a customer's key, it equals no MD5.

    >>> md5_of(b"d41d8cd98f00b204e9800998ecf8427e").hex()
    'd41d8cd98f00b204e9800998ecf8427e'
    >>> md5_of(b"d41d8cd98f00b204e9800998ecf8427e-2"), md5_of(b"0x8D4BCC2E4835CD0")
    (None, None)
    """
    return bytes.fromhex(token.decode()) if _MD5.fullmatch(token) else None


class Meta(NamedTuple):
    """What a server says about an object.

    `token` is its entity tag without quotation marks; None if it is absent or weak, since a weak one proves nothing.
    `version` is its generation, if the server has generations. `modified_ms` is in wall-clock milliseconds. The answer
    to a write has neither `modified_ms` nor `size`.
    """

    token: bytes | None
    version: str | None = None
    modified_ms: int | None = None
    size: int | None = None

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Meta:
        """Read an answer of obstore."""
        modified = answer.get("last_modified")
        modified_ms = None if modified is None else int(modified.timestamp() * 1000)
        return cls(tag_of(answer), answer.get("version"), modified_ms, answer.get("size"))


class Bucket:
    """Requests for objects below a prefix; several threads may use it.

    Args:
        store: an obstore store, for requests that may be repeated.
        unretried: the same store without retries, for conditional writes; made when it is needed if it is None.
        prefix: what every name begins with; empty, or ends with a slash.
        name: what messages call the storage.
    """

    def __init__(self, store: Any, unretried: Any, prefix: str, name: str) -> None:
        self.store = store
        self.prefix = prefix
        self.name = name
        self.service: Service = service_of(store)
        self._given = unretried
        self.errors = client("obstore.exceptions", self.service.scheme)
        self._secrets = _secrets_of(getattr(store, "config", {}))

    @cached_property
    def _unretried(self) -> Any:
        # A run with nothing to do needs none, and a store takes milliseconds: each reads all certificates.
        return without_retries(self.store) if self._given is None else self._given

    def read(self, name: str) -> bytes | None:
        """Return an object's bytes, or None.

        Raises:
            UnreadableObject: it is archived.
            StorageError: the request failed.
        """
        data: bytes | None = self.found(lambda: self.store.get(self.prefix + name).bytes().to_bytes())
        return data

    def get(self, name: str) -> tuple[bytes, Meta] | None:
        """Return an object, or None.

        Raises:
            UnreadableObject: it is archived.
            StorageError: the request failed.
        """

        def request() -> tuple[bytes, Meta]:
            found = self.store.get(self.prefix + name)
            return found.bytes().to_bytes(), Meta.of(found.meta)

        return self.found(request)

    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes] | None:
        """Return ranges of an object, each (offset, length), or None; all are requested at once.

        Raises:
            UnreadableObject: it is archived.
            StorageError: the request failed, or a range passes the end of the object.
        """
        starts, lengths = [offset for offset, _ in ranges], [length for _, length in ranges]

        def request() -> list[bytes]:
            # Whoever asks has joined what is worth joining.
            found = self.store.get_ranges(self.prefix + name, starts=starts, lengths=lengths, coalesce=0)
            return [part.to_bytes() for part in found]

        return self.found(request)

    def head(self, name: str) -> Meta | None:
        """Return what the server says about an object, or None.

        Raises:
            StorageError: the request failed.
        """
        return self.found(lambda: Meta.of(self.store.head(self.prefix + name)))

    def put(self, name: str, data: bytes) -> Meta:
        """Write an object unconditionally.

        Raises:
            UnstorableObject: the server refuses its name or size, or protects the current object.
            StorageError: the request failed.
        """
        try:
            return self.wrote(lambda: self.store.put(self.prefix + name, data))
        except (self.errors.AlreadyExistsError, self.errors.PreconditionError) as error:
            raise self.failed(error) from None

    def put_if(self, name: str, data: bytes, expect: Meta | None) -> Meta:
        """Write an object only if the current one has the expected tag or version, or (None) is absent.

        Raises:
            ObjectMismatch: it does not; nothing was written.
            UnstorableObject: the server refuses its name or size, or protects the current object.
            StorageError: the request failed, or its outcome is unknown.
        """
        path, mode = self.prefix + name, _mode(expect)
        pause = CONFLICT_PAUSE_SECONDS
        for attempt in range(CONFLICT_ATTEMPTS):
            if attempt:
                time.sleep(pause * attempt)
            pause = CONFLICT_PAUSE_SECONDS
            try:
                return self.wrote(lambda: self._unretried.put(path, data, mode=mode))
            except _TooManyRequestsError:
                if attempt == CONFLICT_ATTEMPTS - 1:
                    raise
                pause = SLOW_PAUSE_SECONDS
            except (self.errors.AlreadyExistsError, self.errors.PreconditionError) as error:
                # A 412 is about the current object. A 409 may also mean that another write was in progress.
                if "409 Conflict" not in str(error) or not self._fits(self.head(name), expect):
                    raise ObjectMismatch(name) from None
        message = f"other writes of {name!r:.200} kept getting in the way: run again"
        raise StorageError(message, storage=self.name)

    def delete(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Delete objects, in one request if the server can; return those that it protects, and why.

        Skip absent ones. When Azure deletes many, its answer ends at the first that is absent or protected and says
        nothing about the rest; then each is deleted by itself.

        Raises:
            StorageError: a request failed; some may be deleted.
        """
        paths = [self.prefix + name for name in names]
        if len(paths) > 1 and self.service.delete_count > 1:
            with suppress(UnstorableObject, DeniedError):
                if self.found(lambda: (self.store.delete(paths),)) is not None:
                    return []
        kept = []
        for name, path in zip(names, paths, strict=True):
            try:
                self.found(partial(self.store.delete, path))
            except UnstorableObject as error:
                kept.append((name, str(error)))
            except DeniedError as error:
                kept.append((name, error.message))
        return kept

    def found(self, request: Callable[[], T]) -> T | None:
        """Make a request; return None if it finds no object.

        Raises:
            UnreadableObject: the object is archived.
            StorageError: it failed, or there is no bucket.
        """
        try:
            return self.sent(request)
        except FileNotFoundError as error:
            if _NO_BUCKET.search(str(error)):
                raise self.failed(error) from None
            return None
        except (self.errors.AlreadyExistsError, self.errors.PreconditionError) as error:
            raise self.failed(error) from None

    def wrote(self, request: Callable[[], Mapping[str, Any]]) -> Meta:
        """Make a request that writes, and return what the server says about the new object.

        Raises:
            UnstorableObject: the server refuses its name or size, or protects the current object.
            StorageError: it failed, or there is no bucket.
        """
        try:
            return Meta.of(self.sent(request))
        except UnreadableObject as error:
            raise UnstorableObject(str(error)) from None
        except FileNotFoundError as error:
            raise self.failed(error) from None

    def sent(self, request: Callable[[], T]) -> T:
        """Make a request; the caller handles an object that is absent or not as expected.

        Azure also answers 409 or 412 to unconditional requests: for objects that are archived or protected.

        Raises:
            UnstorableObject: the server refuses the object's name or size, or protects the current object.
            UnreadableObject: it is archived.
            StorageError: the request failed, or this process cannot make requests.
        """
        self._check_process()
        errors = self.errors
        try:
            return request()
        except (FileNotFoundError, errors.InvalidPathError):
            raise
        except (errors.BaseError, OSError, ValueError) as error:
            text = str(error)
            if _REFUSED.search(text) or _HELD.search(text):
                raise UnstorableObject(self.plain(error)) from None
            if _ARCHIVED.search(text):
                raise UnreadableObject(self.plain(error)) from None
            if isinstance(error, errors.AlreadyExistsError | errors.PreconditionError):
                raise
            raise self.failed(error) from None

    def failed(self, error: Exception) -> StorageError:
        """Turn an error of the client into ours, with advice."""
        text = str(error).partition(_DEBUG)[0]
        advice = next((advice for pattern, advice in _ADVICE if pattern.search(text)), "run again")
        return _kind_of(text)(f"{advice} ({self.plain(error)})", storage=self.name)

    def plain(self, error: Exception) -> str:
        """Return an error's text in one line, without secrets."""
        text = " ".join(str(error).partition(_DEBUG)[0].split())
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = redact(text)
        code = re.search(r"<Code>([^<]*)</Code>(?:<Message>([^<]*)</Message>)?", text)
        if code is not None:
            text = f"{code[1]}: {code[2]}" if code[2] else code[1]
        return text[:TEXT_MAX]

    def _fits(self, current: Meta | None, expect: Meta | None) -> bool:
        if current is None or expect is None:
            return current is expect
        return current.version == expect.version if self.service.by_version else current.token == expect.token

    def _check_process(self) -> None:
        if not _first_process:
            _first_process.append(os.getpid())
        elif _first_process[0] != os.getpid():
            message = (
                "this process was forked from one that had used a bucket, which the client does not survive: start "
                "processes with the method 'spawn' or 'forkserver', or fork before the first use"
            )
            raise StorageError(message, storage=self.name)


def _kind_of(text: str) -> type[StorageError]:
    """Return the class of the error that a text of the client's becomes."""
    if _TOO_MANY.search(text):
        return _TooManyRequestsError
    return DeniedError if _DENIED.search(text) and not _LOGIN.search(text) else StorageError


def _secrets_of(settings: Mapping[str, object]) -> list[str]:
    """Return the secrets in a store's settings, and in the environment that it may have read."""
    given = [str(value) for name, value in settings.items() if _SECRET_SETTING.search(name)]
    found = [value for name, value in os.environ.items() if _SECRET_VARIABLE.match(name)]
    return sorted({text for text in (*given, *found) if len(text) > 1}, key=len, reverse=True)


def _mode(expect: Meta | None) -> str | dict[str, str]:
    if expect is None:
        return "create"
    mode = {"version": expect.version} if expect.version else {}
    if expect.token:
        mode["e_tag"] = f'"{expect.token.decode()}"'
    return mode
