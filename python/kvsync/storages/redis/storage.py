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

from kvsync.storages.contract import Capabilities, Support, Tier, has_expiry
from kvsync.storages.expiry import lasting_only, noted
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
from kvsync.types import Refusal, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kvsync.storages.redis.link import Link
    from kvsync.storages.redis.values import Values
    from kvsync.types import Expectation, Stored, Unreadable, Version

__all__ = ["RedisStorage", "open_url"]

EXPIRES_MAX = 1 << 53
"""Scripts tell milliseconds apart up to here, in 285,000 years."""

_MISMATCH = "the value there is not the expected one"
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
        names, good, _ = self._encoded(keys)
        found: list[bytes | Unreadable | None] = []
        for start in range(0, len(names), COMMAND_COUNT):
            found += self._values.get(names[start : start + COMMAND_COUNT])
        return found if good is None else _spread(found, good, len(keys))

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
        return Written(tuple(self._write(keys, values, None, expect)))

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
        if not has_expiry(self):
            return lasting_only(self, keys, values, expires, expect, _NO_EXPIRY)
        return noted(keys, values, expires, self._write(keys, values, expires, expect))

    def expiries(self, keys: Sequence[str]) -> list[int]:
        """Return when each value expires, wall-clock milliseconds; 0 where never, or where there is none.

        Raises:
            StorageError: the server cannot be read.
        """
        times = [0] * len(keys)
        if self._strings is None:
            return times
        names, good, _ = self._encoded(keys)
        positions: Sequence[int] = range(len(keys)) if good is None else good
        for start in range(0, len(names), COMMAND_COUNT):
            found = self._strings.expiries(names[start : start + COMMAND_COUNT])
            for position, at in zip(positions[start : start + COMMAND_COUNT], found, strict=True):
                times[position] = at
        return times

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Delete `keys`, with `expect` only where the value there has that token.

        Raises:
            StorageError: the server cannot be written.
        """
        if not keys:
            return Written()
        names, good, _ = self._encoded(keys)
        positions: Sequence[int] = range(len(keys)) if good is None else good
        if expect is not None:
            changed = delete_if(self._values, names, [expect[i] for i in positions])
            return Written(tuple(Refusal(keys[positions[i]], _MISMATCH, changed=True) for i in changed))
        refused = []
        for start in range(0, len(names), COMMAND_COUNT):
            others = self._values.drop(names[start : start + COMMAND_COUNT])
            refused += [_foreign(keys[positions[start + i]], kind, "deleted") for i, kind in others.items()]
        return Written(tuple(refused))

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

    def _write(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        expires: Sequence[int] | None,
        expect: Sequence[bytes | None] | None,
    ) -> list[Refusal]:
        names, good, refused = self._encoded(keys, values, expires)
        positions: Sequence[int] = range(len(keys)) if good is None else good
        if good is not None:
            values = [values[i] for i in good]
        # What has passed already is passed at 1, too; the server refuses to be told anything earlier.
        times = [max(1, expires[i]) if expires[i] else 0 for i in positions] if expires is not None else None
        if expect is not None:
            changed = write_if(self._values, names, values, times or [0] * len(names), [expect[i] for i in positions])
            return refused + [Refusal(keys[positions[i]], _MISMATCH, changed=True) for i in changed]
        for start, stop in pieces([len(value) for value in values]):
            others = self._put(names[start:stop], values[start:stop], times[start:stop] if times else ())
            refused += [_foreign(keys[positions[start + i]], kind, "overwritten") for i, kind in others.items()]
        return refused

    def _put(self, names: Sequence[bytes], values: Sequence[bytes], expires: Sequence[int]) -> dict[int, str]:
        if self._strings is not None and any(expires):
            return self._strings.put_expiring(names, values, expires)
        return self._values.put(names, values)

    def _encoded(
        self,
        keys: Sequence[str],
        values: Sequence[bytes] | None = None,
        expires: Sequence[int] | None = None,
    ) -> tuple[list[bytes], list[int] | None, list[Refusal]]:
        """Return names, the positions that have one (None: all), and refusals of the others."""
        limit = SMALL_BYTES
        if values is not None and max(map(len, values)) > SMALL_BYTES:
            limit = self._traits.value_bytes_max()
        name_of = self._values.name_of
        try:
            names = [name_of(key) for key in keys]
        except UnicodeEncodeError:
            names = []
        fits = values is None or max(map(len, values)) <= limit
        if len(names) == len(keys) and fits and (expires is None or max(expires) <= EXPIRES_MAX):
            return names, None, []
        names, good, refused = [], [], []
        for i, key in enumerate(keys):
            late = expires is not None and expires[i] > EXPIRES_MAX
            reason = _why_not(key, len(values[i]) if values is not None else 0, limit, late=late)
            if reason:
                refused.append(Refusal(key, reason, changed=False))
            else:
                names.append(name_of(key))
                good.append(i)
        return names, good, refused


def _foreign(key: str, kind: str, what: str) -> Refusal:
    reason = f"its key holds a {kind}, which is not {what}: delete or rename that, or name another prefix"
    return Refusal(key, reason, changed=False)


def _spread(
    found: Sequence[bytes | Unreadable | None], positions: Sequence[int], count: int
) -> list[bytes | Unreadable | None]:
    spread: list[bytes | Unreadable | None] = [None] * count
    for position, value in zip(positions, found, strict=True):
        spread[position] = value
    return spread


def _why_not(key: str, size: int, limit: int, *, late: bool) -> str:
    if late:
        return f"it expires later than {EXPIRES_MAX} milliseconds after 1970, beyond what the server tells exactly"
    if size > limit:
        return f"its value has {size} bytes, and the server takes {limit}"
    try:
        key.encode()
    except UnicodeEncodeError:
        return "its key has a lone surrogate, which UTF-8 cannot hold"
    return ""
