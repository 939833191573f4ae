"""Large objects in parts: none is ever whole in memory.

A read requests one range after another, each on condition that the object is still the same. A write is a multipart
upload, which takes effect when its last request ends. No known server accepts a condition for that through obstore. So
a conditional write checks the object just before the end, and a value that fits into memory is written whole instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from queue import Empty, Full, Queue
from threading import Event
from typing import TYPE_CHECKING

from kvsync.errors import StorageError
from kvsync.storages.bucket.client import Meta, UnreadableObject
from kvsync.storages.contract import TornRead

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from kvsync.storages.bucket.client import Bucket

__all__ = ["WHOLE_BYTES", "Parts", "gather", "send_parts"]

PART_BYTES = 8 << 20
PARTS_AT_ONCE = 4
LOOK_SECONDS = 0.2
"""How often a waiting thread checks whether the other one has given up."""

WHOLE_BYTES = 32 << 20
"""The largest value that is held in memory to be written conditionally."""


class Parts(Iterator[bytes]):
    """The parts of the object that `meta` describes.

    Raises:
        TornRead: it changed meanwhile, or is archived.
        StorageError: a request failed.
    """

    def __init__(self, bucket: Bucket, name: str, meta: Meta) -> None:
        self.version = meta.token or b""
        size = meta.size or 0
        self._parts = (
            _part(bucket, name, meta, start, min(start + PART_BYTES, size)) for start in range(0, size, PART_BYTES)
        )

    def __next__(self) -> bytes:
        return next(self._parts)


def _part(bucket: Bucket, name: str, meta: Meta, start: int, stop: int) -> bytes:
    options: dict[str, object] = {"range": (start, stop)}
    if meta.token is not None:
        options["if_match"] = f'"{meta.token.decode()}"'

    def request() -> tuple[bytes, Meta]:
        found = bucket.store.get(bucket.prefix + name, options=options)
        return found.bytes().to_bytes(), Meta.of(found.meta)

    try:
        part, now = bucket.sent(request)
    except (FileNotFoundError, bucket.errors.PreconditionError):
        message = "it changed while it was read"
        raise TornRead(message) from None
    except UnreadableObject as error:
        raise TornRead(str(error)) from None
    if len(part) != stop - start or (now.token, now.modified_ms, now.size) != (meta.token, meta.modified_ms, meta.size):
        message = "it changed while it was read"
        raise TornRead(message)
    return part


def gather(parts: Iterator[bytes]) -> tuple[bytes | None, Iterator[bytes]]:
    """Return all parts joined if they fit into memory, else None; and the parts as they came."""
    held: list[bytes] = []
    size = 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size > WHOLE_BYTES:
            return None, chain(_released(held), parts)
    return b"".join(held), iter(())


def send_parts(bucket: Bucket, name: str, parts: Iterator[bytes], look: Callable[[], None]) -> Meta:
    """Write an object from its parts; call `look` after the last one, before the object appears.

    If `parts` or `look` raises, the exception propagates and nothing is written. Both run in the calling thread, since
    they may make requests of their own, which obstore does not allow within a request.

    Raises:
        UnstorableObject: the server refuses its name or size.
        StorageError: a request failed.
    """
    line = _Line()

    def send() -> Meta:
        return bucket.wrote(
            lambda: bucket.store.put(
                bucket.prefix + name,
                line.taken(),
                use_multipart=True,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )
        )

    with ThreadPoolExecutor(1, thread_name_prefix="kvsync-bucket") as threads:
        sending = threads.submit(send)
        try:
            for part in parts:
                line.hand(part, sending)
            look()
            line.hand(None, sending)
            return sending.result()
        except BaseException:
            line.broken.set()  # the upload is aborted, and removed
            raise


class _Broken(Exception):  # noqa: N818 - ends an upload from inside; nobody else sees it
    pass


class _Line:
    """Passes parts from the thread that produces them to the one that sends them."""

    def __init__(self) -> None:
        self.broken = Event()
        self._parts: Queue[bytes | None] = Queue(1)

    def hand(self, part: bytes | None, sending: Future[Meta]) -> None:
        while True:
            if sending.done():
                sending.result()
                message = "the upload ended before its last part"
                raise StorageError(message)
            with suppress(Full):
                self._parts.put(part, timeout=LOOK_SECONDS)
                return

    def taken(self) -> Iterator[bytes]:
        while not self.broken.is_set():
            with suppress(Empty):
                part = self._parts.get(timeout=LOOK_SECONDS)
                if part is None:
                    return
                yield part
        raise _Broken


def _released(held: list[bytes]) -> Iterator[bytes]:
    held.reverse()
    while held:
        yield held.pop()
