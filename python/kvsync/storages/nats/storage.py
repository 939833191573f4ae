"""A bucket of NATS JetStream (its key-value store) as a storage.

`nats://[user:password@|token@]host[:port]/bucket`, with `?tls=true`, `?credentials=FILE`, `?timeout=SECONDS` and
`?evicting=allow`. The first write creates the bucket: in files, one version of each key. The version token of a value
is its revision, so the server checks all conditions. Keys that NATS cannot hold are quoted
(`kvsync.storages.nats.keys`). The index is in the same bucket, under `=kvsync.`.

A user needs the rights to publish to `$KV.BUCKET.>`, `$JS.API.STREAM.*.KV_BUCKET`, `$JS.API.STREAM.MSG.GET.KV_BUCKET`,
`$JS.API.DIRECT.GET.KV_BUCKET`, `$JS.API.CONSUMER.*.KV_BUCKET.>`, `$JS.API.CONSUMER.CREATE.KV_BUCKET` and
`$JS.API.CONSUMER.MSG.NEXT.KV_BUCKET.>`, and to subscribe to `_INBOX.>`.

A server acknowledges a write before it is on disk, unless it runs with `sync_interval: always`. Without that, a power
failure (but not a crash of the server) can undo the last two minutes.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from functools import partial
from typing import TYPE_CHECKING

from kvsync.errors import UsageError
from kvsync.native import digest_values
from kvsync.storages.contract import Capabilities, OpaqueTokens, Support, Tier
from kvsync.storages.extras import client
from kvsync.storages.nats.bucket import Bucket
from kvsync.storages.nats.link import Link
from kvsync.storages.nats.objects import Objects, version_of
from kvsync.storages.nats.server import PORT, NatsServer
from kvsync.storages.nats.values import Values
from kvsync.storages.options import choice, seconds
from kvsync.storages.url import parse_url
from kvsync.types import Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kvsync.storages.contract import Pages
    from kvsync.storages.hints import Wake
    from kvsync.storages.nats.hints import BucketHints
    from kvsync.types import Expectation, Skipped, Stored, Unreadable, Version

__all__ = ["NatsServer", "NatsStorage", "open_url"]

SCAN_COUNT = 10_000
TIMEOUT_SECONDS = 10.0
TIMEOUT_SECONDS_MAX = 3600.0

_bucket_name = re.compile(r"[A-Za-z0-9_-]+\Z")


def open_url(url: str) -> NatsStorage:
    """Return the storage of a `nats://host/bucket` URL.

    Raises:
        UsageError: the URL is not of that form, has an unknown parameter, or nats-py is missing.
    """
    parsed = parse_url(url)
    name = str(parsed)
    options = parsed.options("tls", "credentials", "timeout", "evicting")
    endpoint = parsed.endpoint()
    bucket = parsed.path[1:]
    if not endpoint.host or not _bucket_name.match(bucket):
        message = "a bucket's URL is nats://host/bucket, the bucket of letters, digits, - and _ only"
        raise UsageError(message, storage=name)
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    server = NatsServer(
        address=f"{host}:{PORT if endpoint.port is None else endpoint.port}",
        user=(endpoint.user or "") if endpoint.password is not None else "",
        password=endpoint.password or "",
        token=(endpoint.user or "") if endpoint.password is None else "",
        credentials=options.get("credentials", ""),
        tls=choice(options, "tls", ("false", "true"), storage=name) == "true",
        timeout=seconds(options, "timeout", default=TIMEOUT_SECONDS, most=TIMEOUT_SECONDS_MAX, storage=name),
    )
    evicting = choice(options, "evicting", ("refuse", "allow"), storage=name) == "allow"
    return NatsStorage(bucket, server, name=name, evicting=evicting)


class NatsStorage:
    """A bucket as a storage; several threads may use it.

    >>> storage = NatsStorage("app", NatsServer("nats.example.com:4222", user="me", password="hunter2"))
    >>> storage
    NatsStorage('nats://nats.example.com:4222/app')

    Args:
        bucket: its name.
        server: its address, and the login.
        name: what messages call it; by default its URL.
        evicting: accept a bucket that drops values by itself, and values that expire; each counts as a delete then.
        clock: returns wall-clock seconds; the names of parts of large index objects contain it.
        random_bytes: returns that many random bytes.

    Raises:
        UsageError: nats-py is missing.
    """

    capabilities = Capabilities(
        Tier.CONDITIONAL,
        distance="network",
        tokens=OpaqueTokens(racy_ms=0),
        supports=frozenset(
            {
                Support.TOKENS,
                Support.IDENTITY,
                Support.SKIPPED,
                Support.DRY_PROBE,
                Support.LIMITS,
                Support.HINTS,
            }
        ),
    )

    def __init__(
        self,
        bucket: str,
        server: NatsServer,
        *,
        name: str | None = None,
        evicting: bool = False,
        clock: Callable[[], float] = time.time,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        client("nats.aio.client", "nats")
        self.name = name or f"nats://{server.address}/{bucket}"
        # A server may have a bucket of this name in each account. Equal logins use the same account.
        login = repr((server.user, server.password, server.token, server.credentials)).encode()
        self.identity = f"nats:{server.address.lower()}/{bucket} {digest_values([login])[0][:8].hex()}"
        self._bucket = Bucket(bucket, evicting=evicting)
        self._values = Values(self._bucket)
        self._objects = Objects(self._bucket, clock=clock, random_bytes=random_bytes)
        self._link = Link(partial(server.connect, self.name), self.name)

    def __repr__(self) -> str:
        """Return the class and the storage's name."""
        return f"NatsStorage({self.name!r})"

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Messages that the last scan skipped, since their names cannot be those of keys."""
        return self._values.skips.all

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Return the values of `keys`, in their order; None for a key that is absent.

        Raises:
            StorageError: the bucket cannot be read.
        """
        if not keys:
            return []
        return [*self._link.call(lambda session: self._values.read(session, keys))]

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Write `values[i]` at `keys[i]`, with `expect` only where that is the current revision.

        Raises:
            StorageError: the bucket cannot be written.
        """
        if not keys:
            return Written()
        return self._link.call(lambda session: self._values.write(session, keys, values, expect))

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Delete `keys`, with `expect` only where that is the current revision.

        Raises:
            StorageError: the bucket cannot be written.
        """
        if not keys:
            return Written()
        return self._link.call(lambda session: self._values.delete(session, keys, expect))

    def scan(self) -> Pages:
        """Yield every key with its version token, in UTF-8 byte order.

        Raises:
            StorageError: the bucket cannot be listed completely.
        """
        info, rows = self._link.call(self._values.rows)
        if info is None:
            return
        keys = sorted(rows)  # by code point, which is UTF-8 byte order
        for start in range(0, len(keys), SCAN_COUNT):
            some = keys[start : start + SCAN_COUNT]
            yield some, [version_of(info, rows[key].revision) for key in some]

    def load(self, name: str) -> Stored | None:
        """Return an index object, or None.

        Raises:
            IndexDamagedError: a part of it is gone.
            StorageError: it cannot be read.
        """
        return self._link.call(lambda session: self._objects.load(session, name))

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Write an index object and return its new version.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was written.
            StorageError: it cannot be written.
        """
        return self._link.call(lambda session: self._objects.store(session, name, data, expect))

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Remove index objects; skip absent ones, unless a version is expected.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was removed.
            StorageError: they cannot be removed.
        """
        if names:
            self._link.call(lambda session: self._objects.remove(session, names, expect))

    def objects(self) -> list[str]:
        """Return the names of all index objects, ascending.

        Raises:
            StorageError: they cannot be listed.
        """
        return self._link.call(self._objects.names)

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        """Return when each value was stored, by the server's clock; None if it is absent.

        Raises:
            StorageError: the bucket cannot be read.
        """
        if not keys:
            return []
        return self._link.call(lambda session: self._values.modified_ms(session, keys))

    def hints(self, wake: Wake) -> BucketHints:
        """Notice changes by a consumer of the bucket's stream.

        Raises:
            NoHintsError: the server refuses a consumer.
            StorageError: it does not answer.
        """
        from kvsync.storages.nats.hints import BucketHints  # noqa: PLC0415 - most runs need none

        return BucketHints(self._link, self._bucket, self.name, wake)

    def limits(self) -> list[str]:
        """Return what the bucket may lose by itself.

        Raises:
            StorageError: the server does not answer.
        """
        info = self._link.call(self._bucket.info)
        return list(info.limits) if info is not None else []

    def unmade(self) -> str:
        """Return that the bucket does not exist, if so.

        Raises:
            StorageError: the server does not report whether it exists.
        """
        found = self._link.call(self._bucket.info) is not None
        return "" if found else f"the bucket {self._bucket.name!r}"

    def tokens(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the revision of each value, as a version token; None if it is absent.

        Raises:
            StorageError: the bucket cannot be read.
        """
        if not keys:
            return []
        return self._link.call(lambda session: self._values.tokens(session, keys))

    @contextlib.contextmanager
    def dry_probe(self) -> Iterator[str]:
        """Probe without leaving anything behind: the first write creates a bucket, so probe only an existing one.

        Raises:
            StorageError: the server does not report whether it exists.
        """
        current = self._link.call(lambda session: self._bucket.info(session, fresh=True)) is not None
        yield ("" if current else f"the bucket {self._bucket.name!r}, in files, one version of each key, on one server")

    def close(self) -> None:
        """Close the connection and end its thread; closing twice is allowed."""
        self._link.close()
