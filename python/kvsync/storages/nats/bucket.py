"""A bucket of NATS JetStream: the requests to the server, and its answers.

A bucket is a stream. A key is a subject in it, and its revision is the sequence number of the last message there.
Deleting leaves a message, too, a marker. The leader of the stream answers whatever must not be stale. Any replica or
mirror answers faster; its answers count only if it was as far as the leader at the start of the call.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from kvsync.errors import StorageError, UsageError
from kvsync.native import digest_values
from kvsync.storages.nats.session import Message, status_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nats.aio.msg import Msg

    from kvsync.storages.nats.session import Session

__all__ = ["Ack", "Bucket", "BucketGoneError", "Info"]

NO_RESPONDERS = "503"
STREAM_NOT_FOUND = 10059
NAME_IN_USE = 10058
WRONG_SEQUENCE = frozenset({10071, 10164})
TOO_LARGE = 10054
NOT_NOW = 429

SETTLE_ATTEMPTS = 20
SETTLE_SECONDS = 0.1

EXPECTED = "Nats-Expected-Last-Subject-Sequence"
MULTI_VERSION = (2, 11)
"""From this version on, a request can name many subjects, and a message can have a time to live."""


_DROPS = "the bucket drops values by itself ({}): each looks like a delete, which spreads"
_IN_MEMORY = "the bucket is in the server's memory: after a restart it is gone, and what was not synced is lost"


class BucketGoneError(StorageError):
    """The bucket does not exist any more."""


class Info(NamedTuple):
    """What a bucket reports about itself.

    `born` stands for the time of its creation: revisions of another bucket of the same name mean nothing here. `limits`
    says what it may lose by itself, one sentence each.
    """

    born: bytes
    last: int
    direct: bool
    marker_ttl: bool
    message_bytes_max: int
    limits: tuple[str, ...]


class Ack(NamedTuple):
    """The outcome of publishing a message: its revision, or why there is none."""

    revision: int
    code: int = 0
    reason: str = ""

    @property
    def mismatch(self) -> bool:
        """Whether the subject was not at the expected revision."""
        return self.code in WRONG_SEQUENCE


class RefusedError(Exception):
    """The server answered a request with an error."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        self.code = int(error.get("err_code", 0)) or int(error.get("code", 0))
        super().__init__(str(error.get("description", error)))


class Bucket:
    """The requests to a bucket; every coroutine needs a session.

    Args:
        name: the bucket.
        evicting: accept a bucket that drops values by itself, and values that expire.
    """

    def __init__(self, name: str, *, evicting: bool) -> None:
        self.name = name
        self.stream = f"KV_{name}"
        self.prefix = f"$KV.{name}."
        self.evicting = evicting
        self._known: tuple[Session, Info] | None = None

    async def info(self, session: Session, *, fresh: bool = False) -> Info | None:
        """Return what the bucket reports about itself, or None if it does not exist.

        Raises:
            UsageError: it cannot be used for values.
            StorageError: the server does not answer.
        """
        if not fresh and self._known is not None and self._known[0] is session:
            return self._known[1]
        try:
            answer = await self.api(session, f"STREAM.INFO.{self.stream}")
        except RefusedError as error:
            if error.code == STREAM_NOT_FOUND:
                self.forget()
                return None
            raise self.failure(session, error) from error
        return self._learn(session, answer)

    def forget(self) -> None:
        """Ask again next time: the bucket seems to be gone."""
        self._known = None

    async def made(self, session: Session) -> Info:
        """Return what the bucket reports about itself; create it if necessary.

        Raises:
            StorageError: it cannot be created.
        """
        info = await self.info(session)
        if info is not None:
            return info
        config = {
            "name": self.stream,
            "subjects": [self.prefix + ">"],
            "max_msgs_per_subject": 1,
            "discard": "new",
            "storage": "file",
            "num_replicas": 1,
            "allow_direct": True,
            "allow_rollup_hdrs": True,
            "allow_msg_ttl": session.version >= MULTI_VERSION,
            "deny_delete": True,
        }
        try:
            answer = await self.api(session, f"STREAM.CREATE.{self.stream}", config)
        except RefusedError as error:
            if error.code == NAME_IN_USE:  # somebody else has just created it, with other settings
                info = await self.info(session, fresh=True)
                if info is not None:
                    return info
            message = f"the bucket {self.name!r} cannot be created ({error}): create it, or fix the server's settings"
            raise session.error(message) from error
        return self._learn(session, answer)

    async def publish(self, session: Session, messages: Sequence[Message]) -> list[Ack]:
        """Publish messages, in order, and return their outcomes.

        Raises:
            StorageError: the bucket is gone, full, or cannot be written.
        """
        acks: list[Ack | None] = [None] * len(messages)
        left = list(range(len(messages)))
        for _ in range(SETTLE_ATTEMPTS):

            def take(index: int, reply: Msg, left: list[int] = left) -> bool:
                acks[left[index]] = self._ack(session, reply)
                return True

            await session.exchange([messages[i] for i in left], take)
            left = [i for i in left if acks[i] is None]
            if not left:
                return [ack for ack in acks if ack is not None]
            # Nobody listened, so nothing was done. In a cluster it takes a moment until all servers know of a new
            # bucket.
            if await self.info(session, fresh=True) is None:
                break
            await asyncio.sleep(SETTLE_SECONDS)
        self.forget()
        message = f"the bucket {self.name!r} is gone: run again, which creates it again"
        raise BucketGoneError(message, storage=session.name)

    async def purge(self, session: Session, names: Iterable[str], *, below: int = 0) -> None:
        """Remove all messages of names, which may end in a wildcard, without a marker; with `below`, only older ones.

        Raises:
            StorageError: the server refuses.
        """
        more = {"seq": below} if below else {}
        payloads = [json.dumps({"filter": self.prefix + name, **more}).encode() for name in names]

        def take(_index: int, reply: Msg) -> bool:
            self.answer(session, reply)
            return True

        try:
            subject = f"$JS.API.STREAM.PURGE.{self.stream}"
            await session.exchange((Message(subject, payload) for payload in payloads), take)
        except RefusedError as error:
            if error.code != STREAM_NOT_FOUND:
                raise self.failure(session, error) from error

    async def names(self, session: Session, pattern: str) -> list[str]:
        """Return the names that match a pattern and have messages, including markers, as the leader knows them.

        Raises:
            StorageError: the server does not answer.
        """
        found: list[str] = []
        while True:
            body = {"subjects_filter": self.prefix + pattern, "offset": len(found)}
            try:
                answer = await self.api(session, f"STREAM.INFO.{self.stream}", body)
            except RefusedError as error:
                if error.code == STREAM_NOT_FOUND:
                    return []
                raise self.failure(session, error) from error
            page = answer["state"].get("subjects") or {}
            found += [subject[len(self.prefix) :] for subject in page]
            if not page or len(found) >= int(answer.get("total", 0)):
                return sorted(found)

    async def api(self, session: Session, verb: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Send a request to JetStream's API and return the answer.

        Raises:
            RefusedError: the answer is an error.
            StorageError: there is no answer.
        """
        payload = json.dumps(body).encode() if body else b""
        return self.answer(session, await session.request(f"$JS.API.{verb}", payload))

    def _learn(self, session: Session, answer: Mapping[str, Any]) -> Info:
        config = answer["config"]
        self._check(session, config)
        drops = "; ".join(_drops(config))
        fleeting = config.get("storage") == "memory"
        limit = int(config.get("max_msg_size", -1))
        info = Info(
            born=digest_values([str(answer["created"]).encode()])[0][:8],
            last=int(answer["state"]["last_seq"]),
            direct=bool(config.get("allow_direct")) and session.version >= MULTI_VERSION,
            marker_ttl=bool(config.get("allow_msg_ttl")),
            message_bytes_max=min(session.payload_bytes_max, limit if limit > 0 else session.payload_bytes_max),
            limits=(*([_DROPS.format(drops)] if drops else []), *([_IN_MEMORY] if fleeting else [])),
        )
        self._known = (session, info)
        return info

    def _check(self, session: Session, config: Mapping[str, Any]) -> None:
        """Refuse streams that drop values by themselves, or are not buckets.

        Raises:
            UsageError: it is such a stream.
        """
        if config.get("mirror"):
            message = f"the bucket {self.name!r} is a mirror of {config['mirror'].get('name')}: name the original"
            raise UsageError(message, storage=session.name)
        if self.prefix + ">" not in config.get("subjects", ()):
            message = f"the stream {self.stream} is not a bucket: name another one"
            raise UsageError(message, storage=session.name)
        drops = _drops(config)
        if drops and not self.evicting:
            message = (
                f"the bucket {self.name!r} drops values by itself ({', '.join(drops)}), and each would look like a "
                "delete: remove that limit, or add ?evicting=allow if these deletes may spread"
            )
            raise UsageError(message, storage=session.name)

    def answer(self, session: Session, reply: Msg) -> dict[str, Any]:
        """Return the contents of a reply of JetStream's API.

        Raises:
            RefusedError: it is an error.
            StorageError: nobody answered.
        """
        if status_of(reply) == NO_RESPONDERS:
            message = "JetStream does not answer: enable it on the server (nats-server -js) and for this account"
            raise session.error(message)
        answer: dict[str, Any] = json.loads(reply.data)
        if "error" in answer:
            raise RefusedError(answer["error"])
        return answer

    def _ack(self, session: Session, reply: Msg) -> Ack | None:
        if status_of(reply) == NO_RESPONDERS:
            return None
        answer = json.loads(reply.data)
        error = answer.get("error")
        if error is None:
            return Ack(int(answer["seq"]))
        refused = RefusedError(error)
        if refused.code in WRONG_SEQUENCE or refused.code == TOO_LARGE:
            return Ack(0, refused.code, str(refused))
        if int(error.get("code", 0)) == NOT_NOW:
            message = f"the server is too busy ({refused}): run again later"
            raise session.error(message)
        raise self.failure(session, refused)

    @staticmethod
    def failure(session: Session, error: RefusedError) -> StorageError:
        """Return the storage's error for one of the server's."""
        return session.error(f"the server refuses ({error}, error {error.code}): fix that and run again")


def _drops(config: Mapping[str, Any]) -> list[str]:
    """Return the settings by which a bucket drops values."""
    limits = [name for name in ("max_bytes", "max_msgs") if int(config.get(name, -1)) > 0]
    drops = [f"{name} with discard=old" for name in limits if config.get("discard") == "old"]
    return [*drops, "a time to live (max_age)"] if int(config.get("max_age", 0)) > 0 else drops
