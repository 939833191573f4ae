"""Values in a bucket: reading and listing them, writing and deleting with and without conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.storages.nats.bucket import EXPECTED
from kvsync.storages.nats.keys import INDEX, decode, encode, is_name
from kvsync.storages.nats.listing import Row, list_names
from kvsync.storages.nats.objects import revision_of, version_of
from kvsync.storages.nats.reading import get
from kvsync.storages.nats.session import Message, headers_size
from kvsync.types import Refusal, Written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.storages.nats.bucket import Ack, Bucket, Info
    from kvsync.storages.nats.session import Session

__all__ = ["Values"]

NAME_BYTES_MAX = 3_600
"""A server takes 4,096 bytes for the line that has subject, inbox and sizes."""

MODIFIED_COUNT = 1_000
MARKER_SECONDS = 7 * 24 * 3600
"""How long a marker lies there, where the bucket can forget one: other clients learn of a delete by it."""

CHANGED = "the value there is not the expected one"


class Values:
    """The values of a bucket; every coroutine needs a session."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def read(self, session: Session, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values of `keys`; None where there is none.

        Raises:
            StorageError: the bucket cannot be read.
        """
        names = [_name_of(key) for key in keys]
        entries = await get(session, self._bucket, [name for name in names if name])
        each = iter(entries)
        found = (next(each) if name else None for name in names)
        return [None if entry is None or entry.deleted else entry.data for entry in found]

    async def write(
        self,
        session: Session,
        keys: Sequence[str],
        values: Sequence[bytes],
        expect: Sequence[bytes | None] | None,
    ) -> Written:
        """Write values, with `expect` only where the version there is that.

        Raises:
            StorageError: the bucket cannot be made or written.
        """
        info = await self._bucket.made(session)
        writing = _Writing(self._bucket, info, keys, values)
        for position in range(len(keys)):
            wanted = expect[position] if expect is not None else b""
            revision = None if expect is None else revision_of(info, wanted) if wanted is not None else 0
            if expect is not None and revision is None:
                writing.refuse(position, CHANGED, changed=True)
            else:
                writing.add(position, revision)
        blocked = await writing.publish(session)
        if expect is not None and blocked:
            # Where no value was expected there may be the marker of a deleted one.
            hopeful = [position for position in blocked if expect[position] is None]
            names = [writing.names[position] for position in hopeful]
            for position, entry in zip(hopeful, await get(session, self._bucket, names, leader=True), strict=True):
                if entry is None or entry.deleted:
                    writing.add(position, entry.revision if entry is not None else 0)
            await writing.publish(session)
        return Written(tuple(writing.refused.values()), tuple(writing.tokens))

    async def delete(self, session: Session, keys: Sequence[str], expect: Sequence[bytes | None] | None) -> Written:
        """Delete values, with `expect` only where the version there is that.

        Raises:
            StorageError: the bucket cannot be written.
        """
        info = await self._bucket.info(session)
        names = {name: key for key in keys if (name := _name_of(key))}
        if info is None or not names:
            return Written()
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
        there = [name for name, entry in zip(doubtful, entries, strict=True) if entry is not None and not entry.deleted]
        return Written(tuple(Refusal(names[name], CHANGED, changed=True) for name in there))

    async def rows(self, session: Session) -> tuple[Info | None, dict[str, Row]]:
        """Return what the bucket is, and every key that has a value.

        Raises:
            StorageError: it cannot be listed as a whole, or a name in it is none that a bucket can hold.
        """
        info = await self._bucket.info(session, fresh=True)
        if info is None:
            return None, {}
        found: dict[str, Row] = {}
        for name, row in (await list_names(session, self._bucket, ">")).items():
            if name.startswith(INDEX):
                continue
            if not is_name(name):
                message = f"the bucket has a message at {name!r:.200}, which is no key: remove it, or use another"
                raise session.error(message)
            found[decode(name)] = row
        return info, found

    async def modified_ms(self, session: Session, keys: Sequence[str]) -> list[int | None]:
        """Return when each value was stored, on the server's clock; None where there is none.

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
    """One batch on its way: names, messages, and what became of them."""

    def __init__(self, bucket: Bucket, info: Info, keys: Sequence[str], values: Sequence[bytes]) -> None:
        self.names = [_name_of(key) or "" for key in keys]
        self.tokens: list[bytes | None] = [None] * len(keys)
        self.refused: dict[int, Refusal] = {}
        self._bucket = bucket
        self._info = info
        self._keys = keys
        self._values = values
        self._messages: dict[int, Message] = {}

    def refuse(self, position: int, reason: str, *, changed: bool) -> None:
        """Note that a value is not written."""
        self.refused[position] = Refusal(self._keys[position], reason, changed)

    def add(self, position: int, revision: int | None) -> None:
        """Put a value among the messages, if it can be one; `revision`: its condition, or None."""
        name, value = self.names[position], self._values[position]
        headers = None if revision is None else {EXPECTED: str(revision)}
        size, limit = len(value) + headers_size(headers), self._info.message_bytes_max
        if not name:
            self.refuse(position, _why_no_name(self._keys[position]), changed=False)
        elif size > limit:
            reason = f"its {size:,} bytes are more than the {limit:,} that server and bucket take (max_payload)"
            self.refuse(position, reason, changed=False)
        else:
            self._messages[position] = Message(self._bucket.prefix + name, value, headers)

    async def publish(self, session: Session) -> list[int]:
        """Send what was added; return the positions whose condition did not hold, which are refused.

        Raises:
            StorageError: the bucket cannot be written.
        """
        messages, self._messages = self._messages, {}
        acks = await self._bucket.publish(session, list(messages.values()))
        blocked = []
        for position, ack in zip(messages, acks, strict=True):
            if ack.mismatch:
                blocked.append(position)
            self._note(position, ack)
        return blocked

    def _note(self, position: int, ack: Ack) -> None:
        if not ack.code:
            self.tokens[position] = version_of(self._info, ack.revision)
            self.refused.pop(position, None)
        else:
            reason = CHANGED if ack.mismatch else f"the server refused it: {ack.reason}"
            self.refuse(position, reason, changed=ack.mismatch)


def _name_of(key: str) -> str | None:
    """Return the name of a key, or None where it cannot have one here."""
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
    return f"the key's name takes {size:,} bytes in NATS, more than {NAME_BYTES_MAX:,}"
