"""Redis, Valkey, and clusters of them as a storage.

`redis://[user:password@]host[:port][/database]` and `rediss://` (TLS; the certificate is verified) take:

- `prefix=app:`: values are the string keys that begin with it; the rest of a key is the key of the value. Without it,
  the whole database.
- `hash=users`: values are the fields of that hash.
- `cluster=true`: the server belongs to a cluster; the others are found.
- `evicting=allow`: accept a server whose `maxmemory-policy` may evict keys, or that does not tell its policy. It is
  refused otherwise, since an evicted key looks like a delete, which would spread to the peers.
- `foreign=skip`: keys below the prefix whose names are not UTF-8 belong to somebody else. Otherwise a run names them
  and ends with 1: two storages are not equal while one has data that cannot be copied.
- `timeout=30`: seconds a call may take. `ca=`, `cert=`, `cert_key=` name PEM files; `verify=none` trusts any server.

The index is one hash beside the values, `app:.kvsync` and one byte that UTF-8 does not have, so that it is not the key
of any value. A string key may expire. When it does is part of its version, if the server reports it (Redis 7, every
Valkey). That is found out together with the eviction policy, before the first write or scan; until then it is assumed.
Fields of a hash are assumed never to expire. A write without a time removes the TTL of its key.

How durable data is depends on the server (`appendfsync`). In a cluster, each server decides for itself. If one comes
back with older data than the others, it has lost values that the index still lists, and a scan takes them for deleted.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kvsync.storages.batch import Batch
from kvsync.storages.contract import Capabilities, Support, Tier, has_expiry
from kvsync.storages.expiry import write_unexpiring, written_with_digests
from kvsync.storages.extras import client as import_client
from kvsync.storages.redis.cluster import ClusterLink
from kvsync.storages.redis.conditions import COMMAND_COUNT, delete_if, pieces, write_if
from kvsync.storages.redis.errors import ErrorTexts
from kvsync.storages.redis.fields import FieldValues
from kvsync.storages.redis.index import ObjectHash
from kvsync.storages.redis.limits import limits_of
from kvsync.storages.redis.link import ServerLink, check_given
from kvsync.storages.redis.listing import Listing
from kvsync.storages.redis.strings import StringValues
from kvsync.storages.redis.traits import SMALL_BYTES, ServerTraits
from kvsync.storages.redis.url import Location, RedisUrl
from kvsync.storages.redis.values import index_key
from kvsync.storages.url import redact
from kvsync.types import Written

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kvsync.storages.contract import Pages, Storage
    from kvsync.storages.hints import Wake
    from kvsync.storages.redis.hints import RedisHints
    from kvsync.storages.redis.link import Link
    from kvsync.storages.redis.values import Values
    from kvsync.types import Expectation, Skipped, Stored, Unreadable, Version

__all__ = ["RedisStorage", "open_url"]

_SUPPORTS = frozenset({Support.IDENTITY, Support.NESTING, Support.SKIPPED, Support.LIMITS, Support.HINTS})

EXPIRES_MAX = 1 << 53
"""The latest time that scripts represent exactly, in 285,000 years."""

_TOO_LATE = f"it expires later than {EXPIRES_MAX} milliseconds after 1970, which the server does not represent exactly"
_NO_EXPIRY = "it expires, and this storage keeps no expiry: use string keys, and Redis 7 or Valkey"


def open_url(url: str) -> RedisStorage:
    """Return the storage of a `redis://` or `rediss://` URL; send nothing yet.

    Raises:
        UsageError: a part of the URL is invalid, or the client library is missing.
    """
    parsed = RedisUrl.parse(url)
    link = (ClusterLink if parsed.cluster else ServerLink).of_url(parsed)
    return RedisStorage(link, parsed.location, name=parsed.name, identity=parsed.identity)


class RedisStorage:
    """Keys below a prefix, or the fields of a hash, as a storage; several threads may use it.

    Args:
        link: to the server or cluster.
        location: where values are stored.
        name: what messages call it.
        identity: equal for two handles of one storage.
        random_bytes: returns that many random bytes, for the versions of index objects.
    """

    def __init__(
        self,
        link: Link,
        location: Location,
        *,
        name: str,
        identity: str,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.name = name
        self.identity = identity
        self._link = link
        self.location = location
        self._strings = StringValues(link, location.prefix) if location.hash is None else None
        self._values: Values = self._strings or FieldValues(link, str(location.hash))
        index = index_key(location.prefix, location.hash)
        self._index = ObjectHash(link, index, random_bytes)
        self._traits = ServerTraits(link, index, evicting=location.evicting)
        self.capabilities = Capabilities(
            Tier.CONDITIONAL,
            distance="network",
            lease_stays=True,
            supports=_SUPPORTS | ({Support.EXPIRY} if self._strings is not None else set()),
        )
        self._listing = Listing(self._values, foreign=location.foreign)

    @classmethod
    def over(cls, client: Any, location: Location | None = None) -> RedisStorage:
        """Return a storage that uses the caller's `redis.Redis` or `redis.RedisCluster`, and never closes it.

        It must not repeat commands by itself: make it with `retry=Retry(NoBackoff(), 0)`.

        Raises:
            UsageError: it does, or takes values for text.
        """
        library = import_client("redis", "redis")
        location = location or Location()
        if isinstance(client, library.RedisCluster):
            check_given(client, client.retry, client.get_connection_kwargs())
            where = ",".join(sorted(node.name for node in client.get_primaries()))
            name = f"redis://{where}?{location}&cluster=true"
            identity = f"redis:{where}/0?{location}"
            link: Link = ClusterLink(library, ErrorTexts(name, redact, library), None, client)
        else:
            arguments = client.connection_pool.connection_kwargs
            check_given(client, client.get_retry(), arguments)
            where = f"{arguments.get('host', arguments.get('path', ''))}:{arguments.get('port', 6379)}"
            identity = f"redis:{where.lower()}/{arguments.get('db') or 0}?{location}"
            name = f"redis://{where}/{arguments.get('db') or 0}?{location}"
            link = ServerLink(library, ErrorTexts(name, redact, library), None, client)
        return cls(link, location, name=name, identity=identity)

    def contains(self, other: Storage) -> bool:
        """Return whether the prefix of `other` is within this one, in the same database, whatever the server is called.

        Equal prefixes are left to the leases, which need no request for that.

        Raises:
            StorageError: a server does not answer.
        """
        if not isinstance(other, RedisStorage) or self.location.hash is not None or other.location.hash is not None:
            return False
        inner, outer = other.location.prefix, self.location.prefix
        (server, number), (other_server, other_number) = self.place, other.place
        if inner == outer or not inner.startswith(outer) or number != other_number:
            return False
        return server == other_server or not self.run_ids().isdisjoint(other.run_ids())

    @property
    def place(self) -> tuple[str, str]:
        """The server as it is named, and the database's number."""
        server, _, number = self.identity.partition("?")[0].rpartition("/")
        return server, number

    def run_ids(self) -> set[str]:
        """Return what identifies the servers, whatever they are called.

        Raises:
            StorageError: a server cannot be asked.
        """
        return self._traits.run_ids()

    def __repr__(self) -> str:
        """Return the class and the storage's name."""
        return f"RedisStorage({self.name!r})"

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Keys that the last scan skipped: of another type, or with a name that is not UTF-8."""
        return self._listing.skips.all

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Return the values of `keys`, in their order; None for a key that is absent.

        Raises:
            StorageError: the server cannot be read.
        """
        batch, names = self._named(keys)
        found: list[bytes | Unreadable | None] = []
        for start in range(0, len(names), COMMAND_COUNT):
            found += self._values.get(names[start : start + COMMAND_COUNT])
        return batch.spread(found, None)

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Write `values[i]` at `keys[i]`, with `expect` only where the current value has that token.

        Raises:
            StorageError: the server cannot be written.
        """
        if not keys:
            return Written()
        self._admit()
        batch = Batch(keys, values, expect)
        self._write(batch)
        return batch.written()

    def write_expiring(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        expires: Sequence[int],
        expect: Sequence[bytes | None] | None = None,
    ) -> Written:
        """Write values that expire at `expires[i]` (0: never), with `expect` only where the token is the current one.

        Raises:
            StorageError: the server cannot be written.
        """
        if not keys:
            return Written((), ())
        self._admit()
        batch = Batch(keys, values, expect, expires)
        if not has_expiry(self):
            return write_unexpiring(self, batch, _NO_EXPIRY)
        self._write(batch)
        return written_with_digests(batch)

    def expiries(self, keys: Sequence[str]) -> list[int]:
        """Return when each value expires, wall-clock milliseconds; 0 if never, or if the key is absent.

        Raises:
            StorageError: the server cannot be read.
        """
        if self._strings is None:
            return [0] * len(keys)
        batch, names = self._named(keys)
        times: list[int] = []
        for start in range(0, len(names), COMMAND_COUNT):
            times += self._strings.expiries(names[start : start + COMMAND_COUNT])
        return batch.spread(times, 0)

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Delete `keys`, with `expect` only where the current value has that token.

        Raises:
            StorageError: the server cannot be written.
        """
        if not keys:
            return Written()
        batch, names = self._named(keys, expect)
        if batch.expect is not None:
            for position in delete_if(self._values, names, batch.expect):
                batch.refuse_changed(batch.keys[position])
            return batch.written()
        for start in range(0, len(names), COMMAND_COUNT):
            others = self._values.drop(names[start : start + COMMAND_COUNT])
            _refuse_others(batch, start, others, "deleted")
        return batch.written()

    def scan(self) -> Pages:
        """Yield every key with its token, in UTF-8 byte order: the BLAKE3 of the value, and when it expires.

        Raises:
            StorageError: the server cannot be listed, or may evict keys.
        """
        self._admit(refresh=True)
        yield from self._listing.batches()

    def load(self, name: str) -> Stored | None:
        """Return an index object, or None.

        Raises:
            StorageError: it cannot be read.
        """
        return self._index.load(name)

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Write an index object and return its new version.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was written.
            StorageError: it cannot be written, or the outcome is unknown.
        """
        self._admit()
        return self._index.store(name, data, expect)

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Remove index objects; skip absent ones, unless a version is expected.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was removed.
            StorageError: the server cannot be written.
        """
        self._index.remove(names, expect)

    def objects(self) -> list[str]:
        """Return the names of all index objects, ascending.

        Raises:
            StorageError: the server cannot be read.
        """
        return self._index.names()

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        """Return None for each key: Redis does not record it."""
        return [None] * len(keys)

    def hints(self, wake: Wake) -> RedisHints:
        """Notice changes by the events of the keyspace.

        Raises:
            NoHintsError: the server does not publish them.
            StorageError: it cannot be asked.
        """
        from kvsync.storages.redis.hints import RedisHints  # noqa: PLC0415 - most runs need none

        return RedisHints(self._link, self.location, self.place[1], wake)

    def limits(self) -> list[str]:
        """Return what the server may lose by itself.

        Raises:
            StorageError: it cannot be asked.
        """
        return list(limits_of(self._traits))

    def close(self) -> None:
        """Close the connections that were opened here."""
        self._link.close()

    def _admit(self, *, refresh: bool = False) -> None:
        self._traits.admit(refresh=refresh)
        if self._traits.reports_expiry is False and has_expiry(self):
            self.capabilities = replace(self.capabilities, supports=self.capabilities.supports - {Support.EXPIRY})

    def _write(self, batch: Batch) -> None:
        self._refuse_unfit(batch)
        names, values = self._names(batch), batch.values
        # The server refuses times before 1. A value that expired at 1 has expired, too.
        times = [max(1, due) if due else 0 for due in batch.expires]
        if batch.expect is not None:
            for position in write_if(self._values, names, values, times or [0] * len(names), batch.expect):
                batch.refuse_changed(batch.keys[position])
            return
        for start, stop in pieces([len(value) for value in values]):
            others = self._put(names[start:stop], values[start:stop], times[start:stop])
            _refuse_others(batch, start, others, "overwritten")

    def _put(self, names: Sequence[bytes], values: Sequence[bytes], expires: Sequence[int]) -> dict[int, str]:
        if self._strings is not None and any(expires):
            return self._strings.put_expiring(names, values, expires)
        return self._values.put(names, values)

    def _names(self, batch: Batch) -> list[bytes]:
        return [self._values.name_of(key) for key in batch.keys]

    def _named(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> tuple[Batch, list[bytes]]:
        """Return the keys that can have a name, to be read or deleted, and their names."""
        batch = Batch(keys, expect=expect)
        batch.drop(_nameless(keys))
        return batch, self._names(batch)

    def _refuse_unfit(self, batch: Batch) -> None:
        """Refuse keys, values and times that the server cannot hold."""
        for key in _nameless(batch.keys):
            batch.refuse(key, "its key has a lone surrogate, which UTF-8 cannot encode")
        if max(map(len, batch.values), default=0) > SMALL_BYTES:
            limit = self._traits.value_bytes_max()
            for key, value in zip(batch.keys, batch.values, strict=True):
                if len(value) > limit:
                    batch.refuse(key, f"its value has {len(value)} bytes, and the server accepts {limit}")
        if max(batch.expires, default=0) > EXPIRES_MAX:
            for key, due in zip(batch.keys, batch.expires, strict=True):
                if due > EXPIRES_MAX:
                    batch.refuse(key, _TOO_LATE)
        batch.drop_refused()


def _refuse_others(batch: Batch, start: int, others: Mapping[int, str], what: str) -> None:
    """Refuse keys that hold something other than a value, by their positions after `start`."""
    for position, kind in others.items():
        reason = f"its key holds a {kind}, which is not {what}: delete or rename it, or name another prefix"
        batch.refuse(batch.keys[start + position], reason)


def _nameless(keys: Sequence[str]) -> set[str]:
    """Return the keys that UTF-8 cannot encode."""
    try:
        "".join(keys).encode()
    except UnicodeEncodeError:
        return {key for key in keys if any("\ud800" <= character <= "\udfff" for character in key)}
    return set()
