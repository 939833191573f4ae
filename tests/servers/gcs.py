"""A double of Google Cloud Storage: the part of its XML API that obstore speaks, as its documentation has it.

There is no server that could stand in: fake-gcs-server takes no XML writes, and others know JSON only. So the client is
the real one, and what it talks to is ours: generations, conditions on them, entity tags, listings in pages, multipart
uploads, and the limit of one write a second to an object, where a test asks for that.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import parse_qs, unquote, urlencode, urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from pathlib import Path

BUCKET = "kvsync"
PAGE_COUNT = 1000
CONDITION = "x-goog-if-generation-match"
GENERATION = "x-goog-generation"


class Answer(NamedTuple):
    """What is sent back."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = {}  # noqa: RUF012 - never written


@dataclass
class Stored:
    """An object: its bytes, when it was written, and as which write of all."""

    data: bytes
    generation: int
    written: float
    tag: str

    @property
    def headers(self) -> dict[str, str]:
        return {
            "ETag": f'"{self.tag}"',
            GENERATION: str(self.generation),
            "Last-Modified": formatdate(self.written, usegmt=True),
        }


@dataclass
class _Upload:
    name: str
    parts: dict[int, bytes] = field(default_factory=dict)


class GcsServer:
    """A bucket on a free loopback port, in a thread of this process; a context manager that starts and stops it.

    Args:
        folder: where its service account lies.
        write_seconds: a write to an object sooner than that after the last one is refused with a 429.
        conditions: whether it keeps them.
    """

    def __init__(self, folder: Path, *, write_seconds: float = 0.0, conditions: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        account = {"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
        self.account = folder / "account.json"
        self.account.write_text(json.dumps(account))
        self.write_seconds = write_seconds
        self.conditions = conditions
        self.refused = 0
        self.requests: Counter[tuple[str, str]] = Counter()
        self.objects: dict[str, Stored] = {}
        self._uploads: dict[str, _Upload] = {}
        self._generations = itertools.count(1_700_000_000_000_000)
        self._lock = threading.Lock()
        self._server = _Listener(("127.0.0.1", 0), type("Handler", (_Handler,), {"gcs": self}))
        self.port: int = self._server.server_port

    @property
    def endpoint(self) -> str:
        """Where it serves."""
        return f"http://127.0.0.1:{self.port}"

    def url_of(self, prefix: str, *, bucket: str = BUCKET, **options: str) -> str:
        """Return the URL of a prefix of a bucket; only one bucket is there."""
        query = {"endpoint": self.endpoint, "service_account": str(self.account), **options}
        return f"gs://{bucket}/{prefix}?{urlencode(query)}"

    def start(self) -> None:
        """Serve."""
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        """Return the answer to a request."""
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        bucket, _, name = parts.path.lstrip("/").partition("/")
        name = unquote(name)
        self.requests[method, name] += 1
        if unquote(bucket) != BUCKET:
            return _error(404, "NoSuchBucket", "The specified bucket does not exist.")
        with self._lock:
            if not name:
                return self._list(query)
            if "uploads" in query or "uploadId" in query:
                return self._multipart(method, name, query, body)
            return self._object(method, name, headers, body)

    def _object(self, method: str, name: str, headers: dict[str, str], body: bytes) -> Answer:
        if method == "PUT":
            return self._put(name, body, headers.get(CONDITION), hashlib.md5(body).hexdigest())  # noqa: S324
        there = self.objects.get(name)
        if there is None:
            return _error(404, "NoSuchKey", "The specified key does not exist.")
        if method == "DELETE":
            del self.objects[name]
            return Answer(204)
        return _read(there, headers)

    def _put(self, name: str, body: bytes, condition: str | None, tag: str) -> Answer:
        there = self.objects.get(name)
        if there is not None and time.time() < there.written + self.write_seconds:
            self.refused += 1
            return _error(429, "SlowDown", "The object exceeded the rate limit for object mutation operations.")
        if self.conditions and condition is not None and int(condition) != (there.generation if there else 0):
            return _error(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold.")
        stored = Stored(body, next(self._generations), time.time(), tag)
        self.objects[name] = stored
        return Answer(200, b"", stored.headers)

    def _multipart(self, method: str, name: str, query: dict[str, str], body: bytes) -> Answer:
        if "uploads" in query:
            number = str(next(self._generations))
            self._uploads[number] = _Upload(name)
            return _document("InitiateMultipartUploadResult", f"<UploadId>{number}</UploadId>")
        upload = self._uploads.get(query["uploadId"])
        if upload is None or upload.name != name:
            return _error(404, "NoSuchUpload", "The requested upload was not found.")
        if method == "PUT":
            upload.parts[int(query["partNumber"])] = body
            return Answer(200, b"", {"ETag": f'"{hashlib.md5(body).hexdigest()}"'})  # noqa: S324
        del self._uploads[query["uploadId"]]
        if method == "DELETE":
            return Answer(204)
        numbers = [int(number.text or "") for number in ET.fromstring(body).iter("PartNumber")]  # noqa: S314
        data = b"".join(upload.parts[number] for number in numbers)
        done = self._put(name, data, None, f"{hashlib.md5(data).hexdigest()}-{len(numbers)}")  # noqa: S324
        if done.status != 200:
            return done
        tag = f"<ETag>{escape(done.headers['ETag'])}</ETag>"
        return _document("CompleteMultipartUploadResult", tag)._replace(headers=done.headers)

    def _list(self, query: dict[str, str]) -> Answer:
        after = query.get("continuation-token", query.get("start-after", ""))
        count = min(int(query.get("max-keys", PAGE_COUNT)), PAGE_COUNT)
        prefix = query.get("prefix", "")
        names = sorted((name for name in self.objects if name.startswith(prefix)), key=str.encode)
        names = [name for name in names if name.encode() > after.encode()]
        found = "".join(_entry(name, self.objects[name]) for name in names[:count])
        if len(names) <= count:
            return _document("ListBucketResult", f"<IsTruncated>false</IsTruncated>{found}")
        token = f"<NextContinuationToken>{escape(names[count - 1])}</NextContinuationToken>"
        return _document("ListBucketResult", f"<IsTruncated>true</IsTruncated>{token}{found}")


def _read(there: Stored, headers: dict[str, str]) -> Answer:
    wanted = headers.get("if-match")
    if wanted is not None and wanted != f'"{there.tag}"':
        return _error(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold.")
    span = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("range", ""))
    if span is None:
        return Answer(200, there.data, there.headers)
    start, stop = int(span[1]), min(int(span[2]) + 1, len(there.data))
    shown = {"Content-Range": f"bytes {start}-{stop - 1}/{len(there.data)}"}
    return Answer(206, there.data[start:stop], {**there.headers, **shown})


def _entry(name: str, stored: Stored) -> str:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(stored.written))
    return (
        f"<Contents><Key>{escape(name)}</Key><Generation>{stored.generation}</Generation>"
        f"<LastModified>{moment}.{int(stored.written % 1 * 1000):03d}Z</LastModified>"
        f'<ETag>"{stored.tag}"</ETag><Size>{len(stored.data)}</Size></Contents>'
    )


def _document(root: str, inside: str) -> Answer:
    text = f"<?xml version='1.0' encoding='UTF-8'?><{root} xmlns='http://doc.s3.amazonaws.com/2006-03-01'>{inside}</{root}>"
    return Answer(200, text.encode(), {"Content-Type": "application/xml"})


def _error(status: int, code: str, message: str) -> Answer:
    text = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Answer(status, text.encode(), {"Content-Type": "application/xml"})


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    gcs: GcsServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.gcs.answer(self.command, self.path, headers, body)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        self.wfile.flush()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - the base class looks for these

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing."""
