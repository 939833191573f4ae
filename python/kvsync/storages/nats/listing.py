"""List a bucket: names, revisions and times, without values; complete or an error."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from kvsync.storages.nats.bucket import RefusedError
from kvsync.storages.nats.reading import get, is_marker
from kvsync.storages.nats.session import Message

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from kvsync.storages.nats.bucket import Bucket
    from kvsync.storages.nats.session import Session

__all__ = ["Row", "list_names"]

PULL_COUNT = 5_000
IDLE_SECONDS = 60
LAG_ATTEMPTS = 5
LAG_SECONDS = 0.1
CHURN_FACTOR = 10
CHURN_COUNT = 100_000

END = frozenset({"404", "408", "503"})
"""Nothing left; or nobody listens yet, since in a cluster it takes a moment until all know of a new consumer."""


class Row(NamedTuple):
    """A name that has a value."""

    revision: int
    milliseconds: int


async def list_names(session: Session, bucket: Bucket, pattern: str) -> dict[str, Row]:
    """Return every name that matches a pattern and has a value.

    A consumer sends the last message of each subject, in the order of revisions and numbered without gaps. A name that
    changes meanwhile is sent later. So the listing is complete once we have the newest revision that the leader knows
    at that moment. The number of messages left, as the consumer reports it, proves nothing.

    Raises:
        StorageError: it cannot be listed completely.
    """
    if (await get(session, bucket, [pattern], leader=True))[0] is None:
        return {}
    return await _Listing(session, bucket, pattern).run()


class _Listing:
    """One pass of a consumer over a bucket."""

    def __init__(self, session: Session, bucket: Bucket, pattern: str) -> None:
        self._session = session
        self._bucket = bucket
        self._pattern = pattern
        self._rows: dict[str, Row] = {}
        self._count = 0
        self._last = 0
        self._wanted = 0
        self._most = 0

    async def run(self) -> dict[str, Row]:
        """Create the consumer, fetch everything it has, and remove it.

        Raises:
            StorageError: it did not send everything.
        """
        created = await self._create()
        name = str(created["name"])
        self._most = int(created["num_pending"]) * CHURN_FACTOR + CHURN_COUNT
        try:
            await self._pull_all(name)
        finally:
            if self._session.alive:
                await self._session.tell(Message(f"$JS.API.CONSUMER.DELETE.{self._bucket.stream}.{name}"))
        return self._rows

    async def _pull_all(self, name: str) -> None:
        idle = 0
        while True:
            before = self._count
            await self._pull(name)
            newest = (await get(self._session, self._bucket, [self._pattern], leader=True))[0]
            if newest is None or newest.revision <= self._last:
                return
            idle = idle + 1 if self._count == before else 0
            if idle == LAG_ATTEMPTS:
                message = "no listing is complete, since a replica lags behind the bucket's leader: run again later"
                raise self._session.error(message)
            if idle:
                await asyncio.sleep(LAG_SECONDS)

    async def _pull(self, name: str) -> None:
        """Fetch everything that the consumer has at the moment."""
        body = json.dumps({"batch": PULL_COUNT, "no_wait": True}).encode()
        message = Message(f"$JS.API.CONSUMER.MSG.NEXT.{self._bucket.stream}.{name}", body)
        self._wanted = 0
        while not self._wanted:
            self._wanted = PULL_COUNT
            await self._session.stream(message, self._take)
            if self._count > self._most:
                text = "the bucket changes faster than it can be listed: run again when it is quieter"
                raise self._session.error(text)

    async def _create(self) -> dict[str, Any]:
        config = {
            "deliver_policy": "last_per_subject",
            "ack_policy": "none",
            "headers_only": True,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": IDLE_SECONDS * 1_000_000_000,
            "filter_subject": self._bucket.prefix + self._pattern,
        }
        stream = self._bucket.stream
        try:
            return await self._bucket.api(
                self._session, f"CONSUMER.CREATE.{stream}", {"stream_name": stream, "config": config}
            )
        except RefusedError as error:
            raise self._session.error(f"the bucket cannot be listed ({error}): fix that and run again") from error

    def _take(self, _index: int, message: Msg) -> bool:
        headers = message.headers or {}
        if not message.reply:
            if headers.get("Status") in END:
                return True
            text = f"the listing was cut off ({headers.get('Status')} {headers.get('Description')}): run again"
            raise self._session.error(text)
        revision, number, nanoseconds = _numbers(message.reply)
        self._count += 1
        if number != self._count or revision <= self._last:
            raise self._session.error("the listing has a gap: run again")
        self._last = revision
        name = message.subject[len(self._bucket.prefix) :]
        if is_marker(headers):
            self._rows.pop(name, None)
        else:
            self._rows[name] = Row(revision, nanoseconds // 1_000_000)
        self._wanted -= 1
        return self._wanted == 0


def _numbers(reply: str) -> tuple[int, int, int]:
    """Parse the subject that would acknowledge a message: its revision, its number here, and its time.

    It is `$JS.ACK.STREAM.CONSUMER.DELIVERED.REVISION.NUMBER.TIME.LEFT`; with domains, two more tokens follow `$JS.ACK`,
    and one is at the end.
    """
    tokens = reply.split(".")
    start = 5 if len(tokens) == 9 else 7  # noqa: PLR2004 - counted above
    return int(tokens[start]), int(tokens[start + 1]), int(tokens[start + 2])
