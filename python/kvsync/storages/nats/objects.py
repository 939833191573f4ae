"""Index objects in a bucket, beside the values; large ones in parts.

An object is a message, its **head**, under `=kvsync.head.NAME`; its revision is the version. If the data does not fit
into one message, the head has none, but names parts that were written before it, under
`=kvsync.part.NAME.NONCE.NUMBER`. Parts never change. Those of a replaced head are removed after it; those that a crash
left without a head are removed when they are a day old.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from kvsync.errors import IndexDamagedError, StorageError
from kvsync.storages.contract import ObjectMismatch
from kvsync.storages.nats.bucket import EXPECTED
from kvsync.storages.nats.keys import INDEX, token, unquote
from kvsync.storages.nats.listing import list_names
from kvsync.storages.nats.reading import Entry, get
from kvsync.storages.nats.session import Message
from kvsync.types import ABSENT, ANY, Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.storages.nats.bucket import Ack, Bucket, Info
    from kvsync.storages.nats.session import Session
    from kvsync.types import Expectation, Version

__all__ = ["Objects", "revision_of", "version_of"]

HEAD = INDEX + "head."
PART = INDEX + "part."
PARTS_HEADER = "Kvsync-Parts"

HEADERS_BYTES = 1024
PART_BYTES_MAX = 1 << 20
LOAD_ATTEMPTS = 5
ORPHAN_MS = 24 * 3600 * 1000
REVISION_BYTES = 8
VERSION_BYTES = 16

_part = re.compile(re.escape(PART) + r"([^.]+)\.([0-9a-f]{28})\.[0-9]+\Z")
_parts_header = re.compile(r"([0-9a-f]{28}) ([0-9]{1,9}) ([0-9]{1,18})\Z")


def version_of(info: Info, revision: int) -> bytes:
    """Return the version token of a revision: unlike any of another bucket of the same name."""
    return revision.to_bytes(REVISION_BYTES, "big") + info.born


def revision_of(info: Info, version: bytes) -> int | None:
    """Return the revision of a version token, or None if it is not one of this bucket."""
    if len(version) != VERSION_BYTES or version[REVISION_BYTES:] != info.born:
        return None
    return int.from_bytes(version[:REVISION_BYTES], "big")


class _Parts(NamedTuple):
    """What a head says about its parts."""

    nonce: str
    number: int
    size: int

    @classmethod
    def of(cls, head: Entry | None) -> _Parts | None:
        found = _parts_header.match(head.headers.get(PARTS_HEADER, "")) if head is not None else None
        return cls(found[1], int(found[2]), int(found[3])) if found else None

    def prefix(self, name: str) -> str:
        return f"{PART}{token(name)}.{self.nonce}."

    def names(self, name: str) -> list[str]:
        return [f"{self.prefix(name)}{position}" for position in range(self.number)]


class Objects:
    """The index objects of a bucket; every coroutine needs a session.

    Args:
        bucket: where they are.
        clock: returns wall-clock seconds; part names contain it, so that old ones can be recognised.
        random_bytes: returns that many random bytes.
    """

    def __init__(
        self,
        bucket: Bucket,
        *,
        clock: Callable[[], float] = time.time,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._bucket = bucket
        self._clock = clock
        self._random_bytes = random_bytes
        self._seen: dict[str, tuple[int, _Parts]] = {}  # heads with parts, so that those can be removed

    async def load(self, session: Session, name: str) -> Stored | None:
        """Return an object, or None.

        Raises:
            IndexDamagedError: parts of it are gone.
            StorageError: it cannot be read.
        """
        revision = -1
        for _ in range(LOAD_ATTEMPTS):
            head = await self._head(session, name)
            info = await self._bucket.info(session)
            if head is None or info is None:
                return None
            version = version_of(info, head.revision)
            parts = self._note(name, head)
            if parts is None:
                return Stored(head.data, version)
            data = await self._join(session, name, parts)
            if data is not None:
                return Stored(data, version)
            if head.revision == revision:
                break
            revision = head.revision  # somebody may have replaced it meanwhile
        message = f"parts of {name} are gone: restore the bucket, or remove the index and sync with scan=True"
        raise IndexDamagedError(message, storage=session.name, name=name)

    async def store(self, session: Session, name: str, data: bytes, expect: Expectation) -> Version:
        """Write an object and return its new version.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was written.
            StorageError: it cannot be written.
        """
        if isinstance(expect, bytes) and await self._bucket.info(session) is None:
            raise ObjectMismatch(name)
        info = await self._bucket.made(session)
        revision = revision_of(info, expect) if isinstance(expect, bytes) else 0
        if revision is None:
            raise ObjectMismatch(name)
        if expect is ANY:
            self._note(name, await self._head(session, name))
        old = self._seen.get(name)
        size = min(info.message_bytes_max - HEADERS_BYTES, PART_BYTES_MAX)
        if len(data) <= size:
            ack = await self._put_head(session, name, data, {}, expect, revision)
        else:
            ack = await self._put_parts(session, name, data, size, expect, revision)
        if old is not None and (expect is ANY or old[0] == revision):
            await self._forget(session, name, old[1])
        return version_of(info, ack.revision)

    async def remove(self, session: Session, names: Sequence[str], expect: Expectation) -> None:
        """Remove objects; with `ANY`, skip absent ones.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was removed.
            StorageError: they cannot be removed.
        """
        info = await self._bucket.info(session)
        if expect is ANY:
            if info is not None and names:
                await self._remove_any(session, names)
            return
        for name in names:
            if isinstance(expect, bytes):
                await self._remove_version(session, name, revision_of(info, expect) if info is not None else None)
            elif await self._head(session, name) is not None:
                raise ObjectMismatch(name)

    async def names(self, session: Session) -> list[str]:
        """Return the names of all objects, ascending.

        Raises:
            StorageError: they cannot be listed.
        """
        if await self._bucket.info(session) is None:
            return []
        rows = await list_names(session, self._bucket, HEAD + "*")
        names = [unquote(row[len(HEAD) :]) for row in rows]
        return sorted(name for name in names if name is not None)

    async def _head(self, session: Session, name: str) -> Entry | None:
        head = (await get(session, self._bucket, [HEAD + token(name)], leader=True))[0]
        return None if head is None or head.deleted else head

    def _note(self, name: str, head: Entry | None) -> _Parts | None:
        parts = _Parts.of(head)
        if head is not None and parts is not None:
            self._seen[name] = (head.revision, parts)
        else:
            self._seen.pop(name, None)
        return parts

    async def _join(self, session: Session, name: str, parts: _Parts) -> bytes | None:
        entries = await get(session, self._bucket, parts.names(name), leader=True)
        if any(entry is None or entry.deleted for entry in entries):
            return None
        data = b"".join(entry.data for entry in entries if entry is not None)
        return data if len(data) == parts.size else None

    async def _put_head(
        self,
        session: Session,
        name: str,
        data: bytes,
        headers: dict[str, str],
        expect: Expectation,
        revision: int,
    ) -> Ack:
        subject = self._bucket.prefix + HEAD + token(name)
        if expect is ANY:
            messages = [Message(subject, data, headers or None)]
        else:
            messages = [Message(subject, data, {**headers, EXPECTED: str(revision)})]
        (ack,) = await self._bucket.publish(session, messages)
        if ack.mismatch and expect is ABSENT:
            # Removing a head on condition leaves a marker, until that is removed, too.
            marker = (await get(session, self._bucket, [HEAD + token(name)], leader=True))[0]
            if marker is not None and marker.deleted:
                again = [Message(subject, data, {**headers, EXPECTED: str(marker.revision)})]
                (ack,) = await self._bucket.publish(session, again)
        if ack.mismatch:
            raise ObjectMismatch(name)
        if ack.code:
            raise session.error(f"the server refuses the object {name!r} ({ack.reason}): raise the bucket's limit")
        self._seen.pop(name, None)
        return ack

    async def _put_parts(
        self, session: Session, name: str, data: bytes, size: int, expect: Expectation, revision: int
    ) -> Ack:
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        nonce = f"{int(self._clock() * 1000):012x}{self._random_bytes(8).hex()}"
        parts = _Parts(nonce, len(pieces), len(data))
        subjects = [self._bucket.prefix + part for part in parts.names(name)]
        for ack in await self._bucket.publish(session, [*map(Message, subjects, pieces)]):
            if ack.code:
                raise session.error(f"the server refuses the object {name!r} ({ack.reason}): raise the bucket's limit")
        headers = {PARTS_HEADER: f"{nonce} {len(pieces)} {len(data)}"}
        try:
            ack = await self._put_head(session, name, b"", headers, expect, revision)
        except ObjectMismatch:
            await self._forget(session, name, parts)
            raise
        self._seen[name] = (ack.revision, parts)
        with contextlib.suppress(StorageError):  # the object is stored; leftovers are removed another time
            await self._sweep(session, nonce)
        return ack

    async def _remove_any(self, session: Session, names: Sequence[str]) -> None:
        tokens = {token(name): name for name in names}
        parted = {part[len(PART) :].partition(".")[0] for part in await self._bucket.names(session, PART + ">")}
        large = [tokens[one] for one in tokens if one in parted]
        heads = await get(session, self._bucket, [HEAD + token(name) for name in large], leader=True)
        await self._bucket.purge(session, [HEAD + one for one in tokens])
        for name, head in zip(large, heads, strict=True):
            parts = _Parts.of(head)
            if parts is not None:
                await self._forget(session, name, parts)
        for name in names:
            self._seen.pop(name, None)

    async def _remove_version(self, session: Session, name: str, revision: int | None) -> None:
        if revision is None:
            raise ObjectMismatch(name)
        old = self._seen.get(name)
        headers = {"KV-Operation": "DEL", EXPECTED: str(revision)}
        message = Message(self._bucket.prefix + HEAD + token(name), b"", headers)
        (ack,) = await self._bucket.publish(session, [message])
        if ack.mismatch:
            raise ObjectMismatch(name)
        # Only publishing takes a condition; the marker that it leaves would cost the next write two more requests.
        with contextlib.suppress(StorageError):
            await self._bucket.purge(session, [HEAD + token(name)], below=ack.revision + 1)
        if old is not None and old[0] == revision:
            await self._forget(session, name, old[1])

    async def _forget(self, session: Session, name: str, parts: _Parts) -> None:
        with contextlib.suppress(StorageError):  # they only take space; they are removed another time
            await self._bucket.purge(session, [parts.prefix(name) + ">"])

    async def _sweep(self, session: Session, nonce: str) -> None:
        """Remove parts that a crash left without a head, if they are so old that nobody can be writing it."""
        limit = int(self._clock() * 1000) - ORPHAN_MS
        found = map(_part.match, await self._bucket.names(session, PART + ">"))
        groups = {(part[1], part[2]) for part in found if part is not None and int(part[2][:12], 16) < limit}
        order = sorted(group for group in groups if group[1] != nonce)
        heads = await get(session, self._bucket, [HEAD + name for name, _ in order], leader=True)
        for (name, other), head in zip(order, heads, strict=True):
            parts = _Parts.of(head)
            if parts is None or parts.nonce != other:
                await self._bucket.purge(session, [f"{PART}{name}.{other}.>"])
