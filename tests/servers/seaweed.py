"""SeaweedFS: an S3 server whose conditional writes are correct."""

from __future__ import annotations

import contextlib
import os
import secrets
import urllib.error
import urllib.request
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import obstore
from obstore.store import S3Store

from servers.process import Server, find_binary, free_ports

if TYPE_CHECKING:
    from pathlib import Path

BUCKET = "kvsync"
REGION = "us-east-1"
ACCESS_KEY = "testkey"
SECRET_KEY = "testsecret-of-seaweed"
GRPC_OFFSET = 10_000
"""SeaweedFS serves gRPC at each port plus this."""


class SeaweedServer(Server):
    """A SeaweedFS server with one bucket; keep contenders on one key at 8 or fewer."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.master, self.volume, self.filer, self.s3, self.admin = free_ports(5, also=GRPC_OFFSET)

    @property
    def endpoint(self) -> str:
        """Where it serves S3."""
        return f"http://127.0.0.1:{self.s3}"

    @property
    def _filer(self) -> str:
        return f"http://127.0.0.1:{self.filer}"

    @property
    def url(self) -> str:
        """The whole bucket's URL, with credentials."""
        return self.url_of("")

    def url_of(self, prefix: str, *, bucket: str = BUCKET, **options: str) -> str:
        """Return the URL of a prefix of a bucket, with credentials."""
        query = {"endpoint": self.endpoint, "access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY, **options}
        return f"s3://{bucket}/{prefix}?{urlencode(query)}"

    def new_bucket(self) -> str:
        """Make an empty bucket and return its name."""
        name = f"kvsync-{secrets.token_hex(8)}"
        request = urllib.request.Request(f"{self._filer}/buckets/{name}/", method="POST")  # noqa: S310
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310
            return name

    def remove_bucket(self, name: str) -> None:
        """Remove a bucket with its data; each one takes volumes, and a server has only some hundred."""
        removals = {f"{self._filer}/buckets/{name}?recursive=true": "DELETE"}
        removals[f"http://127.0.0.1:{self.master}/col/delete?collection={name}"] = "GET"
        for url, method in removals.items():
            with contextlib.suppress(urllib.error.HTTPError):  # nothing was written to it
                urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10).close()  # noqa: S310

    def set_versioning(self, bucket: str, state: str) -> None:
        """Enable or suspend the versioning of a bucket."""
        space = "http://s3.amazonaws.com/doc/2006-03-01/"
        body = f'<VersioningConfiguration xmlns="{space}"><Status>{state}</Status></VersioningConfiguration>'
        self._put(bucket, "versioning", body)

    def set_lifecycle(self, bucket: str, rules: str) -> None:
        """Set the rules of a bucket's lifecycle."""
        self._put(bucket, "lifecycle", rules)

    def _put(self, bucket: str, what: str, body: str) -> None:
        """Set something of a bucket; the client signs URLs of objects alone."""
        signer = S3Store(
            bucket,
            endpoint=f"{self.endpoint}/{bucket}?{what}=&x-id=",
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
            region=REGION,
            virtual_hosted_style_request=True,
            client_options={"allow_http": True},
        )
        url = obstore.sign(signer, "PUT", "kvsync", timedelta(minutes=1))
        with urllib.request.urlopen(urllib.request.Request(url, body.encode(), method="PUT"), timeout=10):  # noqa: S310
            pass

    def command(self) -> list[str]:
        """Return the command line of an S3 server with all that it needs, in one process."""
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        return [
            *(find_binary("KVSYNC_TEST_WEED", "weed"), "mini", f"-dir={data}"),
            *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={BUCKET}"),
            *(f"-master.port={self.master}", f"-volume.port={self.volume}", f"-filer.port={self.filer}"),
            *(f"-s3.port={self.s3}", f"-admin.port={self.admin}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            *("-webdav=false", "-admin.ui=false"),
        ]

    def environment(self) -> dict[str, str]:
        """Return the credentials that the server will take."""
        return {**os.environ, "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}

    def stop(self) -> None:
        """End it at once: in order takes ten seconds, and nobody needs its data any more."""
        self.kill()

    def ready(self) -> bool:
        """Whether S3 answers (though not to us, who sign nothing here), with the bucket and somewhere to store."""
        return (
            _status(f"{self.endpoint}/{BUCKET}") == 403
            and _status(f"{self._filer}/buckets/{BUCKET}/") == 200
            and _status(f"http://127.0.0.1:{self.master}/dir/assign") == 200
        )


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
