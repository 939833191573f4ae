"""A double of S3 that only lists: as fast as a large service is, and as far away.

Servers that run on one machine beside the client take longer for a page than its way there and back, and have as many
cores as the machine. So what shows there is how they list, and not how they are asked.
"""

from __future__ import annotations

import asyncio
import sys
from bisect import bisect_right
from typing import cast
from urllib.parse import parse_qs, urlsplit

PAGE_COUNT = 1000
ENTRY = (
    "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
    "<ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>1</Size><StorageClass>STANDARD</StorageClass></Contents>"
)


class Bucket:
    """Some names, ascending."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._entries = [ENTRY.format(name) for name in names]

    def page(self, target: str) -> bytes:
        query = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
        after = query.get("continuation-token", query.get("start-after"))
        start = 0 if after is None else bisect_right(self._names, after)
        stop = start + PAGE_COUNT
        is_last = stop >= len(self._names)
        token = "" if is_last else f"<NextContinuationToken>{self._names[stop - 1]}</NextContinuationToken>"
        head = f"<IsTruncated>{'false' if is_last else 'true'}</IsTruncated>{token}"
        inside = "".join([head, *self._entries[start:stop]])
        return f"<ListBucketResult>{inside}</ListBucketResult>".encode()


class Answers(asyncio.Protocol):
    """Answers on one connection, so many seconds after it was asked."""

    def __init__(self, bucket: Bucket, delay_seconds: float) -> None:
        self._bucket = bucket
        self._delay_seconds = delay_seconds
        self._asked = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._asked += data
        while b"\r\n\r\n" in self._asked:
            head, self._asked = self._asked.split(b"\r\n\r\n", 1)
            body = self._bucket.page(head.split(b" ")[1].decode())
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            asyncio.get_running_loop().call_later(self._delay_seconds, self._transport.write, answer)


async def serve(count: int, delay_seconds: float) -> None:
    """Print the port, and serve until the standard input ends."""
    bucket = Bucket([f"bench/{number:08}" for number in range(count)])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answers(bucket, delay_seconds), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
