"""The values of a bucket: read, list, write and delete them, with and without conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.storages.batch import Batch
from kvsync.storages.nats.bucket import EXPECTED
from kvsync.storages.nats.keys import INDEX, decode, encode, is_name
from kvsync.storages.nats.listing import Row, list_names
from kvsync.storages.nats.objects import revision_of, version_of
from kvsync.storages.nats.reading import get
from kvsync.storages.nats.session import Message, headers_size
from kvsync.storages.skips import Skips
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kvsync.storages.nats.bucket import Bucket, Info
    from kvsync.storages.nats.reading import Entry
    from kvsync.storages.nats.session import Session
    from kvsync.types import Written

__all__ = ["Values"]

NAME_BYTES_MAX = 3_600
"""A server limits the line with subject, inbox and sizes to 4,096 bytes."""

EXPIRES = (
    "it expires by itself (Nats-TTL), and would then look like a delete: write it without a time to live, or add "
    "?evicting=allow if these deletes may spread"
)

MODIFIED_COUNT = 1_000
MARKER_SECONDS = 7 * 24 * 3600
"""How long a marker stays, if the bucket supports that: other clients learn of a delete by it."""


class Values:
    """The values of a bucket; every coroutine needs a session."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self.skips = Skips()

    async def read(self, session: Session, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Return the values of `keys`; None for a key that is absent.

        Raises:
            StorageError: the bucket cannot be read.
        """
        names = [_name_of(key) for key in keys]
        entries = await get(session, self._bucket, [name for name in names if name])
        each = iter(entries)
        return [self._value(next(each) if name else None) for name in names]

    def _value(self, entry: Entry | None) -> bytes | Unreadable | None:
        if entry is None or entry.deleted:
            return None
        return Unreadable(EXPIRES) if entry.expires and not self._bucket.evicting else entry.data

    async def tokens(self, session: Session, keys: Sequence[str]) -> list[bytes | None]:
        """Return the version of each value, from its stream's leader; None if it is absent.

        Raises:
            StorageError: the bucket cannot be read.
        """
        info = await self._bucket.info(session)
        names = [_name_of(key) for key in keys]
        each = iter(await get(session, self._bucket, [name for name in names if name]))
        found = (next(each) if name else None for name in names)
        return [None if not info or not entry or entry.deleted else version_of(info, entry.revision) for entry in found]

    async def write(
        self,
        session: Session,
        keys: Sequence[str],
        values: Sequence[bytes],
        expect: Sequence[bytes | None] | None,
    ) -> Written:
        """Write values, with `expect` only where that is the current version.

        Raises:
            StorageError: the bucket cannot be created or written.
        """
        info = await self._bucket.made(session)
        batch = Batch(keys, values, expect)
        names = _refuse_nameless(batch)
        writing = _Writing(self._bucket, info, batch, names)
        if batch.expect is None:
            await writing.publish(session, dict.fromkeys(batch.keys))
            return writing.written()
        wanted = dict(zip(batch.keys, batch.expect, strict=True))
        revisions = {key: 0 if token is None else revision_of(info, token) for key, token in wanted.items()}
        for key, revision in revisions.items():
            if revision is None:
                batch.refuse_changed(key)
        blocked = await writing.publish(session, {key: r for key, r in revisions.items() if r is not None})
        # Where no value is expected there may be the marker of a deleted one.
        hopeful = [key for key in blocked if wanted[key] is None]
        entries = await get(session, self._bucket, [names[key] for key in hopeful], leader=True)
        absent = {
            key: entry.revision if entry is not None else 0
            for key, entry in zip(hopeful, entries, strict=True)
            if entry is None or entry.deleted
        }
        changed = {key for key in blocked if key not in absent}
        changed.update(await writing.publish(session, absent))
        for key in changed:
            batch.refuse_changed(key)
        return writing.written()

    async def delete(self, session: Session, keys: Sequence[str], expect: Sequence[bytes | None] | None) -> Written:
        """Delete values, with `expect` only where that is the current version.

        Raises:
            StorageError: the bucket cannot be written.
        """
        info = await self._bucket.info(session)
        batch = Batch(keys, expect=expect)
        names = {name: key for key in keys if (name := _name_of(key))}
        if info is None or not names:
            return batch.written()
        marker = {"KV-Operation": "DEL"}
        if info.marker_ttl:
            marker["Nats-TTL"] = str(MARKER_SECONDS)
        wanted = dict(zip(keys, expect, strict=True)) if expect is not None else {}
        messages: dict[str, Message] = {}
        for name, key in names.items():
            token = wanted.get(key)
            revision = revision_of(info, token) if token is not None else None
            if expect is None or revision is not None:
                headers = marker if expect is None else {**marker, EXPECTED: str(revision)}
                messages[name] = Message(self._bucket.prefix + name, b"", headers)
        acks = await self._bucket.publish(session, list(messages.values()))
        done = {name for name, ack in zip(messages, acks, strict=True) if not ack.code}
        doubtful = [name for name in names if name not in done]
        entries = await get(session, self._bucket, doubtful, leader=True)
        for name, entry in zip(doubtful, entries, strict=True):
            if entry is not None and not entry.deleted:
                batch.refuse_changed(names[name])
        return batch.written()

    async def rows(self, session: Session) -> tuple[Info | None, dict[str, Row]]:
        """Return what the bucket reports about itself, and every key that has a value.

        Raises:
            StorageError: it cannot be listed completely.
        """
        self.skips = Skips()
        info = await self._bucket.info(session, fresh=True)
        if info is None:
            return None, {}
        found: dict[str, Row] = {}
        for name, row in (await list_names(session, self._bucket, ">")).items():
            if name.startswith(INDEX):
                continue
            if is_name(name):
                found[decode(name)] = row
            else:
                self.skips.add(f"{name:.200}", "a bucket cannot have a key of this name", harmless=False)
        return info, found

    async def modified_ms(self, session: Session, keys: Sequence[str]) -> list[int | None]:
        """Return when each value was stored, by the server's clock; None if it is absent.

        Raises:
            StorageError: the bucket cannot be read.
        """
        if len(keys) > MODIFIED_COUNT:
            _, rows = await self.rows(session)
            return [rows[key].milliseconds if key in rows else None for key in keys]
        names = [_name_of(key) for key in keys]
        each = iter(await get(session, self._bucket, [name for name in names if name]))
        found = (next(each) if name else None for name in names)
        return [None if entry is None or entry.deleted else entry.milliseconds for entry in found]


class _Writing:
    """Publishes the values of a batch, and keeps their new tokens."""

    def __init__(self, bucket: Bucket, info: Info, batch: Batch, names: Mapping[str, str]) -> None:
        self._bucket = bucket
        self._info = info
        self._batch = batch
        self._names = names
        self._values = dict(zip(batch.keys, batch.values, strict=True))
        self._tokens: dict[str, bytes] = {}

    async def publish(self, session: Session, revisions: Mapping[str, int | None]) -> list[str]:
        """Write keys, each on condition of its revision (None: unconditionally); return those whose condition failed.

        Refuse what the server cannot take.

        Raises:
            StorageError: the bucket cannot be written.
        """
        messages = {key: self._message(key, revision) for key, revision in revisions.items()}
        fitting = {key: message for key, message in messages.items() if self._fits(key, message)}
        acks = await self._bucket.publish(session, list(fitting.values()))
        changed = []
        for key, ack in zip(fitting, acks, strict=True):
            if ack.mismatch:
                changed.append(key)
            elif ack.code:
                self._batch.refuse(key, f"the server refused it: {ack.reason}")
            else:
                self._tokens[key] = version_of(self._info, ack.revision)
        return changed

    def written(self) -> Written:
        """Return the outcome of the call."""
        return self._batch.written([self._tokens.get(key) for key in self._batch.keys])

    def _message(self, key: str, revision: int | None) -> Message:
        headers = None if revision is None else {EXPECTED: str(revision)}
        return Message(self._bucket.prefix + self._names[key], self._values[key], headers)

    def _fits(self, key: str, message: Message) -> bool:
        size, limit = len(message.payload) + headers_size(message.headers), self._info.message_bytes_max
        if size > limit:
            reason = f"its {size:,} bytes are more than the {limit:,} that server and bucket accept (max_payload)"
            self._batch.refuse(key, reason)
        return size <= limit


def _refuse_nameless(batch: Batch) -> dict[str, str]:
    """Refuse the keys that cannot have a name here; return the names of the others."""
    names: dict[str, str] = {}
    for key in batch.keys:
        if name := _name_of(key):
            names[key] = name
        else:
            batch.refuse(key, _why_no_name(key))
    batch.drop_refused()
    return names


def _name_of(key: str) -> str | None:
    """Return the name of a key, or None if it cannot have one here."""
    try:
        name = encode(key)
    except UnicodeEncodeError:
        return None
    return name if len(name) <= NAME_BYTES_MAX else None


def _why_no_name(key: str) -> str:
    try:
        size = len(encode(key))
    except UnicodeEncodeError:
        return "the key has a lone surrogate, which no storage can hold"
    return f"the key's name has {size:,} bytes in NATS, more than {NAME_BYTES_MAX:,}"
