"""Read a bucket by name: from the leader one by one, or many at once from any replica that is as far."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from kvsync.storages.nats.bucket import STREAM_NOT_FOUND, RefusedError
from kvsync.storages.nats.session import Message

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nats.aio.msg import Msg

    from kvsync.storages.nats.bucket import Bucket
    from kvsync.storages.nats.session import Session

__all__ = ["Entry", "get", "is_marker"]

NO_MESSAGE = 10037
NO_TTL = "never"

MULTI_COUNT = 1000
MULTI_BYTES = 256 << 10
MULTI_REPLY_BYTES = 8 << 20
FRESH_ATTEMPTS = 2
UNPROVEN = -1
GET_BYTES = 32 << 20
GET_COUNT_MIN = 8
GET_COUNT_MAX = 128
GET_COUNT_FIRST = 32


@dataclass(frozen=True, slots=True)
class Entry:
    """The last message of a subject."""

    revision: int
    data: bytes
    headers: Mapping[str, str]
    time: str

    @property
    def deleted(self) -> bool:
        """Whether it is a marker."""
        return is_marker(self.headers)

    @property
    def expires(self) -> bool:
        """Whether the server removes it after a time of its own."""
        return self.headers.get("Nats-TTL", NO_TTL) != NO_TTL

    @property
    def milliseconds(self) -> int:
        """When it was stored, by the server's clock."""
        seconds, _, rest = self.time.removesuffix("Z").partition(".")
        moment = datetime.fromisoformat(seconds).replace(tzinfo=UTC)
        return int(moment.timestamp()) * 1000 + int(f"{rest:0<3.3}")


class _Answer(NamedTuple):
    """What one replica found for some names, and up to which revision it knew everything."""

    names: list[str]
    entries: dict[str, Entry]
    reached: int


def is_marker(headers: Mapping[str, str]) -> bool:
    """Return whether a message with these headers says that its subject has no value."""
    return headers.get("KV-Operation", "PUT") != "PUT" or "Nats-Marker-Reason" in headers


async def get(session: Session, bucket: Bucket, names: Sequence[str], *, leader: bool = False) -> list[Entry | None]:
    """Return the last message of each name; `leader`: from the leader only.

    Raises:
        StorageError: the bucket cannot be read.
    """
    info = await bucket.info(session)
    if info is None or not names:
        return [None] * len(names)
    found: dict[str, Entry] = {}
    rest = list(dict.fromkeys(names))
    if len(names) > 1 and info.direct and not leader:
        rest = await _get_direct(session, bucket, rest, found)
    if rest:
        await _get_exact(session, bucket, rest, found)
    return [found.get(name) for name in names]


async def _get_direct(session: Session, bucket: Bucket, names: Sequence[str], found: dict[str, Entry]) -> list[str]:
    """Ask whichever replica answers for many names at once; return those to ask the leader for."""
    wanted = list(names)
    unproven: list[str] = []
    for _ in range(FRESH_ATTEMPTS):
        # Asked at the same time: whatever the leader reports, it knew when we were called.
        info_request = asyncio.ensure_future(bucket.info(session, fresh=True))
        try:
            answers = await _ask_many(session, bucket, wanted)
        except BaseException:
            info_request.cancel()
            raise
        info = await info_request
        if info is None:
            return []
        wanted = []
        for chunk, entries, reached in answers:
            if reached >= info.last:
                found.update(entries)
            elif reached == UNPROVEN:
                unproven += chunk  # an answer that nothing was found does not say which replica it is from
            else:
                wanted += chunk
        if not wanted:
            break
    return wanted + unproven


async def _ask_many(session: Session, bucket: Bucket, names: Sequence[str]) -> list[_Answer]:
    """Return what was found for each chunk of names."""
    chunks = [*_chunks(names)]
    entries: list[dict[str, Entry]] = [{} for _ in chunks]
    reached = [sys.maxsize] * len(chunks)
    left = list(range(len(chunks)))
    while left:
        again: list[int] = []
        asked = left
        before = sum(map(len, entries))

        def take(position: int, reply: Msg, asked: list[int] = asked, again: list[int] = again) -> bool:
            number = asked[position]
            headers = reply.headers or {}
            if "Nats-Sequence" in headers:
                name = headers["Nats-Subject"][len(bucket.prefix) :]
                revision = int(headers["Nats-Sequence"])
                entries[number][name] = Entry(revision, reply.data, headers, headers.get("Nats-Time-Stamp", ""))
                return False
            if int(headers.get("Nats-Num-Pending", 0)) > 0:
                again.append(number)  # the answer was too large
            reached[number] = min(reached[number], int(headers.get("Nats-UpTo-Sequence", UNPROVEN)))
            return True

        requests = [_multi(bucket, [name for name in chunks[i] if name not in entries[i]]) for i in asked]
        await session.exchange(requests, take, window=lambda: 4)
        left = again
        if left and before == sum(map(len, entries)):
            for number in left:
                reached[number] = UNPROVEN
            break
    return list(map(_Answer, chunks, entries, reached))


def _multi(bucket: Bucket, names: Sequence[str]) -> Message:
    subjects = [bucket.prefix + name for name in names]
    body = {"multi_last": subjects, "batch": len(subjects), "max_bytes": MULTI_REPLY_BYTES}
    return Message(f"$JS.API.DIRECT.GET.{bucket.stream}", json.dumps(body).encode())


async def _get_exact(session: Session, bucket: Bucket, names: Sequence[str], found: dict[str, Entry]) -> None:
    """Ask the leader for one name after the other, with many requests in flight."""
    subject = f"$JS.API.STREAM.MSG.GET.{bucket.stream}"
    largest = 0

    def window() -> int:
        # Answers may be large, and the server drops a client that does not keep up: start with few.
        return max(GET_COUNT_MIN, min(GET_COUNT_MAX, GET_BYTES // largest)) if largest else GET_COUNT_FIRST

    def take(index: int, reply: Msg) -> bool:
        nonlocal largest
        largest = max(largest, len(reply.data))
        entry = _entry(session, bucket, reply)
        if entry is not None:
            found[names[index]] = entry
        return True

    bodies = ({"last_by_subj": bucket.prefix + name} for name in names)
    await session.exchange((Message(subject, json.dumps(body).encode()) for body in bodies), take, window=window)


def _entry(session: Session, bucket: Bucket, reply: Msg) -> Entry | None:
    try:
        message = bucket.answer(session, reply)["message"]
    except RefusedError as error:
        if error.code == STREAM_NOT_FOUND:
            bucket.forget()
        if error.code in {NO_MESSAGE, STREAM_NOT_FOUND}:
            return None
        raise bucket.failure(session, error) from error
    headers = _headers(base64.b64decode(message.get("hdrs", "")))
    return Entry(int(message["seq"]), base64.b64decode(message.get("data", "")), headers, str(message["time"]))


def _chunks(names: Sequence[str]) -> Iterator[list[str]]:
    """Split names so that each chunk fits into one request, and its answer into the limit."""
    chunk: list[str] = []
    size = 0
    for name in names:
        if len(chunk) == MULTI_COUNT or size > MULTI_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(name)
        size += len(name)
    if chunk:
        yield chunk


def _headers(block: bytes) -> dict[str, str]:
    """Parse the headers of a message."""
    lines = block.decode(errors="replace").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    return {name.strip(): value.strip() for name, _, value in pairs}
