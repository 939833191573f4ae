"""Redis, Valkey, and clusters of them as a storage.

`redis://[user:password@]host[:port][/database]` and `rediss://` (TLS; the certificate is verified) take:

- `prefix=app:`: values are the string keys that begin so, and a value's own key is what follows. Without it, the
  whole database.
- `hash=users`: values are the fields of that hash.
- `cluster=true`: the server is one of a cluster; the others are found.
- `evicting=allow`: put up with a server whose `maxmemory-policy` may evict keys. An evicted key looks like a delete,
  and would be deleted from the peers, so such a server is refused otherwise.
- `foreign=skip`: a scan passes over keys below the prefix that are no strings, or whose names are no UTF-8. Otherwise
  it names the first one and fails: two storages are not equal while one has data that cannot be copied.
- `timeout=30`: seconds a call may take. `ca=`, `cert=`, `cert_key=` name PEM files; `verify=none` trusts anyone.

The index is one hash beside the values, `app:.kvsync` and one byte that no text can have, so that no key of a value
reaches it. A string key may expire: when, is part of its version, if the server tells (Redis 7, every Valkey). Whether
it does is learnt together with its eviction policy, before the first write or scan; until then it is taken for one that
does. Fields of a hash are taken to stay. A plain write takes off the lifetime that its key had.

What is durable is the server's choice (`appendfsync`). In a cluster, each server has its own: one that comes
back with older data than the others has lost values that the index believes in, which a scan takes for deleted.
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
from kvsync.storages.redis.link import ServerLink, check_given
from kvsync.storages.redis.listing import Listing
from kvsync.storages.redis.strings import StringValues
from kvsync.storages.redis.traits import SMALL_BYTES, ServerTraits
from kvsync.storages.redis.url import Place, RedisUrl
from kvsync.storages.redis.values import index_key
from kvsync.storages.url import redact
from kvsync.types import Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kvsync.storages.redis.link import Link
    from kvsync.storages.redis.values import Values
    from kvsync.types import Expectation, Stored, Unreadable, Version

__all__ = ["RedisStorage", "open_url"]

EXPIRES_MAX = 1 << 53
"""Scripts tell milliseconds apart up to here, in 285,000 years."""

_TOO_LATE = f"it expires later than {EXPIRES_MAX} milliseconds after 1970, beyond what the server tells exactly"
_NO_EXPIRY = "it expires, and this storage keeps no expiry: it takes string keys, and Redis 7 or Valkey"


def open_url(url: str) -> RedisStorage:
    """Return the storage of a `redis://` or `rediss://` URL; nothing is sent yet.

    Raises:
        UsageError: a part of the URL is not what it may be, or the client library is missing.
    """
    parsed = RedisUrl.parse(url)
    link = (ClusterLink if parsed.cluster else ServerLink).of_url(parsed)
    return RedisStorage(link, parsed.place, name=parsed.name, identity=parsed.identity)


class RedisStorage:
    """Keys below a prefix, or the fields of a hash, as a storage; several threads may use it.

    Args:
        link: the way to the server or cluster.
        place: where values lie.
        name: what messages call it.
        identity: equal for two handles of one storage.
        random_bytes: gives that many random bytes; versions of index objects are made of them.
    """

    def __init__(
        self,
        link: Link,
        place: Place,
        *,
        name: str,
        identity: str,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.name = name
        self.identity = identity
        self._link = link
        self._place = place
        self._strings = StringValues(link, place.prefix) if place.hash is None else None
        self._values: Values = self._strings or FieldValues(link, str(place.hash))
        index = index_key(place.prefix, place.hash)
        self._index = ObjectHash(link, index, random_bytes)
        self._traits = ServerTraits(link, index, evicting=place.evicting)
        self.capabilities = Capabilities(
            Tier.CONDITIONAL,
            distance="network",
            lease_stays=True,
            supports=frozenset({Support.IDENTITY} | ({Support.EXPIRY} if self._strings is not None else set())),
        )
        self._listing = Listing(self._values, name, foreign=place.foreign)

    @classmethod
    def over(cls, client: Any, place: Place | None = None) -> RedisStorage:
        """Return a storage that uses the caller's `redis.Redis` or `redis.RedisCluster`, and never closes it.

        It must not repeat commands by itself: make it with `retry=Retry(NoBackoff(), 0)`.

        Raises:
            UsageError: it does, or takes values for text.
        """
        library = import_client("redis", "redis")
        place = place or Place()
        if isinstance(client, library.RedisCluster):
            check_given(client, client.retry, client.get_connection_kwargs())
            where = ",".join(sorted(node.name for node in client.get_primaries()))
            name = f"redis://{where}?{place}&cluster=true"
            identity = f"redis:{where}?{place}"
            link: Link = ClusterLink(library, ErrorTexts(name, redact, library), None, client)
        else:
            arguments = client.connection_pool.connection_kwargs
            check_given(client, client.get_retry(), arguments)
            where = f"{arguments.get('host', arguments.get('path', ''))}:{arguments.get('port', 6379)}"
            identity = f"redis:{where.lower()}/{arguments.get('db') or 0}?{place}"
            name = f"redis://{where}/{arguments.get('db') or 0}?{place}"
            link = ServerLink(library, ErrorTexts(name, redact, library), None, client)
        return cls(link, place, name=name, identity=identity)

    def __repr__(self) -> str:
        """Return the class and the storage's name."""
        return f"RedisStorage({self.name!r})"

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Return the values of `keys`, in their order; None where there is none.

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
        """Write `values[i]` at `keys[i]`, with `expect` only where the value there has that token.

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
        """Write values, each until `expires[i]` (0: for ever), with `expect` only where there is that token.

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
        """Return when each value expires, wall-clock milliseconds; 0 where never, or where there is none.

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
        """Delete `keys`, with `expect` only where the value there has that token.

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

    def scan(self) -> Iterator[tuple[list[str], list[bytes]]]:
        """Yield every key with its token, ascending by UTF-8 bytes: the BLAKE3 of the value, and when it expires.

        Raises:
            StorageError: the server cannot be listed, may evict keys, or holds below the prefix what is no value.
        """
        self._admit(again=True)
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
            ObjectMismatch: it is not as expected; nothing was written.
            StorageError: it cannot be written, or whether it was is not known.
        """
        self._admit()
        return self._index.store(name, data, expect)

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Remove index objects; absent ones are passed over, where `expect` allows it.

        Raises:
            ObjectMismatch: one is not as expected; nothing was removed.
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
        """Return None for each key: Redis does not know."""
        return [None] * len(keys)

    def close(self) -> None:
        """Close the connections that were made here."""
        self._link.close()

    def _admit(self, *, again: bool = False) -> None:
        self._traits.admit(again=again)
        if self._traits.tell_expiry is False and has_expiry(self):
            self.capabilities = replace(self.capabilities, supports=self.capabilities.supports - {Support.EXPIRY})

    def _write(self, batch: Batch) -> None:
        self._refuse_unfit(batch)
        names, values = self._names(batch), batch.values
        # The server refuses times before 1: what expired at 1 has expired, too.
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
        """Return the keys that can have a name here, to read or delete them, and their names."""
        batch = Batch(keys, expect=expect)
        batch.drop(_nameless(keys))
        return batch, self._names(batch)

    def _refuse_unfit(self, batch: Batch) -> None:
        """Refuse keys, values and times that the server cannot hold."""
        for key in _nameless(batch.keys):
            batch.refuse(key, "its key has a lone surrogate, which UTF-8 cannot hold")
        if max(map(len, batch.values), default=0) > SMALL_BYTES:
            limit = self._traits.value_bytes_max()
            for key, value in zip(batch.keys, batch.values, strict=True):
                if len(value) > limit:
                    batch.refuse(key, f"its value has {len(value)} bytes, and the server takes {limit}")
        if max(batch.expires, default=0) > EXPIRES_MAX:
            for key, due in zip(batch.keys, batch.expires, strict=True):
                if due > EXPIRES_MAX:
                    batch.refuse(key, _TOO_LATE)
        batch.drop_refused()


def _refuse_others(batch: Batch, start: int, others: Mapping[int, str], what: str) -> None:
    """Refuse keys that hold something other than a value, by their positions after `start`."""
    for position, kind in others.items():
        reason = f"its key holds a {kind}, which is not {what}: delete or rename that, or name another prefix"
        batch.refuse(batch.keys[start + position], reason)


def _nameless(keys: Sequence[str]) -> set[str]:
    """Return the keys that UTF-8 cannot hold."""
    try:
        "".join(keys).encode()
    except UnicodeEncodeError:
        return {key for key in keys if any("\ud800" <= character <= "\udfff" for character in key)}
    return set()
