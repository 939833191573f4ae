"""Notice changes in a NATS bucket: by a consumer that gets each new message of the stream, without its value.

Not by a plain subscription to the subjects: that tells of a message before the stream has stored it, so a run that
follows could miss it.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from kvsync.errors import StorageError
from kvsync.storages.hints import NoHintsError
from kvsync.storages.nats.bucket import RefusedError
from kvsync.storages.nats.keys import INDEX
from kvsync.storages.nats.session import Message

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from kvsync.storages.hints import Wake
    from kvsync.storages.nats.bucket import Bucket
    from kvsync.storages.nats.link import Link
    from kvsync.storages.nats.session import Session

__all__ = ["BucketHints"]

POLL_SECONDS = 1.0
BEAT_SECONDS = 5
"""How often the server says that it is there, where nothing changes."""

SILENT_SECONDS = 3.0 * BEAT_SECONDS
"""Without a word of the server's for so long, the consumer is gone."""

IDLE_SECONDS = 60


class BucketHints:
    """Notices changes of the values in a bucket, which may not exist yet.

    Args:
        link: to the server.
        bucket: the bucket.
        name: the storage's name, for errors.
        wake: called with None for each change.

    Raises:
        NoHintsError: the server refuses a consumer.
        StorageError: it does not answer.
    """

    poll_seconds = POLL_SECONDS
    complete = True
    reason = ""

    def __init__(self, link: Link, bucket: Bucket, name: str, wake: Wake) -> None:
        self._link = link
        self._bucket = bucket
        self._name = name
        self._wake = wake
        self._session: Session | None = None
        self._subscription: Subscription | None = None
        self._consumer = ""
        self._heard = 0.0
        self._link.call(self._listen)

    def poll(self) -> bool:
        """Return whether we had to listen anew: nobody knows what has changed meanwhile.

        Raises:
            StorageError: the server does not answer.
        """
        is_open = self._session is not None and self._session.alive
        if is_open and time.monotonic() - self._heard < SILENT_SECONDS:
            return False
        try:
            return self._link.call(self._listen)
        except NoHintsError as why:
            message = f"its changes cannot be noticed any more: {why}"
            raise StorageError(message, storage=self._name) from why

    def close(self) -> None:
        """Stop listening, where the connection still is open; otherwise the server notices itself."""
        if self._session is not None and self._session.alive:
            with suppress(StorageError):  # it has broken just now
                self._link.call(self._stop)
        self._session = None

    async def _listen(self, session: Session) -> bool:
        """Listen to the bucket; return False if there is none yet."""
        await self._stop(session)
        inbox = session.client.new_inbox()
        config = {
            "deliver_policy": "new",
            "deliver_subject": inbox,
            "ack_policy": "none",
            "headers_only": True,
            "mem_storage": True,
            "num_replicas": 1,
            "idle_heartbeat": BEAT_SECONDS * 1_000_000_000,
            "inactive_threshold": IDLE_SECONDS * 1_000_000_000,
            "filter_subject": self._bucket.prefix + ">",
        }
        # Before the consumer is created: one to whom nobody listens sends nothing.
        self._subscription = await session.client.subscribe(
            inbox, cb=self._hear, pending_msgs_limit=0, pending_bytes_limit=0
        )
        stream = self._bucket.stream
        try:
            created = await self._bucket.api(
                session, f"CONSUMER.CREATE.{stream}", {"stream_name": stream, "config": config}
            )
        except RefusedError as error:
            await self._stop(session)
            if await self._bucket.info(session, fresh=True) is None:
                return False
            text = f"the server gives no consumer for it ({error})"
            raise NoHintsError(text) from error
        self._session, self._consumer, self._heard = session, str(created["name"]), time.monotonic()
        return True

    async def _stop(self, session: Session) -> None:
        """Leave what the session listens to; one that has broken took that with it."""
        subscription, self._subscription = self._subscription, None
        consumer, self._consumer = self._consumer, ""
        if session is not self._session or not session.alive:
            self._session = None
            return
        self._session = None
        if subscription is not None:
            await subscription.unsubscribe()
        if consumer:
            await session.tell(Message(f"$JS.API.CONSUMER.DELETE.{self._bucket.stream}.{consumer}"))

    async def _hear(self, message: Msg) -> None:
        self._heard = time.monotonic()
        name = message.subject.removeprefix(self._bucket.prefix)
        if name != message.subject and not name.startswith(INDEX):
            self._wake(None)
